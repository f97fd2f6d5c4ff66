//! File work on one volume: the first placing, each later one, withdrawal, and the end. All of it blocks, for a short
//! time, and is done by one thread at a time per volume.
//! Must not report a volume as complete before its files and its manifest are there.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::{Answer, Session, State, Volume, VolumeError, Volumes, Wish, bundled, lock, send_within};
use crate::node::manifest::{Held, Manifest};
use crate::node::mounter::MounterError;
use crate::node::payload::{Placement, Source};
use crate::node::request::{self, Pod, Publication};
use crate::node::target::Target;
use crate::projection::{self, Files, Former, Layout};
use crate::wire::node::{Detach, Mount, Receipt};

/// A swap holds two sets of files for a moment, so a set may take half of a volume, and the next one may be larger.
const VOLUME_BYTES_MAX: u64 = 8 * 1024 * 1024;
const VOLUME_BYTES_MIN: u64 = 128 * 1024;
const INODES_MAX: u64 = 4096;
const INODES_MIN: u64 = 128;

/// The caps of a volume for a set of files.
pub(super) struct Caps {
    pub(super) footprint: u64,
    bytes: u64,
    inodes: u64,
}

impl Caps {
    pub(super) fn of(files: &Files<'_>) -> Result<Caps, VolumeError> {
        let (footprint, inodes) = (files.footprint_bytes(), files.inodes());
        if 2 * footprint > VOLUME_BYTES_MAX || 2 * inodes > INODES_MAX {
            return Err(VolumeError::TooLarge { bytes: footprint });
        }
        Ok(Caps {
            footprint,
            bytes: (4 * footprint).clamp(VOLUME_BYTES_MIN, VOLUME_BYTES_MAX),
            inodes: (4 * inodes).clamp(INODES_MIN, INODES_MAX),
        })
    }
}

impl Volumes {
    /// Mounts the volume and fills it for the first time. What fails leaves nothing mounted.
    ///
    /// 1. Room on the node and in the volume.
    /// 2. The mount.
    /// 3. The files.
    /// 4. The manifest: from here on the volume is complete, also after a crash.
    /// 5. The receipt.
    /// 6. What the server has said meanwhile.
    ///
    /// In the trust window a note for the audit comes before the mount.
    pub fn place_first(
        self: &Arc<Self>,
        volume: &Arc<Volume>,
        publication: &Publication,
        placement: &Placement,
    ) -> Result<(), VolumeError> {
        let session = self.session();
        let _work = lock(&volume.work);
        if session.id != placement.session {
            return Err(VolumeError::Stale);
        }
        if volume.state().is_gone {
            return Err(VolumeError::Gone);
        }

        // 1. Room.
        let files = placement.payload.files()?;
        let caps = Caps::of(&files)?;
        self.check_room(0, caps.footprint)?;

        let target = &publication.target;
        let manifest = Manifest {
            target: target.clone(),
            pod: Some(publication.pod.clone()),
            attributes: publication.attributes.clone(),
            group: publication.layout.group,
            held: Some(held(placement)),
            file_names: placement.payload.file_names(),
            bytes: caps.footprint,
        };
        let noted = || match placement.source {
            Source::Copy => self.manifests.note_served(&manifest, self.clock.now().as_second()),
            Source::Server { .. } => Ok(()),
        };
        // 2 to 4.
        let filled = noted()
            .map_err(VolumeError::Manifest)
            .and_then(|()| self.fill(&manifest, &files, &caps, publication.layout));
        if let Err(error) = filled {
            self.recorded(&target.mount_id());
            return Err(error);
        }
        // Before the volume counts as complete: what the server says from then on comes after it.
        self.learn(&manifest, placement);
        volume.state().manifest = Some(manifest.clone());

        // 5. The receipt.
        send_receipt(&session, target, placement);
        self.show_count();

        // 6. What was said before the volume was complete; later words find it complete.
        let latest = volume.answer.borrow().clone();
        match latest {
            Answer::Place(newer) if !Arc::ptr_eq(&newer.payload, &placement.payload) => {
                self.learn(&manifest, &newer);
                self.wish(volume, Wish::Place(newer));
            }
            Answer::Withdrawn { session, .. } => {
                self.distrust(&manifest);
                self.wish(volume, Wish::Withdraw { session });
            }
            _ => {}
        }
        Ok(())
    }

