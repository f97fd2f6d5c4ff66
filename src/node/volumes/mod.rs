//! The volumes of this node: which there are, what they hold, what is wanted of them.
//! Must not speak to kubelet or to the server: messages for the server go into the session's outbox.

mod bundled;
mod converge;
mod place;
mod restore;
mod trusted;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::task::TaskTracker;

use super::bundle::Bundle;
use super::manifest::{Manifest, Manifests};
use super::mounter::{Mounter, MounterError};
use super::payload::{Payload, Placement};
use super::target::Target;
use super::trust::Trust;
use crate::clock::Clock;
use crate::projection::ProjectionError;
use crate::wire::node::{Detach, FirstMounts, FromNode, Hello, Receipt, refused};

/// Why files could not be put in place or taken away.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error(transparent)]
    Mounter(#[from] MounterError),
    #[error(transparent)]
    Projection(#[from] ProjectionError),
    #[error(
        "the files take {bytes} bytes of memory, and a volume holds at most 4 MiB of them: ask for fewer keys"
    )]
    TooLarge { bytes: u64 },
    #[error(
        "all Tidelock volumes of this node take {used} bytes, with this one {wanted}, at most {max}: raise the \
         chart's `node.capacityMiB`, or run fewer pods with secrets on one node"
    )]
    NodeFull { used: u64, wanted: u64, max: u64 },
    #[error(
        "the node agent cannot read the certificate authorities that it knows the server by; see the ConfigMap \
         `tidelock-ca` in its namespace"
    )]
    NoAuthority,
    #[error("the manifest of the mount cannot be written or removed: {0}")]
    Manifest(#[source] io::Error),
    /// What was to be placed came from a session that is over; the next one brings it again.
    #[error("the stream to the server broke meanwhile")]
    Stale,
    #[error("the volume is being unpublished")]
    Gone,
}

impl VolumeError {
    /// One word for events, metrics, logs and the server.
    pub fn reason(&self) -> &'static str {
        match self {
            VolumeError::Mounter(MounterError::Away(_)) => "MounterAway",
            VolumeError::Mounter(MounterError::NotMounted) => "NotMounted",
            VolumeError::Mounter(MounterError::Failed(_)) => "MountFailed",
            VolumeError::Projection(error) => error.reason(),
            VolumeError::TooLarge { .. } => "TooLarge",
            VolumeError::NodeFull { .. } => "NodeFull",
            VolumeError::NoAuthority => "NoAuthority",
            VolumeError::Manifest(_) => "ManifestFailed",
            VolumeError::Stale => "StreamBroke",
            VolumeError::Gone => "Unpublished",
        }
    }
}

/// What the server says to a first mount.
#[derive(Clone)]
pub enum Answer {
    Pending,
    Refused {
        reason: refused::Reason,
        message: String,
    },
    Place(Placement),
    /// The right went between the answer and the files.
    Withdrawn {
        session: u64,
        reason: String,
    },
    /// kubelet has taken the volume back.
    Gone,
}

/// What a complete volume is to become.
#[derive(Clone)]
enum Wish {
    Place(Placement),
    Withdraw { session: u64 },
    Bundle(Arc<Bundle>),
}

/// One volume of one pod, from the first call of kubelet to its Unpublish.
pub struct Volume {
    pub target: Target,
    answer: watch::Sender<Answer>,
    /// Held during file work, which is done by one thread at a time.
    work: Mutex<()>,
    state: Mutex<State>,
    /// A wish has come or the volume goes.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// There from the moment the files are complete.
    manifest: Option<Manifest>,
    is_publishing: bool,
    is_gone: bool,
    wish: Option<Wish>,
    is_converging: bool,
    /// Of the files before, while they linger.
    former_bytes: u64,
    /// The Attach whose answers count.
    request_id: u64,
}

