//! The test of a rotation's configuration, as RotateSecret makes it when nothing is to rotate now: the journal of a
//! rotation that runs only the step testSecret, on a copy of the current version at AWSPENDING. However it ends, the copy
//! goes in the transaction that ends it. Must not move AWSCURRENT or AWSPREVIOUS, nor decide what comes next.

use jiff::Timestamp;

use super::rotate::is_open;
use super::{Keeper, KeeperError, What, settle};
use crate::access::{Authorized, Operation, Principal};
use crate::failpoint;
use crate::secret::{Arn, SecretValue, Stage, VersionId};
use crate::store::{
    Change, Expected, RotationRecord, RotationState, SecretRecord, StoreError, VersionRecord,
};

/// How a test ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestEnd<'a> {
    Succeeded,
    /// The reason word and a sentence; never text of a rotator's output.
    Failed(&'static str, &'a str),
    /// Somebody ended it, or another value came.
    Abandoned(&'static str, &'a str),
}

impl TestEnd<'static> {
    pub const HINDERED: Self = Self::Abandoned(
        "RotationAbandoned",
        "the test of the rotator was ended: no rotation can be made of the secret now",
    );
    /// Another value came, or somebody took AWSPENDING away.
    pub(super) const OVERTAKEN: Self = Self::Abandoned(
        "RotationAbandoned",
        "the test of the rotator was ended: another value was written, or AWSPENDING was moved",
    );
}

impl Keeper {
    /// Ends the test that runs, once: where none does nothing changes.
    pub async fn end_rotation_test(&self, arn: &Arn, end: TestEnd<'_>) -> Result<(), KeeperError> {
        settle(|| self.end_rotation_test_once(arn, end)).await
    }

    pub(super) async fn end_rotation_test_once(
        &self,
        arn: &Arn,
        end: TestEnd<'_>,
    ) -> Result<(), KeeperError> {
        let mut record = self.rotated_secret(arn).await?;
        let journal = self.ports.store.rotation(arn).await?.filter(is_open_test);
        let Some(journal) = journal else { return Ok(()) };
        let (version, now) = (journal.version.clone(), self.now());
        let mut changes = ending(&mut record, journal, end, now);
        record.changed_at = now;
        let expected = Expected::Revision(record.revision);
        changes.push(Change::PutSecret(record, expected));
        let (operation, outcome) = match end {
            TestEnd::Succeeded => (Operation::Rotate, "test succeeded"),
            TestEnd::Failed(reason, _) => (Operation::Rotate, reason),
            TestEnd::Abandoned(reason, _) => (Operation::CancelRotation, reason),
        };
        let audit = self.entry(&Principal::Controller, operation.verb(), Some(arn), Some(&version), outcome);
        failpoint::reach("rotate.before-test-end");
        self.commit(changes, vec![audit]).await?;
        failpoint::reach("rotate.test-ended");
        self.tell(arn, What::Stages);
        Ok(())
    }

    /// The current value under the id of the version that the test is made with.
    pub(super) async fn copy_of_current(
        &self,
        authorized: &Authorized,
        record: &SecretRecord,
        version: &VersionId,
    ) -> Result<Option<VersionRecord>, KeeperError> {
        let Some(current) = record.stages.get(&Stage::current()) else { return Ok(None) };
        let lost = || StoreError::Corrupt(format!("the current version of {} is missing", record.arn));
        let stored = self.ports.store.version(&record.arn, current).await?.ok_or_else(lost)?;
        let bytes = self.open(authorized, &stored).await?.ok_or_else(lost)?;
        let value = SecretValue { kind: stored.kind, bytes };
        let sealed = Some(self.seal(&record.arn, version, &value).await?);
        Ok(Some(VersionRecord {
            arn: record.arn.clone(),
            id: version.clone(),
            created_at: self.now(),
            kind: stored.kind,
            sealed,
        }))
    }
}

pub(super) fn is_open_test(journal: &RotationRecord) -> bool {
    journal.is_test && is_open(journal)
}

/// What ends a test but for the secret's record, which is the caller's to write.
pub(super) fn ending(
    record: &mut SecretRecord,
    journal: RotationRecord,
    end: TestEnd<'_>,
    now: Timestamp,
) -> Vec<Change> {
    let mut changes: Vec<Change> = without_copy(record, &journal.version).into_iter().collect();
    let told = |reason: &str, message: &str| Some((reason.to_owned(), message.to_owned()));
    let (state, failure) = match end {
        TestEnd::Succeeded => (RotationState::Succeeded, None),
        TestEnd::Failed(reason, message) => (RotationState::Failed, told(reason, message)),
        TestEnd::Abandoned(reason, message) => (RotationState::Abandoned, told(reason, message)),
    };
    let expected = Expected::Revision(journal.revision);
    let ended = RotationRecord { state, failure, step: None, ended_at: Some(now), ..journal };
    changes.push(Change::PutRotation(ended, expected));
    changes
}

/// The copy goes, and no stage names it. One that is current stays: no program of this version moves AWSCURRENT there,
/// but an older one took the test for a rotation.
pub(super) fn without_copy(record: &mut SecretRecord, copy: &VersionId) -> Option<Change> {
    if record.stages.get(&Stage::current()) == Some(copy) {
        return None;
    }
    record.stages.retain(|_, version| version != copy);
    record.versions_accessed_at.remove(copy);
    Some(Change::RemoveVersion(record.arn.clone(), copy.clone()))
}
