//! The use-cases against a real store in a folder, with a real root key. Only the cluster's answers are chosen here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex as Locked;
use std::time::Duration;

use super::*;
use crate::access::PodIdentity;
use crate::clock::ManualClock;
use crate::kms::KeyFile;
use crate::seal::SystemRandom;
use crate::secret::{SecretId, SecretValue, Stage};
use crate::store::{
    Batch, Change, EmbeddedFile, Expected, GrantRecord, Installation, InstallationState, JobRecord, ROW_MAC,
    RotationRecord, RotationState,
};

mod access_keys;
mod deletion;
mod hundred;
mod listing;
mod measure;
mod policies;
mod projection;
mod rotate_secret;
mod rotation_kills;
mod sessions;
mod values;

/// What the cluster answers: yes to whom is named here, by user and operation.
#[derive(Default)]
pub(super) struct Answers {
    allowed: Locked<BTreeSet<(String, &'static str)>>,
    /// By user and namespace, `*` for all.
    lists: Locked<BTreeSet<(String, String)>>,
    away: Locked<bool>,
    job: Locked<Option<RotationJob>>,
    /// The tags of whoever asks, or why they are not known.
    tags: Locked<Option<Result<BTreeMap<String, String>, String>>>,
    /// Whether yes is said only of who is told of with more than the account.
    only_by_pod: Locked<bool>,
    /// Everybody who was asked about.
    asked: Locked<Vec<Principal>>,
}

impl Answers {
    fn allow(&self, who: &Principal, operation: Operation) {
        self.allowed.lock().unwrap().insert((who.to_string(), operation.verb()));
    }

    fn allow_keys(&self, who: &Principal, operation: KeyOperation) {
        self.allowed.lock().unwrap().insert((who.to_string(), operation.action()));
    }

    fn disallow(&self, who: &Principal, operation: Operation) {
        self.allowed.lock().unwrap().remove(&(who.to_string(), operation.verb()));
    }

    fn go_away(&self, away: bool) {
        *self.away.lock().unwrap() = away;
    }
}

#[async_trait]
impl Rights for Answers {
    async fn ask(&self, who: &Principal, operation: Operation, _name: &Name) -> RbacAnswer {
        self.asked.lock().unwrap().push(who.clone());
        if *self.away.lock().unwrap() {
            return RbacAnswer::Unknown("the API server is away".into());
        }
        let allowed = self.allowed.lock().unwrap().contains(&(who.to_string(), operation.verb()));
        let told = matches!(who, Principal::ServiceAccount { extra, .. } if !extra.is_empty());
        if allowed && (told || !*self.only_by_pod.lock().unwrap()) {
            RbacAnswer::Allowed
        } else {
            RbacAnswer::Denied
        }
    }

    async fn list(&self, who: &Principal, namespace: Option<&str>) -> RbacAnswer {
        if *self.away.lock().unwrap() {
            return RbacAnswer::Unknown("the API server is away".into());
        }
        let asked = (who.to_string(), namespace.unwrap_or("*").to_owned());
        if self.lists.lock().unwrap().contains(&asked) { RbacAnswer::Allowed } else { RbacAnswer::Denied }
    }

    async fn tags(&self, _who: &Principal) -> Result<BTreeMap<String, String>, String> {
        self.tags.lock().unwrap().clone().unwrap_or(Ok(BTreeMap::new()))
    }

    async fn rotation_job(&self, _who: &Principal) -> Option<RotationJob> {
        self.job.lock().unwrap().clone()
    }

    async fn ask_keys(&self, who: &Principal, operation: KeyOperation, _: &ServiceAccount) -> RbacAnswer {
        let allowed = self.allowed.lock().unwrap().contains(&(who.to_string(), operation.action()));
        if allowed { RbacAnswer::Allowed } else { RbacAnswer::Denied }
    }

    async fn account_uid(&self, account: &ServiceAccount) -> Result<Option<String>, String> {
        Ok((account.name != "nobody").then(|| format!("uid-of-{account}")))
    }
}

struct Bench {
    keeper: Keeper,
    answers: Arc<Answers>,
    clock: Arc<ManualClock>,
    _folder: Option<tempfile::TempDir>,
}

async fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let bench = bench_at(folder.path()).await;
    Bench { _folder: Some(folder), ..bench }
}

