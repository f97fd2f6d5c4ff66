//! The agent, from start to end: what there is, the stream, the sockets for kubelet.
//! Must not serve kubelet before it knows what is mounted.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::bundle;
use super::config::Config;
use super::csi::{Plugin, Services};
use super::manifest::Manifests;
use super::mounter::Mounter;
use super::publish::Publisher;
use super::registration::{Registered, Registrar, RegistrationService};
use super::trust::Trust;
use super::uplink::{self, Link};
use super::volumes::Volumes;
use crate::clock::Clock;
use crate::serve::{self, Door, Limits, Listener, Protocol};
use crate::wire::node::{Hello, PROTOCOL_VERSION};

const MOUNTER_RETRY: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("the directory of manifests {path:?} cannot be made: {source}")]
    Manifests { path: PathBuf, source: io::Error },
    #[error("listening on {path:?} failed: {source}")]
    Listen { path: PathBuf, source: io::Error },
    #[error(
        "kubelet has refused the driver: {0}; does another agent with the same driver name run on this node?"
    )]
    Refused(String),
    #[error("{0} has ended, and should not have")]
    Ended(&'static str),
}

/// Whether the agent does its work. A server that is away does not count: pods keep their files, and a restart of the
/// agent would not bring it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// The mounter has not told yet what is mounted.
    Restoring,
    /// kubelet has not registered the driver yet.
    Registering,
    Ready,
}

/// Serves kubelet until `shutdown`. Mounts and files stay when it ends.
pub async fn run(
    config: Config,
    clock: Arc<dyn Clock>,
    readiness: watch::Sender<Readiness>,
    shutdown: CancellationToken,
) -> Result<(), NodeError> {
    let manifests = Manifests::open(config.manifests.clone())
        .map_err(|source| NodeError::Manifests { path: config.manifests.clone(), source })?;
    let mounter = Mounter::new(config.mounter_socket.clone(), config.kubelet.clone());
    let trust = Trust::new(config.trust_window);
    let volumes = Arc::new(Volumes::new(mounter, manifests, clock, config.node_bytes_max, trust));
    readiness.send_replace(Readiness::Restoring);
    if shutdown.run_until_cancelled(restore(&volumes)).await.is_none() {
        return Ok(());
    }
    readiness.send_replace(Readiness::Registering);

    let stopping = CancellationToken::new();
    let _stop = stopping.clone().drop_guard();
    let mut tasks = JoinSet::new();
    let link = start_uplink(&config, &volumes, &stopping, &mut tasks);
    let registered = start_sockets(&config, &volumes, link, &stopping, &mut tasks)?;
    let socket = identity(&config.registration_socket);

    let outcome = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        ended = tasks.join_next() => {
            Err(NodeError::Ended(ended.and_then(Result::ok).unwrap_or("a part of the agent")))
        }
        refused = until_refused(registered, &readiness) => Err(NodeError::Refused(refused)),
    };
    // kubelet deregisters the driver when the socket is gone; its calls then wait for our successor.
    // After a forced deletion of our pod that has begun already, and the socket is its own.
    if socket.is_some() && identity(&config.registration_socket) == socket {
        let _ = std::fs::remove_file(&config.registration_socket);
    }
    stopping.cancel();
    while tasks.join_next().await.is_some() {}
    volumes.settle().await;
    outcome
}

/// Waits for the mounter, which starts beside us.
async fn restore(volumes: &Arc<Volumes>) {
    let mut told = None;
    loop {
        let restoring = Arc::clone(volumes);
        match tokio::task::spawn_blocking(move || restoring.restore()).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                if told.replace(error.reason()) != Some(error.reason()) {
                    tracing::warn!(%error, "what is mounted is not known yet");
                }
            }
            Err(error) => tracing::error!(%error, "looking at what is mounted failed"),
        }
        tokio::time::sleep(MOUNTER_RETRY).await;
    }
}

fn start_uplink(
    config: &Config,
    volumes: &Arc<Volumes>,
    stopping: &CancellationToken,
    tasks: &mut JoinSet<&'static str>,
) -> Link {
    let Some(server) = config.server.clone() else {
        tracing::warn!("drain-only: volumes are unpublished, new ones are refused");
        return Link::off();
    };
    // Before kubelet can call, which would be told that there are none.
    bundle::renew(volumes, &server.ca_file);
    let following = bundle::follow(Arc::clone(volumes), server.clone());
    let stop = stopping.clone();
    tasks.spawn(async move {
        stop.run_until_cancelled(following).await;
        "the look at the certificate authorities"
    });
    let link = Link::away();
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        node_name: config.node_name.clone(),
        agent_version: config.agent_version.clone(),
        mounts: Vec::new(),
        served: Vec::new(),
    };
    let running = uplink::run(link.clone(), Arc::clone(volumes), server, hello, stopping.clone());
    tasks.spawn(async move {
        Box::pin(running).await;
        "the stream to the server"
    });
    link
}

/// First the CSI services, then the registration, upon which kubelet calls them.
fn start_sockets(
    config: &Config,
    volumes: &Arc<Volumes>,
    link: Link,
    stopping: &CancellationToken,
    tasks: &mut JoinSet<&'static str>,
) -> Result<watch::Receiver<Registered>, NodeError> {
    let plugin = Plugin {
        driver: config.driver.clone(),
        agent_version: config.agent_version.clone(),
        node_name: config.node_name.clone(),
        kubelet: config.kubelet.clone(),
        pod_tokens: config.pod_tokens.clone(),
        publisher: Arc::new(Publisher::new(Arc::clone(volumes), link, config.patience)),
        volumes: Arc::clone(volumes),
    };
    let door = door("csi", &config.plugin_socket)?;
    let serving = serve::run(door, Services::new(plugin), stopping.clone());
    tasks.spawn(async move {
        serving.await;
        "the CSI socket"
    });

    let outcome = watch::Sender::new(Registered::NotYet);
    let registered = outcome.subscribe();
    let registrar = Registrar {
        driver: config.driver.clone(),
        endpoint: config.plugin_socket_on_host.display().to_string(),
        outcome,
    };
    let door = self::door("registration", &config.registration_socket)?;
    let serving = serve::run(door, RegistrationService::new(registrar), stopping.clone());
    tasks.spawn(async move {
        serving.await;
        "the registration socket"
    });
    Ok(registered)
}

/// Makes the socket anew, for one of a former agent answers nobody; only root may connect.
fn door(name: &'static str, path: &Path) -> Result<Door, NodeError> {
    let listen = || {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
        Ok(listener)
    };
    let listener = listen().map_err(|source| NodeError::Listen { path: path.to_owned(), source })?;
    Ok(Door {
        name,
        listener: Listener::Unix(listener),
        tls: None,
        protocol: Protocol::Grpc,
        limits: Limits::grpc(),
    })
}

/// Which file stands there. That of a socket is not given to another while somebody listens on it.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Ends when kubelet refuses. It may register us again and again: after its own restarts.
async fn until_refused(
    mut registered: watch::Receiver<Registered>,
    readiness: &watch::Sender<Readiness>,
) -> String {
    loop {
        match registered.borrow_and_update().clone() {
            Registered::Refused(why) => return why,
            Registered::Yes => {
                tracing::info!("kubelet has registered the driver");
                readiness.send_replace(Readiness::Ready);
            }
            Registered::NotYet => {}
        }
        if registered.changed().await.is_err() {
            // The socket's task has ended, which is noticed elsewhere.
            std::future::pending::<()>().await;
        }
    }
}
