//! Delete: schedule, restore, purge. A scheduled deletion must not take files from running pods.

use jiff::Timestamp;

use super::authorise::Act;
use super::commit::After;
use super::configure::check_window;
use super::measure::{self, counted};
use super::{Keeper, KeeperError, PAGE, Settings, What, not_of_resource, settle};
use crate::access::{Operation, Principal};
use crate::failpoint;
use crate::policy::Context;
use crate::seal::SystemRandom;
use crate::secret::{Arn, ArnParts, Name, Origin, SecretId};
use crate::store::{Change, Deletion, Expected, SecretRecord, StoreError};

/// When a deleted secret goes for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletionMode {
    /// After the recovery window that the secret itself names.
    OwnWindow,
    /// After so many days, 7 to 30.
    Days(u8),
    /// Now, with its files in running pods.
    Force,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduled {
    pub arn: Arn,
    pub name: Name,
    pub due_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    pub arn: Arn,
    pub name: Name,
}

/// For whom a secret is brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restoration<'a> {
    /// A caller of the API.
    Caller,
    /// A custom resource of the same namespace and name, applied again.
    Resource {
        uid: &'a str,
        namespace_uid: &'a str,
        /// Somebody with the verb `restore` has agreed that this namespace gets the values of an earlier one.
        approved: bool,
    },
}

/// What the audit calls the end of a recovery window.
const PURGE: &str = "purge";

impl Keeper {
    /// Schedules the end of a secret, or ends it at once. A deletion that is scheduled already stays as it is.
    pub async fn schedule_deletion(
        &self,
        by: &Principal,
        id: &SecretId,
        mode: DeletionMode,
    ) -> Result<Scheduled, KeeperError> {
        counted(Operation::Delete, settle(|| self.schedule_deletion_once(by, id, mode)).await)
    }

    async fn schedule_deletion_once(
        &self,
        by: &Principal,
        id: &SecretId,
        mode: DeletionMode,
    ) -> Result<Scheduled, KeeperError> {
        let act = Act { by, operation: Operation::Delete, id, version: None };
        let mut said = Context::default();
        match mode {
            DeletionMode::OwnWindow => {}
            DeletionMode::Days(days) => said.put("secretsmanager:RecoveryWindowInDays", days.to_string()),
            DeletionMode::Force => said.put("secretsmanager:ForceDeleteWithoutRecovery", "true"),
        }
        let (mut record, _) = match self.authorised_saying(act, &said, |_| Vec::new()).await {
            // As with AWS: what is to be gone is gone.
            Err(KeeperError::NotFound) if mode == DeletionMode::Force => return self.gone_already(id),
            found => found?,
        };
        if *by != Principal::Controller {
            not_of_resource(&record, "delete that resource instead, and its secret goes with it")?;
        }
        let (arn, name, now) = (record.arn.clone(), record.name.clone(), self.now());
        let audit = self.done(by, Operation::Delete, &arn, None);
        let days = match mode {
            DeletionMode::OwnWindow => record.recovery_window_days,
            DeletionMode::Days(days) => days,
            DeletionMode::Force => {
                let expected = Expected::Revision(record.revision);
                let after = vec![After::Ended(record), After::Tell(What::Removed)];
                self.commit_then(&arn, vec![Change::RemoveSecret(arn.clone(), expected)], audit, after)
                    .await?;
                return Ok(Scheduled { arn, name, due_at: now });
            }
        };
        let due_at = check_window(days)?.ends(now);
        if let Some(scheduled) = &record.deletion {
            if *by != Principal::Controller {
                return Err(KeeperError::MarkedForDeletion);
            }
            return Ok(Scheduled { arn, name, due_at: scheduled.due_at });
        }
        record.deletion = Some(Deletion { requested_at: now, due_at });
        let expected = Expected::Revision(record.revision);
        let after = vec![After::Tell(What::Deleted)];
        failpoint::reach("delete.before-commit");
        self.commit_then(&arn, vec![Change::PutSecret(record, expected)], audit, after).await?;
        failpoint::reach("delete.committed");
        Ok(Scheduled { arn, name, due_at })
    }

