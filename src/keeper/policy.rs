//! Resource policies: put, read, delete, list, validate. Must not take one that would lock out whoever brings it, nor one
//! of which a part would be ignored.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::authorise::{Act, Asked};
use super::commit::After;
use super::measure::counted;
use super::{ATTEMPTS, Keeper, KeeperError, What, settle};
use crate::access::{Denied, Operation, Principal};
use crate::policy::{Context, Policy};
use crate::secret::{Arn, Name, SecretId};
use crate::store::{Change, Expected, PolicyRecord, SecretRecord, StoreError};

/// The policy of a secret, or that it has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyOf {
    pub arn: Arn,
    pub name: Name,
    pub text: Option<String>,
}

/// How a policy is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyLook {
    Read,
    List,
}

/// What speaks against a policy that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// By this statement everybody may do something.
    Public(String),
    /// Whoever asks could not change it any more.
    LockOut,
}

/// Policies as they were read last, by the number in the secret's record. Above so many all are read again.
pub(super) type Policies = Mutex<HashMap<Arn, (u64, Arc<Policy>)>>;
const POLICIES_MAX: usize = 4096;

impl Keeper {
    /// Succeeds also where there is no policy, as AWS does.
    pub async fn policy(
        &self,
        by: &Principal,
        id: &SecretId,
        look: PolicyLook,
    ) -> Result<PolicyOf, KeeperError> {
        let operation = match look {
            PolicyLook::Read => Operation::ReadPolicy,
            PolicyLook::List => Operation::ListPolicies,
        };
        counted(operation, self.policy_once(by, id, operation).await)
    }

    async fn policy_once(
        &self,
        by: &Principal,
        id: &SecretId,
        operation: Operation,
    ) -> Result<PolicyOf, KeeperError> {
        let act = Act { by, operation, id, version: None };
        let (record, _) = self.authorised(act, |_| Vec::new()).await?;
        if record.deletion.is_some() {
            return Err(KeeperError::MarkedForDeletion);
        }
        let text = match record.policy {
            Some(_) => self.ports.store.policy(&record.arn).await?.map(|policy| policy.text),
            None => None,
        };
        Ok(PolicyOf { arn: record.arn, name: record.name, text })
    }

    /// Puts a policy in the place of whichever there is. The same again writes nothing.
    pub async fn put_policy(
        &self,
        by: &Principal,
        id: &SecretId,
        text: &str,
        block_public: Option<bool>,
    ) -> Result<PolicyOf, KeeperError> {
        let put = settle(|| self.put_policy_once(by, id, text, block_public)).await;
        counted(Operation::WritePolicy, put)
    }

    async fn put_policy_once(
        &self,
        by: &Principal,
        id: &SecretId,
        text: &str,
        block_public: Option<bool>,
    ) -> Result<PolicyOf, KeeperError> {
        let mut said = Context::default();
        block_public.iter().for_each(|block| said.put("secretsmanager:BlockPublicPolicy", block.to_string()));
        let act = Act { by, operation: Operation::WritePolicy, id, version: None };
        let (mut record, _) = self.authorised_saying(act, &said, |_| Vec::new()).await?;
        if record.deletion.is_some() {
            return Err(KeeperError::MarkedForDeletion);
        }
        let policy = self.read_policy(text)?;
        let objections = self.objections(act, &record, &said, &policy).await?;
        if let (Some(true), Some(Objection::Public(_))) = (block_public, objections.first()) {
            return Err(KeeperError::PublicPolicy);
        }
        if objections.contains(&Objection::LockOut) {
            return Err(KeeperError::MalformedPolicy(LOCKED_OUT.to_owned()));
        }
        let (arn, name) = (record.arn.clone(), record.name.clone());
        let before = self.ports.store.policy(&arn).await?.map(|before| before.text);
        if before.as_deref() != Some(text) {
            let number = record.revision + 1;
            let put = PolicyRecord { arn: arn.clone(), number, text: text.to_owned(), put_at: self.now() };
            record.policy = Some(number);
            self.write_policy(by, act.operation, record, Change::PutPolicy(put)).await?;
        }
        Ok(PolicyOf { arn, name, text: Some(text.to_owned()) })
    }

    /// Succeeds also where there is none.
    pub async fn delete_policy(&self, by: &Principal, id: &SecretId) -> Result<PolicyOf, KeeperError> {
        counted(Operation::DeletePolicy, settle(|| self.delete_policy_once(by, id)).await)
    }