/// On the store and the root key in a folder, which are made where there are none.
async fn bench_at(folder: &std::path::Path) -> Bench {
    let clock = ManualClock::at("2030-01-01T00:00:00Z".parse().unwrap());
    let key_file = folder.join("root-key");
    if !key_file.exists() {
        std::fs::write(&key_file, &*KeyFile::generate("installation", &mut SystemRandom)).unwrap();
    }
    let key = std::fs::read_to_string(&key_file).unwrap();
    let root_key: Arc<dyn RootKey> = Arc::new(KeyFile::parse("a test", &key).unwrap());
    let store = folder.join("store");
    std::fs::create_dir_all(&store).unwrap();
    let mut file = EmbeddedFile::open(&store).unwrap();
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
    if file.installation().unwrap().is_none() {
        file.begin(&begun).unwrap();
    }
    let store: Arc<dyn Store> = Arc::new(file.unlock(root_key.derive(ROW_MAC).await.unwrap()).unwrap());
    let epoch = store.raise_epoch().await.unwrap();
    let root_key_id = Some(root_key.key_id().clone());
    let ready = Installation { state: InstallationState::Ready, root_key: root_key_id, ..begun };
    let changes = vec![Change::PutInstallation(ready)];
    store.commit(Batch { epoch, changes, audit: Vec::new() }).await.unwrap();
    let answers = Arc::new(Answers::default());
    let ports = Ports { store, root_key, clock: clock.clone(), rights: answers.clone() };
    let settings = Settings {
        region: "local-1".into(),
        account: "000000000000".into(),
        names: NamePolicy::NamespacePrefix,
        rotators: BTreeSet::from(["generate".to_owned()]),
    };
    let keeper = Keeper::start(ports, settings, epoch).await.unwrap();
    Bench { keeper, answers, clock, _folder: None }
}

impl Bench {
    /// A second keeper over the same store, as after a restart.
    async fn restarted(&self) -> Keeper {
        let (ports, settings) = (self.keeper.ports.clone(), self.keeper.settings.clone());
        Keeper::start(ports, settings, self.keeper.epoch).await.unwrap()
    }

    /// A receipt that comes now.
    async fn receipt(&self, node: &str, mount_id: &str, arn: &Arn, version: &VersionId) {
        let (mount_id, came_at) = (mount_id.to_owned(), self.clock.monotonic());
        let receipt = Receipt { mount_id, arn: arn.clone(), version: version.clone(), came_at };
        self.keeper.receipts(node, &[receipt]).await.unwrap();
    }

    async fn audit(&self) -> Vec<(String, String, String)> {
        let rows = self.keeper.ports.store.audit(0, 1000).await.unwrap();
        rows.into_iter().map(|row| (row.entry.who, row.entry.verb, row.entry.outcome)).collect()
    }

    async fn record(&self, name: &str) -> SecretRecord {
        self.keeper.ports.store.secret_named(&Name::parse(name).unwrap()).await.unwrap().unwrap()
    }

    async fn stages(&self, name: &str) -> Vec<(String, VersionId)> {
        let record = self.record(name).await;
        record.stages.into_iter().map(|(stage, version)| (stage.to_string(), version)).collect()
    }

    /// A secret of a custom resource with a value that an account is granted.
    async fn resource(&self, value: Option<&str>, grants: Vec<GrantRecord>) -> Created {
        let wanted = of_resource("cr-1", value, grants);
        self.keeper.create(&Principal::Controller, &wanted).await.unwrap()
    }
}

const NAME: &str = "shop/orders-db";

fn of_resource(uid: &str, value: Option<&str>, grants: Vec<GrantRecord>) -> Create {
    Create {
        name: Name::parse(NAME).unwrap(),
        description: None,
        token: VersionId::first_of_resource(&format!("{uid}-0000000000000000000000000")).unwrap(),
        value: value.map(|text| SecretValue::string(text.to_owned())),
        origin: Origin::CustomResource {
            namespace: "shop".into(),
            name: "orders-db".into(),
            uid: uid.into(),
            namespace_uid: "ns-1".into(),
        },
        grants,
        recovery_window_days: 30,
        tags: BTreeMap::new(),
    }
}

fn by_api(name: &str, token: u8, value: Option<&str>) -> Create {
    let name = Name::parse(name).unwrap();
    let value = value.map(|text| SecretValue::string(text.to_owned()));
    Create { name, token: v(token), value, origin: Origin::Api, ..of_resource("unused", None, Vec::new()) }
}

