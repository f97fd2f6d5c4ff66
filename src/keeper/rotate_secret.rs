//! RotateSecret: a caller configures a secret's rotation, and in the same transaction begins one under his token, or a
//! test of the rotator.
//! Must not run a rotator, nor change what a RotationSchedule says.

use jiff::Timestamp;

use super::authorise::Act;
use super::begin::{Made, UNFINISHED, beginning};
use super::commit::After;
use super::measure::counted;
use super::rotate::is_open;
use super::{Keeper, KeeperError, What, not_of_resource, resource, settle};
use crate::access::{Denied, Operation, Principal};
use crate::failpoint;
use crate::rotation::{Pending, Schedule, rotator_name};
use crate::secret::{Arn, Name, SecretId, Stage, VersionId};
use crate::store::{
    Change, Expected, RotationConfig, RotationRecord, RotationRules, RotationState, SecretRecord,
};

const NO_ROTATOR: &str = "No Lambda rotation function ARN is associated with this secret.";
/// Recorded.
const NOT_INVOKED: &str = "Secrets Manager cannot invoke the specified Lambda function. Ensure that the function \
                           policy grants access to the principal secretsmanager.amazonaws.com.";

/// What is left out stays as it is configured.
#[derive(Debug, Clone)]
pub struct Rotate {
    /// The id of the version that the rotation makes.
    pub token: VersionId,
    pub rotator: Option<String>,
    pub rules: Option<RotationRules>,
    /// Whether a rotation begins now, and not only by schedule; else the rotator is tested.
    pub immediately: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotating {
    pub arn: Arn,
    pub name: Name,
    /// The version that is made; `None` when no rotation was begun. That of a test does not stay.
    pub version: Option<VersionId>,
}

impl RotationConfig {
    /// When it rotates by itself; none when only on request.
    pub fn schedule(&self) -> Result<Option<Schedule>, KeeperError> {
        let RotationRules { automatically_after_days, schedule_expression, duration } = &self.rules;
        let of = Schedule::of_rules(
            *automatically_after_days,
            schedule_expression.as_deref(),
            duration.as_deref(),
        );
        of.map_err(|error| KeeperError::InvalidParameter(error.to_string()))
    }
}

impl Keeper {
    /// The same token again gets the same answer, and begins nothing.
    pub async fn rotate_secret(
        &self,
        by: &Principal,
        id: &SecretId,
        wanted: &Rotate,
    ) -> Result<Rotating, KeeperError> {
        counted(Operation::Rotate, settle(|| self.rotate_secret_once(by, id, wanted)).await)
    }

    async fn rotate_secret_once(
        &self,
        by: &Principal,
        id: &SecretId,
        wanted: &Rotate,
    ) -> Result<Rotating, KeeperError> {
        let act = Act { by, operation: Operation::Rotate, id, version: Some(&wanted.token) };
        let (before, authorized) = self.authorised(act, |_| Vec::new()).await?;
        if before.deletion.is_some() {
            return Err(KeeperError::MarkedForDeletion);
        }
        let mut record = before.clone();
        self.configure_rotation(by, &mut record, wanted).await?;
        let journal = self.ports.store.rotation(&record.arn).await?;
        let (arn, name, token) = (record.arn.clone(), record.name.clone(), &wanted.token);
        let answer = |version: Option<&VersionId>| Rotating { arn, name, version: version.cloned() };
        let used = match journal.as_ref().filter(|journal| journal.version == *token) {
            Some(journal) if !journal.is_test => return Ok(answer(Some(token))),
            Some(_) if !wanted.immediately => return Ok(answer(None)),
            Some(_) => true,
            None => self.ports.store.version(&record.arn, token).await?.is_some(),
        };
        if used {
            let used = KeeperError::TokenInUse { token: token.clone(), arn: record.arn };
            return Err(KeeperError::InvalidRequest(used.to_string()));
        }
        if self.is_unfinished(&record, journal.as_ref()).await? {
            self.reattempt(by, before, journal).await?;
            return Err(KeeperError::InvalidRequest(UNFINISHED.to_owned()));
        }
        let (made, outcome, version) = if wanted.immediately {
            (Made::Empty(token.clone()), "done", Some(token))
        } else {
            let Some(copy) = self.copy_of_current(&authorized, &record, token).await? else {
                // There is nothing to test with.
                self.write_rotation_config(by, &before, record).await?;
                return Ok(answer(None));
            };
            (Made::Copy(copy), "test started", None)
        };
        let (_, changes) = beginning(record, journal, made, None, self.now());
        let audit = self.entry(by, Operation::Rotate.verb(), Some(&before.arn), Some(token), outcome);
        failpoint::reach("rotate.before-begin");
        let after = vec![After::Tell(What::Stages), After::Tell(What::Rotation)];
        self.commit_then(&before.arn, changes, audit, after).await?;
        failpoint::reach("rotate.begun");
        Ok(answer(version))
    }

