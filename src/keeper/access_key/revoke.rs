//! Revoke an access key: it is good for nothing from the moment of the answer on. Must not tell anybody of a key whom
//! nothing allows to revoke it.

use super::super::{Keeper, KeeperError};
use super::REVOKE;
use crate::access::{Denied, KeyOperation, Principal, ServiceAccount};
use crate::store::Change;

impl Keeper {
    /// Tells whose key it was.
    pub async fn revoke_access_key(&self, by: &Principal, id: &str) -> Result<ServiceAccount, KeeperError> {
        let unknown = || {
            KeeperError::InvalidParameter(format!(
                "There is no access key {id}, or nothing allows you to revoke it."
            ))
        };
        let record = self.ports.store.access_key(id).await?.ok_or_else(unknown)?;
        match self.may_with_keys(by, KeyOperation::Revoke, &record.account).await {
            Err(KeeperError::Denied(Denied::No(_))) => return Err(unknown()),
            allowed => allowed?,
        }
        let audit = vec![self.done_to_key(by, REVOKE, id, &record.account)];
        self.commit(vec![Change::RemoveAccessKey(id.to_owned())], audit).await?;
        Ok(record.account)
    }
}
