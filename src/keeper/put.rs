//! Put: a new version of a secret. Must not write a value twice under one token.

use jiff::{SignedDuration, Timestamp};

use super::authorise::Act;
use super::commit::After;
use super::measure::counted;
use super::sealing::check_size;
use super::test_rotation::ending;
use super::{Keeper, KeeperError, TestEnd, What, settle};
use crate::access::{Authorized, Operation, Principal};
use crate::failpoint;
use crate::secret::moves::{after_put, stages_of};
use crate::secret::{Arn, Name, SecretId, SecretValue, Stage, VersionId};
use crate::store::{
    BeforePut, Change, Expected, RotationRecord, RotationState, SecretRecord, VersionRecord, VersionSummary,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    pub arn: Arn,
    pub name: Name,
    pub version: VersionId,
    /// The stages on the version now.
    pub stages: Vec<Stage>,
}

/// Above so many versions those without a stage go, but never one younger than a day.
const VERSIONS_MAX: usize = 100;
const KEPT_AT_LEAST: SignedDuration = SignedDuration::from_hours(24);

impl Keeper {
    /// Adds a version under the caller's token. The same token with the same value again succeeds and changes
    /// nothing; the empty version that a rotation began with is filled.
    pub async fn put(
        &self,
        by: &Principal,
        id: &SecretId,
        token: &VersionId,
        value: &SecretValue,
        stages: Option<&[Stage]>,
    ) -> Result<Put, KeeperError> {
        check_size(value)?;
        counted(Operation::Put, settle(|| self.put_once(by, id, token, value, stages)).await)
    }

    async fn put_once(
        &self,
        by: &Principal,
        id: &SecretId,
        token: &VersionId,
        value: &SecretValue,
        stages: Option<&[Stage]>,
    ) -> Result<Put, KeeperError> {
        let act = Act { by, operation: Operation::Put, id, version: Some(token) };
        let asked = stages.map_or_else(|| vec![Stage::current()], <[Stage]>::to_vec);
        let (record, authorized) = self.authorised(act, |_| asked).await?;
        if record.deletion.is_some() {
            return Err(KeeperError::MarkedForDeletion);
        }
        let found = self.ports.store.before_put(&record.arn, token).await?;
        match &found.version {
            Some(version) if version.sealed.is_some() => {
                self.put_again(&authorized, &record, version, value).await
            }
            _ => self.put_value(&authorized, record, token, value, stages, found).await,
        }
    }

    pub(super) async fn put_again(
        &self,
        authorized: &Authorized,
        record: &SecretRecord,
        version: &VersionRecord,
        value: &SecretValue,
    ) -> Result<Put, KeeperError> {
        let (arn, name, version_id) = (record.arn.clone(), record.name.clone(), version.id.clone());
        if !self.holds(authorized, version, value).await? {
            return Err(KeeperError::TokenInUse { token: version_id, arn });
        }
        let stages = stages_of(&record.stages, &version_id);
        Ok(Put { arn, name, version: version_id, stages })
    }

    pub(super) async fn put_value(
        &self,
        authorized: &Authorized,
        mut record: SecretRecord,
        token: &VersionId,
        value: &SecretValue,
        stages: Option<&[Stage]>,
        mut found: BeforePut,
    ) -> Result<Put, KeeperError> {
        let (arn, name, now) = (record.arn.clone(), record.name.clone(), self.now());
        let before = std::mem::take(&mut record.stages);
        record.stages = after_put(&before, token, stages)?;
        let mut changes = Vec::new();
        let journal = found.rotation.take().filter(|journal| abandons(journal, &record, token));
        if let Some(test) = journal.clone().filter(|journal| journal.is_test) {
            changes = ending(&mut record, test, TestEnd::OVERTAKEN, now);
        } else if let Some(journal) = journal {
            let pending = Stage::pending();
            if record.stages.get(&pending) == Some(&journal.version) {
                record.stages.remove(&pending);
            }
            let expected = Expected::Revision(journal.revision);
            let ended = RotationRecord { state: RotationState::Abandoned, ended_at: Some(now), ..journal };
            changes.push(Change::PutRotation(ended, expected));
        }
        let sealed = Some(self.seal(&arn, token, value).await?);
        changes.push(Change::PutVersion(VersionRecord {
            arn: arn.clone(),
            id: token.clone(),
            created_at: now,
            kind: value.kind,
            sealed,
        }));
        let surplus = surplus(&found.versions, &record, now, usize::from(found.version.is_none()));
        // The store's own list grows by the new version: a second holder would make it copy the whole.
        drop(found);
        record.versions_accessed_at.retain(|version, _| !surplus.contains(version));
        changes.extend(surplus.into_iter().map(|old| Change::RemoveVersion(arn.clone(), old)));
        record.changed_at = now;
        let (kept, expected) = (record.stages.clone(), Expected::Revision(record.revision));
        changes.push(Change::PutSecret(record, expected));
        let audit = self.done(authorized.principal(), Operation::Put, &arn, Some(token));
        let after = match before.get(&Stage::current()) == kept.get(&Stage::current()) {
            true => vec![After::Tell(What::Stages)],
            false => vec![After::Promoted(token.clone()), After::Tell(What::Value)],
        };
        failpoint::reach("put.before-commit");
        self.commit_then(&arn, changes, audit, after).await?;
        failpoint::reach("put.committed");
        Ok(Put { arn, name, version: token.clone(), stages: stages_of(&kept, token) })
    }
}

/// Whether a value that is not the rotation's own ends the running rotation: it became current, or it took AWSPENDING.
fn abandons(journal: &RotationRecord, after: &SecretRecord, token: &VersionId) -> bool {
    journal.state == RotationState::Running
        && journal.version != *token
        && (after.stages.get(&Stage::current()) == Some(token)
            || after.stages.get(&Stage::pending()) == Some(token))
}

/// The oldest versions without a stage, as many as there are too many when so many come.
fn surplus(
    versions: &[VersionSummary],
    record: &SecretRecord,
    now: Timestamp,
    added: usize,
) -> Vec<VersionId> {
    let excess = (versions.len() + added).saturating_sub(VERSIONS_MAX);
    if excess == 0 {
        return Vec::new();
    }
    let may_go = |version: &&VersionSummary| {
        !record.stages.values().any(|staged| *staged == version.id)
            && now.duration_since(version.created_at) > KEPT_AT_LEAST
    };
    let mut old: Vec<_> = versions.iter().filter(may_go).collect();
    old.sort_by_key(|version| version.created_at);
    old.into_iter().take(excess).map(|version| version.id.clone()).collect()
}
