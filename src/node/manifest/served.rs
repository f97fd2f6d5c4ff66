//! First mounts that the agent filled on its own, until the server's audit has them: a file for each, beside the
//! manifests, for the pod and even the agent may be gone before the server is back.
//! Must never hold a value, as a manifest must not.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use super::{Manifest, Manifests, Stored, bytes, parse};
use crate::node::target::Target;
use crate::wire::node::Served;

pub(super) const ENDING_SERVED: &str = ".served";
/// More than a node runs pods. What could not be told of any more is not done.
const SERVED_MAX: usize = 1024;

impl Manifests {
    /// To be written before the mount is made, so that none goes untold.
    pub fn note_served(&self, manifest: &Manifest, at_seconds: i64) -> io::Result<()> {
        let Some(mut stored) = Stored::of(manifest) else { return Err(io::ErrorKind::InvalidInput.into()) };
        if self.served()?.len() >= SERVED_MAX {
            let says = format!("{SERVED_MAX} mounts of the trust window wait for the server to hear of them");
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, says));
        }
        stored.served_at_seconds = Some(at_seconds);
        self.write(&manifest.target, ENDING_SERVED, &stored)
    }

    /// Everything that the server has not confirmed to have heard of, without what only the pod's own files need.
    pub fn served(&self) -> io::Result<Vec<Served>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let is_one = path.to_str().is_some_and(|name| name.ends_with(ENDING_SERVED));
            if !is_one || !fs::symlink_metadata(&path)?.is_file() {
                continue;
            }
            let read = bytes(&path)?.and_then(|bytes| parse(&bytes));
            let told = read.and_then(|(manifest, at)| at.map(|at| (manifest, at)));
            match told {
                Some((manifest, at_seconds)) => {
                    let told = Manifest { attributes: BTreeMap::new(), file_names: Vec::new(), ..manifest };
                    found.push(Served { mount: Some(told.mount()), at_seconds });
                }
                None => tracing::error!(file = %path.display(), "a note of the trust window cannot be read"),
            }
        }
        Ok(found)
    }

    /// The audit has it, or it did not happen.
    pub fn forget_served(&self, mount_id: &str) -> io::Result<()> {
        let Some(target) = Target::from_mount_id(mount_id) else { return Ok(()) };
        match fs::remove_file(self.path(&target, ENDING_SERVED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
