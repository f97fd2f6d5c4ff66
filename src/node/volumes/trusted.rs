//! What the volumes have to do with the trust window: what is learnt from the server for it, what is filled by it, and
//! what the server is told of that later.
//! Must not fill anything that cannot be told.

use std::collections::HashSet;

use super::{Volume, Volumes};
use crate::node::claims;
use crate::node::manifest::Manifest;
use crate::node::payload::{Placement, Source};
use crate::node::request::Publication;
use crate::node::trust::{Holder, Untrusted};
use crate::wire::node::{FirstMounts, Mount, Receipt, Served};

impl Volumes {
    /// What a first mount may be filled with while the server is away. Blocks while a session begins or ends.
    pub fn trusted(&self, publication: &Publication) -> Result<Placement, Untrusted> {
        if !self.trust.is_on() {
            return Err(Untrusted::Off);
        }
        let session = self.session();
        if session.outbox.is_some() {
            return Err(Untrusted::Connecting);
        }
        let holder = Holder::new(&publication.pod, &publication.attributes);
        let account_uid = claims::account_uid(publication);
        let payload = self.trust.find(&holder, account_uid.as_deref(), self.clock.monotonic())?;
        Ok(Placement { session: session.id, payload, mount: None, source: Source::Copy })
    }

    /// The server's files for a mount whose files are right already.
    pub fn copy(&self, mount_id: &str, placement: &Placement) -> Option<Receipt> {
        let volume = self.find(mount_id)?;
        if let Some(manifest) = &volume.state().manifest {
            self.learn(manifest, placement);
        }
        // What the copy cannot be for is no news for the window.
        self.keep(placement.session, mount_id, FirstMounts::Unknown)
    }

    /// There is a stream: what is kept for no mount any more goes.
    pub fn session_is_up(&self, session: u64) {
        let holder = |volume: &Volume| volume.state().manifest.as_ref().and_then(Holder::of);
        let holders: HashSet<Holder> = self.all().iter().filter_map(|volume| holder(volume)).collect();
        self.trust.session_is_up(session, &holders);
    }

    /// The audit has what was done for this mount.
    pub fn recorded(&self, mount_id: &str) {
        if let Err(error) = self.manifests.forget_served(mount_id) {
            tracing::warn!(mount_id, %error, "a note of the trust window cannot be removed: it is told again");
        }
    }

    pub(super) fn learn(&self, manifest: &Manifest, placement: &Placement) {
        if let Some(holder) = Holder::of(manifest) {
            self.trust.learn(holder, placement);
        }
    }

    pub(super) fn distrust(&self, manifest: &Manifest) {
        if let Some(holder) = Holder::of(manifest) {
            let arn = manifest.held.as_ref().map_or("", |held| held.secret_arn.as_str());
            self.trust.forget(&holder, arn);
        }
    }

    pub(super) fn stand_by(&self, manifest: &Manifest, first_mounts: FirstMounts, session: u64) {
        if let (Some(holder), Some(held)) = (Holder::of(manifest), &manifest.held) {
            self.trust.keep(&holder, held, first_mounts, session);
        }
    }

    /// How the server is told of a mount; of a bundle it is not.
    pub(super) fn told(&self, manifest: &Manifest) -> Option<Mount> {
        if manifest.is_of_bundle() {
            return None;
        }
        let mut mount = manifest.mount();
        if let (true, Some(holder), Some(held)) = (self.trust.is_on(), Holder::of(manifest), &manifest.held) {
            mount.copy_wanted = !self.trust.has(&holder, held);
        }
        Some(mount)
    }

    pub(super) fn served(&self) -> Vec<Served> {
        self.manifests.served().unwrap_or_else(|error| {
            tracing::error!(%error, "the notes of the trust window cannot be read");
            Vec::new()
        })
    }

    /// A volume has left the table.
    pub(super) fn let_go(&self, volume: &Volume) {
        let Some(holder) = volume.state().manifest.as_ref().and_then(Holder::of) else { return };
        let is_same =
            |other: &Volume| other.state().manifest.as_ref().and_then(Holder::of).as_ref() == Some(&holder);
        if !self.all().iter().any(|other| is_same(other)) {
            self.trust.let_go(&holder);
        }
    }
}
