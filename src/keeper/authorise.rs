//! Find the secret that a caller named and ask `access` whether he may. Must not decide itself.

use super::{Keeper, KeeperError};
use crate::access::{
    self, Authorized, Denied, Grant, Operation, Principal, RbacAnswer, Request, RotationRight, Sides,
};
use crate::policy::{Context, Decision, Policy, Question};
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

/// One act on a secret that was found.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) act: Act<'a>,
    pub(super) record: &'a SecretRecord,
    /// The stages that it touches.
    pub(super) stages: &'a [Stage],
    /// What the request says, for a policy that asks.
    pub(super) said: &'a Context,
}

/// What the cluster knows of whoever asks.
#[derive(Clone, Copy)]
pub(super) struct Answers<'a> {
    pub(super) rbac: &'a RbacAnswer,
    pub(super) rotation: Option<&'a RotationRight>,
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
        self.authorised_saying(act, &Context::default(), stages).await
    }

    /// The same, for a request that says something that a policy may ask for.
    pub(super) async fn authorised_saying(
        &self,
        act: Act<'_>,
        said: &Context,
        stages: impl FnOnce(&SecretRecord) -> Vec<Stage>,
    ) -> Result<(SecretRecord, Authorized), KeeperError> {
        let Some(record) = self.find(act.id).await? else {
            return Err(self.unknown(act).await);
        };
        let stages = stages(&record);
        match self.right(Asked { act, record: &record, stages: &stages, said }).await? {
            Ok(authorized) => Ok((record, authorized)),
            Err(denied) => Err(self.refused(act.by, act.operation, Some(&record.arn), denied).await),
        }
    }

    /// The decision alone, on a record that exists or is about to.
    pub(super) async fn right(&self, asked: Asked<'_>) -> Result<Result<Authorized, Denied>, KeeperError> {
        let policy = self.policy_of(asked.record).await?;
        self.right_under(asked, policy.as_deref()).await
    }

    /// The same, as if this were the secret's policy.
    pub(super) async fn right_under(
        &self,
        asked: Asked<'_>,
        policy: Option<&Policy>,
    ) -> Result<Result<Authorized, Denied>, KeeperError> {
        let act = asked.act;
        let rbac = self.ask(act, &asked.record.name).await;
        let answers = Answers { rbac: &rbac, rotation: None };
        let decided = self.weighed(asked, answers, policy).await?;
        if decided.is_ok() || act.operation == Operation::Project {
            return Ok(decided);
        }
        // Whether the caller is a rotation's pod costs a look at the cluster, so it is asked last.
        match self.rotation_right(act.by, asked.record).await? {
            Some(right) => self.weighed(asked, Answers { rotation: Some(&right), ..answers }, policy).await,
            None => Ok(decided),
        }
    }

    /// The decision on an answer of the cluster that is there already, without the right of a rotation.
    pub(super) async fn decided(
        &self,
        asked: Asked<'_>,
        rbac: &RbacAnswer,
    ) -> Result<Result<Authorized, Denied>, KeeperError> {
        let policy = self.policy_of(asked.record).await?;
        self.weighed(asked, Answers { rbac, rotation: None }, policy.as_deref()).await
    }

    pub(super) async fn weighed(
        &self,
        asked: Asked<'_>,
        answers: Answers<'_>,
        policy: Option<&Policy>,
    ) -> Result<Result<Authorized, Denied>, KeeperError> {
        let Asked { act, record, stages, .. } = asked;
        let policy = match policy {
            None => Decision::Silent,
            Some(policy) => match self.policy_says(asked, policy).await? {
                Ok(decision) => decision,
                Err(unknown) => return Ok(Err(unknown)),
            },
        };
        let grants: Vec<Grant<'_>> = record.grants.iter().map(grant).collect();
        let Answers { rbac, rotation } = answers;
        let sides = Sides { rbac, grants: &grants, policy, rotation, names: self.settings.names };
        Ok(access::decide(self.request(act, &record.name, stages), &record.arn, sides))
    }

    async fn policy_says(
        &self,
        asked: Asked<'_>,
        policy: &Policy,
    ) -> Result<Result<Decision, Denied>, KeeperError> {
        let Some(who) = asked.act.by.asker(&self.settings.account) else { return Ok(Ok(Decision::Silent)) };
        let context = match self.context(&asked, &who, policy).await? {
            Ok(context) => context,
            Err(unknown) => return Ok(Err(unknown)),
        };
        let (action, resource) = (asked.act.operation.action(), asked.record.arn.as_str());
        Ok(Ok(policy.decide(&Question { who: &who, action, resource, context: &context }).decision))
    }

    /// What a caller is told of a name that nobody has.
    pub(super) async fn unknown(&self, act: Act<'_>) -> KeeperError {
        let Some(name) = act.id.name() else { return KeeperError::NotFound };
        let rbac = self.ask(act, &name).await;
        match access::decide_unknown(self.request(act, &name, &[]), &rbac) {
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
        Ok(own.then(|| RotationRight {
            arn: record.arn.clone(),
            version: journal.version,
            is_test: journal.is_test,
        }))
    }

    fn request<'a>(&'a self, act: Act<'a>, name: &'a Name, stages: &'a [Stage]) -> Request<'a> {
        let (principal, operation, version) = (act.by, act.operation, act.version);
        let (sent_id, account) = (act.id.as_str(), self.settings.account.as_str());
        Request { principal, operation, name, account, sent_id, version, stages }
    }
}

fn grant(record: &GrantRecord) -> Grant<'_> {
    Grant { account: &record.account, stages: &record.stages, keys: record.keys.as_deref() }
}