    /// What AWS answers where there is nothing to delete: as if there had been.
    fn gone_already(&self, id: &SecretId) -> Result<Scheduled, KeeperError> {
        let name = id.name().ok_or(KeeperError::NotFound)?;
        let Settings { region, account, .. } = &self.settings;
        let arn = Arn::parse(id.as_str())
            .unwrap_or_else(|| Arn::make(ArnParts { region, account, name: &name }, &mut SystemRandom));
        Ok(Scheduled { arn, name, due_at: self.now() })
    }

    /// Brings a secret back, with its ARN and all versions. For a custom resource this also makes the secret that
    /// resource's own, which it was under an earlier UID.
    pub async fn restore(
        &self,
        by: &Principal,
        id: &SecretId,
        restoration: Restoration<'_>,
    ) -> Result<Restored, KeeperError> {
        counted(Operation::Restore, settle(|| self.restore_once(by, id, restoration)).await)
    }

    async fn restore_once(
        &self,
        by: &Principal,
        id: &SecretId,
        restoration: Restoration<'_>,
    ) -> Result<Restored, KeeperError> {
        let act = Act { by, operation: Operation::Restore, id, version: None };
        let (mut record, _) = self.authorised(act, |_| Vec::new()).await?;
        let before = record.clone();
        match restoration {
            Restoration::Resource { uid, namespace_uid, approved } => {
                adopt(&mut record, uid, namespace_uid, approved)?;
            }
            Restoration::Caller => {
                not_of_resource(&record, "apply that resource again, and its secret comes back")?;
            }
        }
        record.deletion = None;
        let (arn, name, now) = (record.arn.clone(), record.name.clone(), self.now());
        let restored = Restored { arn: arn.clone(), name };
        if record == before {
            return Ok(restored);
        }
        record.changed_at = now;
        let expected = Expected::Revision(record.revision);
        let audit = self.done(by, Operation::Restore, &arn, None);
        let after = vec![After::Tell(What::Restored)];
        failpoint::reach("restore.before-commit");
        self.commit_then(&arn, vec![Change::PutSecret(record, expected)], audit, after).await?;
        failpoint::reach("restore.committed");
        Ok(restored)
    }

    /// Ends the secrets whose recovery window is over. What somebody changes just now waits for the next time.
    pub async fn purge_due(&self) -> Result<Vec<Arn>, KeeperError> {
        let (now, mut purged, mut after) = (self.now(), Vec::new(), None::<Name>);
        loop {
            let page = self.ports.store.secrets(after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(purged) };
            after = Some(last.name.clone());
            let due = |record: &&SecretRecord| record.deletion.as_ref().is_some_and(|d| d.due_at <= now);
            for record in page.iter().filter(due) {
                match self.purge(record).await {
                    Err(KeeperError::Store(StoreError::Conflict)) => {}
                    ended => {
                        ended?;
                        purged.push(record.arn.clone());
                    }
                }
            }
        }
    }

    async fn purge(&self, record: &SecretRecord) -> Result<(), KeeperError> {
        let audit = self.entry(&Principal::Controller, PURGE, Some(&record.arn), None, "done");
        let removal = Change::RemoveSecret(record.arn.clone(), Expected::Revision(record.revision));
        let after = vec![After::Ended(record.clone()), After::Tell(What::Removed)];
        self.commit_then(&record.arn, vec![removal], audit, after).await?;
        measure::purged();
        Ok(())
    }
}

/// Binds the secret to a resource applied again. The next tenant of a namespace's name gets nothing unapproved.
fn adopt(
    record: &mut SecretRecord,
    uid: &str,
    namespace_uid: &str,
    approved: bool,
) -> Result<(), KeeperError> {
    let Origin::CustomResource { uid: known_uid, namespace_uid: known_namespace, .. } = &mut record.origin
    else {
        return Err(KeeperError::Exists(record.name.clone()));
    };
    if failpoint::guard("restore-approval") && known_namespace != namespace_uid && !approved {
        return Err(KeeperError::RestoreNeedsApproval(record.name.clone()));
    }
    uid.clone_into(known_uid);
    namespace_uid.clone_into(known_namespace);
    Ok(())
}
