//! Explain: what would be decided about somebody, and why. Must not open anything, nor be taken for the decision: that
//! falls with a proved identity and all that a real request says.

use std::collections::BTreeSet;

use super::authorise::{Act, Answers, Asked};
use super::measure::counted;
use super::{Keeper, KeeperError, said};
use crate::access::{Authorized, Denied, Operation, Principal, RbacAnswer, ServiceAccount, Via};
use crate::policy::{Context, Effect, Policy, Question};
use crate::secret::{Arn, Name, SecretId, Stage};
use crate::store::SecretRecord;

/// Whom and what a question is about.
#[derive(Debug, Clone)]
pub struct Explain {
    pub account: ServiceAccount,
    pub operation: Operation,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    pub arn: Arn,
    pub name: Name,
    /// `None` when it could not be found out.
    pub allowed: Option<bool>,
    /// The refusal, in the words that the caller would get; empty when it is allowed.
    pub refusal: String,
    /// Who has a say, and what each says.
    pub sides: Vec<(&'static str, String)>,
}

const EXPLAIN: &str = "explain";

impl Keeper {
    /// For whoever may read the secret's policy: it tells what that says, and who is granted what.
    pub async fn explain(
        &self,
        by: &Principal,
        id: &SecretId,
        wanted: &Explain,
    ) -> Result<Explained, KeeperError> {
        counted(Operation::ReadPolicy, self.explain_once(by, id, wanted).await)
    }

    async fn explain_once(
        &self,
        by: &Principal,
        id: &SecretId,
        wanted: &Explain,
    ) -> Result<Explained, KeeperError> {
        let act = Act { by, operation: Operation::ReadPolicy, id, version: None };
        let (record, _) = self.authorised(act, |_| Vec::new()).await?;
        let who = unproved(&wanted.account);
        let said = said_by(wanted.operation);
        let act = Act { by: &who, operation: wanted.operation, id, version: None };
        let asked = Asked { act, record: &record, stages: &[Stage::current()], said: &said };
        let rbac = self.ask(act, &record.name).await;
        let policy = self.policy_of(&record).await?;
        let mut sides = vec![("rbac", of_rbac(&rbac, wanted.operation))];
        sides.push(("grants", self.of_grants(asked).await?));
        match &policy {
            None => sides.push(("policy", "the secret has no resource policy".to_owned())),
            Some(policy) => self.of_policy(asked, policy, &mut sides).await?,
        }
        let answers = Answers { rbac: &rbac, rotation: None };
        let (allowed, refusal) = match self.weighed(asked, answers, policy.as_deref()).await? {
            Ok(_) => (Some(true), String::new()),
            Err(denied @ Denied::No(_)) => (Some(false), denied.to_string()),
            Err(unknown) => (None, unknown.to_string()),
        };
        // Answered once it is written down, as every reading is.
        let audit = self.entry(by, EXPLAIN, Some(&record.arn), None, "done");
        self.commit(Vec::new(), vec![audit]).await?;
        let SecretRecord { arn, name, .. } = record;
        Ok(Explained { arn, name, allowed, refusal, sides })
    }

    /// Whether somebody would get files of a secret, and which keys (`None`: the whole): in order to warn.
    pub async fn foresee_files(
        &self,
        account: &ServiceAccount,
        arn: &Arn,
    ) -> Result<Option<BTreeSet<String>>, KeeperError> {
        let record = self.ports.store.secret(arn).await?.ok_or(KeeperError::NotFound)?;
        if record.deletion.is_some() {
            return Err(KeeperError::NotFound);
        }
        let (who, said) = (unproved(account), said::of_projection());
        let id = SecretId::Name(record.name.clone());
        let act = Act { by: &who, operation: Operation::Project, id: &id, version: None };
        let asked = Asked { act, record: &record, stages: &[Stage::current()], said: &said };
        let rbac = self.ask(act, &record.name).await;
        let decided = self.decided(asked, &rbac).await?;
        Ok(decided?.keys().cloned())
    }

    async fn of_grants(&self, asked: Asked<'_>) -> Result<String, KeeperError> {
        let answers = Answers { rbac: &RbacAnswer::Denied, rotation: None };
        let keys = |right: &Authorized| right.keys().map(|keys| keys.iter().cloned().collect::<Vec<_>>());
        Ok(match self.weighed(asked, answers, None).await?.as_ref().map(keys) {
            Ok(None) => "an entry of spec.access grants it".to_owned(),
            Ok(Some(keys)) => format!("spec.access grants it for the keys {}", keys.join(", ")),
            Err(_) => "no entry of spec.access grants it".to_owned(),
        })
    }

    async fn of_policy(
        &self,
        asked: Asked<'_>,
        policy: &Policy,
        sides: &mut Vec<(&'static str, String)>,
    ) -> Result<(), KeeperError> {
        let Some(asker) = asked.act.by.asker(&self.settings.account) else { return Ok(()) };
        let context = match self.context(&asked, &asker, policy).await? {
            Ok(context) => context,
            Err(unknown) => {
                sides.push(("policy", unknown.to_string()));
                return Ok(());
            }
        };
        let (action, resource) = (asked.act.operation.action(), asked.record.arn.as_str());
        let question = Question { who: &asker, action, resource, context: &context };
        for (label, effect, misfit) in policy.explain(&question) {
            let does = match (effect, misfit) {
                (Effect::Allow, None) => "allows it".to_owned(),
                (Effect::Deny, None) => "denies it".to_owned(),
                (_, Some(misfit)) => format!("does not apply: {misfit}"),
            };
            sides.push(("policy", format!("statement {label} {does}")));
        }
        Ok(())
    }
}

/// As the API server will know him; without what only a token proves.
fn unproved(account: &ServiceAccount) -> Principal {
    Principal::of_account(account.clone(), String::new(), Via::default())
}

/// What the plainest request of its kind says.
fn said_by(operation: Operation) -> Context {
    if operation == Operation::Project { said::of_projection() } else { Context::default() }
}

fn of_rbac(answer: &RbacAnswer, operation: Operation) -> String {
    let resource = operation.subresource().map(|sub| format!("/{sub}")).unwrap_or_default();
    let right = format!("{} on managedsecrets{resource}", operation.verb());
    match answer {
        RbacAnswer::Allowed => format!("the cluster allows {right}"),
        RbacAnswer::Denied => format!("nothing in the cluster allows {right}"),
        RbacAnswer::Forbidden => format!("an authorizer of the cluster denies {right}"),
        RbacAnswer::Unknown(why) => format!("whether the cluster allows {right} is not known: {why}"),
    }
}
