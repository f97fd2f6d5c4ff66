//! Mounts of one stream that have no answer yet, or have been told no and wait for another one.
//! Must not ask anybody: it remembers.
//!
//! ```text
//!  Attach ──▶ asking ──yes──▶ placed (forgotten here)
//!               │ ▲
//!              no │ something changed, or a few seconds passed
//!               ▼ │
//!             waiting ──Detach, another Attach, or ten minutes──▶ forgotten
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::refusal::Refusal;
use crate::access::Principal;
use crate::wire::node::Mount;

/// Kubelet gives a first mount up after two minutes and comes back with another token.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// Rights cannot be watched, only asked for again.
pub(super) const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// One mount that waits.
pub(super) struct Pending {
    /// The Attach to answer; 0 for a mount of Hello.
    pub request_id: u64,
    pub mount: Mount,
    /// Known once the pod's identity has been proved.
    pub pod: Option<Principal>,
    said: Option<Refusal>,
    in_flight: bool,
    /// Something changed while the question was under way: its answer may be old.
    changed: bool,
    since: Instant,
    asked_at: Instant,
}

#[derive(Default)]
pub(super) struct Waiting(BTreeMap<String, Pending>);

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contains(&self, mount_id: &str) -> bool {
        self.0.contains_key(mount_id)
    }

    /// A question is under way for this mount; a former one for it is answered no more.
    pub(super) fn begin(&mut self, mount: Mount, request_id: u64, now: Instant) {
        let pending = Pending {
            request_id,
            pod: None,
            said: None,
            in_flight: true,
            changed: false,
            since: now,
            asked_at: now,
            mount,
        };
        self.0.insert(pending.mount.mount_id.clone(), pending);
    }

    pub(super) fn forget(&mut self, mount_id: &str) {
        self.0.remove(mount_id);
    }

    /// A yes has come for this very request: the mount waits no more.
    pub(super) fn granted(&mut self, mount_id: &str, request_id: u64) -> bool {
        let is_this = self.0.get(mount_id).is_some_and(|pending| pending.request_id == request_id);
        is_this && self.0.remove(mount_id).is_some()
    }

    /// A no has come for this very request. Says whether the node has to hear of it.
    pub(super) fn refused(
        &mut self,
        mount_id: &str,
        request_id: u64,
        pod: Option<Principal>,
        refusal: &Refusal,
    ) -> bool {
        let Some(pending) = self.0.get_mut(mount_id).filter(|pending| pending.request_id == request_id)
        else {
            return false;
        };
        let is_news = pending.said.as_ref() != Some(refusal);
        pending.said = Some(refusal.clone());
        pending.in_flight = false;
        if pod.is_some() {
            pending.pod = pod;
        }
        if !refusal.may_change() {
            self.0.remove(mount_id);
        }
        is_news
    }

    /// The mounts to ask for again: all after a change, else those that were asked for some seconds ago.
    pub(super) fn due(&mut self, now: Instant, after_change: bool) -> Vec<&Pending> {
        let age = |then: Instant| now.saturating_duration_since(then);
        self.0.retain(|_, pending| age(pending.since) < FORGOTTEN_AFTER || pending.in_flight);
        let mut due = Vec::new();
        for pending in self.0.values_mut() {
            if pending.in_flight {
                pending.changed |= after_change;
            } else if after_change || pending.changed || age(pending.asked_at) >= ASKED_AGAIN_AFTER {
                pending.in_flight = true;
                pending.changed = false;
                pending.asked_at = now;
                due.push(&*pending);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, SystemClock};
    use crate::wire::node::refused::Reason;

    fn mount(id: &str) -> Mount {
        Mount { mount_id: id.into(), ..Mount::default() }
    }

    fn no_value() -> Refusal {
        Refusal::new(Reason::NoValue, "no value yet")
    }

    #[test]
    fn a_no_is_said_once_and_asked_about_again_after_a_change_or_some_seconds() {
        let (mut waiting, start) = (Waiting::default(), SystemClock.monotonic());
        waiting.begin(mount("a"), 7, start);
        assert!(waiting.due(start + ASKED_AGAIN_AFTER, false).is_empty());
        assert!(waiting.refused("a", 7, None, &no_value()));
        assert!(waiting.due(start + Duration::from_secs(1), false).is_empty());
        assert_eq!(waiting.due(start + Duration::from_secs(1), true).len(), 1);
        assert!(!waiting.refused("a", 7, None, &no_value()));
        assert!(waiting.due(start + Duration::from_secs(2), false).is_empty());
        assert_eq!(waiting.due(start + Duration::from_secs(6), false).len(), 1);
        assert!(waiting.refused("a", 7, None, &Refusal::new(Reason::NotAllowed, "no")));
    }

    #[test]
    fn a_change_during_a_question_leads_to_another_one() {
        let (mut waiting, start) = (Waiting::default(), SystemClock.monotonic());
        waiting.begin(mount("a"), 7, start);
        assert!(waiting.due(start, true).is_empty());
        waiting.refused("a", 7, None, &no_value());
        assert_eq!(waiting.due(start, false).len(), 1);
    }

    #[test]
    fn an_answer_to_an_older_request_changes_nothing() {
        let (mut waiting, start) = (Waiting::default(), SystemClock.monotonic());
        waiting.begin(mount("a"), 7, start);
        waiting.begin(mount("a"), 8, start);
        assert!(!waiting.refused("a", 7, None, &no_value()));
        assert!(!waiting.granted("a", 7));
        assert!(waiting.granted("a", 8));
        assert!(!waiting.granted("a", 8));
    }

    #[test]
    fn a_rejected_token_is_final_and_whatever_waits_is_forgotten_in_the_end() {
        let (mut waiting, start) = (Waiting::default(), SystemClock.monotonic());
        waiting.begin(mount("a"), 1, start);
        assert!(waiting.refused("a", 1, None, &Refusal::new(Reason::TokenRejected, "expired")));
        assert!(!waiting.contains("a"));
        waiting.begin(mount("b"), 2, start);
        waiting.refused("b", 2, None, &no_value());
        assert!(waiting.due(start + FORGOTTEN_AFTER, true).is_empty() && waiting.len() == 0);
    }
}
