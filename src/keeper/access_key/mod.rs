//! Access keys for callers outside of the cluster: lasting ones, each of which acts as one ServiceAccount. One file per
//! verb. Must not show a secret twice, nor keep one open.

mod create;
mod held;
mod list;
mod purge;
mod revoke;

use std::collections::BTreeMap;
use std::sync::Mutex;

use jiff::Timestamp;

pub use create::{CreateAccessKey, CreatedAccessKey};
pub use held::HeldAccessKey;
pub use list::ListedAccessKey;
pub(super) use purge::KeyCounts;

use super::{Keeper, KeeperError};
use crate::access::{KeyOperation, Principal, ServiceAccount, decide_keys};
use crate::store::{AuditEntry, Store, StoreError};

/// The audit's words.
const CREATE: &str = "createkey";
const LIST: &str = "listkeys";
const REVOKE: &str = "revokekey";
const PURGE: &str = "purgekey";
const USE: &str = "usekey";

/// What is kept for all keys together.
pub(super) struct AccessKeys {
    /// Each secret is bound to it.
    installation: String,
    /// Held while one is made: so a ServiceAccount never gets one too many.
    making: tokio::sync::Mutex<()>,
    /// When a use of each was last written down, or began to be.
    uses: Mutex<BTreeMap<String, Timestamp>>,
}

impl AccessKeys {
    pub(super) async fn of(store: &dyn Store) -> Result<Self, StoreError> {
        let installation = store.installation().await?.map(|found| found.id).unwrap_or_default();
        Ok(Self { installation, making: tokio::sync::Mutex::default(), uses: Mutex::default() })
    }
}

impl Keeper {
    /// Whether somebody may do that to the keys of a ServiceAccount, or with an empty name to those of a namespace.
    async fn may_with_keys(
        &self,
        by: &Principal,
        operation: KeyOperation,
        account: &ServiceAccount,
    ) -> Result<(), KeeperError> {
        let rbac = self.ports.rights.ask_keys(by, operation, account).await;
        let on = if account.name.is_empty() { account.namespace.clone() } else { account.to_string() };
        let Err(denied) = decide_keys(by, operation, (&on, &self.settings.account), &rbac) else {
            return Ok(());
        };
        let denied = KeeperError::from(denied);
        let verb = match operation {
            KeyOperation::Create => CREATE,
            KeyOperation::List => LIST,
            KeyOperation::Revoke => REVOKE,
        };
        self.write_down_refusal(self.entry(by, verb, None, None, denied.reason())).await;
        Err(denied)
    }

    /// A key has no ARN: what was done names it.
    fn done_to_key(&self, by: &Principal, verb: &str, id: &str, account: &ServiceAccount) -> AuditEntry {
        self.entry(by, verb, None, None, &format!("done ({id} of {account})"))
    }
}
