//! Update: another description, a new current value, or both in one transaction. Must not change what Git owns.

use super::authorise::Act;
use super::commit::After;
use super::measure::counted;
use super::sealing::check_size;
use super::{Keeper, KeeperError, What, not_of_resource, said, settle};
use crate::access::{Operation, Principal};
use crate::secret::{Arn, Name, SecretId, SecretValue, Stage, VersionId};
use crate::store::{Change, Expected, SecretRecord};

pub struct Update {
    pub description: Option<String>,
    /// The id of the new version; asked for also without a value, as AWS does.
    pub token: VersionId,
    pub value: Option<SecretValue>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated {
    pub arn: Arn,
    pub name: Name,
    /// `None` when no value was given.
    pub version: Option<VersionId>,
}

impl Keeper {
    /// The description needs the verb `update`, a value the verb `put`. A token that was used for the same value before
    /// makes no further version.
    pub async fn update(
        &self,
        by: &Principal,
        id: &SecretId,
        wanted: &Update,
    ) -> Result<Updated, KeeperError> {
        if let Some(value) = &wanted.value {
            check_size(value)?;
        }
        counted(Operation::Update, settle(|| self.update_once(by, id, wanted)).await)
    }

    async fn update_once(
        &self,
        by: &Principal,
        id: &SecretId,
        wanted: &Update,
    ) -> Result<Updated, KeeperError> {
        let Some(value) = &wanted.value else {
            let (record, before) = self.described(by, id, wanted).await?;
            return self.write_description(by, record, &before).await;
        };
        let said = said::of_description(wanted.description.as_deref());
        if wanted.description.is_some() {
            let act = Act { by, operation: Operation::Update, id, version: None };
            self.authorised_saying(act, &said, |_| Vec::new()).await?;
        }
        let token = &wanted.token;
        let act = Act { by, operation: Operation::UpdateValue, id, version: Some(token) };
        let (record, authorized) = self.authorised_saying(act, &said, |_| vec![Stage::current()]).await?;
        let before = record.clone();
        let record = with_description(record, wanted)?;
        let found = self.ports.store.before_put(&record.arn, token).await?;
        match &found.version {
            Some(version) if version.sealed.is_some() => {
                let put = self.put_again(&authorized, &record, version, value).await?;
                let updated = self.write_description(by, record, &before).await?;
                Ok(Updated { version: Some(put.version), ..updated })
            }
            _ => {
                let put = self.put_value(&authorized, record, token, value, None, found).await?;
                Ok(Updated { arn: put.arn, name: put.name, version: Some(put.version) })
            }
        }
    }

    /// The record as wanted, and as it was.
    async fn described(
        &self,
        by: &Principal,
        id: &SecretId,
        wanted: &Update,
    ) -> Result<(SecretRecord, SecretRecord), KeeperError> {
        let act = Act { by, operation: Operation::Update, id, version: None };
        let said = said::of_description(wanted.description.as_deref());
        let (record, _) = self.authorised_saying(act, &said, |_| Vec::new()).await?;
        let before = record.clone();
        Ok((with_description(record, wanted)?, before))
    }

    async fn write_description(
        &self,
        by: &Principal,
        mut record: SecretRecord,
        before: &SecretRecord,
    ) -> Result<Updated, KeeperError> {
        let (arn, name) = (record.arn.clone(), record.name.clone());
        if record != *before {
            record.changed_at = self.now();
            let expected = Expected::Revision(record.revision);
            let audit = self.done(by, Operation::Update, &arn, None);
            let after = vec![After::Tell(What::Configuration)];
            self.commit_then(&arn, vec![Change::PutSecret(record, expected)], audit, after).await?;
        }
        Ok(Updated { arn, name, version: None })
    }
}

fn with_description(mut record: SecretRecord, wanted: &Update) -> Result<SecretRecord, KeeperError> {
    if record.deletion.is_some() {
        return Err(KeeperError::MarkedForDeletion);
    }
    if let Some(description) = &wanted.description
        && record.description.as_ref() != Some(description)
    {
        not_of_resource(&record, "change its description there, in spec.description")?;
        record.description = Some(description.clone());
    }
    Ok(record)
}