fn v(n: u8) -> VersionId {
    VersionId::parse(&format!("{n:032}")).unwrap()
}

fn id() -> SecretId {
    SecretId::parse(NAME).unwrap()
}

fn text(value: &str) -> SecretValue {
    SecretValue::string(value.to_owned())
}

fn pod_of(namespace: &str, account: &str) -> Principal {
    Principal::ServiceAccount {
        account: ServiceAccount { namespace: namespace.into(), name: account.into() },
        uid: "account-uid".into(),
        groups: [].into(),
        extra: Default::default(),
        pod: Some(PodIdentity { name: "pod".into(), uid: "pod-1".into(), node: Some("node-1".into()) }),
        via: Box::default(),
    }
}

fn app() -> Principal {
    pod_of("shop", "api")
}

fn grant_of(keys: Option<&[&str]>) -> GrantRecord {
    GrantRecord {
        account: ServiceAccount { namespace: "shop".into(), name: "api".into() },
        stages: vec![Stage::current()],
        keys: keys.map(|keys| keys.iter().map(|key| (*key).to_owned()).collect()),
    }
}

fn reason<T>(result: Result<T, KeeperError>) -> &'static str {
    result.err().map_or("done", |error| error.reason())
}

#[test]
fn every_use_case_can_run_on_any_thread() {
    fn sendable<T: Send>(_: &T) {}
    async fn all(keeper: &Keeper, arn: &Arn) {
        let by = app();
        let mount = MountRequest {
            mount_id: String::new(),
            pod_namespace: String::new(),
            pod_name: String::new(),
            pod_uid: String::new(),
            attributes: BTreeMap::new(),
        };
        sendable(&keeper.create(&by, &by_api(NAME, 1, None)));
        sendable(&keeper.describe(&by, &id()));
        sendable(&keeper.value(&by, &id(), None, None));
        sendable(&keeper.put(&by, &id(), &v(1), &text("x"), None));
        sendable(&keeper.move_stage(&by, &id(), &Stage::current(), None, None));
        sendable(&keeper.schedule_deletion(&by, &id(), DeletionMode::Force));
        sendable(&keeper.restore(&by, &id(), Restoration::Caller));
        sendable(&keeper.purge_due());
        let update = Update { description: None, token: v(1), value: None };
        sendable(&keeper.update(&by, &id(), &update));
        sendable(&keeper.tag(&by, &id(), &Tagged::Removed(Vec::new())));
        sendable(&keeper.list(&by, &listing::everything()));
        sendable(&keeper.versions(&by, &id()));
        sendable(&keeper.values(&by, &[id()]));
        sendable(&keeper.attach(&by, "n", mount.clone()));
        sendable(&keeper.resume(&by, "n", mount, None));
        sendable(&keeper.refresh("n", arn));
        sendable(&keeper.refresh_node("n"));
        sendable(&keeper.receipts("n", &[]));
        sendable(&keeper.detach("n", "m"));
        sendable(&keeper.consumers(arn));
        sendable(&keeper.put_policy(&by, &id(), "", None));
        sendable(&keeper.delete_policy(&by, &id()));
        sendable(&keeper.validate_policy(&by, None, ""));
    }
    let _ = all;
}

#[tokio::test]
async fn a_write_whose_caller_went_away_is_told_nevertheless() {
    let bench = bench().await;
    let arn = bench.resource(Some("first"), vec![]).await.arn;
    let mut changes = bench.keeper.changes();
    let (controller, id, token, value) = (Principal::Controller, id(), v(2), text("second"));
    let mut put = Box::pin(bench.keeper.put(&controller, &id, &token, &value, None));
    let committed = async || bench.keeper.ports.store.version(&arn, &token).await.unwrap().is_some();
    // Polled no more once it waits for the commit: as when its caller hangs up just then.
    'written: loop {
        assert!(futures::poll!(&mut put).is_pending(), "the put ended before it could be dropped");
        for _ in 0..50 {
            if committed().await {
                break 'written;
            }
        }
    }
    drop(put);
    let told = tokio::time::timeout(Duration::from_secs(10), changes.recv()).await;
    assert_eq!(told.expect("the change is told").unwrap().what, What::Value);
}
