//! Who leads: one Lease, taken and renewed with the resourceVersion that was read, so that two can never both write it.
//! Also notes on it where the store stands. Must not fence anything: a Lease cannot; the store's epoch does.
//!
//! ```text
//!            nobody, released, or unchanged for its whole duration as seen from here
//!  Standby ──────────────────────────────────────────────────────────────────────────▶ Leading
//!     ▲                                                                                  │
//!     └── not renewed for two thirds of the duration, taken by another, or released ◀────┘
//! ```
//! Times of different machines are never compared: a candidate measures with its own clock how long the record has
//! not changed, and the holder counts from before it sent its renewal.

mod position;
#[cfg(test)]
mod tests;

pub use position::StorePosition;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Unanswered, within};
use crate::clock::Clock;

/// After a failed renewal and while another holds the Lease.
const ASK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct LeaseSettings {
    pub namespace: String,
    pub name: String,
    /// Must differ from every other process, also from an earlier one in the same pod.
    pub identity: String,
    /// How long others wait after the last renewal.
    pub lasts: Duration,
    pub renew_every: Duration,
}

impl LeaseSettings {
    /// 15 s for others to wait, renewed every 5 s.
    pub fn new(namespace: String, name: String, identity: String) -> Self {
        Self {
            namespace,
            name,
            identity,
            lasts: Duration::from_secs(15),
            renew_every: Duration::from_secs(5),
        }
    }

