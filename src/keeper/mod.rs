//! The use-cases, one file per verb: the one place where domain, seal, store and key provider meet.
//! Must not know HTTP, gRPC or Kubernetes objects.

mod access_key;
mod audit;
mod authorise;
mod batch;
mod begin;
mod cancel_rotation;
mod commit;
mod configure;
mod consumers;
mod create;
mod delete;
mod describe;
mod error;
mod explain;
mod files;
mod list;
mod live;
mod measure;
mod next_rotation;
mod policy;
mod project;
mod put;
mod refresh;
mod refusals;
mod rotate;
mod rotate_secret;
mod said;
mod sealing;
mod served;
mod session;
mod stage;
mod tags;
mod test_rotation;
#[cfg(test)]
mod tests;
mod update;
mod value;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::broadcast;

pub use access_key::{CreateAccessKey, CreatedAccessKey, HeldAccessKey, ListedAccessKey};
pub use configure::Configure;
pub use consumers::{Consumers, Receipt};
pub use create::{Create, Created};
pub use delete::{DeletionMode, Restoration, Restored, Scheduled};
pub use describe::Description;
pub use error::{KeeperError, SealingError};
pub use explain::{Explain, Explained};
pub use files::Payload;
pub use list::{Listed, Listing, Mark, SortBy};
pub use policy::{Objection, PolicyLook, PolicyOf};
pub use project::{FirstMounts, Held, MountRequest, Projected};
pub use put::Put;
pub use refresh::Refreshed;
pub use rotate::{AttemptFailure, Hindrance, RotationView, trigger};
pub use rotate_secret::{Rotate, Rotating};
pub use session::{IssuedSession, Session};
pub use stage::Moved;
pub use tags::Tagged;
pub use test_rotation::TestEnd;
pub use update::{Update, Updated};
pub use value::Revealed;
pub use versions::{Version, Versions};

// What callers give and get back: the controllers know the store by these shapes only.
pub use crate::seal::{AccessKey, ScopedSecret};
pub use crate::store::{
    Deletion, GrantRecord, JobRecord, RotationConfig, RotationRecord, RotationRules, RotationState,
    SecretRecord,
};

use crate::access::{KeyOperation, NamePolicy, Operation, Principal, RbacAnswer, ServiceAccount};
use crate::clock::Clock;
use crate::kms::RootKey;
use crate::seal::Sessions;
use crate::secret::{Arn, Name, Origin, VersionId};
use crate::store::{Epoch, Store, StoreError};

/// PORT. What only the cluster can answer about a caller.
#[async_trait]
pub trait Rights: Send + Sync {
    /// Asks the cluster's RBAC. An answer may be some seconds old.
    async fn ask(&self, who: &Principal, operation: Operation, name: &Name) -> RbacAnswer;

    /// Whether somebody may list the secrets of a namespace; of all of them with `None`.
    async fn list(&self, who: &Principal, namespace: Option<&str>) -> RbacAnswer {
        match list::any_name(namespace) {
            Some(name) => self.ask(who, Operation::List, &name).await,
            None => RbacAnswer::Denied,
        }
    }

    /// The tags that a policy finds under `aws:PrincipalTag`, or why they are not known.
    async fn tags(&self, _who: &Principal) -> Result<BTreeMap<String, String>, String> {
        Ok(BTreeMap::new())
    }

    /// Asks the cluster's RBAC about access keys: of a ServiceAccount, or with an empty name of a namespace's.
    async fn ask_keys(
        &self,
        _who: &Principal,
        _operation: KeyOperation,
        _account: &ServiceAccount,
    ) -> RbacAnswer {
        RbacAnswer::Denied
    }

    /// The uid of the ServiceAccount that has this name now, or why it is not known.
    async fn account_uid(&self, _account: &ServiceAccount) -> Result<Option<String>, String> {
        Ok(None)
    }

    /// The Job whose own pod the caller is: the pod runs, carries the label that only the Job controller may give,
    /// and the Job owns it. `None` for everybody else.
    async fn rotation_job(&self, _who: &Principal) -> Option<RotationJob> {
        None
    }
}

/// What a rotation's pod was proved to belong to. Compared with the journal before it gives a right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationJob {
    pub namespace: String,
    pub uid: String,
    pub attempt: u32,
}

/// What an installation's keeper is set to.
#[derive(Debug, Clone)]
pub struct Settings {
    pub region: String,
    pub account: String,
    pub names: NamePolicy,
    /// The names that rotators are registered under.
    pub rotators: BTreeSet<String>,
}

/// One thing that has happened, told after it was committed. Whoever lags behind reads everything again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub arn: Arn,
    pub what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// There is a new secret.
    Created,
    /// AWSCURRENT is on another version.
    Value,
    /// Other stages than AWSCURRENT moved.
    Stages,
    /// A caller began, resumed or cancelled a rotation: whoever runs rotations looks at once.
    Rotation,
    /// Description, grants, policy, tags or recovery window are others.
    Configuration,
    /// A deletion is scheduled. Files stay where they are.
    Deleted,
    Restored,
    /// The secret is no more: its files go.
    Removed,
    /// A mount came or went, or holds another version.
    Consumers,
}

