//! The trust window: copies of values from which first mounts are filled for a while when the server is away.
//! Must not keep anything when there is no window, nor give what the server has not stood by to its last.
//!
//! A copy belongs to one ServiceAccount (namespace, name and uid) and one set of attributes, and says what the server
//! last wanted such mounts to hold. It counts from the loss of the last stream on which the server said that it would
//! serve another pod with the same:
//!
//! ```text
//!   Place, Keep (SERVED) --> stood by --the stream is lost--> given, for the length of the window --> wiped
//!                              ^ |                             |
//!                              | +--Withdraw, REFUSED, the last mount goes--> wiped
//!                              +--Keep (SERVED) on the next stream--+
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::manifest::{Held, Manifest};
use super::payload::{Payload, Placement, Source};
use super::request::Pod;
use crate::wire::node::FirstMounts;

/// Whose mounts are alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holder {
    namespace: String,
    service_account: String,
    attributes: BTreeMap<String, String>,
}

impl Holder {
    pub fn new(pod: &Pod, attributes: &BTreeMap<String, String>) -> Holder {
        Holder {
            namespace: pod.namespace.clone(),
            service_account: pod.service_account.clone(),
            attributes: attributes.clone(),
        }
    }

    /// `None` for a mount of which it is not known whose it is.
    pub fn of(manifest: &Manifest) -> Option<Holder> {
        manifest.pod.as_ref().map(|pod| Holder::new(pod, &manifest.attributes))
    }

    fn is_of_same_account(&self, other: &Holder) -> bool {
        self.namespace == other.namespace && self.service_account == other.service_account
    }
}

/// Why a first mount is not filled from a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untrusted {
    /// There is no window.
    Off,
    /// A stream is being begun: it is asked.
    Connecting,
    /// There is no copy for this ServiceAccount and these attributes.
    NoCopy,
    Over,
}

struct Copy {
    payload: Arc<Payload>,
    account_uid: String,
    /// The session that stood by it last.
    session: u64,
    /// When that session was lost.
    lost_at: Option<Instant>,
}

#[derive(Default)]
struct Table {
    copies: HashMap<Holder, Copy>,
    /// The session that is up.
    up: Option<u64>,
    lost_at: Option<Instant>,
}

pub struct Trust {
    window: Duration,
    table: Mutex<Table>,
}

impl Trust {
    pub fn new(window: Duration) -> Trust {
        Trust { window, table: Mutex::default() }
    }

    pub fn is_on(&self) -> bool {
        !self.window.is_zero()
    }

    /// The server wants mounts of this holder to be so.
    pub fn learn(&self, holder: Holder, placement: &Placement) {
        let Source::Server { first_mounts, account_uid } = &placement.source else { return };
        if !self.is_on() {
            return;
        }
        if *first_mounts != FirstMounts::Served || account_uid.is_empty() {
            return self.forget(&holder, &placement.payload.secret_arn);
        }
        let copy = Copy {
            payload: Arc::clone(&placement.payload),
            account_uid: account_uid.clone(),
            session: placement.session,
            lost_at: None,
        };
        self.table().copies.insert(holder, copy);
    }

    /// The server finds a mount right that holds this.
    pub fn keep(&self, holder: &Holder, held: &Held, first_mounts: FirstMounts, session: u64) {
        match first_mounts {
            // Nobody could be asked: a copy is worth what it was worth.
            FirstMounts::Unknown => {}
            FirstMounts::Refused => self.forget(holder, &held.secret_arn),
            FirstMounts::Served => {
                let mut table = self.table();
                match table.copies.get_mut(holder) {
                    Some(copy) if copy.is_of(held) => (copy.session, copy.lost_at) = (session, None),
                    _ => drop(table.copies.remove(holder)),
                }
            }
        }
    }

    /// Nobody of this ServiceAccount is given this secret any more, whatever the attributes.
    pub fn forget(&self, holder: &Holder, secret_arn: &str) {
        self.table().copies.retain(|known, copy| {
            known != holder && !(known.is_of_same_account(holder) && copy.payload.secret_arn == secret_arn)
        });
    }

    pub fn has(&self, holder: &Holder, held: &Held) -> bool {
        self.table().copies.get(holder).is_some_and(|copy| copy.is_of(held))
    }

    /// The last mount of this holder is gone. While the server is away its copy stays to the end of the window: a pod
    /// that is replaced ends before the next one begins.
    pub fn let_go(&self, holder: &Holder) {
        let mut table = self.table();
        if table.up.is_some() {
            table.copies.remove(holder);
        }
    }

    pub fn session_is_up(&self, session: u64, holders: &HashSet<Holder>) {
        let mut table = self.table();
        table.up = Some(session);
        table.copies.retain(|holder, _| holders.contains(holder));
    }

    /// Also to be called while no session comes up: it wipes what is of no use any more.
    pub fn session_ended(&self, session: u64, now: Instant) {
        let mut table = self.table();
        if table.up.take_if(|up| *up == session).is_some() {
            table.lost_at = Some(now);
        }
        for copy in table.copies.values_mut().filter(|copy| copy.session == session) {
            copy.lost_at.get_or_insert(now);
        }
        table.copies.retain(|_, copy| copy.lost_at.is_none_or(|at| self.lasts(at, now)));
    }

    /// What a first mount of this holder may be filled with.
    pub fn find(
        &self,
        holder: &Holder,
        account_uid: Option<&str>,
        now: Instant,
    ) -> Result<Arc<Payload>, Untrusted> {
        if !self.is_on() {
            return Err(Untrusted::Off);
        }
        let table = self.table();
        if table.up.is_some() {
            return Err(Untrusted::Connecting);
        }
        if table.lost_at.is_some_and(|at| !self.lasts(at, now)) {
            return Err(Untrusted::Over);
        }
        let copy = table.copies.get(holder).filter(|copy| Some(copy.account_uid.as_str()) == account_uid);
        match copy {
            Some(copy) if copy.lost_at.is_some_and(|at| self.lasts(at, now)) => Ok(Arc::clone(&copy.payload)),
            Some(_) => Err(Untrusted::Over),
            None => Err(Untrusted::NoCopy),
        }
    }

    fn lasts(&self, lost_at: Instant, now: Instant) -> bool {
        now.saturating_duration_since(lost_at) < self.window
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Copy {
    fn is_of(&self, held: &Held) -> bool {
        self.payload.secret_arn == held.secret_arn && self.payload.version_id == held.version_id
    }
}

#[cfg(test)]
mod tests;
