//! PURE. What a start may do, from what it found: the store, the root key, and custom resources that a store made.
//! Must not read or write anything: the wiring observes, asks, and carries one plan out after the other.
//!
//! ```text
//!  store:  nothing ──BeginInitialising──▶ initialising ──FinishReady──▶ ready ──▶ Serve
//!  key:    absent                            │    ▲
//!                                            └────┘ CreateKey
//! ```
//! After each plan but `Serve` and `Refuse` the wiring observes again: killed between any two steps, it resumes. Nothing
//! that could stand for lost values is made without somebody's word that they are lost.

use jiff::{SignedDuration, Timestamp};

use super::{Installation, InstallationState, Position};
use crate::failpoint;
use crate::seal::KeyId;

/// What lies where the root key is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySeen {
    Absent,
    Present {
        installation: String,
        key: KeyId,
    },
    /// Something is there that is no key, and what is wrong with it.
    Malformed(String),
}

/// Somebody's word that the values of a lost store need not come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossAccepted {
    /// The installation whose loss is accepted, or `unknown` where no key tells. A word for one loss never serves for
    /// the next.
    pub installation: String,
}

impl LossAccepted {
    pub const UNKNOWN: &'static str = "unknown";
}

/// All that the decision rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// What the store's file claims, before it can be verified.
    pub installation: Option<Installation>,
    pub store_has_records: bool,
    pub key: KeySeen,
    /// Whether any ManagedSecret bears an ARN in its status, and so once had a secret in a store.
    pub custom_resource_has_arn: bool,
    pub loss: Option<LossAccepted>,
    /// The configuration's region and account.
    pub region: String,
    pub account: String,
}

/// The one next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartPlan {
    /// Write the installation in state `Initialising`: under a new id, or under that of a key whose store is lost.
    BeginInitialising {
        adopt: Option<String>,
    },
    /// Make the root key for this installation, failing when one is there by now.
    CreateKey {
        installation: String,
    },
    /// Unlock the store with the key, and write the installation in state `Ready` with this key's name.
    FinishReady {
        key: KeyId,
    },
    /// Unlock the store with the key, and serve.
    Serve,
    Refuse(Refusal),
}

/// Why a start goes no further, and what a person can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub reason: &'static str,
    pub message: String,
}

/// Decides. Total: every observation has its plan.
pub fn decide_start(observed: &Observed) -> StartPlan {
    if let KeySeen::Malformed(wrong) = &observed.key {
        return refuse("RootKeyMalformed", format!("the root key cannot be read ({wrong}): restore it"));
    }
    match &observed.installation {
        Some(installation) if other_settings(observed, installation) => refuse(
            "StoreOfOtherRegion",
            format!(
                "the store was made for region {} and account {}, which are in every ARN; the configuration says {} \
                 and {}: put the first two back",
                installation.region, installation.account, observed.region, observed.account
            ),
        ),
        Some(installation) if installation.state == InstallationState::Ready => ready(observed, installation),
        _ if observed.store_has_records => refuse(
            "StoreTampered",
            "the store holds records, but the record of its installation is not that of a store in use: restore it \
             from a backup"
                .to_owned(),
        ),
        Some(installation) => initialising(observed, installation),
        None => nothing(observed),
    }
}

fn other_settings(observed: &Observed, installation: &Installation) -> bool {
    (&installation.region, &installation.account) != (&observed.region, &observed.account)
}

/// An empty store. It may be the first start ever; it may be the new volume of a store that is lost.
fn nothing(observed: &Observed) -> StartPlan {
    match &observed.key {
        KeySeen::Present { installation, .. } => lost_beside_key(observed, installation),
        KeySeen::Absent | KeySeen::Malformed(_) if observed.custom_resource_has_arn => {
            if accepted(observed, LossAccepted::UNKNOWN) {
                return StartPlan::BeginInitialising { adopt: None };
            }
            lost(
                LossAccepted::UNKNOWN,
                "ManagedSecrets bear ARNs of an earlier store, and so its root key is gone too",
            )
        }
        // A key before the store that it belongs to: after a kill nobody knows any more whose it is.
        KeySeen::Absent | KeySeen::Malformed(_) if !failpoint::guard("first-start-order") => {
            StartPlan::CreateKey { installation: String::new() }
        }
        KeySeen::Absent | KeySeen::Malformed(_) => StartPlan::BeginInitialising { adopt: None },
    }
}