impl What {
    /// Whether it may be the first that is heard of a rotation.
    pub fn may_bring_rotation(self) -> bool {
        matches!(self, Self::Rotation | Self::Configuration | Self::Restored)
    }
}

/// How many changes a slow listener may fall behind before it has to read everything again.
const CHANGES_KEPT: usize = 1024;
/// How often a write that lost a race is decided anew.
const ATTEMPTS: usize = 32;
const PAGE: usize = 500;
/// What the key of sessions is made from the root key for.
const SESSIONS: &str = "sessions";

/// What a keeper works with; chosen once, where the program is wired.
#[derive(Clone)]
pub struct Ports {
    pub store: Arc<dyn Store>,
    pub root_key: Arc<dyn RootKey>,
    pub clock: Arc<dyn Clock>,
    pub rights: Arc<dyn Rights>,
}

/// The use-cases of one leadership: a new leader makes a new keeper, and the batches of the old one are fenced.
pub struct Keeper {
    ports: Ports,
    settings: Settings,
    sessions: Sessions,
    opened_sessions: session::OpenedSessions,
    epoch: Epoch,
    changes: broadcast::Sender<Changed>,
    memory: Arc<Mutex<Memory>>,
    refusals: Mutex<refusals::Refusals>,
    policies: policy::Policies,
    access_keys: access_key::AccessKeys,
}

/// What is kept beside the store. All of it can be lost: it is read or observed again.
struct Memory {
    /// The secrets of custom resources, by the resource's namespace and name.
    by_resource: BTreeMap<(String, String), Arn>,
    /// When each secret's current version became current, to measure how long its files took.
    promoted: BTreeMap<Arn, (VersionId, Instant)>,
    mounts: live::LiveMounts,
    /// Nodes that metrics tell apart.
    measured: BTreeSet<String>,
    nodes: consumers::Nodes,
}

impl Keeper {
    /// Begins to keep the store's secrets. `epoch` is the one that was raised for this leadership.
    pub async fn start(ports: Ports, settings: Settings, epoch: Epoch) -> Result<Self, KeeperError> {
        let sessions = Sessions::new(
            ports
                .root_key
                .derive(SESSIONS)
                .await
                .map_err(|error| KeeperError::DecryptionFailure(error.into()))?,
        );
        let with_mounts = consumers::nodes_with_mounts(ports.store.as_ref()).await?;
        let nodes = consumers::Nodes::since(ports.clock.monotonic(), with_mounts);
        let mut by_resource = BTreeMap::new();
        let mut after: Option<Name> = None;
        loop {
            let page = ports.store.secrets(after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            by_resource
                .extend(page.iter().filter_map(|record| Some((resource(record)?, record.arn.clone()))));
        }
        let memory = Memory {
            by_resource,
            promoted: BTreeMap::new(),
            mounts: live::LiveMounts::default(),
            measured: BTreeSet::new(),
            nodes,
        };
        let (changes, _) = broadcast::channel(CHANGES_KEPT);
        let memory = Arc::new(Mutex::new(memory));
        let (refusals, policies) = (Mutex::default(), Mutex::default());
        let access_keys = access_key::AccessKeys::of(ports.store.as_ref()).await?;
        let opened_sessions = session::OpenedSessions::default();
        Ok(Self {
            ports,
            settings,
            sessions,
            opened_sessions,
            epoch,
            changes,
            memory,
            refusals,
            policies,
            access_keys,
        })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Everything that is committed from now on.
    pub fn changes(&self) -> broadcast::Receiver<Changed> {
        self.changes.subscribe()
    }

    /// The secret that a custom resource stands for.
    pub fn secret_of_resource(&self, namespace: &str, name: &str) -> Option<Arn> {
        self.memory().by_resource.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Namespace and name of the custom resource that stands for a secret; `None` when there is none, or no such secret.
    pub async fn resource_of_secret(&self, arn: &Arn) -> Result<Option<(String, String)>, KeeperError> {
        Ok(self.ports.store.secret(arn).await?.as_ref().and_then(resource))
    }

    /// All secrets, by name, for the loops of the server itself.
    pub async fn inventory(
        &self,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<SecretRecord>, KeeperError> {
        Ok(self.ports.store.secrets(after, limit).await?)
    }

    fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Nothing is left half changed by a panic: every change of the memory is one assignment.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decides and writes again for as long as somebody else was faster.
async fn settle<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, KeeperError>
where
    F: Future<Output = Result<T, KeeperError>>,
{
    for _ in 1..ATTEMPTS {
        match attempt().await {
            Err(KeeperError::Store(StoreError::Conflict)) => {}
            settled => return settled,
        }
    }
    attempt().await
}

fn resource(record: &SecretRecord) -> Option<(String, String)> {
    match &record.origin {
        Origin::CustomResource { namespace, name, .. } => Some((namespace.clone(), name.clone())),
        Origin::Api => None,
    }
}

/// Refuses what only the custom resource may change about its secret.
fn not_of_resource(record: &SecretRecord, how: &'static str) -> Result<(), KeeperError> {
    match resource(record) {
        None => Ok(()),
        Some((namespace, resource)) => {
            Err(KeeperError::OwnedByResource { name: record.name.clone(), namespace, resource, how })
        }
    }
}
