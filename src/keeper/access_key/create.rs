//! Create an access key. Must not give one out before its row and the audit's are on disk.

use jiff::{SignedDuration, Timestamp};

use super::super::{Keeper, KeeperError};
use super::CREATE;
use crate::access::{ACCESS_KEYS_MAX, Denied, KeyOperation, Principal, ServiceAccount};
use crate::seal::{AccessKey, DataKey, KeyPlace, Sealed, SystemRandom, new_access_key, seal_access_key};
use crate::store::{AccessKeyRecord, Change, Expected};

/// For whom a key is to be, and for how long.
#[derive(Debug, Clone)]
pub struct CreateAccessKey {
    pub account: ServiceAccount,
    /// 90 days when nothing is said.
    pub lasts: Option<SignedDuration>,
}

/// A new key, whose secret is told this once.
pub struct CreatedAccessKey {
    pub key: AccessKey,
    pub account: ServiceAccount,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

const LASTS: SignedDuration = SignedDuration::from_hours(90 * 24);
const LASTS_MIN: SignedDuration = SignedDuration::from_mins(15);
const LASTS_MAX: SignedDuration = SignedDuration::from_hours(365 * 24);

impl Keeper {
    /// Whoever may this acts as that ServiceAccount from anywhere.
    pub async fn create_access_key(
        &self,
        by: &Principal,
        wanted: &CreateAccessKey,
    ) -> Result<CreatedAccessKey, KeeperError> {
        let account = &wanted.account;
        self.may_with_keys(by, KeyOperation::Create, account).await?;
        let lasts = wanted.lasts.unwrap_or(LASTS);
        if !(LASTS_MIN..=LASTS_MAX).contains(&lasts) {
            return Err(KeeperError::InvalidParameter(
                "An access key expires after 15 minutes at the earliest and 365 days at the latest.".into(),
            ));
        }
        let uid = self.ports.rights.account_uid(account).await.map_err(|why| {
            let (who, name) = (by.to_string(), account.to_string());
            Denied::Unknown { who, verb: KeyOperation::Create.verb(), name, why }
        })?;
        let uid = uid.ok_or_else(|| {
            KeeperError::InvalidParameter(format!("There is no ServiceAccount {account} in the cluster."))
        })?;
        let _one_at_a_time = self.access_keys.making.lock().await;
        let now = self.now();
        let mut changes = self.room_for_one_more(account, &uid, now).await?;
        let key = new_access_key(&mut SystemRandom);
        let expires_at = now.saturating_add(lasts).unwrap_or(now);
        let record = AccessKeyRecord {
            id: key.id.clone(),
            account: account.clone(),
            uid,
            created_at: now,
            expires_at,
            used_at: None,
            sealed: self.seal_key(&key).await?,
            revision: 0,
        };
        changes.push(Change::PutAccessKey(record, Expected::Absent));
        self.commit(changes, vec![self.done_to_key(by, CREATE, &key.id, account)]).await?;
        Ok(CreatedAccessKey { key, account: account.clone(), created_at: now, expires_at })
    }

    /// Keys that are over, or whose ServiceAccount was another one of that name, make room.
    async fn room_for_one_more(
        &self,
        account: &ServiceAccount,
        uid: &str,
        now: Timestamp,
    ) -> Result<Vec<Change>, KeeperError> {
        let known = self.ports.store.access_keys(Some(&account.namespace)).await?;
        let own = known.into_iter().filter(|key| key.account == *account);
        let (live, over): (Vec<_>, Vec<_>) = own.partition(|key| key.uid == uid && now < key.expires_at);
        if live.len() >= ACCESS_KEYS_MAX {
            let ids: Vec<&str> = live.iter().map(|key| key.id.as_str()).collect();
            return Err(KeeperError::LimitExceeded(format!(
                "Cannot exceed quota for AccessKeysPerServiceAccount: {ACCESS_KEYS_MAX}. {account} has {}: revoke \
                 one of them first.",
                ids.join(" and ")
            )));
        }
        Ok(over.into_iter().map(|key| Change::RemoveAccessKey(key.id)).collect())
    }

    async fn seal_key(&self, made: &AccessKey) -> Result<Sealed, KeeperError> {
        let place = KeyPlace { installation: &self.access_keys.installation, id: &made.id };
        let key = DataKey::generate(&mut SystemRandom);
        let wrapped = self.ports.root_key.wrap(&key, &place.of_key()).await;
        let wrapped = wrapped.map_err(|error| KeeperError::EncryptionFailure(error.into()))?;
        seal_access_key(place, key, wrapped, &made.secret, &mut SystemRandom)
            .map_err(|error| KeeperError::EncryptionFailure(error.into()))
    }
}
