//! Wires the roles of a node, `node` and `mounter`: settings, health, and the role itself.
//! Must hold no logic of the product.

use anyhow::bail;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::SystemClock;
use crate::node::args::{MounterArgs, NodeArgs};
use crate::node::{self, agent, mounter};
use crate::server;
use crate::telemetry::{Component, Metrics, Readiness};

/// Runs the agent until told to stop, or until it cannot go on.
pub async fn node(args: NodeArgs, stop: CancellationToken) -> anyhow::Result<()> {
    let readiness = Readiness::default();
    let volumes = readiness.component("volumes");
    let metrics = Metrics::install()?;
    let ending = CancellationToken::new();
    let health = server::health(args.health_listen(), readiness, &metrics, ending.clone()).await?;
    let (states, seen) = watch::channel(node::Readiness::Restoring);
    let mut beside = JoinSet::new();
    beside.spawn(health);
    beside.spawn(metrics.keep_up(ending.clone()));
    beside.spawn(follow(seen, volumes));
    let outcome = tokio::select! {
        ended = agent::run(args.config(), SystemClock::shared(), states, stop) => ended.map_err(Into::into),
        ended = beside.join_next() => bail!("health, metrics or readiness ended: {ended:?}"),
    };
    ending.cancel();
    while beside.join_next().await.is_some() {}
    outcome
}

/// Runs the mounter until told to stop.
pub async fn mounter(args: MounterArgs, stop: CancellationToken) -> anyhow::Result<()> {
    Ok(mounter::run(args.config(), stop).await?)
}

/// Shows the agent's state as readiness, until the agent has ended.
async fn follow(mut states: watch::Receiver<node::Readiness>, volumes: Component) {
    loop {
        match *states.borrow_and_update() {
            node::Readiness::Restoring => {
                volumes.not_ready("Restoring", "the mounter has not told yet what is mounted");
            }
            node::Readiness::Registering => {
                volumes.not_ready("Registering", "kubelet has not registered the driver yet");
            }
            node::Readiness::Ready => volumes.ready(),
        }
        if states.changed().await.is_err() {
            return;
        }
    }
}
