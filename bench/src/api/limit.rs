//! The limit of writes: the embedded store alone, asked by as many at once. Must not know of HTTP.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;
use tidelock::store::Store as _;
use tidelock_e2e::bench::Samples;

use super::load::Measured;
use crate::samples;

const VALUE_BYTES: usize = 256;
const COUNTED: Duration = Duration::from_secs(5);

/// Everybody writes versions of a secret of his own, the next when the last one is on disk.
pub async fn writes(at_once: usize) -> Result<Measured> {
    let folder = tempfile::tempdir()?;
    let (store, epoch) = samples::store(folder.path()).await?;
    let sealed = Arc::new(samples::sealed(VALUE_BYTES)?);
    let end = Instant::now() + COUNTED;
    let tasks = (0..at_once).map(|number| {
        let (store, sealed) = (Arc::clone(&store), Arc::clone(&sealed));
        tokio::spawn(async move {
            let mut took = Vec::new();
            for has in 0.. {
                let batch = samples::batch(epoch, number, has, &sealed)?;
                let begun = Instant::now();
                store.commit(batch).await?;
                took.push(begun.elapsed());
                if Instant::now() >= end {
                    break;
                }
            }
            anyhow::Ok(took)
        })
    });
    let mut samples = Samples::new()?;
    let mut count = 0_u32;
    for took in try_join_all(tasks).await? {
        for took in took? {
            samples.add(took)?;
            count += 1;
        }
    }
    Ok(Measured { per_second: f64::from(count) / COUNTED.as_secs_f64(), samples, cpu: None, failed: 0 })
}