    async fn delete_policy_once(&self, by: &Principal, id: &SecretId) -> Result<PolicyOf, KeeperError> {
        let act = Act { by, operation: Operation::DeletePolicy, id, version: None };
        let (mut record, _) = self.authorised(act, |_| Vec::new()).await?;
        if record.deletion.is_some() {
            return Err(KeeperError::MarkedForDeletion);
        }
        let (arn, name) = (record.arn.clone(), record.name.clone());
        if record.policy.take().is_some() {
            self.write_policy(by, act.operation, record, Change::RemovePolicy(arn.clone())).await?;
        }
        Ok(PolicyOf { arn, name, text: None })
    }

    /// What speaks against a policy: for everybody, or, with a secret, for whoever may write its policy.
    pub async fn validate_policy(
        &self,
        by: &Principal,
        id: Option<&SecretId>,
        text: &str,
    ) -> Result<Vec<Objection>, KeeperError> {
        let validated = self.validate_policy_once(by, id, text).await;
        counted(Operation::ValidatePolicy, validated)
    }

    async fn validate_policy_once(
        &self,
        by: &Principal,
        id: Option<&SecretId>,
        text: &str,
    ) -> Result<Vec<Objection>, KeeperError> {
        let Some(id) = id else { return Ok(public(&self.read_policy(text)?)) };
        let act = Act { by, operation: Operation::ValidatePolicy, id, version: None };
        let (record, _) = self.authorised(act, |_| Vec::new()).await?;
        if record.deletion.is_some() {
            return Err(KeeperError::MarkedForDeletion);
        }
        let put = Act { operation: Operation::WritePolicy, ..act };
        let none = Context::default();
        // As with AWS: who validates a policy for a secret could put it there.
        let asked = Asked { act: put, record: &record, stages: &[], said: &none };
        if let Err(denied) = self.right(asked).await? {
            return Err(self.refused(by, put.operation, Some(&record.arn), denied).await);
        }
        self.objections(put, &record, &none, &self.read_policy(text)?).await
    }

    /// Written with the secret's record: who reads that knows whether there is a policy, and which.
    async fn write_policy(
        &self,
        by: &Principal,
        operation: Operation,
        mut record: SecretRecord,
        change: Change,
    ) -> Result<(), KeeperError> {
        record.changed_at = self.now();
        let (arn, expected) = (record.arn.clone(), Expected::Revision(record.revision));
        let audit = self.done(by, operation, &arn, None);
        let changes = vec![Change::PutSecret(record, expected), change];
        self.commit_then(&arn, changes, audit, vec![After::Tell(What::Configuration)]).await
    }

    fn read_policy(&self, text: &str) -> Result<Policy, KeeperError> {
        Policy::parse(text, &self.settings.account)
            .map_err(|malformed| KeeperError::MalformedPolicy(malformed.to_string()))
    }

    async fn objections(
        &self,
        act: Act<'_>,
        record: &SecretRecord,
        said: &Context,
        policy: &Policy,
    ) -> Result<Vec<Objection>, KeeperError> {
        let mut objections = public(policy);
        let asked = Asked { act, record, stages: &[], said };
        match self.right_under(asked, Some(policy)).await? {
            Ok(_) => {}
            Err(Denied::No(_)) => objections.push(Objection::LockOut),
            Err(unknown) => return Err(unknown.into()),
        }
        Ok(objections)
    }

    /// The policy that a record names. The store is asked once for each.
    pub(super) async fn policy_of(&self, record: &SecretRecord) -> Result<Option<Arc<Policy>>, KeeperError> {
        let mut number = record.policy;
        for _ in 0..ATTEMPTS {
            let Some(named) = number else { return Ok(None) };
            let known = self.policies().get(&record.arn).filter(|(known, _)| *known == named).cloned();
            if let Some((_, policy)) = known {
                return Ok(Some(policy));
            }
            if let Some(stored) = self.ports.store.policy(&record.arn).await? {
                // Its text was read before it was written; a program that cannot read it any more lets nobody pass.
                let unreadable =
                    |why| StoreError::Corrupt(format!("a policy of the store cannot be read: {why}"));
                let policy = Policy::parse(&stored.text, &self.settings.account).map_err(unreadable)?;
                let policy = Arc::new(policy);
                let mut policies = self.policies();
                if policies.len() >= POLICIES_MAX {
                    policies.clear();
                }
                policies.insert(record.arn.clone(), (stored.number, Arc::clone(&policy)));
                return Ok(Some(policy));
            }
            // Deleted since the record was read, or with its secret.
            number = self.ports.store.secret(&record.arn).await?.and_then(|newer| newer.policy);
        }
        Err(StoreError::Conflict.into())
    }

    fn policies(&self) -> std::sync::MutexGuard<'_, HashMap<Arn, (u64, Arc<Policy>)>> {
        self.policies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const LOCKED_OUT: &str =
    "The new resource policy will not allow you to update the resource policy in the future.";

fn public(policy: &Policy) -> Vec<Objection> {
    policy.public_statement().map(|label| Objection::Public(label.to_owned())).into_iter().collect()
}
