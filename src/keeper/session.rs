//! Sessions: keys with which a program signs its requests, issued to somebody whose identity was proved, and what they
//! tell when they come back. Nothing of them is stored but the audit's row of the issue.
//! Must not decide who gets one, nor what may be done with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use quick_cache::unsync::Cache;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Keeper, KeeperError, SealingError};
use crate::access::{Denied, Outsider, PodIdentity, Principal, ServiceAccount, Via};
use crate::seal::{AccessKey, LIFE_SECONDS_MAX, ScopedSecret, SealError, SystemRandom};
use crate::store::AuditEntry;

/// How far the clock of another replica, or ours before it was set, may have been ahead.
const AHEAD_MAX: SignedDuration = SignedDuration::from_mins(5);
/// The audit's word for it.
const ASSUME: &str = "assume";

/// What somebody gets who asked for a session.
pub struct IssuedSession {
    pub key: AccessKey,
    pub token: String,
    pub expires_at: Timestamp,
}

/// What a key and its token tell.
pub struct Session {
    pub who: Principal,
    /// As the caller named it.
    pub name: String,
    pub secret: ScopedSecret,
    pub expires_at: Timestamp,
}

/// Sessions as they were opened last, by key id and token: to open one costs as much as to verify a signature. Whoever
/// brings a session is asked for his signature, his time and his presence all the same.
pub(super) struct OpenedSessions(Mutex<Cache<(String, String), Arc<Session>>>);

/// Beyond that those that are used least are opened anew.
pub(super) const OPENED_MAX: usize = 4096;

impl Default for OpenedSessions {
    fn default() -> Self {
        Self(Mutex::new(Cache::new(OPENED_MAX)))
    }
}

/// The form in which a token tells it. A change needs a new format of tokens.
#[derive(Serialize, Deserialize)]
struct Told {
    namespace: String,
    account: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
    pod: Option<ToldPod>,
    session: String,
    /// Seconds since 1970.
    expires: i64,
}

#[derive(Serialize, Deserialize)]
struct ToldPod {
    name: String,
    uid: String,
    node: Option<String>,
}

impl Keeper {
    /// Issues keys to a ServiceAccount, for at most an hour. They are given out after the audit's row is on disk, which
    /// bears what the requests will that are signed with them.
    pub async fn issue_session(
        &self,
        to: &Principal,
        outsider: Option<&Outsider>,
        name: &str,
        lasts: SignedDuration,
    ) -> Result<IssuedSession, KeeperError> {
        let issued = self.now();
        let lasts = lasts.min(SignedDuration::from_secs(LIFE_SECONDS_MAX));
        // A token tells whole seconds.
        let expires = issued.as_second().saturating_add(lasts.as_secs());
        let told = told(to, name, expires)
            .ok_or_else(|| KeeperError::InvalidRequest("Only a ServiceAccount gets a session.".into()))?;
        let expires_at = Timestamp::from_second(expires).unwrap_or(issued);
        let (key, token) = self
            .sessions
            .issue(&told, issued.as_second(), &mut SystemRandom)
            .map_err(|error| KeeperError::EncryptionFailure(SealingError::Seal(error)))?;
        let via = Via { session: Some(name.to_owned()), key: Some(key.id.clone()), address: None };
        let mut row = self.entry(&to.clone().by_way_of(via), ASSUME, None, None, "done");
        if let (Some(outsider), Some(account)) = (outsider, to.account()) {
            (row.who, row.outcome) = (outsider.to_string(), format!("done ({account})"));
        }
        self.commit(Vec::new(), vec![row]).await?;
        Ok(IssuedSession { key, token, expires_at })
    }

    /// Writes down that somebody whose token his issuer did sign got no session.
    pub async fn session_refused(&self, outsider: &Outsider, session: &str, reason: &str) {
        let row = AuditEntry {
            at: self.now(),
            who: outsider.to_string(),
            verb: ASSUME.to_owned(),
            secret: None,
            version: None,
            pod: Some(format!("session/{session}")),
            outcome: reason.to_owned(),
        };
        // At a public issuer anybody can have as many subjects as he likes.
        self.write_down_refusal_of(&outsider.issuer, row).await;
    }

