//! The agent's side of the mounter.
//! Must not retry: who asks knows whether it is worth it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::protocol::{self, Mounted, Reason, Reply, Request};
use crate::node::target::Target;

/// A mount takes a millisecond; a mounter that takes this long is ill.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum MounterError {
    #[error("the mounter on this node does not answer: {0}; look at the log of container `mounter`")]
    Away(#[source] io::Error),
    #[error("nothing of ours is mounted there")]
    NotMounted,
    #[error("the mounter on this node failed: {0}")]
    Failed(String),
}

/// Asks the mounter. Calls block, for a short time.
#[derive(Debug, Clone)]
pub struct Mounter {
    socket: PathBuf,
    kubelet: PathBuf,
}

impl Mounter {
    pub fn new(socket: PathBuf, kubelet: PathBuf) -> Mounter {
        Mounter { socket, kubelet }
    }

    pub fn kubelet(&self) -> &Path {
        &self.kubelet
    }

    /// Mounts at the target unless done before, and opens what is mounted.
    pub fn mount(
        &self,
        target: &Target,
        group: Option<u32>,
        bytes: u64,
        inodes: u64,
    ) -> Result<OwnedFd, MounterError> {
        let pod_uid = target.pod_uid().to_owned();
        self.folder(&Request::Mount { target_path: self.path(target), pod_uid, group, bytes, inodes })
    }

    /// Opens what is mounted at the target, made large enough.
    pub fn open(&self, target: &Target, bytes: u64, inodes: u64) -> Result<OwnedFd, MounterError> {
        self.folder(&Request::Open { target_path: self.path(target), bytes, inodes })
    }

    pub fn unmount(&self, target: &Target) -> Result<(), MounterError> {
        match self.ask(&Request::Unmount { target_path: self.path(target) })? {
            (Reply::Done, _) => Ok(()),
            _ => Err(unexpected()),
        }
    }

    pub fn list(&self) -> Result<Vec<(Target, Mounted)>, MounterError> {
        let (Reply::Mounts(mounted), _) = self.ask(&Request::List)? else { return Err(unexpected()) };
        let with_target = |mounted: Mounted| {
            Target::parse(&self.kubelet, &mounted.target_path).ok().map(|target| (target, mounted))
        };
        Ok(mounted.into_iter().filter_map(with_target).collect())
    }

    fn path(&self, target: &Target) -> String {
        target.path(&self.kubelet).display().to_string()
    }

    fn folder(&self, request: &Request) -> Result<OwnedFd, MounterError> {
        match self.ask(request)? {
            (Reply::Folder, Some(descriptor)) => Ok(descriptor),
            _ => Err(unexpected()),
        }
    }

    fn ask(&self, request: &Request) -> Result<(Reply, Option<OwnedFd>), MounterError> {
        let asked = || {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            protocol::ask(&mut stream, request)
        };
        match asked().map_err(MounterError::Away)? {
            (Reply::Failed { reason: Reason::NotMounted, .. }, _) => Err(MounterError::NotMounted),
            (Reply::Failed { message, .. }, _) => Err(MounterError::Failed(message)),
            other => Ok(other),
        }
    }
}

fn unexpected() -> MounterError {
    MounterError::Failed("its reply does not fit the request; are both containers of one version?".into())
}
