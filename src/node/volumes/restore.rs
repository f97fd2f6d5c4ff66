//! What there is after a restart of the agent: manifests and the kernel's mounts, put together.
//! Must not take away files that a pod may be reading.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

use super::{Volume, VolumeError, Volumes, lock};
use crate::inject::attributes::{BUNDLE, CA};
use crate::node::bundle;
use crate::node::manifest::Manifest;
use crate::node::mounter::MounterError;
use crate::node::target::Target;
use crate::projection;

impl Volumes {
    /// Fills the table. A manifest without a mount is removed; a mount without a manifest is taken over if its files
    /// were complete, and undone if not, for then no pod has ever seen it.
    pub fn restore(&self) -> Result<(), VolumeError> {
        let mounted = self.mounter.list()?;
        let manifests = self.manifests.load().map_err(VolumeError::Manifest)?;
        let mut known: HashMap<Target, Manifest> =
            manifests.into_iter().map(|manifest| (manifest.target.clone(), manifest)).collect();
        for (target, mount) in mounted {
            let manifest = match known.remove(&target) {
                Some(manifest) => Some(manifest),
                None => self.rebuild(&target, mount.group)?,
            };
            if let Some(manifest) = manifest {
                let volume = Volume::new(target, Some(manifest));
                // Whoever was on his way into files before those in force has arrived.
                self.sweep(&volume);
                lock(&self.table).insert(volume.target.mount_id(), volume);
            }
        }
        for target in known.into_keys() {
            tracing::info!(mount = %target, "a manifest whose mount is gone is removed");
            self.manifests.remove(&target).map_err(VolumeError::Manifest)?;
        }
        self.show_count();
        tracing::info!(volumes = self.all().len(), "volumes of this node are known");
        Ok(())
    }

    fn rebuild(&self, target: &Target, group: Option<u32>) -> Result<Option<Manifest>, VolumeError> {
        let folder = match self.look(target) {
            Err(MounterError::NotMounted) => return Ok(None),
            other => other?,
        };
        let file_names = match projection::present(folder.as_fd()) {
            Ok(None) => {
                tracing::info!(mount = %target, "a first mount that was cut off is undone");
                drop(folder);
                self.mounter.unmount(target)?;
                return Ok(None);
            }
            Ok(Some(names)) => names,
            Err(error) => {
                tracing::warn!(mount = %target, %error, "the files of a mount cannot be listed");
                Vec::new()
            }
        };
        tracing::warn!(mount = %target, "a mount without its manifest is taken over");
        let is_bundle = bundle::is_in(folder.as_fd());
        let attributes = is_bundle.then(|| (BUNDLE.to_owned(), CA.to_owned())).into_iter().collect();
        let bytes = used_bytes(&folder);
        Ok(Some(Manifest {
            target: target.clone(),
            pod: None,
            attributes,
            group,
            held: None,
            file_names,
            bytes,
        }))
    }
}

fn used_bytes(folder: &OwnedFd) -> u64 {
    rustix::fs::fstatvfs(folder).map_or(0, |stat| stat.f_blocks.saturating_sub(stat.f_bfree) * stat.f_frsize)
}
