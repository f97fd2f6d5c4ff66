//! Access keys whose time is over: how many there are, and their end. Must not take one away so soon that nobody sees
//! why a program is refused.

use jiff::{SignedDuration, Timestamp};

use super::super::{Keeper, KeeperError, measure};
use super::PURGE;
use crate::access::Principal;
use crate::store::Change;

/// How long a key that has expired stays in the list.
const SHOWN: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long before its end a key counts as one that expires soon.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How many keys there are, by what is to be done about them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::keeper) struct KeyCounts {
    pub good: u64,
    pub expiring: u64,
    pub expired: u64,
}

impl KeyCounts {
    fn add(&mut self, expires_at: Timestamp, now: Timestamp) {
        let left = expires_at.duration_since(now);
        let of_state = match left {
            left if left <= SignedDuration::ZERO => &mut self.expired,
            left if left < SOON => &mut self.expiring,
            _ => &mut self.good,
        };
        *of_state += 1;
    }
}

impl Keeper {
    /// Takes the keys away that expired a week ago, and counts the rest.
    pub async fn purge_access_keys(&self) -> Result<(), KeeperError> {
        let (now, mut counts) = (self.now(), KeyCounts::default());
        for key in self.ports.store.access_keys(None).await? {
            if now.duration_since(key.expires_at) < SHOWN {
                counts.add(key.expires_at, now);
                continue;
            }
            let audit = vec![self.done_to_key(&Principal::Controller, PURGE, &key.id, &key.account)];
            self.commit(vec![Change::RemoveAccessKey(key.id)], audit).await?;
        }
        measure::access_keys(counts);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_counts_by_the_time_that_is_left_to_it() {
        let end: Timestamp = "2030-01-08T00:00:00Z".parse().unwrap();
        let counted = |left: SignedDuration| {
            let mut counts = KeyCounts::default();
            counts.add(end, end.checked_sub(left).unwrap());
            (counts.good, counts.expiring, counts.expired)
        };
        let second = SignedDuration::from_secs(1);
        assert_eq!(counted(SOON), (1, 0, 0));
        assert_eq!(counted(SOON - second), (0, 1, 0));
        assert_eq!(counted(second), (0, 1, 0));
        assert_eq!(counted(SignedDuration::ZERO), (0, 0, 1));
        assert_eq!(counted(-second), (0, 0, 1));
    }
}
