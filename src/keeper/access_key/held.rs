//! An access key with which somebody signs: who he is, and that it was used. Must not decide whether he signed, nor make
//! a request wait for a write.

use std::sync::{Arc, PoisonError};

use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use super::super::{Keeper, KeeperError, SealingError, settle};
use super::USE;
use crate::access::{Principal, Via};
use crate::seal::{KeyPlace, ScopedSecret, is_access_key_id, open_access_key};
use crate::store::{AccessKeyRecord, Change, Expected};

/// How often the use of a key is written down at most.
const USES_APART: SignedDuration = SignedDuration::from_mins(15);

/// A key that is known, opened.
pub struct HeldAccessKey {
    pub id: String,
    pub who: Principal,
    pub secret: ScopedSecret,
    pub expires_at: Timestamp,
    used_at: Option<Timestamp>,
}

impl Keeper {
    /// The key of that id, if there is one. Whether its holder signed is for the caller to see, and whether it is over.
    pub async fn access_key(&self, id: &str) -> Result<Option<HeldAccessKey>, KeeperError> {
        if !is_access_key_id(id) {
            return Ok(None);
        }
        let Some(record) = self.ports.store.access_key(id).await? else { return Ok(None) };
        let secret =
            self.open_key(&record).await.map(ScopedSecret::new).map_err(KeeperError::DecryptionFailure)?;
        let AccessKeyRecord { id, account, uid, expires_at, used_at, .. } = record;
        let who = Principal::of_account(account, uid, Via { session: Some(id.clone()), ..Via::default() });
        Ok(Some(HeldAccessKey { id, who, secret, expires_at, used_at }))
    }

    async fn open_key(&self, record: &AccessKeyRecord) -> Result<Zeroizing<String>, SealingError> {
        let place = KeyPlace { installation: &self.access_keys.installation, id: &record.id };
        let key = self.ports.root_key.unwrap(record.sealed.wrapped_key(), &place.of_key()).await?;
        Ok(open_access_key(place, &key, &record.sealed)?)
    }

    /// Notes that its holder signed a request with it. Written beside the request, and not each time.
    pub fn access_key_used(self: &Arc<Self>, key: &HeldAccessKey) {
        let now = self.now();
        let is_due = |since: Timestamp| now.duration_since(since) >= USES_APART;
        if !key.used_at.is_none_or(is_due) {
            return;
        }
        {
            let mut uses = self.access_keys.uses.lock().unwrap_or_else(PoisonError::into_inner);
            uses.retain(|_, since| !is_due(*since));
            if uses.contains_key(&key.id) {
                return;
            }
            uses.insert(key.id.clone(), now);
        }
        let (keeper, id) = (Arc::clone(self), key.id.clone());
        tokio::spawn(async move {
            if let Err(error) = settle(|| keeper.write_use(&id, now)).await {
                tracing::warn!(
                    reason = error.reason(),
                    access_key = id,
                    "the use of a key is not written down"
                );
            }
        });
    }

    /// One that was revoked meanwhile stays revoked: the write expects the record that was read.
    async fn write_use(&self, id: &str, at: Timestamp) -> Result<(), KeeperError> {
        let Some(record) = self.ports.store.access_key(id).await? else { return Ok(()) };
        let via = Via { session: Some(id.to_owned()), ..Via::default() };
        let by = Principal::of_account(record.account.clone(), record.uid.clone(), via);
        let audit = vec![self.done_to_key(&by, USE, id, &record.account)];
        let expected = Expected::Revision(record.revision);
        let used = AccessKeyRecord { used_at: Some(at), ..record };
        self.commit(vec![Change::PutAccessKey(used, expected)], audit).await
    }
}
