//! CancelRotateSecret: rotation is off, and an attempt that is under way loses its rights, in one transaction. Must not
//! forget how rotation was configured, nor touch labels: AWS leaves both. Only a test's label goes, with its version.

use super::authorise::Act;
use super::commit::After;
use super::measure::counted;
use super::rotate::is_open;
use super::test_rotation::ending;
use super::{Keeper, KeeperError, Rotating, TestEnd, What, not_of_resource, settle};
use crate::access::{Operation, Principal};
use crate::rotation::Pending;
use crate::secret::SecretId;
use crate::store::{Change, Expected, RotationRecord, RotationState, SecretRecord};

const REASON: &str = "RotationCancelled";
const MESSAGE: &str = "rotation was cancelled in the middle of it; RotateSecret resumes it";
const TEST_MESSAGE: &str = "rotation was cancelled in the middle of the rotator's test";

impl Keeper {
    /// Answers with the version of a rotation that has begun and not ended.
    pub async fn cancel_rotation(&self, by: &Principal, id: &SecretId) -> Result<Rotating, KeeperError> {
        let operation = Operation::CancelRotation;
        counted(operation, settle(|| self.cancel_rotation_once(by, id)).await)
    }

    async fn cancel_rotation_once(&self, by: &Principal, id: &SecretId) -> Result<Rotating, KeeperError> {
        let act = Act { by, operation: Operation::CancelRotation, id, version: None };
        let (mut record, _) = self.authorised(act, |_| Vec::new()).await?;
        if record.deletion.is_some() {
            return Err(KeeperError::MarkedForDeletion);
        }
        not_of_resource(&record, "delete its RotationSchedule, or suspend it there")?;
        let (arn, name) = (record.arn.clone(), record.name.clone());
        let journal = self.ports.store.rotation(&arn).await?.filter(is_open);
        let version = journal.as_ref().map(|journal| journal.version.clone());
        let test = journal.clone().filter(|journal| journal.is_test);
        let (mut changes, has_test) = (Vec::new(), test.is_some());
        if let Some(test) = test {
            changes = ending(&mut record, test, TestEnd::Abandoned(REASON, TEST_MESSAGE), self.now());
        } else if let Some(ended) = self.ended(&record, journal).await? {
            let expected = Expected::Revision(ended.revision);
            changes.push(Change::PutRotation(ended, expected));
        }
        if has_test || (record.rotation.is_some() && record.rotation_enabled != Some(false)) {
            record.rotation_enabled = Some(false);
            record.changed_at = self.now();
            let expected = Expected::Revision(record.revision);
            changes.push(Change::PutSecret(record, expected));
        }
        if !changes.is_empty() {
            let audit = self.done(by, Operation::CancelRotation, &arn, version.as_ref());
            let mut after = vec![After::Tell(What::Rotation)];
            after.extend(has_test.then_some(After::Tell(What::Stages)));
            self.commit_then(&arn, changes, audit, after).await?;
        }
        Ok(Rotating { arn, name, version: version.filter(|_| !has_test) })
    }

    /// The journal of a rotation that runs, as it ends here.
    async fn ended(
        &self,
        record: &SecretRecord,
        journal: Option<RotationRecord>,
    ) -> Result<Option<RotationRecord>, KeeperError> {
        let Some(journal) = journal.filter(|journal| journal.state == RotationState::Running) else {
            return Ok(None);
        };
        let ended = RotationRecord { step: None, ended_at: Some(self.now()), ..journal };
        Ok(Some(match self.pending(record, &ended).await? {
            Pending::Promoted => RotationRecord { state: RotationState::Succeeded, failure: None, ..ended },
            Pending::Overtaken => RotationRecord { state: RotationState::Abandoned, ..ended },
            Pending::Empty | Pending::Written => RotationRecord {
                state: RotationState::Failed,
                // Its Job is that of an earlier attempt from now on.
                attempt: ended.attempt + 1,
                failed_at: Some(self.now()),
                failure: Some((REASON.to_owned(), MESSAGE.to_owned())),
                ..ended
            },
        }))
    }
}
