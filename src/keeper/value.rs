//! Value: read one version, whole. Must not answer before the audit row of the reading is on disk.

use futures::future::join_all;
use jiff::Timestamp;

use super::authorise::Act;
use super::measure::counted;
use super::said;
use super::{Keeper, KeeperError};
use crate::access::{Operation, Principal};
use crate::failpoint;
use crate::secret::moves::stages_of;
use crate::secret::{Arn, Name, SecretId, SecretValue, Stage, VersionId};
use crate::store::{AuditEntry, Batch, Change, Expected, SecretRecord, StoreError};

pub struct Revealed {
    pub arn: Arn,
    pub name: Name,
    pub version: VersionId,
    pub value: SecretValue,
    pub stages: Vec<Stage>,
    pub created_at: Timestamp,
}

/// A version that is open, with what is to be on disk before anybody hears of it.
pub(super) struct Unwritten {
    revealed: Revealed,
    record: SecretRecord,
    audit: AuditEntry,
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
        let read = async { self.write_down_access(self.find_value(by, id, version, stage).await?).await };
        counted(Operation::Reveal, read.await)
    }

    /// Opens a version. Nobody may hear of it before the reading is written down.
    pub(super) async fn find_value(
        &self,
        by: &Principal,
        id: &SecretId,
        version: Option<&VersionId>,
        stage: Option<&Stage>,
    ) -> Result<Unwritten, KeeperError> {
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
        let value = SecretValue { kind: stored.kind, bytes };
        let revealed = Revealed { arn, name, version: wanted, value, stages, created_at: stored.created_at };
        Ok(Unwritten { revealed, record, audit })
    }

    async fn write_down_access(&self, found: Unwritten) -> Result<Revealed, KeeperError> {
        if failpoint::guard("audit-before-answer") {
            match found.is_dated() {
                true => self.commit(Vec::new(), vec![found.audit]).await?,
                false => self.write_down_with_date(&found).await?,
            }
        }
        Ok(found.revealed)
    }

    /// Those that need nothing but a row of the audit share one write.
    pub(super) async fn write_down_accesses(
        &self,
        found: Vec<Result<Unwritten, KeeperError>>,
    ) -> Vec<Result<Revealed, KeeperError>> {
        let audit: Vec<_> = found
            .iter()
            .flatten()
            .filter(|found| found.is_dated())
            .map(|found| found.audit.clone())
            .collect();
        let shared = match audit.is_empty() {
            true => Ok(()),
            false => {
                let batch = Batch { epoch: self.epoch, changes: Vec::new(), audit };
                self.ports.store.commit(batch).await.map(drop)
            }
        };
        let told = found.into_iter().map(async |found| {
            let found = found?;
            if !found.is_dated() {
                return self.write_down_access(found).await;
            }
            shared.clone()?;
            Ok(found.revealed)
        });
        join_all(told).await
    }

    /// The audit's row, and the date of the last access, of the secret and of this version: once a day.
    async fn write_down_with_date(&self, found: &Unwritten) -> Result<(), KeeperError> {
        let (mut record, audit, today) = (found.record.clone(), found.audit.clone(), day(found.audit.at));
        record.accessed_at = Some(today);
        record.versions_accessed_at.insert(found.revealed.version.clone(), today);
        let expected = Expected::Revision(record.revision);
        match self.commit(vec![Change::PutSecret(record, expected)], vec![audit.clone()]).await {
            // Somebody changes the secret just now. The date can wait for the next reading, the audit cannot.
            Err(KeeperError::Store(StoreError::Conflict)) => self.commit(Vec::new(), vec![audit]).await,
            written => written,
        }
    }
}

impl Unwritten {
    /// Whether the date of this access is known already.
    fn is_dated(&self) -> bool {
        let (record, today) = (&self.record, day(self.audit.at));
        let version = record.versions_accessed_at.get(&self.revealed.version);
        record.accessed_at == Some(today) && version == Some(&today)
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
