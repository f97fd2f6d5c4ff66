//! What one stream has been sent: each payload once, and forgotten on both sides when no mount uses it any more.
//! Must not hold values: only their ids.

use std::collections::{BTreeMap, BTreeSet};

/// Payloads of one stream by the keeper's id.
#[derive(Default)]
pub(super) struct Payloads {
    sent: BTreeMap<String, Sent>,
    of_mount: BTreeMap<String, String>,
    last: u64,
}

struct Sent {
    on_the_wire: u64,
    mounts: BTreeSet<String>,
}

/// What has to be sent so that a mount can be placed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Use {
    pub payload_id: u64,
    /// The payload was not sent on this stream before.
    pub is_new: bool,
    /// A payload that nobody uses any more.
    pub dropped: Option<u64>,
}

impl Payloads {
    /// The mount's files are to be those of this payload.
    pub(super) fn place(&mut self, mount_id: &str, payload: &str) -> Use {
        let dropped = match self.of_mount.get(mount_id) {
            Some(former) if former != payload => self.release(mount_id),
            _ => None,
        };
        let is_new = !self.sent.contains_key(payload);
        if is_new {
            self.last += 1;
        }
        let last = self.last;
        let sent = self
            .sent
            .entry(payload.to_owned())
            .or_insert_with(|| Sent { on_the_wire: last, mounts: BTreeSet::new() });
        sent.mounts.insert(mount_id.to_owned());
        self.of_mount.insert(mount_id.to_owned(), payload.to_owned());
        Use { payload_id: sent.on_the_wire, is_new, dropped }
    }

    /// The mount uses no payload any more; names the payload that nobody is left for.
    pub(super) fn release(&mut self, mount_id: &str) -> Option<u64> {
        let payload = self.of_mount.remove(mount_id)?;
        let sent = self.sent.get_mut(&payload)?;
        sent.mounts.remove(mount_id);
        if sent.mounts.is_empty() { self.sent.remove(&payload).map(|sent| sent.on_the_wire) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_sent_once_and_dropped_with_its_last_mount() {
        let mut payloads = Payloads::default();
        let using = |payload_id, is_new, dropped| Use { payload_id, is_new, dropped };
        assert_eq!(payloads.place("a", "v1"), using(1, true, None));
        assert_eq!(payloads.place("b", "v1"), using(1, false, None));
        assert_eq!(payloads.place("a", "v1"), using(1, false, None));
        assert_eq!(payloads.place("a", "v2"), using(2, true, None));
        assert_eq!(payloads.place("b", "v2"), using(2, false, Some(1)));
        assert_eq!(payloads.release("a"), None);
        assert_eq!(payloads.release("b"), Some(2));
        assert_eq!(payloads.release("b"), None);
    }

    #[test]
    fn an_id_is_never_used_twice() {
        let mut payloads = Payloads::default();
        assert_eq!(payloads.place("a", "v1").payload_id, 1);
        assert_eq!(payloads.release("a"), Some(1));
        assert_eq!(payloads.place("a", "v1").payload_id, 2);
    }
}
