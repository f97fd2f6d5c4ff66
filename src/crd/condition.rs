//! Conditions: their types, and how a new set of them replaces the old. Must not read the time: it takes `now`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::reasons::Reason;

/// Types of conditions. Each is True when all is well.
pub const READY: &str = "Ready";
pub const SYNCED: &str = "Synced";
pub const ROTATING: &str = "Rotating";
pub const SUCCEEDED: &str = "Succeeded";

/// Messages longer than the schema of conditions allows would make the whole status fail.
const MESSAGE_CHARS_MAX: usize = 32_768;

/// One condition before it has a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: &'static str,
    pub status: Status,
    pub reason: Reason,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    True,
    False,
    Unknown,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl Finding {
    pub fn new(kind: &'static str, status: Status, reason: Reason, message: impl Into<String>) -> Self {
        Self { kind, status, reason, message: message.into() }
    }
}

/// The conditions that follow from what was found; the time of a transition changes only with the status, so that
/// an unchanged finding writes nothing. Types that were not looked at stay as they are.
pub fn merge(
    old: &[Condition],
    found: &[Finding],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut merged: Vec<Condition> =
        old.iter().filter(|c| found.iter().all(|f| f.kind != c.type_)).cloned().collect();
    for finding in found {
        let before = old.iter().find(|c| c.type_ == finding.kind && c.status == finding.status.word());
        merged.push(Condition {
            type_: finding.kind.to_owned(),
            status: finding.status.word().to_owned(),
            reason: finding.reason.word().to_owned(),
            message: finding.message.chars().take(MESSAGE_CHARS_MAX).collect(),
            observed_generation: generation,
            last_transition_time: before.map_or(Time(whole_second(now)), |c| c.last_transition_time.clone()),
        });
    }
    merged.sort_by(|a, b| a.type_.cmp(&b.type_));
    merged
}

/// Kubernetes writes times in whole seconds; ours must compare equal to what comes back.
pub fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(status: Status, message: &str) -> Finding {
        Finding::new(READY, status, Reason::Available, message)
    }

    #[test]
    fn the_time_of_a_transition_changes_only_with_the_status() {
        let first = Timestamp::from_second(1_000).unwrap();
        let later = Timestamp::from_second(2_000).unwrap();
        let old = merge(&[], &[finding(Status::True, "a")], Some(1), first);
        let same = merge(&old, &[finding(Status::True, "b")], Some(2), later);
        assert_eq!(same[0].last_transition_time, Time(first));
        assert_eq!((same[0].message.as_str(), same[0].observed_generation), ("b", Some(2)));
        let other = merge(&same, &[finding(Status::False, "b")], Some(2), later);
        assert_eq!(other[0].last_transition_time, Time(later));
    }

    #[test]
    fn conditions_of_other_types_are_kept_and_each_type_occurs_once() {
        let now = Timestamp::from_second(1_000).unwrap();
        let old = merge(&[], &[Finding::new(SYNCED, Status::True, Reason::Available, "")], None, now);
        let new = merge(&old, &[finding(Status::True, "")], None, now);
        let kinds: Vec<_> = new.iter().map(|c| c.type_.as_str()).collect();
        assert_eq!(kinds, [READY, SYNCED]);
        assert_eq!(merge(&new, &[finding(Status::True, "")], None, now), new);
    }
}
