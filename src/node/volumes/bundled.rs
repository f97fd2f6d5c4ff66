//! Volumes that hold certificate authorities: filled and renewed by the agent alone.
//! Must not tell the server of them: it knows nothing of these volumes, and has nothing to say about them.

use std::sync::Arc;

use super::place::Caps;
use super::{Volume, VolumeError, Volumes, Wish, lock};
use crate::inject::attributes::BUNDLE;
use crate::node::bundle::Bundle;
use crate::node::manifest::{Held, Manifest};
use crate::node::request::Publication;

impl Volumes {
    /// Mounts a bundle volume and fills it for the first time. What fails leaves nothing mounted.
    pub fn place_bundle(
        self: &Arc<Self>,
        volume: &Arc<Volume>,
        publication: &Publication,
    ) -> Result<(), VolumeError> {
        let _work = lock(&volume.work);
        if volume.state().is_gone {
            return Err(VolumeError::Gone);
        }
        let bundle = self.bundle().ok_or(VolumeError::NoAuthority)?;
        let files = bundle.files()?;
        let caps = Caps::of(&files)?;
        self.check_room(0, caps.footprint)?;
        let manifest = Manifest {
            target: publication.target.clone(),
            pod: Some(publication.pod.clone()),
            attributes: publication.attributes.clone(),
            group: publication.layout.group,
            held: Some(held(&bundle)),
            file_names: files.names().map(|name| name.as_str().to_owned()).collect(),
            bytes: caps.footprint,
        };
        self.fill(&manifest, &files, &caps, publication.layout)?;
        volume.state().manifest = Some(manifest);
        self.show_count();
        // The authorities may have changed before the volume was complete; later changes find it complete.
        if let Some(newer) = self.bundle().filter(|newer| !Arc::ptr_eq(newer, &bundle)) {
            self.wish(volume, Wish::Bundle(newer));
        }
        Ok(())
    }

    /// From now on bundle volumes hold this, those that are there as well.
    pub fn renew_bundle(self: &Arc<Self>, bundle: Bundle) {
        let held = held(&bundle);
        {
            let mut current = lock(&self.bundle);
            if current.as_ref().is_some_and(|current| current.version() == held.version_id) {
                return;
            }
            *current = Some(Arc::new(bundle));
        }
        let Some(bundle) = self.bundle() else { return };
        for volume in self.all() {
            let is_stale = {
                let state = volume.state();
                let of_bundle = state.manifest.as_ref().filter(|manifest| manifest.is_of_bundle());
                of_bundle.is_some_and(|manifest| manifest.held.as_ref() != Some(&held))
            };
            if is_stale {
                self.wish(&volume, Wish::Bundle(Arc::clone(&bundle)));
            }
        }
    }

    /// What bundle volumes hold now.
    pub fn bundle(&self) -> Option<Arc<Bundle>> {
        lock(&self.bundle).clone()
    }
}

pub(super) fn held(bundle: &Bundle) -> Held {
    Held { secret_arn: String::new(), version_id: bundle.version() }
}

impl Manifest {
    /// Whether the volume is none of the server's business.
    pub fn is_of_bundle(&self) -> bool {
        self.attributes.contains_key(BUNDLE)
    }
}
