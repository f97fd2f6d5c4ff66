//! Begin a rotation: journal, empty AWSPENDING version and its label in one transaction, so that a rotation is begun
//! whole or not at all. Must not decide whether one is due.

use jiff::Timestamp;
use uuid::Uuid;

use super::rotate::is_open;
use super::test_rotation::{is_open_test, without_copy};
use super::{Keeper, KeeperError, What, settle};
use crate::access::{Operation, Principal};
use crate::failpoint;
use crate::secret::{Arn, Stage, ValueKind, VersionId};
use crate::store::{Change, Expected, JobRecord, RotationRecord, RotationState, SecretRecord, VersionRecord};

/// AWS's words for a rotation beside one that has not ended.
pub(super) const UNFINISHED: &str = "A previous rotation isn't complete. That rotation will be reattempted.";

impl Keeper {
    /// Begins a rotation under a fresh token. `answers` is the request that it answers; an earlier answer is kept.
    pub async fn begin_rotation(
        &self,
        arn: &Arn,
        answers: Option<&str>,
    ) -> Result<RotationRecord, KeeperError> {
        let version = VersionId::from(Uuid::new_v4());
        settle(|| self.begin_rotation_once(arn, answers, &version)).await
    }

    async fn begin_rotation_once(
        &self,
        arn: &Arn,
        answers: Option<&str>,
        version: &VersionId,
    ) -> Result<RotationRecord, KeeperError> {
        let record = self.rotated_secret(arn).await?;
        if record.deletion.is_some() {
            return Err(KeeperError::MarkedForDeletion);
        }
        if record.rotation.is_some() && record.rotation_enabled != Some(true) {
            return Err(KeeperError::InvalidRequest("Rotation of this secret was cancelled.".to_owned()));
        }
        let before = self.ports.store.rotation(arn).await?;
        if before.as_ref().is_some_and(is_open) {
            return Err(KeeperError::InvalidRequest(UNFINISHED.to_owned()));
        }
        let now = self.now();
        let made = Made::Empty(version.clone());
        let (journal, changes) = beginning(record, before, made, answers, now);
        let audit = self.done(&Principal::Controller, Operation::Rotate, arn, Some(version));
        failpoint::reach("rotate.before-begin");
        self.commit(changes, vec![audit]).await?;
        failpoint::reach("rotate.begun");
        self.tell(arn, What::Stages);
        Ok(journal)
    }
}

/// The version at AWSPENDING that is begun with.
pub(super) enum Made {
    Empty(VersionId),
    /// The current value under another id: only the rotator's test runs on it.
    Copy(VersionRecord),
}

/// The new journal, and the whole of what is to be committed; other changes of the record go with it.
pub(super) fn beginning(
    mut record: SecretRecord,
    before: Option<RotationRecord>,
    made: Made,
    answers: Option<&str>,
    now: Timestamp,
) -> (RotationRecord, Vec<Change>) {
    // A test that somebody ended by moving its label, which nobody has noted yet.
    let old_copy = before.as_ref().filter(|before| is_open_test(before));
    let old_copy = old_copy.and_then(|test| without_copy(&mut record, &test.version));
    let expected = before.as_ref().map_or(Expected::Absent, |before| Expected::Revision(before.revision));
    let (jobs, handled) =
        before.map_or_else(Default::default, |before| (before.jobs, before.handled_trigger));
    // Pods of earlier rotations count as well; their numbers are not given out again while they may live.
    let jobs: Vec<JobRecord> = jobs.into_iter().filter(|job| !job.gone).collect();
    let is_test = matches!(made, Made::Copy(_));
    let version = match made {
        Made::Copy(copy) => copy,
        Made::Empty(id) => VersionRecord {
            arn: record.arn.clone(),
            id,
            created_at: now,
            kind: ValueKind::String,
            sealed: None,
        },
    };
    let journal = RotationRecord {
        arn: record.arn.clone(),
        version: version.id.clone(),
        is_test,
        state: RotationState::Running,
        step: None,
        attempt: jobs.iter().map(|job| job.attempt).max().unwrap_or(0) + 1,
        failures: 0,
        jobs,
        begun_at: now,
        ended_at: None,
        failed_at: None,
        failure: None,
        handled_trigger: answers.map(str::to_owned).or(handled),
        revision: 0,
    };
    record.stages.insert(Stage::pending(), version.id.clone());
    record.rotation_enabled = Some(true);
    record.changed_at = now;
    let secret_expected = Expected::Revision(record.revision);
    let mut changes = vec![
        Change::PutVersion(version),
        Change::PutSecret(record, secret_expected),
        Change::PutRotation(journal.clone(), expected),
    ];
    changes.extend(old_copy);
    (journal, changes)
}
