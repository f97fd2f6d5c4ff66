//! Who asks. Must not verify tokens: an adapter did that before it built one of these.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::policy::Asker;

/// A ServiceAccount of the cluster, by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceAccount {
    pub namespace: String,
    pub name: String,
}

impl ServiceAccount {
    /// The user name that Kubernetes knows it by.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }

    /// As people write one, `namespace/name`, or as Kubernetes does.
    pub fn read(text: &str) -> Option<Self> {
        if let Some(account) = Self::from_user(text) {
            return Some(account);
        }
        let (namespace, name) = text.split_once('/')?;
        let whole = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
        whole.then(|| Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// Reads the user name of a reviewed token.
    pub fn from_user(user: &str) -> Option<Self> {
        let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
        let whole = !namespace.is_empty() && !name.is_empty() && !name.contains(':');
        whole.then(|| Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Somebody of an OpenID Connect issuer outside of the cluster, as its token names him.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outsider {
    pub issuer: String,
    subject: String,
}

/// What OpenID Connect allows a subject at most.
const SUBJECT_CHARACTERS_MAX: usize = 255;

impl Outsider {
    pub fn new(issuer: &str, subject: &str) -> Self {
        let (issuer, mut left) = (issuer.to_owned(), subject.chars());
        let mut subject: String = left
            .by_ref()
            .take(SUBJECT_CHARACTERS_MAX)
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        if left.next().is_some() {
            subject.push('…');
        }
        Self { issuer, subject }
    }
}

/// As Kubernetes names users of OpenID Connect unless it is told otherwise. An issuer's URL has no `#`.
impl fmt::Display for Outsider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.issuer, self.subject)
    }
}

/// The pod that a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodIdentity {
    pub name: String,
    pub uid: String,
    pub node: Option<String>,
}

/// The session of whoever comes with a bare token.
const TOKEN: &str = "token";

/// The way that a request came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Via {
    /// The name of the session, where keys were issued for one; of a lasting key its id.
    pub session: Option<String>,
    /// The id of the session's key. Whoever is given a session chooses its name, and may choose one twice.
    pub key: Option<String>,
    /// The other end of the connection.
    pub address: Option<IpAddr>,
}

/// Somebody whose identity has been proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A caller with a reviewed ServiceAccount token, or a pod that the API server vouches for.
    ServiceAccount {
        account: ServiceAccount,
        uid: String,
        // Shared, for a request makes several copies of who sent it.
        groups: Arc<[String]>,
        extra: Arc<BTreeMap<String, Vec<String>>>,
        pod: Option<PodIdentity>,
        via: Box<Via>,
    },
    /// The server itself, acting for a custom resource. It may write, never reveal.
    Controller,
    /// Whoever runs `tidelock dev` on a machine of his own: all that it keeps is his.
    Local,
}

impl Principal {
    /// A ServiceAccount by itself, with the groups that the API server will know it in, and nothing that only a token
    /// proves.
    pub fn of_account(account: ServiceAccount, uid: String, via: Via) -> Self {
        let groups = [
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{}", account.namespace),
            "system:authenticated".to_owned(),
        ];
        let (groups, extra) = (Arc::new(groups), Arc::default());
        Self::ServiceAccount { account, uid, groups, extra, pod: None, via: Box::new(via) }
    }

    /// The same, by another way.
    pub fn by_way_of(mut self, another: Via) -> Self {
        if let Self::ServiceAccount { via, .. } = &mut self {
            **via = another;
        }
        self
    }

    /// Whether the request was signed with keys that were issued here, of whatever kind, rather than sent with a token.
    pub fn signs_with_keys(&self) -> bool {
        matches!(self, Self::ServiceAccount { via, .. } if via.session.is_some())
    }

    /// The session and its key, with which he signs: `<session>/<key id>`; of a lasting key its id alone.
    pub fn signing(&self) -> Option<String> {
        let Self::ServiceAccount { via, .. } = self else { return None };
        let session = via.session.as_deref()?;
        Some(via.key.as_deref().map_or_else(|| session.to_owned(), |key| format!("{session}/{key}")))
    }

    pub fn account(&self) -> Option<&ServiceAccount> {
        match self {
            Self::ServiceAccount { account, .. } => Some(account),
            Self::Controller | Self::Local => None,
        }
    }

    /// As policies and refusals know him in that account: the server itself is nobody in it.
    pub fn asker(&self, account_id: &str) -> Option<Asker> {
        match self {
            Self::ServiceAccount { account: ServiceAccount { namespace, name }, .. } => {
                Some(Asker::session(account_id, namespace, name, self.session_name()))
            }
            Self::Local => Some(Asker::root(account_id)),
            Self::Controller => None,
        }
    }

    /// Whoever brings a token and no keys of a session has his pod's name for one.
    pub fn session_name(&self) -> &str {
        let Self::ServiceAccount { pod, via, .. } = self else { return TOKEN };
        let pod = pod.as_ref().map(|pod| pod.name.as_str());
        via.session.as_deref().or(pod).unwrap_or(TOKEN)
    }

    /// As it is known without a token: whatever a token says of one pod is left out, and all pods of the account are
    /// alike to whoever is asked.
    pub fn without_extra(&self) -> Self {
        let mut alike = self.clone();
        if let Self::ServiceAccount { extra, .. } = &mut alike {
            *extra = Arc::default();
        }
        alike
    }

    /// The uid of the account: another one's that has the same name is another.
    pub fn uid(&self) -> &str {
        match self {
            Self::ServiceAccount { uid, .. } => uid,
            Self::Controller | Self::Local => "",
        }
    }

    pub fn pod(&self) -> Option<&PodIdentity> {
        match self {
            Self::ServiceAccount { pod, .. } => pod.as_ref(),
            Self::Controller | Self::Local => None,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServiceAccount { account, .. } => f.write_str(&account.user()),
            Self::Controller => f.write_str("tidelock:controller"),
            Self::Local => f.write_str("tidelock:local"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_name_of_a_service_account_reads_back() {
        let account = ServiceAccount { namespace: "shop".into(), name: "orders-api".into() };
        assert_eq!(ServiceAccount::from_user(&account.user()), Some(account));
        for wrong in
            ["admin", "system:serviceaccount:shop", "system:serviceaccount::a", "system:serviceaccount:a:b:c"]
        {
            assert_eq!(ServiceAccount::from_user(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_outsider_is_named_by_issuer_and_subject_and_neither_breaks_a_line_nor_fills_one() {
        let named = |subject: &str| Outsider::new("https://ci.example/a", subject).to_string();
        assert_eq!(named("repo:acme/x#1"), "https://ci.example/a#repo:acme/x#1");
        assert_eq!(named("a\nb\u{1b}c"), "https://ci.example/a#a?b?c");
        assert_eq!(named(&"é".repeat(255)).chars().count(), 21 + 255);
        assert_eq!(named(&"é".repeat(256)), format!("https://ci.example/a#{}…", "é".repeat(255)));
    }
}
