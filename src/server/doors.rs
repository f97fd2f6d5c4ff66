//! The server's listeners, each on a port of its own. Must not know what is served behind them beyond its routes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use listenfd::ListenFd;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use warp::Filter as _;

use super::may_project::Asking;
use super::{Ground, Tasks};
use crate::access::ServiceAccount;
use crate::api::aws::{self, AwsApi, Throttle};
use crate::api::node::{NodeDoor, NodeSettings};
use crate::api::{Authenticate, health};
use crate::cluster::{PodReader, Presences, TokenReviewer};
use crate::config::ServerArgs;
use crate::controller::trust::{Trust, TrustSettings};
use crate::inject::Endpoint;
use crate::keeper::Keeper;
use crate::pki::{Certificates, Lifetimes};
use crate::seal::SystemRandom;
use crate::serve::{BodyLimits, Door, Limits, Listener, Protocol, bounded, run, tls};
use crate::telemetry::{Metrics, Readiness};
use crate::webhook::{self, Webhook};

/// Where everybody finds what to trust; the same name in each namespace that it is published to.
const TRUST_CONFIG_MAP: &str = "tidelock-ca";

const HEALTH_BODY: BodyLimits = BodyLimits { bytes_max: 1024, timeout: Duration::from_secs(5), large_max: 1 };

pub(super) const API_BODY: BodyLimits =
    BodyLimits { bytes_max: aws::BODY_BYTES_MAX, timeout: Duration::from_secs(10), large_max: 32 };

/// Above the hour that the chart asks for, as kubelet renews a token at four fifths of its life.
const AGENT_TOKEN_LASTS: Duration = Duration::from_secs(75 * 60);

/// Liveness, readiness and metrics, from the first moment on.
pub async fn health(
    address: SocketAddr,
    readiness: Readiness,
    metrics: &Metrics,
    stop: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let door = Door {
        name: "health",
        listener: listen("health", address).await?,
        tls: None,
        protocol: Protocol::Http,
        limits: Limits::http(),
    };
    let metrics = metrics.clone();
    let routes = health::routes(readiness, move || metrics.render());
    Ok(run(door, bounded(warp::service(routes), HEALTH_BODY), stop))
}

/// The AWS API's port. Where whoever started this process holds it open (systemd's socket activation), that is taken over:
/// clients who come while the server is replaced wait, and are not refused.
pub(super) async fn api_port(address: SocketAddr) -> anyhow::Result<TcpListener> {
    match ListenFd::from_env().take_tcp_listener(0)? {
        Some(held) => {
            held.set_nonblocking(true)?;
            Ok(TcpListener::from_std(held)?)
        }
        None => bind("api", address).await,
    }
}

/// Everything that only the leader serves; `api` is the AWS API's port. Gives what pods are to trust, as it is now.
pub(super) async fn open(
    ground: &Ground,
    tasks: &mut Tasks,
    keeper: &Arc<Keeper>,
    api: TcpListener,
) -> anyhow::Result<watch::Receiver<Arc<str>>> {
    let Ground { args, client, clock, events, readiness, .. } = ground;
    let certificates = Certificates::new();
    let component = readiness.component("trust");
    let trust =
        Trust::new(client.clone(), settings(args), Arc::clone(clock), Arc::clone(&certificates), component);
    let bundle = trust.bundle();
    tasks.spawn("trust", trust.run(tasks.stop()));

    let webhook = Webhook {
        may_project: Arc::new(Asking { keeper: Arc::clone(keeper) }),
        tell: Arc::new(events.clone()),
        endpoint: endpoint(args),
        clock: Arc::clone(clock),
    };
    let door = http("webhook", listen("webhook", args.webhook_listen).await?, &certificates);
    let routes = warp::service(webhook::routes(webhook));
    let (shown, stop) = (Arc::clone(&certificates), tasks.stop());
    tasks.spawn("webhook", async move {
        stop.run_until_cancelled(shown.there()).await;
        run(door, bounded(routes, webhook::BODY_LIMITS), stop).await;
    });

    let tokens: Arc<dyn Authenticate> = Arc::new(TokenReviewer::new(client.clone()));
    let aws = AwsApi {
        keeper: Arc::clone(keeper),
        tokens: Arc::clone(&tokens),
        issuers: Arc::clone(&ground.issuers),
        still_there: Arc::new(Presences::new(client.clone(), Arc::clone(clock))),
        local: None,
        clock: Arc::clone(clock),
        throttle: Throttle::per_second(args.api_requests_per_second),
        audience: format!("{}/api", args.installation),
        draw_password: |rules| rules.draw(&mut SystemRandom),
    };
    let listener = Listener::Proxied(api, args.proxy_protocol_from.clone().into());
    let door = http("api", listener, &certificates);
    let routes = warp::service(health::live().or(aws::routes(Arc::new(aws))).unify());
    let (shown, stop) = (Arc::clone(&certificates), tasks.stop());
    tasks.spawn("api", async move {
        stop.run_until_cancelled(shown.there()).await;
        run(door, bounded(routes, API_BODY).worded(aws::unread), stop).await;
    });

    let streams = NodeDoor::new(node_settings(ground, keeper, tokens), tasks.stop());
    let door = Door {
        name: "stream",
        listener: listen("stream", args.node_listen).await?,
        tls: Some(tls(Protocol::Grpc, Arc::clone(&certificates) as _)),
        protocol: Protocol::Grpc,
        limits: Limits::grpc(),
    };
    let (service, stop) = (streams.service(), tasks.stop());
    tasks.spawn("stream", async move {
        stop.run_until_cancelled(certificates.there()).await;
        run(door, service, stop).await;
        streams.drained().await;
    });
    Ok(bundle)
}

/// What pods with an AWS SDK are given.
fn endpoint(args: &ServerArgs) -> Endpoint {
    Endpoint {
        url: args.api_url(),
        region: args.region.clone(),
        account: args.account.clone(),
        audience: format!("{}/api", args.installation),
    }
}

fn http(name: &'static str, listener: Listener, certificates: &Arc<Certificates>) -> Door {
    let tls = Some(tls(Protocol::Http, Arc::clone(certificates) as _));
    Door { name, listener, tls, protocol: Protocol::Http, limits: Limits::http() }
}

fn node_settings(ground: &Ground, keeper: &Arc<Keeper>, tokens: Arc<dyn Authenticate>) -> NodeSettings {
    let Ground { args, client, clock, .. } = ground;
    NodeSettings {
        keeper: Arc::clone(keeper),
        tokens,
        pods: Arc::new(PodReader::new(client.clone())),
        clock: Arc::clone(clock),
        stream_audience: format!("{}/stream", args.installation),
        mount_audience: format!("{}/node", args.installation),
        agent: ServiceAccount { namespace: args.namespace.clone(), name: args.node_service_account() },
        recheck_every: args.recheck_every,
        token_lasts: AGENT_TOKEN_LASTS,
    }
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
    bind(name, address).await.map(Listener::Tcp)
}

/// A port whose clients wait in the kernel's queue until it is served.
pub(super) async fn bind(name: &'static str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("the port of {name}, {address}, cannot be opened"))
}
