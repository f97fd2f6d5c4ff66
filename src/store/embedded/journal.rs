//! The journal of rotations as rows and back, in the manner of `codec`. Must not read or write tables.

use jiff::Timestamp;
use rusqlite::types::Value;
use serde::{Deserialize, Serialize};

use super::codec::{Values, json, number, text};
use super::table::Table;
use crate::secret::VersionId;
use crate::store::{JobRecord, RotationRecord, RotationState, StoreError};

pub(super) static ROTATION: Table = Table::new("rotation", 1, &["arn", "revision", "record"]);

#[derive(Serialize, Deserialize)]
struct StoredRotation {
    version: String,
    /// Not there in journals of rotations, nor in those that were written before there were tests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_test: bool,
    state: StoredState,
    step: Option<String>,
    attempt: u32,
    failures: u32,
    jobs: Vec<StoredJob>,
    begun_at: Timestamp,
    ended_at: Option<Timestamp>,
    failed_at: Option<Timestamp>,
    failure: Option<(String, String)>,
    handled_trigger: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredState {
    Running,
    Succeeded,
    Failed,
    Abandoned,
}

#[derive(Serialize, Deserialize)]
struct StoredJob {
    namespace: String,
    name: String,
    uid: String,
    service_account: String,
    attempt: u32,
    started_at: Timestamp,
    gone: bool,
}

pub(super) fn rotation_row(record: &RotationRecord) -> Result<Vec<Value>, StoreError> {
    let stored = StoredRotation {
        version: record.version.to_string(),
        is_test: record.is_test,
        state: match record.state {
            RotationState::Running => StoredState::Running,
            RotationState::Succeeded => StoredState::Succeeded,
            RotationState::Failed => StoredState::Failed,
            RotationState::Abandoned => StoredState::Abandoned,
        },
        step: record.step.clone(),
        attempt: record.attempt,
        failures: record.failures,
        jobs: record.jobs.iter().map(stored_job).collect(),
        begun_at: record.begun_at,
        ended_at: record.ended_at,
        failed_at: record.failed_at,
        failure: record.failure.clone(),
        handled_trigger: record.handled_trigger.clone(),
    };
    Ok(vec![text(&record.arn), number(record.revision), json(&stored)?])
}

fn stored_job(job: &JobRecord) -> StoredJob {
    StoredJob {
        namespace: job.namespace.clone(),
        name: job.name.clone(),
        uid: job.uid.clone(),
        service_account: job.service_account.clone(),
        attempt: job.attempt,
        started_at: job.started_at,
        gone: job.gone,
    }
}

pub(super) fn rotation(values: Vec<Value>) -> Result<RotationRecord, StoreError> {
    let mut row = Values::of(&ROTATION, values);
    let (arn, revision) = (row.arn()?, row.number()?);
    let stored: StoredRotation = row.json()?;
    let job = |job: StoredJob| JobRecord {
        namespace: job.namespace,
        name: job.name,
        uid: job.uid,
        service_account: job.service_account,
        attempt: job.attempt,
        started_at: job.started_at,
        gone: job.gone,
    };
    Ok(RotationRecord {
        arn,
        version: VersionId::parse(&stored.version).map_err(|_| row.unreadable())?,
        is_test: stored.is_test,
        state: match stored.state {
            StoredState::Running => RotationState::Running,
            StoredState::Succeeded => RotationState::Succeeded,
            StoredState::Failed => RotationState::Failed,
            StoredState::Abandoned => RotationState::Abandoned,
        },
        step: stored.step,
        attempt: stored.attempt,
        failures: stored.failures,
        jobs: stored.jobs.into_iter().map(job).collect(),
        begun_at: stored.begun_at,
        ended_at: stored.ended_at,
        failed_at: stored.failed_at,
        failure: stored.failure,
        handled_trigger: stored.handled_trigger,
        revision,
    })
}
