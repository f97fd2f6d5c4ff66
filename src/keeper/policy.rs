//! Resource policies: none can be put until policies are evaluated, so there is none to be read or deleted. Must not take
//! one that would be ignored.

use super::authorise::Act;
use super::measure::counted;
use super::{Keeper, KeeperError};
use crate::access::{Operation, Principal};
use crate::secret::{Arn, Name, SecretId};

/// The secret whose policy was asked for; it has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoPolicy {
    pub arn: Arn,
    pub name: Name,
}

/// What can be done about the policy of a secret that has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyAct {
    Read,
    List,
    Delete,
}

impl Keeper {
    /// Succeeds for whoever may, as AWS does where there is no policy.
    pub async fn policy(
        &self,
        by: &Principal,
        id: &SecretId,
        act: PolicyAct,
    ) -> Result<NoPolicy, KeeperError> {
        let operation = match act {
            PolicyAct::Read => Operation::ReadPolicy,
            PolicyAct::List => Operation::ListPolicies,
            PolicyAct::Delete => Operation::DeletePolicy,
        };
        counted(operation, self.policy_once(by, id, operation).await)
    }

    async fn policy_once(
        &self,
        by: &Principal,
        id: &SecretId,
        operation: Operation,
    ) -> Result<NoPolicy, KeeperError> {
        let act = Act { by, operation, id, version: None };
        let (record, _) = self.authorised(act, |_| Vec::new()).await?;
        if record.deletion.is_some() {
            return Err(KeeperError::MarkedForDeletion);
        }
        Ok(NoPolicy { arn: record.arn, name: record.name })
    }
}
