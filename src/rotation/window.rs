//! The hours in which a rotation may start, and the moment inside them at which one secret's rotation does.
//! It must not know how windows follow each other; that is the schedule's.

use jiff::{SignedDuration, Timestamp};

/// Half open: a rotation may start from `opens` on, and no more at `closes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub opens: Timestamp,
    pub closes: Timestamp,
}

impl Window {
    pub fn contains(&self, now: Timestamp) -> bool {
        self.opens <= now && now < self.closes
    }

    /// When the rotation of this secret starts: the same moment however often it is asked, another one for each
    /// secret and window, so that a thousand secrets on one schedule do not rotate in the same second. It lies in
    /// the window's first half, which leaves the second half to retries.
    pub fn start_for(&self, arn: &str) -> Timestamp {
        let span_seconds = self.closes.duration_since(self.opens).as_secs() / 2;
        let Ok(span_seconds @ 1..) = u64::try_from(span_seconds) else { return self.opens };
        let seed = fnv1a(&[arn.as_bytes(), &self.opens.as_second().to_be_bytes()]);
        let offset = SignedDuration::from_secs((seed % span_seconds).cast_signed());
        self.opens.checked_add(offset).unwrap_or(self.opens)
    }
}

/// FNV-1a over length-prefixed parts, with a finalizer that spreads its weak high bits. It only has to spread:
/// nothing here is secret or hostile enough to need a keyed hash, and its result must never change between
/// releases, which rules out the standard library's hasher.
pub(super) fn fnv1a(parts: &[&[u8]]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut eat = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    for part in parts {
        part.len().to_be_bytes().into_iter().for_each(&mut eat);
        part.iter().copied().for_each(&mut eat);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(opens: &str, closes: &str) -> Window {
        Window { opens: opens.parse().unwrap(), closes: closes.parse().unwrap() }
    }

    #[test]
    fn a_window_holds_its_opening_and_not_its_closing() {
        let window = window("2026-03-01T04:00:00Z", "2026-03-01T06:00:00Z");
        assert!(window.contains(window.opens));
        assert!(window.contains("2026-03-01T05:59:59Z".parse().unwrap()));
        assert!(!window.contains(window.closes));
        assert!(!window.contains("2026-03-01T03:59:59Z".parse().unwrap()));
    }

    #[test]
    fn each_secret_starts_at_its_own_moment_in_the_first_half_and_always_the_same() {
        let window = window("2026-03-01T04:00:00Z", "2026-03-01T06:00:00Z");
        let half = "2026-03-01T05:00:00Z".parse().unwrap();
        let starts: std::collections::BTreeSet<_> = (0..100)
            .map(|i| {
                let arn = format!("arn:aws:secretsmanager:local-1:000000000000:secret:shop/db{i}-AbCdEf");
                let start = window.start_for(&arn);
                assert!(window.opens <= start && start < half);
                assert_eq!(start, window.start_for(&arn));
                start
            })
            .collect();
        assert!(starts.len() > 90, "only {} different starts", starts.len());
    }

    #[test]
    fn the_moment_never_changes_between_releases() {
        let window = window("2026-03-01T04:00:00Z", "2026-03-01T05:00:00Z");
        assert_eq!(window.start_for("arn:a").to_string(), "2026-03-01T04:06:56Z");
    }

    #[test]
    fn a_window_of_no_length_starts_at_its_opening() {
        let window = window("2026-03-01T04:00:00Z", "2026-03-01T04:00:00Z");
        assert_eq!(window.start_for("arn:a"), window.opens);
    }
}
