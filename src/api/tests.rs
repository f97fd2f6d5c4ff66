//! What the tests of both doors stand on: a keeper over a real store in a folder, and, in place of a cluster, answers
//! that are chosen here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Authenticate;
use super::aws::StillThere;
use crate::access::{
    KeyOperation, NamePolicy, Operation, PodIdentity, Principal, RbacAnswer, ServiceAccount,
};
use crate::clock::{Clock as _, ManualClock};
use crate::cluster::{PodRefused, TokenRefused};
use crate::keeper::{Create, Keeper, Ports, Rights, Settings};
use crate::kms::{KeyFile, RootKey};
use crate::seal::SystemRandom;
use crate::secret::{Name, Origin, SecretId, SecretValue, Stage, VersionId};
use crate::serve::{Door, Limits, Listener, Protocol};
use crate::store::{
    Batch, Change, EmbeddedFile, GrantRecord, Installation, InstallationState, ROW_MAC, Store,
};

/// Which tokens there are, for which audience, and whose; and who of them is gone.
#[derive(Default)]
pub struct Tokens(Mutex<BTreeMap<(String, String), Principal>>, Mutex<Option<PodRefused>>);

impl Tokens {
    pub fn add(&self, token: &str, audience: &str, who: &Principal) {
        self.0.lock().unwrap().insert((token.to_owned(), audience.to_owned()), who.clone());
    }

    /// From now on this is said of all holders of keys.
    pub fn say_of_holders(&self, said: Option<PodRefused>) {
        *self.1.lock().unwrap() = said;
    }

    pub fn revoke(&self, token: &str) {
        self.0.lock().unwrap().retain(|(known, _), _| known != token);
    }
}

#[async_trait]
impl Authenticate for Tokens {
    async fn authenticate(&self, token: &str, audience: &str) -> Result<Principal, TokenRefused> {
        if token == "cluster-away" {
            return Err(TokenRefused::Unavailable("the API server did not answer".into()));
        }
        let known = self.0.lock().unwrap().get(&(token.to_owned(), audience.to_owned())).cloned();
        known.ok_or_else(|| TokenRefused::NotAuthenticated { audience: audience.to_owned() })
    }
}

