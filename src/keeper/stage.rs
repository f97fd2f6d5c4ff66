//! Move a stage from one version to another. Must not touch values.

use super::authorise::Act;
use super::commit::After;
use super::measure::counted;
use super::test_rotation::is_open_test;
use super::{Keeper, KeeperError, What, said, settle};
use crate::access::{Operation, Principal};
use crate::failpoint;
use crate::secret::moves::after_move;
use crate::secret::{Arn, Name, SecretId, Stage, VersionId};
use crate::store::{Change, Expected};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    pub arn: Arn,
    pub name: Name,
}

impl Keeper {
    /// Moves a stage to a version, from a version, or both. What is so already succeeds and changes nothing.
    pub async fn move_stage(
        &self,
        by: &Principal,
        id: &SecretId,
        stage: &Stage,
        to: Option<&VersionId>,
        from: Option<&VersionId>,
    ) -> Result<Moved, KeeperError> {
        counted(Operation::MoveStage, settle(|| self.move_stage_once(by, id, stage, to, from)).await)
    }

    async fn move_stage_once(
        &self,
        by: &Principal,
        id: &SecretId,
        stage: &Stage,
        to: Option<&VersionId>,
        from: Option<&VersionId>,
    ) -> Result<Moved, KeeperError> {
        let act = Act { by, operation: Operation::MoveStage, id, version: to.or(from) };
        let said = said::of_version(None, Some(stage));
        let (mut record, _) = self.authorised_saying(act, &said, |_| vec![stage.clone()]).await?;
        if record.deletion.is_some() {
            return Err(KeeperError::MarkedForDeletion);
        }
        let (arn, name) = (record.arn.clone(), record.name.clone());
        if let Some(to) = to {
            self.check_target(&arn, stage, to).await?;
        }
        let after = after_move(&record.stages, stage, to, from)?;
        if after == record.stages {
            return Ok(Moved { arn, name });
        }
        let current = after.get(&Stage::current()).cloned();
        let promoted = current.filter(|current| record.stages.get(&Stage::current()) != Some(current));
        record.stages = after;
        record.changed_at = self.now();
        if let Some(promoted) = &promoted {
            let journal = self.ports.store.rotation(&arn).await?;
            if journal.is_some_and(|journal| journal.version == *promoted) {
                record.rotated_at = Some(record.changed_at);
            }
        }
        let expected = Expected::Revision(record.revision);
        let audit = self.done(by, Operation::MoveStage, &arn, to.or(from));
        let after = match promoted {
            None => vec![After::Tell(What::Stages)],
            Some(promoted) => vec![After::Promoted(promoted), After::Tell(What::Value)],
        };
        failpoint::reach("stage.before-commit");
        self.commit_then(&arn, vec![Change::PutSecret(record, expected)], audit, after).await?;
        failpoint::reach("stage.committed");
        Ok(Moved { arn, name })
    }

    /// AWSCURRENT never goes to a version that holds nothing: whoever reads the secret would find it empty. No label goes
    /// to the version of a test, which is about to be removed.
    async fn check_target(&self, arn: &Arn, stage: &Stage, to: &VersionId) -> Result<(), KeeperError> {
        let test = self.ports.store.rotation(arn).await?.filter(is_open_test);
        if test.is_some_and(|test| test.version == *to) {
            return Err(KeeperError::InvalidRequest(format!(
                "You can't move a staging label to version {to} because it is only there while the rotation is tested."
            )));
        }
        let versions = self.ports.store.versions(arn).await?;
        let target = versions.iter().find(|version| version.id == *to);
        match target {
            None => Err(KeeperError::NoValueForVersion(to.clone())),
            Some(target) if *stage == Stage::current() && !target.has_value => {
                Err(KeeperError::InvalidRequest(format!(
                    "You can't move staging label AWSCURRENT to version {to} because it has no value yet."
                )))
            }
            Some(_) => Ok(()),
        }
    }
}
