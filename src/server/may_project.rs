//! Answers the webhook's question whether a pod's ServiceAccount may have a secret, in order to warn.
//! Must not open anything, and must not be taken for the decision: that falls at the mount, with the pod's own token.

use std::sync::Arc;

use async_trait::async_trait;

use crate::access::{Denied, ServiceAccount};
use crate::keeper::{Keeper, KeeperError};
use crate::webhook::{MayProject, Question, Verdict};

pub struct Asking {
    pub keeper: Arc<Keeper>,
}

#[async_trait]
impl MayProject for Asking {
    async fn may_project(&self, question: &Question<'_>) -> Verdict {
        let Some(arn) = self.keeper.secret_of_resource(question.secret_namespace, question.secret_name)
        else {
            return Verdict::No;
        };
        let account = ServiceAccount {
            namespace: question.pod_namespace.to_owned(),
            name: question.service_account.to_owned(),
        };
        match self.keeper.foresee_files(&account, &arn).await {
            Ok(permitted) => {
                let permitted = permitted.as_ref();
                let all = question.keys.iter().all(|key| permitted.is_none_or(|keys| keys.contains(*key)));
                if all { Verdict::Yes } else { Verdict::No }
            }
            Err(KeeperError::NotFound | KeeperError::Denied(Denied::No(_))) => Verdict::No,
            Err(_) => Verdict::Unknown,
        }
    }
}