    /// The holder stops leading this long after its last renewal: well before anybody else may begin.
    fn leads_for(&self) -> Duration {
        self.lasts * 2 / 3
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseHold {
    Standby { holder: Option<String> },
    Leading,
}

#[derive(Debug, thiserror::Error)]
pub enum LeaseTrouble {
    #[error("the Lease {lease} could not be read: {source}")]
    Read { lease: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the Lease {lease} could not be written: {source}")]
    Write { lease: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the annotation {annotation} of the Lease says {found:?}: it should be <epoch>.<commit>", annotation = position::ANNOTATION)]
    Position { found: String },
}

/// One candidate.
pub struct Elector {
    leases: Api<Lease>,
    clock: Arc<dyn Clock>,
    settings: LeaseSettings,
    hold: watch::Sender<LeaseHold>,
    positions: watch::Receiver<Option<StorePosition>>,
}

/// The record as last read, and since when it has been the same.
struct Seen {
    resource_version: Option<String>,
    since: Instant,
}

/// What to do with the Lease as it stands.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Create,
    Take,
    Renew,
    Wait,
}

impl Elector {
    /// `positions` is where the store stands now; it is noted on the Lease with each renewal, and at once when the
    /// epoch changes.
    pub fn new(
        client: Client,
        clock: Arc<dyn Clock>,
        settings: LeaseSettings,
        positions: watch::Receiver<Option<StorePosition>>,
    ) -> (Self, watch::Receiver<LeaseHold>) {
        let leases = Api::namespaced(client, &settings.namespace);
        let (hold, held) = watch::channel(LeaseHold::Standby { holder: None });
        (Self { leases, clock, settings, hold, positions }, held)
    }

    /// The position noted by the last leader: a store that is behind it was put back from an older copy.
    pub async fn noted_position(&self) -> Result<Option<StorePosition>, LeaseTrouble> {
        let lease = within(self.leases.get_opt(&self.settings.name)).await;
        position::of(lease.map_err(|error| self.unread(error))?.as_ref())
    }

    /// Forgets the noted position, after a person has accepted that the store is an older or a new one.
    pub async fn forget_position(&self) -> Result<(), LeaseTrouble> {
        let lease = within(self.leases.get_opt(&self.settings.name)).await;
        let Some(mut lease) = lease.map_err(|error| self.unread(error))? else {
            return Ok(());
        };
        if let Some(annotations) = lease.metadata.annotations.as_mut() {
            annotations.remove(position::ANNOTATION);
        }
        self.write(lease).await.map(drop).map_err(|error| self.unwritten(error))
    }

    /// Stands for election until told to stop, and gives the Lease back at the end.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut seen = Seen { resource_version: None, since: self.clock.monotonic() };
        let mut leads_until: Option<Instant> = None;
        while !stop.is_cancelled() {
            let asked_at = self.clock.monotonic();
            let round = self.round(&mut seen, leads_until.is_some());
            let deadline = leads_until.unwrap_or(asked_at + self.settings.lasts);
            let outcome = tokio::select! {
                () = stop.cancelled() => break,
                outcome = tokio::time::timeout_at(deadline.into(), round) => outcome,
            };
            leads_until = match outcome {
                Ok(Ok(LeaseHold::Leading)) => Some(asked_at + self.settings.leads_for()),
                Ok(Ok(LeaseHold::Standby { holder })) => self.stand_by(holder),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the Lease could not be asked for");
                    leads_until.filter(|until| self.clock.monotonic() < *until)
                }
                Err(_) => leads_until.filter(|until| self.clock.monotonic() < *until),
            };
            if leads_until.is_some() {
                self.hold.send_if_modified(|hold| {
                    std::mem::replace(hold, LeaseHold::Leading) != LeaseHold::Leading
                });
            } else if *self.hold.borrow() == LeaseHold::Leading {
                self.stand_by(None);
            }
            let renewed = leads_until.is_some_and(|until| until >= asked_at + self.settings.leads_for());
            self.pause(&stop, if renewed { self.settings.renew_every } else { ASK_AGAIN }).await;
        }
        self.release(leads_until).await;
    }

    fn stand_by(&self, holder: Option<String>) -> Option<Instant> {
        let standby = LeaseHold::Standby { holder };
        self.hold.send_if_modified(|hold| {
            let changed = *hold != standby;
            hold.clone_from(&standby);
            changed
        });
        None
    }

    /// Waits for the next round; a new epoch of the store is noted without delay.
    async fn pause(&mut self, stop: &CancellationToken, at_most: Duration) {
        let epoch = self.positions.borrow_and_update().map(|position| position.epoch);
        let other_epoch = |now: &Option<StorePosition>| now.map(|position| position.epoch) != epoch;
        let new_epoch = async {
            if self.positions.wait_for(other_epoch).await.is_err() {
                // The store is closed and says nothing any more; the timer goes on alone.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(at_most) => {}
            () = new_epoch => {}
        }
    }

    /// Reads, decides, writes. A conflict is somebody else's win: the next round sees whose.
    async fn round(&self, seen: &mut Seen, leading: bool) -> Result<LeaseHold, LeaseTrouble> {
        let lease = within(self.leases.get_opt(&self.settings.name)).await;
        let lease = lease.map_err(|error| self.unread(error))?;
        let now = self.clock.monotonic();
        let step = decide(lease.as_ref(), &self.settings.identity, seen, now);
        let holder = lease.as_ref().and_then(holder);
        let written = match step {
            Step::Wait => return Ok(LeaseHold::Standby { holder }),
            Step::Create => {
                let fresh = self.claimed(Lease::default(), true)?;
                within(self.leases.create(&PostParams::default(), &fresh)).await
            }
            Step::Take | Step::Renew => {
                let taken = step == Step::Take || !leading;
                self.write(self.claimed(lease.unwrap_or_default(), taken)?).await
            }
        };
        match written {
            Ok(_) => Ok(LeaseHold::Leading),
            Err(error) if error.status() == Some(409) => Ok(LeaseHold::Standby { holder: None }),
            Err(error) => Err(self.unwritten(error)),
        }
    }

    async fn write(&self, lease: Lease) -> Result<Lease, Unanswered> {
        // `lease` carries the resourceVersion that was read: whoever wrote in between wins.
        within(self.leases.replace(&self.settings.name, &PostParams::default(), &lease)).await
    }

    /// The Lease with us as its holder, renewed now, with the store's position.
    fn claimed(&self, mut lease: Lease, taken: bool) -> Result<Lease, LeaseTrouble> {
        let noted = position::of(Some(&lease));
        let now = self.clock.now();
        let spec = lease.spec.get_or_insert_default();
        claim(spec, &self.settings, now, taken);
        lease.metadata = ObjectMeta {
            name: Some(self.settings.name.clone()),
            namespace: Some(self.settings.namespace.clone()),
            ..lease.metadata
        };
        if let Some(mine) = *self.positions.borrow() {
            // Never backwards: what was noted once stays until a person accepts the loss.
            let newest = noted?.map_or(mine, |noted| noted.max(mine));
            let annotations = lease.metadata.annotations.get_or_insert_with(BTreeMap::new);
            annotations.insert(position::ANNOTATION.to_owned(), newest.to_string());
        }
        Ok(lease)
    }

    /// Gives the Lease back, so that a successor need not wait; best effort, for the Lease also ends by itself.
    async fn release(&self, leads_until: Option<Instant>) {
        self.stand_by(None);
        if leads_until.is_none() {
            return;
        }
        let Ok(Some(mut lease)) = within(self.leases.get_opt(&self.settings.name)).await else { return };
        if holder(&lease).as_deref() != Some(self.settings.identity.as_str()) {
            return;
        }
        if let Some(spec) = lease.spec.as_mut() {
            spec.holder_identity = None;
        }
        if let Err(error) = self.write(lease).await {
            tracing::debug!(%error, "the Lease could not be given back");
        }
    }

    fn unread(&self, error: Unanswered) -> LeaseTrouble {
        LeaseTrouble::Read { lease: self.label(), source: Box::new(error) }
    }

    fn unwritten(&self, error: Unanswered) -> LeaseTrouble {
        LeaseTrouble::Write { lease: self.label(), source: Box::new(error) }
    }

    fn label(&self) -> String {
        format!("{}/{}", self.settings.namespace, self.settings.name)
    }
}

fn holder(lease: &Lease) -> Option<String> {
    lease.spec.as_ref()?.holder_identity.clone().filter(|holder| !holder.is_empty())
}

fn decide(lease: Option<&Lease>, identity: &str, seen: &mut Seen, now: Instant) -> Step {
    let Some(lease) = lease else { return Step::Create };
    if seen.resource_version != lease.metadata.resource_version {
        seen.resource_version.clone_from(&lease.metadata.resource_version);
        seen.since = now;
    }
    match holder(lease) {
        None => Step::Take,
        Some(holder) if holder == identity => Step::Renew,
        Some(_) if now.saturating_duration_since(seen.since) >= lasts(lease) => Step::Take,
        Some(_) => Step::Wait,
    }
}

/// As long as its holder said. Without a word of it, the default.
fn lasts(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    Duration::from_secs(seconds.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0).unwrap_or(15))
}

fn claim(spec: &mut LeaseSpec, settings: &LeaseSettings, now: Timestamp, taken: bool) {
    if taken {
        spec.acquire_time = Some(MicroTime(now));
        spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(-1).saturating_add(1));
    }
    spec.holder_identity = Some(settings.identity.clone());
    // Rounded up: a duration under a second must not become nothing.
    let seconds = settings.lasts.as_millis().div_ceil(1000);
    spec.lease_duration_seconds = Some(i32::try_from(seconds).unwrap_or(i32::MAX));
    spec.renew_time = Some(MicroTime(now));
}