    /// The mount, the files and the manifest of a volume; what fails leaves nothing mounted.
    pub(super) fn fill(
        &self,
        manifest: &Manifest,
        files: &Files<'_>,
        caps: &Caps,
        layout: Layout,
    ) -> Result<(), VolumeError> {
        let target = &manifest.target;
        let filled = || {
            // 2. The mount.
            let folder = self.mounter.mount(target, layout.group, caps.bytes, caps.inodes)?;
            // 3. The files. Nobody is on his way into any before them.
            projection::replace(folder.as_fd(), files, layout, self.clock.now())?;
            // 4. The manifest.
            self.manifests.store(manifest).map_err(VolumeError::Manifest)
        };
        filled().inspect_err(|_| {
            if let Err(left) = self.mounter.unmount(target) {
                tracing::error!(mount = %target, error = %left, "a mount that failed could not be undone");
            }
        })
    }

    /// Makes the files of a complete volume what they are wanted to be. The former ones may linger, to be swept.
    pub(super) fn fulfil(&self, volume: &Volume, wish: &Wish) -> Result<Former, VolumeError> {
        let session = self.session();
        let _work = lock(&volume.work);
        if wish.session().is_some_and(|id| id != session.id) {
            return Err(VolumeError::Stale);
        }
        let mut manifest = match &*volume.state() {
            State { is_gone: true, .. } | State { manifest: None, .. } => return Err(VolumeError::Gone),
            State { manifest: Some(manifest), .. } => manifest.clone(),
        };
        let files = match wish {
            Wish::Place(placement) => placement.payload.files()?,
            Wish::Withdraw { .. } => Files::default(),
            Wish::Bundle(bundle) => bundle.files()?,
        };
        let caps = Caps::of(&files)?;
        self.check_room(manifest.bytes, caps.footprint)?;
        if let Wish::Place(Placement { mount: Some(mount), .. }) = wish {
            complete_from_record(&mut manifest, mount);
        }
        let folder = self.mounter.open(&volume.target, caps.bytes, caps.inodes)?;
        let mut former = projection::replace(folder.as_fd(), &files, layout(&manifest), self.clock.now())?;
        let former_bytes = std::mem::replace(&mut manifest.bytes, caps.footprint);
        volume.state().former_bytes = 0;
        if former == Former::Lingers && !self.has_room_to_linger(caps.footprint) {
            projection::sweep(folder.as_fd())?;
            former = Former::Gone;
        }
        manifest.file_names = files.names().map(|name| name.as_str().to_owned()).collect();
        manifest.held = match wish {
            Wish::Place(placement) => Some(held(placement)),
            Wish::Withdraw { .. } => None,
            Wish::Bundle(bundle) => Some(bundled::held(bundle)),
        };
        if let Err(error) = self.manifests.store(&manifest) {
            // The files are right. With the former manifest a restarted agent is sent them once more.
            tracing::warn!(mount = %volume.target, %error, "writing the manifest failed");
        }
        let mut state = volume.state();
        state.manifest = Some(manifest);
        state.former_bytes = if former == Former::Lingers { former_bytes } else { 0 };
        drop(state);
        if let Wish::Place(placement) = wish {
            send_receipt(&session, &volume.target, placement);
        }
        Ok(former)
    }

    /// Takes former files away that linger. What cannot be swept now goes with the next change.
    pub(super) fn sweep(&self, volume: &Volume) {
        let _work = lock(&volume.work);
        if volume.state().is_gone {
            return;
        }
        let swept = self.look(&volume.target).map_err(VolumeError::from);
        match swept.and_then(|folder| Ok(projection::sweep(folder.as_fd())?)) {
            Ok(()) => volume.state().former_bytes = 0,
            Err(error) => {
                tracing::warn!(mount = %volume.target, reason = error.reason(), %error, "former files linger");
            }
        }
    }

