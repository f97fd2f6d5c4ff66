//! `make bench`: how fast Tidelock is beside what a user would pick instead, in one run on one machine.
//! Must not judge by a test: a target that is missed is told in the table, and in `docs/benchmarks.md` with its cause.

mod figures;
mod files;
mod inside;
mod machine;
mod many;
mod memory;
mod report;
mod start;
mod swaps;
mod webhook;

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde::{Deserialize, Serialize};

use crate::shop::{NAMESPACE, Shop};
use crate::{images, progress};
pub use figures::{Figures, Samples, Unit};
pub use machine::Machine;
use machine::Spent;
pub use report::{Report, Row, Target, table};

/// How long the machine is looked at to see how busy others keep it.
const LOOK: Duration = Duration::from_secs(5);
const PODS_GONE_WITHIN: Duration = Duration::from_secs(600);

/// A part of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Section {
    /// Commit to file in a hundred pods, and the node agent's memory
    Files,
    /// The admission webhook
    Webhook,
    /// The start of a pod
    Start,
    /// Sealing and storing
    Inside,
    /// Ten thousand secrets, and the server's memory with them
    Many,
}

/// What a section found, and what a reader should know of it besides.
#[derive(Default, Serialize, Deserialize)]
pub struct Found {
    pub rows: Vec<Row>,
    pub notes: Vec<String>,
}

impl Found {
    pub fn add(&mut self, other: Found) {
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
    machine.versions =
        vec![format!("Tidelock {} ({})", env!("CARGO_PKG_VERSION"), images::revision().await?)];
    if wanted(Section::Inside) {
        found.add(inside::measure().await?);
    }
    if sections != [Section::Inside] {
        found.add(on_a_cluster(&wanted, &mut machine.versions).await?);
    }
    machine.busy_after = busy("see how busy the machine is after").await?;
    Ok(Report::new(machine, found.rows, found.notes))
}

/// What needs a cluster, in an order in which nothing finds what another one has left.
async fn on_a_cluster(wanted: &impl Fn(Section) -> bool, versions: &mut Vec<String>) -> Result<Found> {
    let mut found = Found::default();
    let step = progress::step("start a cluster with Tidelock", "about a minute");
    let shop = Shop::open(1).await?;
    step.done();
    versions.push(kubernetes(&shop).await?);
    found.add(memory::server(&shop, "server, idle").await?);
    if wanted(Section::Webhook) {
        found.add(webhook::measure(&shop).await?);
    }
    if wanted(Section::Start) {
        found.add(start::measure(&shop).await?);
    }
    if wanted(Section::Files) {
        found.add(files::measure(&shop).await?);
    }
    if wanted(Section::Many) {
        found.add(many::measure(&shop).await?);
    }
    Ok(found)
}

/// The part of the processors' time that others use just now.
pub async fn busy(title: &str) -> Result<f64> {
    let step = progress::step(title, "");
    let before = Spent::now()?;
    tokio::time::sleep(LOOK).await;
    step.done();
    Ok(Spent::now()?.busy_since(before))
}

#[expect(clippy::disallowed_methods, reason = "a run is told by when it was")]
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string()
}

async fn kubernetes(shop: &Shop) -> Result<String> {
    let server = shop.cluster.client().apiserver_version().await.context("the API server's version")?;
    let node = shop.cluster.node(1).run("uname", &["-m"]).await?;
    Ok(format!("Kubernetes {} on {}", server.git_version, node.trim()))
}

/// Deletes the pods with a label, and waits until they are gone.
async fn take_away(shop: &Shop, (key, value): (&str, &str)) -> Result<()> {
    let step = progress::step("take the pods away", "");
    let api: Api<Pod> = Api::namespaced(shop.cluster.client(), NAMESPACE);
    let of_ours = ListParams::default().labels(&format!("{key}={value}"));
    api.delete_collection(&DeleteParams::default(), &of_ours).await?;
    let gone = async || api.list(&of_ours).await.ok().filter(|pods| pods.items.is_empty()).map(drop);
    shop.cluster.wait_for("the pods to be gone", PODS_GONE_WITHIN, gone).await?;
    step.done();
    Ok(())
}