fn initialising(observed: &Observed, begun: &Installation) -> StartPlan {
    match &observed.key {
        KeySeen::Absent | KeySeen::Malformed(_) => StartPlan::CreateKey { installation: begun.id.clone() },
        KeySeen::Present { installation, key } if *installation == begun.id => {
            StartPlan::FinishReady { key: key.clone() }
        }
        KeySeen::Present { installation, .. } => lost_beside_key(observed, installation),
    }
}

/// The key is kept, never re-made: with the loss accepted the new store takes over the id that the key carries.
fn lost_beside_key(observed: &Observed, installation: &str) -> StartPlan {
    if accepted(observed, installation) {
        return StartPlan::BeginInitialising { adopt: Some(installation.to_owned()) };
    }
    lost(installation, &format!("the root key is that of installation {installation}"))
}

fn ready(observed: &Observed, store: &Installation) -> StartPlan {
    match &observed.key {
        KeySeen::Absent | KeySeen::Malformed(_) => refuse(
            "RootKeyLost",
            format!(
                "the store of installation {} is there, its root key is not: restore the root key from a backup; \
                 without it no value opens again",
                store.id
            ),
        ),
        KeySeen::Present { installation, key }
            if *installation != store.id || store.root_key.as_ref() != Some(key) =>
        {
            let wanted = store.root_key.as_ref().map_or("unknown", KeyId::as_str);
            refuse(
                "RootKeyMismatch",
                format!(
                    "the store of installation {} needs the root key {wanted}, found is {key} of installation \
                     {installation}: restore the root key or the store, so that they belong together",
                    store.id
                ),
            )
        }
        KeySeen::Present { .. } => StartPlan::Serve,
    }
}

/// Refuses a store that was put back from an older copy: one behind the position that was noted outside of it.
pub fn check_position(noted: Position, store: Position) -> Result<(), Refusal> {
    if store >= noted || !failpoint::guard("rollback-check") {
        return Ok(());
    }
    let message = format!(
        "the store stands at epoch {} and commit {}, but was once at epoch {} and commit {}: it was put back from an \
         older copy; restore the newest one",
        store.epoch.0, store.commit, noted.epoch.0, noted.commit
    );
    Err(Refusal { reason: "StoreRolledBack", message })
}

/// So far may records lie ahead of the clock: machines' clocks differ a little.
const CLOCK_BEHIND_MAX: SignedDuration = SignedDuration::from_mins(5);

/// Refuses a clock that lags behind the store: deletions and rotations would come late, and times run backwards.
pub fn check_clock(newest_record_at: Option<Timestamp>, now: Timestamp) -> Result<(), Refusal> {
    let Some(newest) = newest_record_at else { return Ok(()) };
    if newest.duration_since(now) <= CLOCK_BEHIND_MAX || !failpoint::guard("clock-check") {
        return Ok(());
    }
    let message = format!(
        "the newest record of the store is of {newest}, the clock says {now}: set the clock right, or, if it was wrong \
         when that record was written, allow it by the configuration"
    );
    Err(Refusal { reason: "ClockBehindStore", message })
}

fn accepted(observed: &Observed, installation: &str) -> bool {
    observed.loss.as_ref().is_some_and(|loss| loss.installation == installation)
}

fn lost(installation: &str, because: &str) -> StartPlan {
    refuse(
        "StoreLost",
        format!(
            "the store is empty, but {because}: restore the store's volume, or, if its values are lost for ever, run \
             `tidelock init --accept-loss={installation}`; every value is then made anew"
        ),
    )
}

fn refuse(reason: &'static str, message: String) -> StartPlan {
    StartPlan::Refuse(Refusal { reason, message })
}

#[cfg(test)]
mod tests;
