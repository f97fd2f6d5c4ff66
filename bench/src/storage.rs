//! Durable writes and reads of the embedded store, beside SQLite with the same settings and batching. Both lie in one
//! folder, on one disk, and are asked in turns. Must not know tables or MACs.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use tidelock::seal::Sealed;
use tidelock::store::{Embedded, Epoch, Store};
use tidelock_e2e::bench::{Found, Row, Samples, Target, Unit};

use crate::plain::{Plain, Write};
use crate::samples;

/// A multiple of `AT_ONCE`, so that whoever writes at once writes different secrets.
const SECRETS: usize = 1024;
const AT_ONCE: usize = 64;
/// In turns: so many of ours, as many plain ones, and again.
const TURNS: usize = 20;
const ALONE_PER_TURN: usize = 20;
const GROUPS_PER_TURN: usize = 8;
const READS_PER_TURN: usize = 500;
const VALUE_BYTES: usize = 256;

pub async fn measure() -> Result<Found> {
    let folder = tempfile::tempdir()?;
    let mut bench = Bench::open(folder.path()).await?;
    bench.fill().await?;
    let alone = bench.turns(1, ALONE_PER_TURN, Act::Write).await?;
    let together = bench.turns(AT_ONCE, GROUPS_PER_TURN, Act::Write).await?;
    let reads = bench.turns(1, READS_PER_TURN, Act::Read).await?;
    let reads_together = bench.turns(AT_ONCE, READS_PER_TURN / AT_ONCE, Act::Read).await?;
    let row = |what: &str, [ours, plain]: [Samples; 2]| {
        Row::new(what, Unit::Seconds, ours.figures(), Target::WithinTimes(2.0))
            .beside("SQLite, same settings and batching", plain.figures())
    };
    let note = format!(
        "store: {SECRETS} secrets with values of {VALUE_BYTES} bytes; a write is a new version, the secret's record and \
         an audit row, on disk before it is answered; a read is the record and the version; the files lie on {}",
        filesystem(folder.path())?
    );
    Ok(Found {
        rows: vec![
            row("durable write, one after the other", alone),
            row(&format!("durable write, {AT_ONCE} at once"), together),
            row("stored read, one after the other", reads),
            row(&format!("stored read, {AT_ONCE} at once"), reads_together),
        ],
        notes: vec![note],
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Write,
    Read,
}

struct Bench {
    ours: Arc<Embedded>,
    epoch: Epoch,
    plain: Arc<Plain>,
    sealed: Sealed,
    /// How many versions each secret has, in both.
    versions: [Vec<usize>; 2],
    next: [usize; 2],
}

impl Bench {
    async fn open(folder: &Path) -> Result<Self> {
        let (ours, epoch) = samples::store(folder).await?;
        Ok(Self {
            ours,
            epoch,
            plain: Plain::open(folder)?,
            sealed: samples::sealed(VALUE_BYTES)?,
            versions: [vec![0; SECRETS], vec![0; SECRETS]],
            next: [0; 2],
        })
    }

    /// A first version of each secret in both.
    async fn fill(&mut self) -> Result<()> {
        for _ in 0..SECRETS / AT_ONCE {
            self.ours(AT_ONCE, Act::Write).await?;
            self.plain(AT_ONCE, Act::Write).await?;
        }
        ensure!(self.versions.iter().flatten().all(|count| *count == 1), "not every secret was made");
        Ok(())
    }

    /// So many at once, so many times in each turn: how long each took, ours and the plain ones.
    async fn turns(&mut self, at_once: usize, times: usize, act: Act) -> Result<[Samples; 2]> {
        let mut all = [Samples::new()?, Samples::new()?];
        for turn in 0..=TURNS {
            for (which, samples) in all.iter_mut().enumerate() {
                for _ in 0..times {
                    let took = match which {
                        0 => self.ours(at_once, act).await?,
                        _ => self.plain(at_once, act).await?,
                    };
                    // The first turn warms up.
                    if turn > 0 {
                        took.into_iter().try_for_each(|took| samples.add(took))?;
                    }
                }
            }
        }
        Ok(all)
    }

    /// The secrets whose turn it is, each with how many versions it has.
    fn take(&mut self, which: usize, count: usize, act: Act) -> Vec<(usize, usize)> {
        let first = self.next[which];
        self.next[which] = (first + count) % SECRETS;
        let versions = &mut self.versions[which];
        (first..first + count)
            .map(|number| number % SECRETS)
            .map(|number| {
                let has = versions[number];
                versions[number] += usize::from(act == Act::Write);
                (number, has)
            })
            .collect()
    }

    async fn ours(&mut self, at_once: usize, act: Act) -> Result<Vec<Duration>> {
        let mut acts = Vec::with_capacity(at_once);
        for (number, has) in self.take(0, at_once, act) {
            let batch = match act {
                Act::Write => Some(samples::batch(self.epoch, number, has, &self.sealed)?),
                Act::Read => None,
            };
            let (ours, name) = (Arc::clone(&self.ours), samples::name(number)?);
            acts.push(tokio::spawn(async move {
                let begun = Instant::now();
                match batch {
                    Some(batch) => drop(ours.commit(batch).await?),
                    None => {
                        let record = ours.secret_named(&name).await?.context("there is no such secret")?;
                        let current = record.stages.values().next().context("it has no version")?;
                        ours.version(&record.arn, current).await?.context("there is no such version")?;
                    }
                }
                anyhow::Ok(begun.elapsed())
            }));
        }
        try_join_all(acts).await?.into_iter().collect()
    }

    async fn plain(&mut self, at_once: usize, act: Act) -> Result<Vec<Duration>> {
        let mut acts = Vec::with_capacity(at_once);
        for (number, has) in self.take(1, at_once, act) {
            let write = match act {
                Act::Write => Some(self.write(number, has)?),
                Act::Read => None,
            };
            let (plain, name) = (Arc::clone(&self.plain), samples::name(number)?.to_string());
            let current = samples::version_id(has.saturating_sub(1))?.to_string();
            acts.push(tokio::spawn(async move {
                let begun = Instant::now();
                match write {
                    Some(write) => plain.write(write).await?,
                    None => {
                        let (arn, _) = plain.secret(name).await?;
                        plain.version(arn, current).await?;
                    }
                }
                anyhow::Ok(begun.elapsed())
            }));
        }
        try_join_all(acts).await?.into_iter().collect()
    }

    fn write(&self, number: usize, has: usize) -> Result<Write> {
        let audit = samples::audit(number, has)?;
        let arn = samples::arn(number)?.to_string();
        // As much as the store keeps of a record in its JSON.
        let record = serde_json::json!({
            "origin": {"namespace": "shop", "name": name_of(number), "uid": "7f8a2c1e-5b5d-4b3c-9a51-0c6f3f5f7c11",
                "namespace_uid": "1d2f7a60-43b7-4a0e-8d4c-7f2f2a0d9e55"},
            "description": "the login of the orders' database",
            "created_at": samples::at(0)?.to_string(), "changed_at": samples::at(1)?.to_string(),
            "stages": {"AWSCURRENT": format!("{has:032}"), "AWSPREVIOUS": format!("{has:032}")},
            "grants": [{"namespace": "shop", "name": "orders-api", "stages": ["AWSCURRENT"]}],
            "recovery_window_days": 30,
        });
        Ok(Write {
            name: samples::name(number)?.to_string(),
            arn,
            expected: has as u64,
            record: record.to_string(),
            version: samples::version_id(has)?.to_string(),
            at: audit.at.to_string(),
            sealed: self.sealed.encode()?,
            who: audit.who,
            pod: audit.pod.unwrap_or_default(),
        })
    }
}

fn name_of(number: usize) -> String {
    format!("orders-db-{number:04}")
}

/// What the folder lies on, as the kernel calls it.
fn filesystem(folder: &Path) -> Result<String> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let holding = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        folder.starts_with(place).then_some((place.len(), kind))
    });
    Ok(holding.max().map_or("an unknown filesystem", |(_, kind)| kind).to_owned())
}