    /// Whether a complete volume is still mounted, as far as can be said; only a mounter that says no is believed.
    /// kubelet's request tells again what a lost manifest said.
    pub fn confirm(&self, volume: &Volume, publication: &Publication) -> bool {
        let _work = lock(&volume.work);
        match self.mounter.open(&volume.target, 1, 1) {
            Err(MounterError::NotMounted) => {
                let mut state = volume.state();
                state.is_gone = true;
                drop(state);
                if let Err(error) = self.manifests.remove(&volume.target) {
                    tracing::warn!(mount = %volume.target, %error, "removing a manifest failed");
                }
                self.forget(volume);
                false
            }
            Err(error) => {
                tracing::warn!(mount = %volume.target, %error, "a complete mount could not be looked at");
                true
            }
            Ok(_) => {
                self.complete_from_kubelet(volume, publication);
                true
            }
        }
    }

    /// Ends a volume, whether or not it was ever complete. What is not there is no error.
    pub fn unpublish(&self, target: &Target) -> Result<(), VolumeError> {
        let volume = self.find(&target.mount_id());
        let session = self.session();
        let work = volume.as_ref().map(|volume| {
            volume.state().is_gone = true;
            volume.answer.send_replace(Answer::Gone);
            volume.changed.notify_one();
            lock(&volume.work)
        });
        // Should a step fail, kubelet comes again and finds the volume as a mount without a table entry.
        self.mounter.unmount(target)?;
        self.manifests.remove(target).map_err(VolumeError::Manifest)?;
        send_within(&session, Detach { mount_id: target.mount_id() });
        drop(work);
        drop(session);
        if let Some(volume) = volume {
            self.forget(&volume);
        }
        Ok(())
    }

    /// Opens what is mounted, to look at it.
    pub(super) fn look(&self, target: &Target) -> Result<OwnedFd, MounterError> {
        self.mounter.open(target, 1, 1)
    }

    fn complete_from_kubelet(&self, volume: &Volume, publication: &Publication) {
        let mut state = volume.state();
        let Some(manifest) = state.manifest.as_mut().filter(|manifest| manifest.pod.is_none()) else {
            return;
        };
        manifest.pod = Some(publication.pod.clone());
        manifest.attributes = publication.attributes.clone();
        manifest.group = publication.layout.group;
        if let Err(error) = self.manifests.store(manifest) {
            tracing::warn!(mount = %volume.target, %error, "writing the manifest failed");
        }
    }

    pub(super) fn check_room(&self, former: u64, next: u64) -> Result<(), VolumeError> {
        let used = self.used_bytes();
        let wanted = used.saturating_sub(former) + next;
        if wanted > self.node_bytes_max && next > former {
            return Err(VolumeError::NodeFull { used, wanted, max: self.node_bytes_max });
        }
        Ok(())
    }
}

impl Wish {
    /// The session by which it came and with which it ends; a bundle comes from nobody.
    pub(super) fn session(&self) -> Option<u64> {
        match self {
            Wish::Place(placement) => Some(placement.session),
            Wish::Withdraw { session } => Some(*session),
            Wish::Bundle(_) => None,
        }
    }
}

fn held(placement: &Placement) -> Held {
    Held {
        secret_arn: placement.payload.secret_arn.clone(),
        version_id: placement.payload.version_id.clone(),
    }
}

fn send_receipt(session: &Session, target: &Target, placement: &Placement) {
    let Held { secret_arn, version_id } = held(placement);
    send_within(session, Receipt { mount_id: target.mount_id(), secret_arn, version_id });
}

/// The attributes were understood when the volume was first published; a mount found without them gets the defaults.
fn layout(manifest: &Manifest) -> Layout {
    match request::parse_attributes(&manifest.attributes) {
        Ok(asked) => request::layout(&asked, manifest.group),
        Err(_) => Layout::with_default_mode(manifest.group, None),
    }
}

fn complete_from_record(manifest: &mut Manifest, mount: &Mount) {
    if manifest.pod.is_some() || mount.pod_name.is_empty() {
        return;
    }
    manifest.pod = Some(Pod {
        namespace: mount.pod_namespace.clone(),
        name: mount.pod_name.clone(),
        service_account: mount.service_account.clone(),
    });
    manifest.attributes = mount.attributes.clone().into_iter().collect::<BTreeMap<_, _>>();
}
