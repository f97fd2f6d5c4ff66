//! Answers the webhook's question whether a pod's ServiceAccount may have a secret, in order to warn.
//! Must not open anything, and must not be taken for the decision: that falls at the mount, with the pod's own token.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use crate::access::Denied;
use crate::access::{Grant, NamePolicy, Operation, Principal, Request, ServiceAccount, decide};
use crate::keeper::{Keeper, KeeperError, Rights};
use crate::secret::{SecretId, Stage};
use crate::webhook::{MayProject, Question, Verdict};

pub struct Asking {
    pub keeper: Arc<Keeper>,
    pub rights: Arc<dyn Rights>,
}

#[async_trait]
impl MayProject for Asking {
    async fn may_project(&self, question: &Question<'_>) -> Verdict {
        let Some(arn) = self.keeper.secret_of_resource(question.secret_namespace, question.secret_name)
        else {
            return Verdict::No;
        };
        let id = SecretId::Arn(arn.to_string());
        let secret = match self.keeper.describe(&Principal::Controller, &id).await {
            Ok(secret) if secret.deletion.is_none() => secret,
            Ok(_) | Err(KeeperError::NotFound) => return Verdict::No,
            Err(_) => return Verdict::Unknown,
        };
        let principal = principal(question);
        let rbac = self.rights.ask(&principal, Operation::Project, &secret.name).await;
        let grants: Vec<Grant<'_>> = secret
            .grants
            .iter()
            .map(|grant| Grant {
                account: &grant.account,
                stages: &grant.stages,
                keys: grant.keys.as_deref(),
            })
            .collect();
        let request = Request {
            principal: &principal,
            operation: Operation::Project,
            name: &secret.name,
            sent_id: id.as_str(),
            version: None,
            stages: &[Stage::current()],
        };
        match decide(request, &arn, &rbac, &grants, None, NamePolicy::NamespacePrefix) {
            Ok(authorized) => {
                let permitted = authorized.keys();
                let all = question.keys.iter().all(|key| permitted.is_none_or(|keys| keys.contains(*key)));
                if all { Verdict::Yes } else { Verdict::No }
            }
            Err(Denied::No(_)) => Verdict::No,
            Err(Denied::Unknown { .. }) => Verdict::Unknown,
        }
    }
}

/// As the API server will know the pod; without the UIDs, which only the token will prove.
fn principal(question: &Question<'_>) -> Principal {
    let account = ServiceAccount {
        namespace: question.pod_namespace.to_owned(),
        name: question.service_account.to_owned(),
    };
    let groups = vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{}", account.namespace),
        "system:authenticated".to_owned(),
    ];
    Principal::ServiceAccount { account, uid: String::new(), groups, extra: BTreeMap::new(), pod: None }
}
