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
use crate::controller::trust::{Trust, TrustSettings};
use crate::keeper::{Keeper, Rights};
use crate::pki::{Certificates, Lifetimes};
use crate::serve::{BodyLimits, Door, Limits, Listener, Protocol, bounded, run, tls};
use crate::telemetry::{Metrics, Readiness};
use crate::webhook;

/// Where everybody finds what to trust; the same name in each namespace that it is published to.
const TRUST_CONFIG_MAP: &str = "tidelock-ca";

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

/// Everything that only the leader serves.
pub(super) async fn open(
    ground: &Ground,
    tasks: &mut Tasks,
    keeper: &Arc<Keeper>,
    rights: Arc<dyn Rights>,
) -> anyhow::Result<()> {
    let Ground { args, client, clock, readiness, .. } = ground;
    let certificates = Certificates::new();
    let component = readiness.component("trust");
    let trust =
        Trust::new(client.clone(), settings(args), Arc::clone(clock), Arc::clone(&certificates), component);
    tasks.spawn("trust", trust.run(tasks.stop()));

    let asking = Arc::new(Asking { keeper: Arc::clone(keeper), rights });
    let door = Door {
        name: "webhook",
        listener: listen("webhook", args.webhook_listen).await?,
        tls: Some(tls(Protocol::Http, certificates)),
        protocol: Protocol::Http,
        limits: Limits::http(),
    };
    let routes = warp::service(webhook::routes(asking, Arc::clone(clock)));
    tasks.spawn("webhook", run(door, bounded(routes, webhook::BODY_LIMITS), tasks.stop()));
    Ok(())
}

fn settings(args: &ServerArgs) -> TrustSettings {
    TrustSettings {
        namespace: args.namespace.clone(),
        secret: args.authority_name(),
        config_map: TRUST_CONFIG_MAP.to_owned(),
        more_namespaces: vec![args.rotations_namespace()],
        webhook_configuration: args.name.clone(),
        installation: args.installation.clone(),
        server_names: args.host_names(),
        lifetimes: Lifetimes { leaf: args.leaf_lifetime, ..Lifetimes::default() },
    }
}

async fn listen(name: &'static str, address: SocketAddr) -> anyhow::Result<Listener> {
    let listener = TcpListener::bind(address).await;
    listener.map(Listener::Tcp).with_context(|| format!("the port of {name}, {address}, cannot be opened"))
}