    /// Writes down that somebody of the cluster got no session.
    pub async fn session_refused_to(&self, who: &Principal, session: &str, reason: &str) {
        let via = Via { session: Some(session.to_owned()), ..Via::default() };
        let row = self.entry(&who.clone().by_way_of(via), ASSUME, None, None, reason);
        self.write_down_refusal(row).await;
    }

    /// A ServiceAccount as somebody outside of the cluster may act as it, in a session of that name. `None` when there is
    /// none.
    pub async fn account_outside(
        &self,
        account: &ServiceAccount,
        session: &str,
    ) -> Result<Option<Principal>, KeeperError> {
        let uid = self.ports.rights.account_uid(account).await.map_err(|why| {
            let (who, name) = (account.user(), account.to_string());
            Denied::Unknown { who, verb: ASSUME, name, why }
        })?;
        let via = Via { session: Some(session.to_owned()), ..Via::default() };
        Ok(uid.map(|uid| Principal::of_account(account.clone(), uid, via)))
    }

    /// The key of `tidelock dev`: the same for as long as the root key is.
    pub fn local_key(&self) -> AccessKey {
        self.sessions.lasting("local")
    }

    /// Who holds the key, if this installation issued it. An expired one tells so by its `expires_at`: whether its
    /// holder signed a request is worth knowing first.
    pub fn session(&self, access_key_id: &str, token: &str) -> Option<Arc<Session>> {
        let opened = || self.opened_sessions.0.lock().unwrap_or_else(PoisonError::into_inner);
        let named = (access_key_id.to_owned(), token.to_owned());
        let known = opened().get(&named).map(Arc::clone);
        if known.is_some() {
            return known;
        }
        let session = Arc::new(self.open_session(access_key_id, token)?);
        opened().insert(named, Arc::clone(&session));
        Some(session)
    }

    fn open_session(&self, access_key_id: &str, token: &str) -> Option<Session> {
        let opened = match self.sessions.open(access_key_id, token) {
            Ok(opened) => opened,
            Err(SealError::Format(format)) => {
                tracing::warn!(format, "a session token has a format that this program does not know");
                return None;
            }
            Err(_) => return None,
        };
        let issued_at = Timestamp::from_second(opened.issued_at).ok()?;
        if issued_at.duration_since(self.now()) > AHEAD_MAX {
            return None;
        }
        let told: Told = serde_json::from_slice(&opened.told).ok()?;
        // Whatever it tells: the keys of a day are good for an hour after it and no longer.
        let expires = told.expires.min(opened.issued_at.saturating_add(LIFE_SECONDS_MAX));
        let expires_at = Timestamp::from_second(expires).ok()?;
        let who = Principal::ServiceAccount {
            account: ServiceAccount { namespace: told.namespace, name: told.account },
            uid: told.uid,
            groups: told.groups.into(),
            extra: Arc::new(told.extra),
            pod: told.pod.map(|ToldPod { name, uid, node }| PodIdentity { name, uid, node }),
            via: Box::new(Via {
                session: Some(told.session.clone()),
                key: Some(access_key_id.to_owned()),
                address: None,
            }),
        };
        Some(Session { who, name: told.session, secret: ScopedSecret::new(opened.secret), expires_at })
    }
}

fn told(who: &Principal, session: &str, expires: i64) -> Option<Zeroizing<Vec<u8>>> {
    let Principal::ServiceAccount { account, uid, groups, extra, pod, .. } = who else { return None };
    let told = Told {
        namespace: account.namespace.clone(),
        account: account.name.clone(),
        uid: uid.clone(),
        groups: groups.to_vec(),
        extra: BTreeMap::clone(extra),
        pod: pod.clone().map(|PodIdentity { name, uid, node }| ToldPod { name, uid, node }),
        session: session.to_owned(),
        expires,
    };
    serde_json::to_vec(&told).ok().map(Zeroizing::new)
}
