//! Memory of our processes, as the kernel counts it. Must not touch them.

use std::time::Duration;

use anyhow::Result;

use super::{Figures, Found, Row, Target, Unit};
use crate::progress;
use crate::shop::Shop;

const MIB: f64 = 1_048_576.0;
/// Work that was just done is over by then.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);

pub(super) const SERVER: &[&str] = &["tidelock", "server", "--pod-name="];
const AGENT: &[&str] = &["tidelock", "node", "--node-name="];

pub(super) async fn server(shop: &Shop, what: &str) -> Result<Found> {
    of(shop, what, SERVER, Target::Below(100.0 * MIB)).await
}

pub(super) async fn agent(shop: &Shop, what: &str) -> Result<Found> {
    of(shop, what, AGENT, Target::Below(20.0 * MIB)).await
}

async fn of(shop: &Shop, what: &str, words: &[&str], target: Target) -> Result<Found> {
    let step = progress::step(&format!("memory: {what}"), "");
    tokio::time::sleep(SETTLES_WITHIN).await;
    let memory = shop.cluster.node(1).process(words)?.memory()?;
    step.done();
    let figures = Figures { max: Some(memory.resident_max as f64), ..Figures::once(memory.resident as f64) };
    let show = |bytes: u64| Unit::Bytes.show(bytes as f64);
    let note = format!(
        "resident memory: {what}: at most {} until then; {} without the program's code, which the kernel can drop",
        show(memory.resident_max),
        show(memory.anonymous)
    );
    Ok(Found {
        rows: vec![Row::new(&format!("resident memory: {what}"), Unit::Bytes, figures, target)],
        notes: vec![note],
    })
}