#[async_trait]
impl StillThere for Tokens {
    async fn check(&self, _: &Principal) -> Result<(), PodRefused> {
        self.1.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

/// RBAC: who may do what, by user and verb.
#[derive(Default)]
pub struct Answers(Mutex<BTreeSet<(String, &'static str)>>);

impl Answers {
    pub fn allow(&self, who: &Principal, operation: Operation) {
        self.0.lock().unwrap().insert((who.to_string(), operation.verb()));
    }

    pub fn allow_keys(&self, who: &Principal, operation: KeyOperation) {
        self.0.lock().unwrap().insert((who.to_string(), operation.action()));
    }

    pub fn disallow(&self, who: &Principal, operation: Operation) {
        self.0.lock().unwrap().remove(&(who.to_string(), operation.verb()));
    }
}

#[async_trait]
impl Rights for Answers {
    async fn ask(&self, who: &Principal, operation: Operation, _: &Name) -> RbacAnswer {
        let allowed = self.0.lock().unwrap().contains(&(who.to_string(), operation.verb()));
        if allowed { RbacAnswer::Allowed } else { RbacAnswer::Denied }
    }

    async fn ask_keys(&self, who: &Principal, operation: KeyOperation, _: &ServiceAccount) -> RbacAnswer {
        let allowed = self.0.lock().unwrap().contains(&(who.to_string(), operation.action()));
        if allowed { RbacAnswer::Allowed } else { RbacAnswer::Denied }
    }

    async fn account_uid(&self, account: &ServiceAccount) -> Result<Option<String>, String> {
        Ok((account.name != "nobody").then(|| format!("uid-of-{account}")))
    }
}

/// A rotator that is registered.
pub const ROTATOR: &str = "generate";

pub struct Bench {
    pub keeper: Arc<Keeper>,
    pub rights: Arc<Answers>,
    pub tokens: Arc<Tokens>,
    pub clock: Arc<ManualClock>,
    store: Arc<dyn Store>,
    _folder: tempfile::TempDir,
}

pub async fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at("2030-01-01T00:00:00.25Z".parse().unwrap());
    let key = KeyFile::generate("installation", &mut SystemRandom);
    let root_key: Arc<dyn RootKey> = Arc::new(KeyFile::parse("a test", &key).unwrap());
    let mut file = EmbeddedFile::open(folder.path()).unwrap();
    let begun = Installation {
        id: "installation".into(),
        state: InstallationState::Initialising,
        region: "local-1".into(),
        account: "000000000000".into(),
        cluster_id: String::new(),
        crd_uid: String::new(),
        root_key: None,
        created_at: clock.now(),
    };
    file.begin(&begun).unwrap();
    let store: Arc<dyn Store> = Arc::new(file.unlock(root_key.derive(ROW_MAC).await.unwrap()).unwrap());
    let epoch = store.raise_epoch().await.unwrap();
    let root_key_id = Some(root_key.key_id().clone());
    let ready = Installation { state: InstallationState::Ready, root_key: root_key_id, ..begun };
    let changes = vec![Change::PutInstallation(ready)];
    store.commit(Batch { epoch, changes, audit: Vec::new() }).await.unwrap();
    let rights = Arc::new(Answers::default());
    let ports = Ports { store: Arc::clone(&store), root_key, clock: clock.clone(), rights: rights.clone() };
    let settings = Settings {
        region: "local-1".into(),
        account: "000000000000".into(),
        names: NamePolicy::NamespacePrefix,
        rotators: BTreeSet::from([ROTATOR.to_owned()]),
    };
    let keeper = Arc::new(Keeper::start(ports, settings, epoch).await.unwrap());
    Bench { keeper, rights, tokens: Arc::default(), clock, store, _folder: folder }
}

impl Bench {
    /// Who, for which pod and with which outcome, of the audit's rows of a verb.
    pub async fn audit(&self, verb: &str) -> Vec<(String, String, String)> {
        let rows = self.store.audit(0, 10_000).await.unwrap().into_iter().map(|row| row.entry);
        let of_verb = rows.filter(|row| row.verb == verb);
        of_verb.map(|row| (row.who, row.pod.unwrap_or_default(), row.outcome)).collect()
    }

    /// A secret of the resource `shop/<name>`, with a value and a grant to the ServiceAccount `shop/orders-api`.
    pub async fn resource(&self, name: &str, value: Option<&str>) {
        let wanted = Create {
            name: Name::parse(&format!("shop/{name}")).unwrap(),
            description: None,
            token: VersionId::parse(&format!("{name:0>40}")).unwrap(),
            value: value.map(|text| SecretValue::string(text.to_owned())),
            origin: Origin::CustomResource {
                namespace: "shop".into(),
                name: name.into(),
                uid: format!("uid-of-{name}"),
                namespace_uid: "uid-of-shop".into(),
            },
            grants: vec![grant()],
            recovery_window_days: 30,
            tags: BTreeMap::new(),
        };
        self.keeper.create(&Principal::Controller, &wanted).await.unwrap();
    }

    /// A new current version.
    pub async fn put(&self, name: &str, token: u8, value: &str) {
        let id = SecretId::parse(&format!("shop/{name}")).unwrap();
        let (token, value) = (version(token), SecretValue::string(value.to_owned()));
        self.keeper.put(&Principal::Controller, &id, &token, &value, None).await.unwrap();
    }
}

pub fn grant() -> GrantRecord {
    let account = ServiceAccount { namespace: "shop".into(), name: "orders-api".into() };
    GrantRecord { account, stages: vec![Stage::current()], keys: None }
}

pub fn version(n: u8) -> VersionId {
    VersionId::parse(&format!("{n:032}")).unwrap()
}

/// A ServiceAccount, with a pod on a node or without.
pub fn account(namespace: &str, name: &str, pod: Option<(&str, &str)>) -> Principal {
    Principal::ServiceAccount {
        account: ServiceAccount { namespace: namespace.into(), name: name.into() },
        uid: format!("uid-of-{name}"),
        groups: ["system:authenticated".into()].into(),
        extra: Default::default(),
        pod: pod.map(|(pod, node)| PodIdentity {
            name: pod.into(),
            uid: format!("uid-of-{pod}"),
            node: Some(node.into()),
        }),
        via: Box::default(),
    }
}

/// A door on a free port of this machine, without TLS. Dropped, it is closed.
pub struct Open {
    pub address: SocketAddr,
    pub stop: CancellationToken,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub async fn door(name: &'static str, protocol: Protocol, limits: Limits) -> (Open, Door) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door { name, listener: Listener::Tcp(listener), tls: None, protocol, limits };
    (Open { address, stop: CancellationToken::new() }, door)
}