impl Volume {
    fn new(target: Target, manifest: Option<Manifest>) -> Arc<Volume> {
        Arc::new(Volume {
            target,
            answer: watch::Sender::new(Answer::Pending),
            work: Mutex::new(()),
            state: Mutex::new(State { manifest, ..State::default() }),
            changed: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub fn answers(&self) -> watch::Receiver<Answer> {
        self.answer.subscribe()
    }

    /// From here on only answers to this Attach count.
    pub fn expect_answer(&self, request_id: u64) {
        self.state().request_id = request_id;
        self.answer.send_replace(Answer::Pending);
    }
}

/// One connection to the server, from its Hello on.
struct Session {
    id: u64,
    outbox: Option<mpsc::UnboundedSender<FromNode>>,
}

pub struct Volumes {
    mounter: Mounter,
    manifests: Manifests,
    clock: Arc<dyn Clock>,
    node_bytes_max: u64,
    table: Mutex<HashMap<String, Arc<Volume>>>,
    /// File work reads it, a new session writes it: so the list in Hello misses nothing that is under way, and
    /// nothing that an ended session sent is placed after it.
    session: RwLock<Session>,
    /// Every payload that somebody still holds.
    payloads: Mutex<Vec<Weak<Payload>>>,
    trust: Trust,
    /// What bundle volumes hold; `None` before the authorities were read.
    bundle: Mutex<Option<Arc<Bundle>>>,
    convergers: TaskTracker,
}

/// What a call to publish finds.
pub enum Entered {
    /// The files are in place.
    Complete(Arc<Volume>),
    /// This call is to bring them there.
    First(Arc<Volume>),
    /// Another call is at it.
    Busy,
}

impl Volumes {
    pub fn new(
        mounter: Mounter,
        manifests: Manifests,
        clock: Arc<dyn Clock>,
        node_bytes_max: u64,
        trust: Trust,
    ) -> Volumes {
        Volumes {
            mounter,
            manifests,
            clock,
            node_bytes_max,
            table: Mutex::default(),
            session: RwLock::new(Session { id: 0, outbox: None }),
            payloads: Mutex::default(),
            trust,
            bundle: Mutex::default(),
            convergers: TaskTracker::new(),
        }
    }

    /// Begins a call of kubelet to publish. [`Volumes::leave`] ends one that was `First`.
    pub fn enter(&self, target: &Target) -> Entered {
        let mut table = lock(&self.table);
        let volume = table.entry(target.mount_id()).or_insert_with(|| Volume::new(target.clone(), None));
        let mut state = volume.state();
        if state.is_gone || state.is_publishing {
            return Entered::Busy;
        }
        if state.manifest.is_some() {
            return Entered::Complete(Arc::clone(volume));
        }
        state.is_publishing = true;
        drop(state);
        volume.answer.send_replace(Answer::Pending);
        Entered::First(Arc::clone(volume))
    }

    /// Ends a first call. One that did not complete the volume leaves nothing, here and at the server.
    pub fn leave(&self, volume: &Volume) {
        volume.answer.send_replace(Answer::Pending);
        let mut state = volume.state();
        state.is_publishing = false;
        if state.manifest.is_none() && !state.is_gone {
            // Whoever has found the volume in the table meanwhile must not go on with it.
            state.is_gone = true;
            drop(state);
            self.forget(volume);
            self.send(Detach { mount_id: volume.target.mount_id() });
        }
    }

    /// Begins a session: gives `hello` every complete mount and sends it, before anything else, to `outbox`, where all
    /// that follows goes too. Blocks until file work that is under way has ended.
    pub fn begin_session(&self, mut hello: Hello, outbox: mpsc::UnboundedSender<FromNode>) -> u64 {
        let mut session = self.session.write().unwrap_or_else(PoisonError::into_inner);
        session.id += 1;
        let volumes = self.all();
        hello.mounts =
            volumes.iter().filter_map(|volume| self.told(volume.state().manifest.as_ref()?)).collect();
        hello.served = self.served();
        session.outbox = Some(outbox);
        send_within(&session, hello);
        session.id
    }

    /// Ends the session: what it sent counts no more.
    pub fn end_session(&self) {
        let mut session = self.session.write().unwrap_or_else(PoisonError::into_inner);
        self.trust.session_ended(session.id, self.clock.monotonic());
        session.id += 1;
        session.outbox = None;
        drop(session);
        for volume in self.all() {
            volume.state().wish.take_if(|wish| wish.session().is_some());
            volume.changed.notify_one();
        }
    }

    /// Sends to the server, if there is a session. Blocks while one begins.
    fn send(&self, message: impl Into<FromNode>) {
        send_within(&self.session(), message);
    }

    /// The server's answer to an Attach, or a push. A push can overtake the first placing: then it is the answer, and
    /// [`Volumes::place_first`] looks once more when it is done.
    pub fn place(self: &Arc<Self>, mount_id: &str, request_id: u64, placement: Placement) {
        let Some(volume) = self.find(mount_id) else { return };
        let state = volume.state();
        if let Some(manifest) = &state.manifest {
            self.learn(manifest, &placement);
            drop(state);
            self.wish(&volume, Wish::Place(placement));
        } else if request_id == 0 || state.request_id == request_id {
            volume.answer.send_replace(Answer::Place(placement));
        }
    }

    pub fn refuse(&self, mount_id: &str, request_id: u64, reason: refused::Reason, message: String) {
        let Some(volume) = self.find(mount_id) else { return };
        let state = volume.state();
        if state.manifest.is_none() && state.request_id == request_id {
            volume.answer.send_replace(Answer::Refused { reason, message });
        }
    }

    pub fn withdraw(self: &Arc<Self>, session: u64, mount_id: &str, reason: String) {
        let Some(volume) = self.find(mount_id) else { return };
        let state = volume.state();
        if let Some(manifest) = &state.manifest {
            self.distrust(manifest);
            drop(state);
            self.wish(&volume, Wish::Withdraw { session });
        } else {
            volume.answer.send_replace(Answer::Withdrawn { session, reason });
        }
    }

    /// The server finds the files right as they stand: the receipt for them.
    pub fn keep(&self, session: u64, mount_id: &str, first_mounts: FirstMounts) -> Option<Receipt> {
        let volume = self.find(mount_id)?;
        let held = {
            let state = volume.state();
            let manifest = state.manifest.as_ref().filter(|manifest| !manifest.is_of_bundle())?;
            self.stand_by(manifest, first_mounts, session);
            manifest.held.clone()?
        };
        Some(Receipt {
            mount_id: mount_id.to_owned(),
            secret_arn: held.secret_arn,
            version_id: held.version_id,
        })
    }

    /// Takes values in, unless the node would go beyond its cap. They count until the last holder lets go.
    pub fn hold(&self, payload: Payload) -> Option<Arc<Payload>> {
        if self.used_bytes() + payload.bytes() > self.node_bytes_max {
            return None;
        }
        let payload = Arc::new(payload);
        lock(&self.payloads).push(Arc::downgrade(&payload));
        Some(payload)
    }

    fn used_bytes(&self) -> u64 {
        let files: u64 = self
            .all()
            .iter()
            .filter_map(|volume| volume.state().manifest.as_ref().map(|manifest| manifest.bytes))
            .sum();
        let held: u64 = self.held().iter().map(|payload| payload.bytes()).sum();
        files + held
    }

    /// Whether so many bytes more have room while former files stay for a moment, of this volume and of others.
    fn has_room_to_linger(&self, bytes: u64) -> bool {
        let lingering: u64 = self.all().iter().map(|volume| volume.state().former_bytes).sum();
        self.used_bytes() + lingering + bytes <= self.node_bytes_max
    }

    /// The values in memory, each counted once however many hold it.
    fn held(&self) -> Vec<Arc<Payload>> {
        let mut payloads = lock(&self.payloads);
        payloads.retain(|payload| payload.strong_count() > 0);
        payloads.iter().filter_map(Weak::upgrade).collect()
    }

    pub fn measure_held(&self) {
        metrics::gauge!("tidelock_node_payloads").set(self.held().len() as f64);
    }

    fn find(&self, mount_id: &str) -> Option<Arc<Volume>> {
        lock(&self.table).get(mount_id).cloned()
    }

    fn all(&self) -> Vec<Arc<Volume>> {
        lock(&self.table).values().cloned().collect()
    }

    fn forget(&self, volume: &Volume) {
        let mut table = lock(&self.table);
        let mount_id = volume.target.mount_id();
        if table.get(&mount_id).is_some_and(|known| std::ptr::eq(Arc::as_ptr(known), volume)) {
            table.remove(&mount_id);
        }
        drop(table);
        self.let_go(volume);
        self.show_count();
    }

    fn show_count(&self) {
        let complete = self.all().iter().filter(|volume| volume.state().manifest.is_some()).count();
        metrics::gauge!("tidelock_node_volumes").set(complete as f64);
    }

    fn session(&self) -> RwLockReadGuard<'_, Session> {
        self.session.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A failed send means that the session is ending; the next Hello says it all again.
fn send_within(session: &Session, message: impl Into<FromNode>) {
    if let Some(outbox) = &session.outbox {
        let _ = outbox.send(message.into());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
