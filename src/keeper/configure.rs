//! Configure: what a custom resource may change about a secret that exists. Must not touch values.

use super::authorise::Act;
use super::commit::After;
use super::measure::counted;
use super::{Keeper, KeeperError, What, settle};
use crate::access::{Operation, Principal};
use crate::secret::{RecoveryWindow, SecretId};
use crate::store::{Change, Expected, GrantRecord};

/// The wanted state, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configure {
    pub description: Option<String>,
    pub grants: Vec<GrantRecord>,
    pub recovery_window_days: u8,
}

impl Keeper {
    /// Makes description, grants and recovery window what is wanted. Writes nothing when they are.
    pub async fn configure(
        &self,
        by: &Principal,
        id: &SecretId,
        wanted: &Configure,
    ) -> Result<(), KeeperError> {
        counted(Operation::Update, settle(|| self.configure_once(by, id, wanted)).await)
    }

    async fn configure_once(
        &self,
        by: &Principal,
        id: &SecretId,
        wanted: &Configure,
    ) -> Result<(), KeeperError> {
        let act = Act { by, operation: Operation::Update, id, version: None };
        let (mut record, _) = self.authorised(act, |_| Vec::new()).await?;
        if record.deletion.is_some() {
            return Err(KeeperError::MarkedForDeletion);
        }
        let window = check_window(wanted.recovery_window_days)?;
        let before = record.clone();
        record.description.clone_from(&wanted.description);
        record.grants.clone_from(&wanted.grants);
        record.recovery_window_days = window.days();
        if record == before {
            return Ok(());
        }
        record.changed_at = self.now();
        let (arn, expected) = (record.arn.clone(), Expected::Revision(record.revision));
        let audit = self.done(by, Operation::Update, &arn, None);
        let after = vec![After::Tell(What::Configuration)];
        self.commit_then(&arn, vec![Change::PutSecret(record, expected)], audit, after).await
    }
}

pub(super) fn check_window(days: u8) -> Result<RecoveryWindow, KeeperError> {
    RecoveryWindow::from_days(i64::from(days)).map_err(|e| KeeperError::InvalidParameter(e.to_string()))
}
