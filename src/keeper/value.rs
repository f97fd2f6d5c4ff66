//! Value: read one version, whole. Must not answer before the audit row of the reading is on disk.

use jiff::Timestamp;

use super::authorise::Act;
use super::measure::counted;
use super::said;
use super::{Keeper, KeeperError};
use crate::access::{Operation, Principal};
use crate::failpoint;
use crate::secret::moves::stages_of;
use crate::secret::{Arn, Name, SecretId, SecretValue, Stage, VersionId};
use crate::store::{AuditEntry, Change, Expected, SecretRecord, StoreError};

pub struct Revealed {
    pub arn: Arn,
    pub name: Name,
    pub version: VersionId,
    pub value: SecretValue,
    pub stages: Vec<Stage>,
    pub created_at: Timestamp,
}

impl Keeper {
    /// Reads the version that was named, by id, by stage, or both; else the current one.
    pub async fn value(
        &self,
        by: &Principal,
        id: &SecretId,
        version: Option<&VersionId>,
        stage: Option<&Stage>,
    ) -> Result<Revealed, KeeperError> {
        counted(Operation::Reveal, self.reveal(by, id, version, stage).await)
    }

    async fn reveal(
        &self,
        by: &Principal,
        id: &SecretId,
        version: Option<&VersionId>,
        stage: Option<&Stage>,
    ) -> Result<Revealed, KeeperError> {
        let act = Act { by, operation: Operation::Reveal, id, version: None };
        let (record, authorized) = self
            .authorised_saying(act, &said::of_version(version, stage), |record| {
                concerned(record, version, stage)
            })
            .await?;
        if record.deletion.is_some() {
            return Err(self
                .refused(by, Operation::Reveal, Some(&record.arn), KeeperError::MarkedForDeletion)
                .await);
        }
        let wanted = resolve(&record, version, stage)?;
        let missing = || match (version, stage) {
            (Some(version), _) => KeeperError::NoValueForVersion(version.clone()),
            (None, stage) => KeeperError::NoValueForStage(stage.cloned().unwrap_or_else(Stage::current)),
        };
        let stored = self.ports.store.version(&record.arn, &wanted).await?.ok_or_else(missing)?;
        let bytes = self.open(&authorized, &stored).await?.ok_or_else(missing)?;
        let audit = self.done(by, Operation::Reveal, &record.arn, Some(&wanted));
        let stages = stages_of(&record.stages, &wanted);
        let (arn, name) = (record.arn.clone(), record.name.clone());
        if failpoint::guard("audit-before-answer") {
            self.write_down_access(record, &wanted, audit).await?;
        }
        let value = SecretValue { kind: stored.kind, bytes };
        Ok(Revealed { arn, name, version: wanted, value, stages, created_at: stored.created_at })
    }

    /// The audit's row, and once a day the date of the last access, of the secret and of this version.
    async fn write_down_access(
        &self,
        mut record: SecretRecord,
        version: &VersionId,
        audit: AuditEntry,
    ) -> Result<(), KeeperError> {
        let today = day(audit.at);
        let known = record.versions_accessed_at.get(version);
        if record.accessed_at == Some(today) && known == Some(&today) {
            return self.commit(Vec::new(), vec![audit]).await;
        }
        record.accessed_at = Some(today);
        record.versions_accessed_at.insert(version.clone(), today);
        let expected = Expected::Revision(record.revision);
        match self.commit(vec![Change::PutSecret(record, expected)], vec![audit.clone()]).await {
            // Somebody changes the secret just now. The date can wait for the next reading, the audit cannot.
            Err(KeeperError::Store(StoreError::Conflict)) => self.commit(Vec::new(), vec![audit]).await,
            written => written,
        }
    }
}

/// The stages that a reading is about: the one that was named, else those on the version that was named.
fn concerned(record: &SecretRecord, version: Option<&VersionId>, stage: Option<&Stage>) -> Vec<Stage> {
    match (version, stage) {
        (_, Some(stage)) => vec![stage.clone()],
        (Some(version), None) => stages_of(&record.stages, version),
        (None, None) => vec![Stage::current()],
    }
}

fn resolve(
    record: &SecretRecord,
    version: Option<&VersionId>,
    stage: Option<&Stage>,
) -> Result<VersionId, KeeperError> {
    let bearer = |stage: &Stage| record.stages.get(stage);
    match (version, stage) {
        (Some(version), Some(stage)) if bearer(stage) != Some(version) => Err(KeeperError::StageNotOnVersion),
        (Some(version), _) => Ok(version.clone()),
        (None, stage) => {
            let stage = stage.cloned().unwrap_or_else(Stage::current);
            bearer(&stage).cloned().ok_or(KeeperError::NoValueForStage(stage))
        }
    }
}

/// AWS shows the last access by its day.
fn day(at: Timestamp) -> Timestamp {
    const SECONDS_OF_DAY: i64 = 86_400;
    let second = at.as_second();
    Timestamp::from_second(second - second.rem_euclid(SECONDS_OF_DAY)).unwrap_or(at)
}
