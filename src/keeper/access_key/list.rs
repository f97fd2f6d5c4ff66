//! List the access keys of a namespace's ServiceAccounts. Must not open any.

use jiff::Timestamp;

use super::super::{Keeper, KeeperError};
use super::LIST;
use crate::access::{KeyOperation, Principal, ServiceAccount};

/// A key as whoever may see it sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedAccessKey {
    pub id: String,
    pub account: ServiceAccount,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    /// Behind the last use by a quarter of an hour at most.
    pub used_at: Option<Timestamp>,
}

impl Keeper {
    /// Keys that are over as well, until they are purged, revoked or make room for another one.
    pub async fn list_access_keys(
        &self,
        by: &Principal,
        namespace: &str,
    ) -> Result<Vec<ListedAccessKey>, KeeperError> {
        let all = ServiceAccount { namespace: namespace.to_owned(), name: String::new() };
        self.may_with_keys(by, KeyOperation::List, &all).await?;
        let known = self.ports.store.access_keys(Some(namespace)).await?;
        self.commit(Vec::new(), vec![self.entry(by, LIST, None, None, &format!("done ({namespace})"))])
            .await?;
        let mut listed: Vec<_> = known
            .into_iter()
            .map(|key| ListedAccessKey {
                id: key.id,
                account: key.account,
                created_at: key.created_at,
                expires_at: key.expires_at,
                used_at: key.used_at,
            })
            .collect();
        listed.sort_by(|one, other| (&one.account, one.created_at).cmp(&(&other.account, other.created_at)));
        Ok(listed)
    }
}
