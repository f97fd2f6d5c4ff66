//! The privileged half of a node: mounts a tmpfs for a volume and hands its directory to the agent.
//! Must not open a network socket, hold a token, or read what is in a volume.

mod client;
mod mountinfo;
mod mounts;
mod protocol;

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use client::{Mounter, MounterError};
use mounts::{MountError, Mounts, Size};
use protocol::{Reply, Request};

const CONNECTIONS_MAX: usize = 16;
/// The agent writes its request at once and reads the reply at once.
const PATIENCE: Duration = Duration::from_secs(5);
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

#[derive(Debug, Clone)]
pub struct Config {
    /// Where the agent asks, in a directory that only the two containers share.
    pub socket: PathBuf,
    /// kubelet's root directory, mounted at the same path as on the host, with propagation to it.
    pub kubelet: PathBuf,
    /// The name of the CSI driver, which our mounts carry as their source.
    pub driver: String,
    /// The user as whom the agent runs; nobody else is served.
    pub agent_uid: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("listening on {path:?} failed: {source}")]
    Listen { path: PathBuf, source: io::Error },
    #[error(
        "kubelet's directory {path:?} cannot be read: {source}; mount it at its own path, with propagation"
    )]
    Kubelet { path: PathBuf, source: io::Error },
}

/// Serves the agent until `shutdown`. Mounts stay when it ends.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), ServeError> {
    let pods = config.kubelet.join("pods");
    if let Err(source) = std::fs::read_dir(&pods) {
        return Err(ServeError::Kubelet { path: pods, source });
    }
    let listener = listen(&config.socket)
        .map_err(|source| ServeError::Listen { path: config.socket.clone(), source })?;
    tracing::info!(socket = %config.socket.display(), kubelet = %config.kubelet.display(), "mounter listens");
    let mounts = Arc::new(Mutex::new(Mounts::new(config.kubelet, config.driver)));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some(Ok(place)) = shutdown.run_until_cancelled(Arc::clone(&places).acquire_owned()).await {
        let stream = match shutdown.run_until_cancelled(listener.accept()).await {
            None => break,
            Some(Ok((stream, _))) => stream,
            Some(Err(error)) => {
                tracing::warn!(%error, "accepting a connection failed");
                shutdown.run_until_cancelled(tokio::time::sleep(ACCEPT_RETRY)).await;
                continue;
            }
        };
        let mounts = Arc::clone(&mounts);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = serve(stream, config.agent_uid, &mounts) {
                tracing::warn!(%error, "a request of the agent was not answered");
            }
            drop(place);
        });
    }
    Ok(())
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// One connection: who is it, what does he want, do it, say so.
fn serve(stream: tokio::net::UnixStream, agent_uid: u32, mounts: &Mutex<Mounts>) -> io::Result<()> {
    // Not by rustix: it takes no process id for 0, and that is what a caller in another container has here.
    let peer = stream.peer_cred()?.uid();
    let mut stream: UnixStream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    if peer != agent_uid {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("the caller runs as uid {peer}, the agent as {agent_uid}"),
        ));
    }
    let request = protocol::read_request(&mut stream)?;
    let outcome = {
        let mut mounts = mounts.lock().unwrap_or_else(PoisonError::into_inner);
        answer(&mut mounts, request)
    };
    match outcome {
        Ok(Answer::Folder(folder)) => {
            protocol::write_reply(&mut stream, &Reply::Folder, Some(folder.as_fd()))
        }
        Ok(Answer::Plain(reply)) => protocol::write_reply(&mut stream, &reply, None),
        Err(error) => {
            tracing::warn!(%error, "a request of the agent failed");
            let failed = Reply::Failed { reason: error.reason(), message: error.to_string() };
            protocol::write_reply(&mut stream, &failed, None)
        }
    }
}

enum Answer {
    Folder(OwnedFd),
    Plain(Reply),
}

fn answer(mounts: &mut Mounts, request: Request) -> Result<Answer, MountError> {
    match request {
        Request::Mount { target_path, pod_uid, group, bytes, inodes } => {
            let target = mounts.target(&target_path)?;
            if target.pod_uid() != pod_uid {
                return Err(MountError::Refused(format!(
                    "the path {target_path:?} is not of pod {pod_uid:?}"
                )));
            }
            mounts.mount(&target, group, Size { bytes, inodes }).map(Answer::Folder)
        }
        Request::Open { target_path, bytes, inodes } => {
            mounts.open(&mounts.target(&target_path)?, Size { bytes, inodes }).map(Answer::Folder)
        }
        Request::Unmount { target_path } => {
            mounts.unmount(&mounts.target(&target_path)?).map(|()| Answer::Plain(Reply::Done))
        }
        Request::List => mounts.list().map(|list| Answer::Plain(Reply::Mounts(list))),
    }
}
