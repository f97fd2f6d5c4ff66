//! What a candidate does with the Lease as it stands, and the position noted on it. Must not talk to a cluster.

use super::*;
use crate::clock::SystemClock;

fn lease(holder: Option<&str>, version: &str) -> Lease {
    let mut lease = Lease::default();
    lease.metadata.resource_version = Some(version.into());
    lease.spec = Some(LeaseSpec {
        holder_identity: holder.map(str::to_owned),
        lease_duration_seconds: Some(15),
        ..LeaseSpec::default()
    });
    lease
}

fn unseen() -> (Seen, Instant) {
    let start = SystemClock.monotonic();
    (Seen { resource_version: None, since: start }, start)
}

#[test]
fn what_is_nobody_s_is_taken_and_what_is_mine_is_renewed() {
    let (mut seen, start) = unseen();
    assert_eq!(decide(None, "me", &mut seen, start), Step::Create);
    assert_eq!(decide(Some(&lease(None, "1")), "me", &mut seen, start), Step::Take);
    assert_eq!(decide(Some(&lease(Some(""), "2")), "me", &mut seen, start), Step::Take);
    assert_eq!(decide(Some(&lease(Some("me"), "3")), "me", &mut seen, start), Step::Renew);
}

#[test]
fn another_s_lease_is_taken_only_after_it_has_not_changed_for_its_whole_duration() {
    let (mut seen, start) = unseen();
    let after = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(decide(Some(&lease(Some("other"), "1")), "me", &mut seen, start), Step::Wait);
    assert_eq!(decide(Some(&lease(Some("other"), "1")), "me", &mut seen, after(14)), Step::Wait);
    assert_eq!(decide(Some(&lease(Some("other"), "2")), "me", &mut seen, after(15)), Step::Wait);
    assert_eq!(decide(Some(&lease(Some("other"), "2")), "me", &mut seen, after(29)), Step::Wait);
    assert_eq!(decide(Some(&lease(Some("other"), "2")), "me", &mut seen, after(30)), Step::Take);
}

#[test]
fn a_holder_stops_leading_before_anybody_else_may_begin() {
    let settings = LeaseSettings::new("ns".into(), "n".into(), "me".into());
    assert!(settings.leads_for() < settings.lasts && settings.renew_every < settings.leads_for());
}

#[test]
fn taking_counts_a_transition_and_renewing_does_not() {
    let settings = LeaseSettings::new("ns".into(), "n".into(), "me".into());
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let mut spec = LeaseSpec::default();
    claim(&mut spec, &settings, now, true);
    assert_eq!((spec.lease_transitions, spec.lease_duration_seconds), (Some(0), Some(15)));
    let later = now + Duration::from_secs(5);
    claim(&mut spec, &settings, later, false);
    assert_eq!((spec.lease_transitions, spec.acquire_time.as_ref().map(|t| t.0)), (Some(0), Some(now)));
    assert_eq!(spec.renew_time.map(|t| t.0), Some(later));
    spec.renew_time = None;
    claim(&mut spec, &settings, later, true);
    assert_eq!(spec.lease_transitions, Some(1));
}

#[test]
fn a_store_is_behind_when_its_epoch_or_in_the_same_epoch_its_commit_is_older() {
    let at = |epoch, commit| StorePosition { epoch, commit };
    assert!(at(3, 900).is_behind(at(4, 10)));
    assert!(at(4, 9).is_behind(at(4, 10)));
    assert!(!at(4, 10).is_behind(at(4, 10)));
    assert!(!at(5, 0).is_behind(at(4, 10)));
}

#[test]
fn a_noted_position_reads_back_and_a_spoilt_one_is_an_error() {
    let mut lease = lease(None, "1");
    assert_eq!(position::of(Some(&lease)).unwrap(), None);
    let noted = StorePosition { epoch: 7, commit: 1234 };
    lease.metadata.annotations = Some(BTreeMap::from([(position::ANNOTATION.to_owned(), noted.to_string())]));
    assert_eq!(position::of(Some(&lease)).unwrap(), Some(noted));
    for spoilt in ["", "7", "7.x", "-1.2", "7.1.2"] {
        lease.metadata.annotations =
            Some(BTreeMap::from([(position::ANNOTATION.to_owned(), spoilt.to_owned())]));
        assert!(position::of(Some(&lease)).is_err(), "{spoilt}");
    }
}
