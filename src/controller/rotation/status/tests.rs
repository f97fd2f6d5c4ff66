//! The status that follows from what was seen, without a cluster.

use super::*;
use crate::controller::rotation::spec::Wanted;
use crate::crd::{GenerateRotator, ManagedSecret, RotationScheduleSpec, Rotator, ValueSpec};
use crate::keeper::{JobRecord, RotationView};
use crate::rotation::Pending;
use crate::secret::{Arn, Name, VersionId};

const ARN: &str = "arn:aws:secretsmanager:local-1:000000000000:secret:shop/orders-db-AbCdEf";
const VERSION: &str = "0197f2c0-5b3a-4c1e-9d2f-1a2b3c4d5e6f";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-03-04T12:00:00.5Z")
}

fn schedule() -> RotationSchedule {
    let spec = RotationScheduleSpec {
        secret: "orders-db".to_owned(),
        schedule: "cron(0 4 ? * SUN *)".to_owned(),
        rotator: Rotator { generate: Some(GenerateRotator {}), job: None },
        ..RotationScheduleSpec::default()
    };
    let mut object = RotationSchedule::new("orders-db", spec);
    object.metadata.generation = Some(3);
    object
}

fn journal(state: RotationState) -> RotationRecord {
    RotationRecord {
        arn: Arn::parse(ARN).unwrap(),
        version: VersionId::parse(VERSION).unwrap(),
        is_test: false,
        state,
        step: Some("setSecret".to_owned()),
        attempt: 2,
        failures: 1,
        jobs: vec![JobRecord {
            namespace: "tidelock-rotations".to_owned(),
            name: "orders-db-1-2".to_owned(),
            uid: "uid-2".to_owned(),
            service_account: "tidelock-rotator".to_owned(),
            attempt: 2,
            started_at: now(),
            gone: false,
        }],
        begun_at: at("2026-03-04T11:00:00Z"),
        ended_at: None,
        failed_at: None,
        failure: None,
        handled_trigger: None,
        revision: 1,
    }
}

fn seen(journal: Option<RotationRecord>) -> Seen {
    let value: ValueSpec = serde_json::from_str(r#"{"generate":{}}"#).unwrap();
    let secret =
        ManagedSecret::new("orders-db", crate::crd::ManagedSecretSpec { value, ..Default::default() });
    Seen {
        wanted: Wanted::read(&schedule(), &secret).unwrap(),
        view: RotationView {
            arn: Arn::parse(ARN).unwrap(),
            name: Name::parse("shop/orders-db").unwrap(),
            origin: crate::secret::Origin::Api,
            hindrance: None,
            enabled: Some(true),
            config: None,
            last_rotation: Some(at("2026-03-01T04:20:00.25Z")),
            last_written: None,
            pending: journal.as_ref().map(|_| Pending::Empty),
            journal,
        },
        asked: None,
        since: at("2026-01-01T00:00:00Z"),
        current: None,
        abandoned: None,
        newly_gone: Vec::new(),
        earlier_pods_remain: false,
        finished: Vec::new(),
    }
}

#[track_caller]
fn check(status: &RotationScheduleStatus, kind: &str, expected: &str, reason: &str) {
    let condition = status.conditions.iter().flatten().find(|condition| condition.type_ == kind).unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), (expected, reason), "{kind}");
}

#[test]
fn a_schedule_without_a_rotation_shows_when_the_next_begins() {
    let status = fit(&schedule(), &seen(None), Plan::Nothing { until: None }, now());
    check(&status, READY, "True", "Scheduled");
    check(&status, ROTATING, "False", "Idle");
    check(&status, SUCCEEDED, "Unknown", "NeverRotated");
    let next = status.next_rotation.unwrap().0;
    assert!(at("2026-03-08T04:00:00Z") <= next && next < at("2026-03-09T00:00:00Z"), "{next}");
    assert_eq!(status.last_rotation.unwrap().0, at("2026-03-01T04:20:00Z"), "Kubernetes keeps whole seconds");
    assert!(status.in_progress.is_none());
}

#[test]
fn a_running_rotation_shows_version_step_attempt_and_job() {
    let status =
        fit(&schedule(), &seen(Some(journal(RotationState::Running))), Plan::Wait { attempt: 2 }, now());
    check(&status, ROTATING, "True", "RotationRunning");
    let progress = status.in_progress.unwrap();
    assert_eq!((progress.version_id.as_str(), progress.attempt), (VERSION, 2));
    assert_eq!(progress.step.as_deref(), Some("setSecret"));
    assert_eq!(progress.job.as_deref(), Some("tidelock-rotations/orders-db-1-2"));
}

#[test]
fn a_first_try_is_the_first_also_when_jobs_of_an_earlier_rotation_are_still_there() {
    let first = RotationRecord { failures: 0, ..journal(RotationState::Running) };
    let status = fit(&schedule(), &seen(Some(first)), Plan::Wait { attempt: 2 }, now());
    assert_eq!(status.in_progress.unwrap().attempt, 1);
    let rotating = status.conditions.unwrap().into_iter().find(|c| c.type_ == ROTATING).unwrap();
    assert!(rotating.message.ends_with("attempt 1 runs"), "{}", rotating.message);
}

#[test]
fn each_end_and_each_wait_has_its_reason() {
    let status = |state, plan| fit(&schedule(), &seen(Some(journal(state))), plan, now());
    let idle = Plan::Nothing { until: None };
    check(&status(RotationState::Succeeded, idle), SUCCEEDED, "True", "RotationSucceeded");
    check(&status(RotationState::Failed, idle), SUCCEEDED, "False", "RotationFailed");
    check(&status(RotationState::Failed, idle), ROTATING, "False", "Idle");
    check(&status(RotationState::Abandoned, idle), SUCCEEDED, "False", "RotationAbandoned");
    check(&status(RotationState::Running, Plan::WaitingForNode), ROTATING, "True", "WaitingForNode");
    let retry = Plan::RetryAt { at: now() };
    check(&status(RotationState::Running, retry), ROTATING, "True", "RotationRetrying");
}

#[test]
fn the_same_findings_make_the_same_status() {
    let mut object = schedule();
    let seen = seen(Some(journal(RotationState::Succeeded)));
    let first = fit(&object, &seen, Plan::Nothing { until: None }, now());
    object.status = Some(first.clone());
    let later = now().checked_add(jiff::SignedDuration::from_secs(90)).unwrap();
    assert_eq!(fit(&object, &seen, Plan::Nothing { until: None }, later), first);
}

#[test]
fn an_unfit_schedule_keeps_what_was_true_of_the_last_rotation() {
    let mut object = schedule();
    let before =
        fit(&object, &seen(Some(journal(RotationState::Succeeded))), Plan::Nothing { until: None }, now());
    object.status = Some(before.clone());
    let reason = Unfit::new(Reason::SecretNotFound, "there is no ManagedSecret");
    let status = unfit(&object, &reason, now());
    check(&status, READY, "False", "SecretNotFound");
    check(&status, SUCCEEDED, "True", "RotationSucceeded");
    assert_eq!(status.last_rotation, before.last_rotation);
    assert!(status.next_rotation.is_none());
}

#[test]
fn a_suspended_schedule_is_ready_and_has_no_next_rotation() {
    let mut seen = seen(None);
    seen.wanted.suspend = true;
    let status = fit(&schedule(), &seen, Plan::Nothing { until: None }, now());
    check(&status, READY, "True", "Suspended");
    assert!(status.next_rotation.is_none());
}
