//! Find the secret that a caller named and ask `access` whether he may. Must not decide itself.

use super::{Keeper, KeeperError};
use crate::access::{
    self, Authorized, Denied, Grant, Operation, Principal, RbacAnswer, Request, RotationRight,
};
use crate::secret::{Name, SecretId, Stage, VersionId};
use crate::store::{GrantRecord, RotationState, SecretRecord};

/// One act, before it is known on what.
#[derive(Clone, Copy)]
pub(super) struct Act<'a> {
    pub(super) by: &'a Principal,
    pub(super) operation: Operation,
    pub(super) id: &'a SecretId,
    /// The version that the act writes.
    pub(super) version: Option<&'a VersionId>,
}

impl Keeper {
    /// The record, whoever asks for it.
    pub(super) async fn find(&self, id: &SecretId) -> Result<Option<SecretRecord>, KeeperError> {
        let Some(name) = id.name() else { return Ok(None) };
        let found = self.ports.store.secret_named(&name).await?;
        Ok(found.filter(|record| id.names(&record.name, &record.arn)))
    }

    /// The record and the right to act on it. `stages` says which stages the act touches. Whether a secret exists is
    /// told only to whoever might act on it.
    pub(super) async fn authorised(
        &self,
        act: Act<'_>,
        stages: impl FnOnce(&SecretRecord) -> Vec<Stage>,
    ) -> Result<(SecretRecord, Authorized), KeeperError> {
        let Some(record) = self.find(act.id).await? else {
            return Err(self.unknown(act).await);
        };
        let stages = stages(&record);
        match self.right(act, &record, &stages).await? {
            Ok(authorized) => Ok((record, authorized)),
            Err(denied) => Err(self.refused(act.by, act.operation, Some(&record.arn), denied).await),
        }
    }

    /// The decision alone, on a record that exists or is about to.
    pub(super) async fn right(
        &self,
        act: Act<'_>,
        record: &SecretRecord,
        stages: &[Stage],
    ) -> Result<Result<Authorized, Denied>, KeeperError> {
        let rbac = self.ask(act, &record.name).await;
        let decided = self.decided(act, record, stages, &rbac);
        if decided.is_ok() || act.operation == Operation::Project {
            return Ok(decided);
        }
        // Whether the caller is a rotation's pod costs a look at the cluster, so it is asked last.
        let rotation = self.rotation_right(act.by, record).await?;
        Ok(match rotation {
            Some(right) => self.weighed(act, record, stages, &rbac, Some(&right)),
            None => decided,
        })
    }

    /// The decision on an answer of the cluster that is there already, without the right of a rotation.
    pub(super) fn decided(
        &self,
        act: Act<'_>,
        record: &SecretRecord,
        stages: &[Stage],
        rbac: &RbacAnswer,
    ) -> Result<Authorized, Denied> {
        self.weighed(act, record, stages, rbac, None)
    }

    fn weighed(
        &self,
        act: Act<'_>,
        record: &SecretRecord,
        stages: &[Stage],
        rbac: &RbacAnswer,
        rotation: Option<&RotationRight>,
    ) -> Result<Authorized, Denied> {
        let grants: Vec<Grant<'_>> = record.grants.iter().map(grant).collect();
        let request = request(act, &record.name, stages);
        access::decide(request, &record.arn, rbac, &grants, rotation, self.settings.names)
    }

    /// What a caller is told of a name that nobody has.
    pub(super) async fn unknown(&self, act: Act<'_>) -> KeeperError {
        let Some(name) = act.id.name() else { return KeeperError::NotFound };
        let rbac = self.ask(act, &name).await;
        match access::decide_unknown(request(act, &name, &[]), &rbac) {
            Ok(()) => KeeperError::NotFound,
            Err(denied) => self.refused(act.by, act.operation, None, denied).await,
        }
    }

    pub(super) async fn ask(&self, act: Act<'_>, name: &Name) -> RbacAnswer {
        match act.by {
            // The cluster knows neither the server's own acts nor a laptop: `access` says what they may be.
            Principal::Controller | Principal::Local => RbacAnswer::Denied,
            Principal::ServiceAccount { .. } => self.ports.rights.ask(act.by, act.operation, name).await,
        }
    }

    /// The right of the running rotation's own pod: its Job must be the journal's newest, of the same attempt, account
    /// and namespace.
    async fn rotation_right(
        &self,
        by: &Principal,
        record: &SecretRecord,
    ) -> Result<Option<RotationRight>, KeeperError> {
        let (Some(account), Some(_)) = (by.account(), by.pod()) else { return Ok(None) };
        let journal = self.ports.store.rotation(&record.arn).await?;
        let Some(journal) = journal.filter(|journal| journal.state == RotationState::Running) else {
            return Ok(None);
        };
        let Some(job) = self.ports.rights.rotation_job(by).await else { return Ok(None) };
        let own = journal.jobs.iter().any(|known| {
            !known.gone
                && known.uid == job.uid
                && known.attempt == job.attempt
                && known.attempt == journal.attempt
                && known.namespace == job.namespace
                && known.namespace == account.namespace
                && known.service_account == account.name
        });
        Ok(own.then(|| RotationRight { arn: record.arn.clone(), version: journal.version }))
    }
}

fn request<'a>(act: Act<'a>, name: &'a Name, stages: &'a [Stage]) -> Request<'a> {
    let (principal, operation, version) = (act.by, act.operation, act.version);
    Request { principal, operation, name, sent_id: act.id.as_str(), version, stages }
}

fn grant(record: &GrantRecord) -> Grant<'_> {
    Grant { account: &record.account, stages: &record.stages, keys: record.keys.as_deref() }
}
