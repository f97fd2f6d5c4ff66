//! `make bench`: how fast Tidelock is beside what a user would pick instead, in one run on one machine.
//! Must not judge by a test: a target that is missed is told in the table, and in `docs/benchmarks.md` with its cause.

mod figures;
mod files;
mod machine;
mod memory;
mod report;
mod swaps;
mod webhook;

use anyhow::{Context, Result};

use crate::shop::Shop;
use crate::{images, progress};
pub use figures::{Figures, Samples, Unit};
use machine::{Machine, Spent};
pub use report::{Report, Row, Target, table};

/// How long the machine is looked at to see how busy others keep it.
const LOOK: std::time::Duration = std::time::Duration::from_secs(5);

/// A part of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Section {
    /// Commit to file in a hundred pods, and the node agent's memory
    Files,
    /// The admission webhook
    Webhook,
}

/// What a section found, and what a reader should know of it besides.
#[derive(Default)]
struct Found {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Found {
    fn add(&mut self, other: Found) {
        self.rows.extend(other.rows);
        self.notes.extend(other.notes);
    }
}

/// Runs the sections, all when none is named.
pub async fn run(sections: &[Section]) -> Result<Report> {
    let wanted = |section| sections.is_empty() || sections.contains(&section);
    let mut machine = Machine::read()?;
    machine.when = now();
    machine.profile = images::profile();
    machine.busy_before = busy("see how busy the machine is before").await?;
    let mut found = Found::default();
    let step = progress::step("start a cluster with Tidelock", "about a minute");
    let shop = Shop::open(1).await?;
    step.done();
    machine.versions = versions(&shop).await?;
    found.add(memory::server(&shop, "server, idle").await?);
    if wanted(Section::Webhook) {
        found.add(webhook::measure(&shop).await?);
    }
    if wanted(Section::Files) {
        found.add(files::measure(&shop).await?);
    }
    drop(shop);
    machine.busy_after = busy("see how busy the machine is after").await?;
    Ok(Report::new(machine, found.rows, found.notes))
}

async fn busy(title: &str) -> Result<f64> {
    let step = progress::step(title, "");
    let before = Spent::now()?;
    tokio::time::sleep(LOOK).await;
    step.done();
    Ok(Spent::now()?.busy_since(before))
}

#[expect(clippy::disallowed_methods, reason = "a run is told by when it was")]
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string()
}

async fn versions(shop: &Shop) -> Result<Vec<String>> {
    let server = shop.cluster.client().apiserver_version().await.context("the API server's version")?;
    let node = shop.cluster.node(1).run("uname", &["-m"]).await?;
    Ok(vec![
        format!("Tidelock {} ({})", env!("CARGO_PKG_VERSION"), images::revision().await?),
        format!("Kubernetes {} on {}", server.git_version, node.trim()),
    ])
}
