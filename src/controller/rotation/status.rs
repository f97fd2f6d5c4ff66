//! Status: what was found and done, in the RotationSchedule's status, written only when it differs.
//! Must not touch `.spec`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{Patch, PatchParams};

use super::observe::Seen;
use super::spec::Unfit;
use super::{FIELD_MANAGER, ReconcileError, RotationContext};
use crate::crd::condition::{Finding, READY, ROTATING, SUCCEEDED, Status, merge, whole_second};
use crate::crd::reasons::Reason;
use crate::crd::{InProgress, Readable, RotationSchedule, RotationScheduleStatus};
use crate::keeper::{RotationRecord, RotationState};
use crate::rotation::{Plan, next_rotation};

pub(super) async fn report(
    ctx: &RotationContext,
    read: &Readable<RotationSchedule>,
    status: RotationScheduleStatus,
) -> Result<(), ReconcileError> {
    let object = &read.object;
    if object.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let schedules: Api<Readable<RotationSchedule>> = Api::namespaced(ctx.client.clone(), namespace);
    if read.status_unread {
        // What others wrote into it would stay beside what we apply.
        let none = serde_json::json!({"metadata": {"uid": object.metadata.uid}, "status": null});
        schedules.patch_status(name, &PatchParams::default(), &Patch::Merge(&none)).await?;
    }
    // With the UID: the status of an object that was made anew under this name is not ours to write.
    let patch = serde_json::json!({
        "apiVersion": format!("{}/{}", crate::crd::GROUP, crate::crd::VERSION),
        "kind": "RotationSchedule",
        "metadata": {"name": name, "uid": object.metadata.uid},
        "status": status,
    });
    schedules.patch_status(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(patch)).await?;
    Ok(())
}

/// The status of a schedule that cannot be followed: what was true of the last rotation stays.
pub(super) fn unfit(object: &RotationSchedule, unfit: &Unfit, now: Timestamp) -> RotationScheduleStatus {
    let old = object.status.clone().unwrap_or_default();
    let found = [Finding::new(READY, Status::False, unfit.reason, &unfit.message)];
    let generation = object.metadata.generation;
    let conditions = merge(old.conditions.as_deref().unwrap_or_default(), &found, generation, now);
    RotationScheduleStatus {
        observed_generation: generation,
        next_rotation: None,
        conditions: Some(conditions),
        ..old
    }
}

pub(super) fn fit(
    object: &RotationSchedule,
    seen: &Seen,
    plan: Plan,
    now: Timestamp,
) -> RotationScheduleStatus {
    let old = object.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let journal = seen.view.journal.as_ref();
    let found = [ready(seen), rotating(journal, plan), succeeded(journal)];
    let generation = object.metadata.generation;
    let running = journal.filter(|journal| journal.state == RotationState::Running);
    let next = next_rotation(&seen.observed(), now);
    RotationScheduleStatus {
        observed_generation: generation,
        effective: Some(seen.wanted.effective(&object.spec)),
        last_rotation: seen.view.last_rotation.map(|at| Time(whole_second(at))),
        next_rotation: next.map(|at| Time(whole_second(at))),
        in_progress: running.map(in_progress),
        conditions: Some(merge(old, &found, generation, now)),
    }
}

fn ready(seen: &Seen) -> Finding {
    if seen.wanted.suspend {
        let message = "suspend is set: nothing begins by schedule, only on request";
        return Finding::new(READY, Status::True, Reason::Suspended, message);
    }
    Finding::new(READY, Status::True, Reason::Scheduled, "rotations are made when they are due")
}

fn rotating(journal: Option<&RotationRecord>, plan: Plan) -> Finding {
    let running = journal.filter(|journal| journal.state == RotationState::Running);
    let Some(journal) = running else {
        return Finding::new(ROTATING, Status::False, Reason::Idle, "no rotation runs");
    };
    let version = &journal.version;
    if journal.is_test {
        let message = "the rotator is tested on a copy of the current version";
        return Finding::new(ROTATING, Status::True, Reason::TestRotationStarted, message);
    }
    match plan {
        Plan::WaitingForNode => Finding::new(
            ROTATING,
            Status::True,
            Reason::WaitingForNode,
            format!(
                "version {version}: a pod of an earlier attempt may still run on a node that does not answer"
            ),
        ),
        Plan::RetryAt { at } => Finding::new(
            ROTATING,
            Status::True,
            Reason::RotationRetrying,
            format!("version {version}: attempt {} follows at {}", tries(journal), whole_second(at)),
        ),
        _ => Finding::new(
            ROTATING,
            Status::True,
            Reason::RotationRunning,
            format!("version {version}: attempt {} runs", tries(journal)),
        ),
    }
}

fn succeeded(journal: Option<&RotationRecord>) -> Finding {
    let Some(journal) = journal else {
        let message = "no rotation has been made yet";
        return Finding::new(SUCCEEDED, Status::Unknown, Reason::NeverRotated, message);
    };
    let version = &journal.version;
    let failure = journal.failure.as_ref().map(|(_, message)| message.clone());
    if journal.is_test {
        return tested(journal.state, failure.unwrap_or_default());
    }
    match (journal.state, failure) {
        (RotationState::Succeeded, _) => Finding::new(
            SUCCEEDED,
            Status::True,
            Reason::RotationSucceeded,
            format!("version {version} is current"),
        ),
        (RotationState::Abandoned, _) => Finding::new(
            SUCCEEDED,
            Status::False,
            Reason::RotationAbandoned,
            format!("version {version} was given up: another value was written meanwhile"),
        ),
        (RotationState::Failed, failure) => {
            Finding::new(SUCCEEDED, Status::False, Reason::RotationFailed, failure.unwrap_or_default())
        }
        (RotationState::Running, Some(failure)) => {
            Finding::new(SUCCEEDED, Status::False, Reason::RotationRetrying, failure)
        }
        (RotationState::Running, None) => Finding::new(
            SUCCEEDED,
            Status::Unknown,
            Reason::RotationRunning,
            format!("version {version} is being made"),
        ),
    }
}

/// What a test found, until the next rotation.
fn tested(state: RotationState, failure: String) -> Finding {
    let finding = |status, reason, message: &str| Finding::new(SUCCEEDED, status, reason, message);
    match state {
        RotationState::Succeeded => {
            let message = "the test of the rotator succeeded; nothing was rotated";
            finding(Status::True, Reason::TestRotationSucceeded, message)
        }
        RotationState::Abandoned => finding(Status::False, Reason::RotationAbandoned, &failure),
        RotationState::Failed => finding(Status::False, Reason::TestRotationFailed, &failure),
        RotationState::Running => {
            finding(Status::Unknown, Reason::TestRotationStarted, "the rotator is tested")
        }
    }
}

/// Which try it is for people. The journal's own numbers go on from those of an earlier rotation's Jobs.
pub(super) fn tries(journal: &RotationRecord) -> u32 {
    journal.failures + 1
}

fn in_progress(journal: &RotationRecord) -> InProgress {
    let job = journal.jobs.iter().find(|job| job.attempt == journal.attempt);
    InProgress {
        version_id: journal.version.to_string(),
        step: journal.step.clone(),
        attempt: i64::from(tries(journal)),
        job: job.map(|job| format!("{}/{}", job.namespace, job.name)),
    }
}

#[cfg(test)]
mod tests;