    /// The record as it is to be. Nothing is written while anything about it is not right.
    async fn configure_rotation(
        &self,
        by: &Principal,
        record: &mut SecretRecord,
        wanted: &Rotate,
    ) -> Result<(), KeeperError> {
        if resource(record).is_some() {
            if wanted.rotator.is_some() || wanted.rules.is_some() {
                not_of_resource(record, "change its rotation there, in its RotationSchedule")?;
            }
            if record.rotation_enabled != Some(true) {
                not_of_resource(record, "make a RotationSchedule for it, which says what rotates it")?;
            }
            return Ok(());
        }
        let config = configured(record.rotation.as_deref(), wanted, self.now())?;
        config.schedule()?;
        if !self.settings.rotators.contains(rotator_name(&config.rotator)) {
            let denied = Denied::No(NOT_INVOKED.to_owned());
            return Err(self.refused(by, Operation::Rotate, Some(&record.arn), denied).await);
        }
        record.rotation = Some(Box::new(config));
        record.rotation_enabled = Some(true);
        Ok(())
    }

    /// Whether AWSPENDING stands elsewhere than AWSCURRENT. A rotation that a value written by hand has overtaken is over,
    /// though nobody may have noted it yet.
    async fn is_unfinished(
        &self,
        record: &SecretRecord,
        journal: Option<&RotationRecord>,
    ) -> Result<bool, KeeperError> {
        if let Some(journal) = journal.filter(|journal| is_open(journal)) {
            let pending = self.pending(record, journal).await?;
            return Ok(matches!(pending, Pending::Empty | Pending::Written));
        }
        let pending = record.stages.get(&Stage::pending());
        Ok(pending.is_some() && pending != record.stages.get(&Stage::current()))
    }

    /// The rotation that has not ended gets its retries back, under its own token and as it was configured.
    async fn reattempt(
        &self,
        by: &Principal,
        mut record: SecretRecord,
        journal: Option<RotationRecord>,
    ) -> Result<(), KeeperError> {
        let Some(journal) = journal.filter(is_open) else { return Ok(()) };
        let mut changes = Vec::new();
        if journal.state == RotationState::Failed || journal.failed_at.is_some() {
            let expected = Expected::Revision(journal.revision);
            let resumed = RotationRecord {
                state: RotationState::Running,
                failures: 0,
                failed_at: None,
                ended_at: None,
                ..journal.clone()
            };
            changes.push(Change::PutRotation(resumed, expected));
        }
        if record.rotation_enabled != Some(true) {
            record.rotation_enabled = Some(true);
            let expected = Expected::Revision(record.revision);
            changes.push(Change::PutSecret(record, expected));
        }
        if changes.is_empty() {
            return Ok(());
        }
        let verb = Operation::Rotate.verb();
        let audit = self.entry(by, verb, Some(&journal.arn), Some(&journal.version), "resumed");
        self.commit_then(&journal.arn, changes, audit, vec![After::Tell(What::Rotation)]).await
    }

    async fn write_rotation_config(
        &self,
        by: &Principal,
        before: &SecretRecord,
        mut record: SecretRecord,
    ) -> Result<(), KeeperError> {
        if record == *before {
            return Ok(());
        }
        record.changed_at = self.now();
        let expected = Expected::Revision(record.revision);
        let audit = self.done(by, Operation::Rotate, &before.arn, None);
        let after = vec![After::Tell(What::Configuration)];
        self.commit_then(&before.arn, vec![Change::PutSecret(record, expected)], audit, after).await
    }
}

fn configured(
    before: Option<&RotationConfig>,
    wanted: &Rotate,
    now: Timestamp,
) -> Result<RotationConfig, KeeperError> {
    let given = wanted.rotator.as_deref().filter(|given| !given.is_empty());
    let rotator = given.or(before.map(|before| before.rotator.as_str()));
    let rotator = rotator.ok_or_else(|| KeeperError::InvalidRequest(NO_ROTATOR.to_owned()))?.to_owned();
    let rules = wanted.rules.clone().or(before.map(|before| before.rules.clone())).unwrap_or_default();
    let since = before.filter(|before| before.rules == rules).map_or(now, |before| before.since);
    Ok(RotationConfig { rotator, rules, since })
}
