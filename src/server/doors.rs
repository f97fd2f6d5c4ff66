//! The server's listeners, each on a port of its own. Must not know what is served behind them beyond its routes.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::may_project::Asking;
use super::{Ground, Tasks};
use crate::api::health;
use crate::config::ServerArgs;
use crate::keeper::{Keeper, Rights};
use crate::serve::{BodyLimits, Door, Limits, Listener, Protocol, bounded, run};
use crate::telemetry::{Metrics, Readiness};

const HEALTH_BODY: BodyLimits =
    BodyLimits { bytes_max: 1024, timeout: std::time::Duration::from_secs(5), large_max: 1 };

/// Liveness, readiness and metrics, from the first moment on.
pub async fn health(
    args: &ServerArgs,
    readiness: Readiness,
    metrics: &Metrics,
    stop: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let door = Door {
        name: "health",
        listener: listen("health", args.health_listen).await?,
        tls: None,
        protocol: Protocol::Http,
        limits: Limits::http(),
    };
    let metrics = metrics.clone();
    let routes = health::routes(readiness, move || metrics.render());
    Ok(run(door, bounded(warp::service(routes), HEALTH_BODY), stop))
}

pub(super) async fn open(
    ground: &Ground,
    tasks: &mut Tasks,
    keeper: &Arc<Keeper>,
    rights: Arc<dyn Rights>,
) -> anyhow::Result<()> {
    let _ = (ground, tasks, Asking { keeper: Arc::clone(keeper), rights });
    Ok(())
}

async fn listen(name: &'static str, address: SocketAddr) -> anyhow::Result<Listener> {
    let listener = TcpListener::bind(address).await;
    listener.map(Listener::Tcp).with_context(|| format!("the port of {name}, {address}, cannot be opened"))
}
