//! Project: the files of a secret for a pod, at its first mount, after a restart, and whenever something changes.
//! Must not trust volume attributes, nor withdraw anything because a question could not be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::authorise::Act;
use super::files::Selection;
use super::measure::{self, counted};
use super::{Keeper, KeeperError, Payload, What};
use crate::access::{Authorized, Denied, Operation, Principal, ServiceAccount};
use crate::failpoint;
use crate::inject::Attributes;
use crate::secret::{Arn, Name, SecretId, Stage, VersionId};
use crate::store::{Change, MountRecord, SecretRecord};

/// A volume of ours in a pod, as the node's stream tells it once the pod's identity has been proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRequest {
    pub mount_id: String,
    pub pod_namespace: String,
    pub pod_name: String,
    pub pod_uid: String,
    pub attributes: BTreeMap<String, String>,
}

/// What a mount's files hold already, as its manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub arn: Arn,
    pub version: VersionId,
    pub file_names: BTreeSet<String>,
}

/// What a mount should hold.
#[derive(Clone)]
pub struct Projected {
    pub arn: Arn,
    pub version: VersionId,
    /// Shared by every mount of one refresh that asks for the same.
    pub payload: Arc<Payload>,
}

/// What is to be done with the files of a mount that is complete.
pub enum Refreshed {
    /// The files are right as they are, or nobody could be asked.
    Keep,
    Place(Projected),
    /// The right is gone, or the secret is: the reason word, and a sentence for people.
    Withdraw {
        reason: &'static str,
        message: String,
    },
}

/// Mounts that a stream has told of, by mount id. The store knows them too, but not what a token said of the pod.
pub(super) type LiveMounts = BTreeMap<String, LiveMount>;

#[derive(Clone)]
pub(super) struct LiveMount {
    pub(super) node: String,
    pod: Principal,
    request: MountRequest,
    wanted: Attributes,
    /// What was last given to it; `None` before that, and after it was withdrawn.
    placed: Option<Placed>,
}

#[derive(Clone)]
struct Placed {
    arn: Arn,
    version: VersionId,
    /// `None` after a restart, when only the names of the files are known.
    payload_id: Option<String>,
    file_names: BTreeSet<String>,
}

/// The payloads of one refresh, so that mounts which ask for the same share one.
type Payloads = BTreeMap<String, Arc<Payload>>;

const WITHDRAW: &str = "withdraw";

impl Keeper {
    /// A pod's first mount, asked for under the pod's own proved identity.
    pub async fn attach(
        &self,
        pod: &Principal,
        node: &str,
        request: MountRequest,
    ) -> Result<Projected, KeeperError> {
        let mount = LiveMount::new(pod, node, request)?;
        let id = mount.request.mount_id.clone();
        // Known before anything is read: a change from now on reaches this mount as well.
        let before = self.memory().mounts.insert(id.clone(), mount.clone());
        match counted(Operation::Project, self.attach_known(&mount).await) {
            Ok(projected) => {
                // The volume may have been given up meanwhile: then its record must not outlive it.
                if !self.set_placed(&id, Some(Placed::from(&projected))) {
                    self.detach(node, &id).await?;
                }
                Ok(projected)
            }
            Err(error) => {
                let mut memory = self.memory();
                // One that had its files before is watched as before.
                match before.filter(|before| before.placed.is_some()) {
                    Some(before) => memory.mounts.insert(id, before),
                    None => memory.mounts.remove(&id),
                };
                Err(error)
            }
        }
    }

    async fn attach_known(&self, mount: &LiveMount) -> Result<Projected, KeeperError> {
        let (record, decided) = self.projectable(mount).await?;
        let authorized = match decided {
            Ok(authorized) => authorized,
            Err(denied) => {
                return Err(self.refused(&mount.pod, Operation::Project, Some(&record.arn), denied).await);
            }
        };
        let known = self.ports.store.mount(&mount.request.mount_id).await?;
        let holds = known.filter(|known| known.arn == record.arn).and_then(|known| known.holds);
        // A deletion that waits refuses new consumers; one that had its files before keeps them.
        if record.deletion.is_some() && holds.is_none() {
            return Err(KeeperError::MarkedForDeletion);
        }
        let selection = Selection::of(authorized.keys(), &mount.wanted.keys);
        if let Err(denied) = selection.check_complete(&mount.wanted.keys) {
            return Err(self.refused(&mount.pod, Operation::Project, Some(&record.arn), denied).await);
        }
        let version = current(&record)?;
        let payload = self.payload(&authorized, &record.arn, &version, &selection).await?;
        let audit = self.done(&mount.pod, Operation::Project, &record.arn, Some(&version));
        // What was sent is not held yet: only the receipt says so.
        let holds = if failpoint::guard("receipt-before-current") { holds } else { Some(version.clone()) };
        let put = Change::PutMount(self.mount_record(mount, &record.arn, holds));
        self.commit(vec![put], vec![audit]).await?;
        self.tell(&record.arn, What::Consumers);
        Ok(Projected { arn: record.arn, version, payload })
    }

    /// A mount that was complete before this keeper, or the node's agent, began anew. `pod` is what the pod's object
    /// says: no token is there any more.
    pub async fn resume(
        &self,
        pod: &Principal,
        node: &str,
        request: MountRequest,
        held: Option<Held>,
    ) -> Result<Refreshed, KeeperError> {
        let mut mount = LiveMount::new(pod, node, request)?;
        let id = mount.request.mount_id.clone();
        mount.placed = held.map(Placed::from);
        self.memory().mounts.insert(id.clone(), mount.clone());
        if let Some(placed) = &mount.placed {
            self.note_held(&mount, placed).await?;
        }
        Ok(self.refresh_one(&id, mount, &mut Payloads::new()).await)
    }

    /// What the mounts of one node have to do because a secret changed.
    pub async fn refresh(&self, node: &str, arn: &Arn) -> Vec<(String, Refreshed)> {
        self.refresh_where(node, |memory_arn, placed| memory_arn == Some(arn) || placed == Some(arn)).await
    }

    /// The same for every mount of a node: RBAC tells nobody when it changes, so it is asked again and again.
    pub async fn refresh_node(&self, node: &str) -> Vec<(String, Refreshed)> {
        self.refresh_where(node, |_, _| true).await
    }

    async fn refresh_where(
        &self,
        node: &str,
        concerns: impl Fn(Option<&Arn>, Option<&Arn>) -> bool,
    ) -> Vec<(String, Refreshed)> {
        let mounts: Vec<(String, LiveMount)> = {
            let memory = self.memory();
            let concerned = memory.mounts.iter().filter(|(_, mount)| {
                let wanted = memory.by_resource.get(&mount.resource());
                mount.node == node && concerns(wanted, mount.placed.as_ref().map(|placed| &placed.arn))
            });
            concerned.map(|(id, mount)| (id.clone(), mount.clone())).collect()
        };
        let mut payloads = Payloads::new();
        let mut refreshed = Vec::with_capacity(mounts.len());
        for (id, mount) in mounts {
            let what = self.refresh_one(&id, mount, &mut payloads).await;
            refreshed.push((id, what));
        }
        refreshed
    }

    async fn refresh_one(&self, id: &str, mount: LiveMount, payloads: &mut Payloads) -> Refreshed {
        let (reason, message) = match self.due(&mount, payloads).await {
            Ok(None) => return Refreshed::Keep,
            Ok(Some(projected)) => {
                self.set_placed(id, Some(Placed::from(&projected)));
                return Refreshed::Place(projected);
            }
            Err(KeeperError::Denied(Denied::No(message))) => ("AccessDenied", message),
            Err(error @ KeeperError::NoSuchResource { .. }) => ("SecretRemoved", error.to_string()),
            Err(error) => {
                tracing::warn!(reason = error.reason(), mount_id = id, "a mount could not be refreshed");
                return Refreshed::Keep;
            }
        };
        let Some(placed) = &mount.placed else { return Refreshed::Keep };
        if let Err(error) = self.note_withdrawn(&mount, &placed.arn, reason).await {
            tracing::error!(reason = error.reason(), mount_id = id, "a withdrawal could not be written down");
        }
        self.set_placed(id, None);
        measure::withdrawn(reason);
        Refreshed::Withdraw { reason, message }
    }

    /// What a mount should hold and does not; `None` when it holds that.
    async fn due(
        &self,
        mount: &LiveMount,
        payloads: &mut Payloads,
    ) -> Result<Option<Projected>, KeeperError> {
        let (record, decided) = self.projectable(mount).await?;
        let authorized = decided?;
        if mount.placed.is_none() && record.deletion.is_some() {
            return Ok(None);
        }
        let selection = Selection::of(authorized.keys(), &mount.wanted.keys);
        if selection.is_nothing() {
            selection.check_complete(&mount.wanted.keys)?;
        }
        let version = current(&record)?;
        let id = selection.payload_id(&record.arn, &version);
        let placed = mount.placed.as_ref();
        if placed.is_some_and(|placed| placed.payload_id.as_ref() == Some(&id)) {
            return Ok(None);
        }
        let payload = match payloads.get(&id) {
            Some(payload) => payload.clone(),
            None => self.payload(&authorized, &record.arn, &version, &selection).await?,
        };
        payloads.insert(id, payload.clone());
        let projected = Projected { arn: record.arn, version, payload };
        // After a restart: the same version under the same names is the same files.
        if placed.is_some_and(|placed| placed.payload_id.is_none() && placed.holds(&projected)) {
            self.set_placed(&mount.request.mount_id, Some(Placed::from(&projected)));
            return Ok(None);
        }
        Ok(Some(projected))
    }

    /// The secret that the mount's resource stands for now, and whether the pod may have it.
    async fn projectable(
        &self,
        mount: &LiveMount,
    ) -> Result<(SecretRecord, Result<Authorized, Denied>), KeeperError> {
        let (namespace, name) = mount.resource();
        let act = |id| Act { by: &mount.pod, operation: Operation::Project, id, version: None };
        let record = match self.secret_of_resource(&namespace, &name) {
            Some(arn) => self.ports.store.secret(&arn).await?,
            None => None,
        };
        let Some(record) = record else {
            // Of another namespace, whoever has no right there learns not even that it has no such secret.
            if namespace != mount.request.pod_namespace
                && let Ok(unknown) = Name::parse(&format!("{namespace}/{name}"))
                && let denied @ KeeperError::Denied(_) = self.unknown(act(&SecretId::Name(unknown))).await
            {
                return Err(denied);
            }
            return Err(KeeperError::NoSuchResource { namespace, name });
        };
        let id = SecretId::Name(record.name.clone());
        let decided = self.right(act(&id), &record, &[Stage::current()]).await?;
        Ok((record, decided))
    }

    async fn payload(
        &self,
        authorized: &Authorized,
        arn: &Arn,
        version: &VersionId,
        selection: &Selection,
    ) -> Result<Arc<Payload>, KeeperError> {
        let missing = || KeeperError::NoValueForStage(Stage::current());
        let stored = self.ports.store.version(arn, version).await?.ok_or_else(missing)?;
        let value = self.open(authorized, &stored).await?.ok_or_else(missing)?;
        let files = selection.cut(value)?;
        let id = selection.payload_id(arn, version);
        Ok(Arc::new(Payload { id, arn: arn.clone(), version: version.clone(), files }))
    }

    /// Says whether the mount is still known.
    fn set_placed(&self, id: &str, placed: Option<Placed>) -> bool {
        let mut memory = self.memory();
        let mount = memory.mounts.get_mut(id);
        mount.map(|mount| mount.placed = placed).is_some()
    }

    /// The store may have missed the last receipt, or the mount itself.
    async fn note_held(&self, mount: &LiveMount, placed: &Placed) -> Result<(), KeeperError> {
        let known = self.ports.store.mount(&mount.request.mount_id).await?;
        let holds = Some(placed.version.clone());
        let is_known = known
            .is_some_and(|known| known.arn == placed.arn && known.holds == holds && known.node == mount.node);
        if is_known || self.ports.store.secret(&placed.arn).await?.is_none() {
            return Ok(());
        }
        let audit = self.entry(&mount.pod, "resume", Some(&placed.arn), holds.as_ref(), "done");
        self.commit(vec![Change::PutMount(self.mount_record(mount, &placed.arn, holds))], vec![audit])
            .await?;
        self.tell(&placed.arn, What::Consumers);
        Ok(())
    }

    async fn note_withdrawn(
        &self,
        mount: &LiveMount,
        arn: &Arn,
        reason: &'static str,
    ) -> Result<(), KeeperError> {
        let audit = self.entry(&mount.pod, WITHDRAW, Some(arn), None, reason);
        let known = self.ports.store.mount(&mount.request.mount_id).await?;
        // The mounts of a secret that is no more went with it.
        let put = known.map(|_| Change::PutMount(self.mount_record(mount, arn, None)));
        self.commit(put.into_iter().collect(), vec![audit]).await?;
        self.tell(arn, What::Consumers);
        Ok(())
    }

    fn mount_record(&self, mount: &LiveMount, arn: &Arn, holds: Option<VersionId>) -> MountRecord {
        let request = mount.request.clone();
        let account = mount.pod.account().cloned().unwrap_or_else(|| ServiceAccount {
            namespace: request.pod_namespace.clone(),
            name: String::new(),
        });
        MountRecord {
            id: request.mount_id,
            node: mount.node.clone(),
            pod_namespace: request.pod_namespace,
            pod_name: request.pod_name,
            pod_uid: request.pod_uid,
            account,
            arn: arn.clone(),
            attributes: request.attributes,
            holds_since: holds.as_ref().map(|_| self.now()),
            holds,
        }
    }

    /// Forgets what was given to a mount, so that the next refresh gives it again.
    pub(super) fn forget_placed(&self, id: &str) {
        self.set_placed(id, None);
    }
}

impl LiveMount {
    fn new(pod: &Principal, node: &str, request: MountRequest) -> Result<Self, KeeperError> {
        let pairs = request.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let wanted =
            Attributes::parse(pairs).map_err(|error| KeeperError::InvalidParameter(error.to_string()))?;
        Ok(Self { node: node.to_owned(), pod: pod.clone(), request, wanted, placed: None })
    }

    /// Namespace and name of the custom resource that the mount asks for.
    fn resource(&self) -> (String, String) {
        let secret = &self.wanted.secret;
        (secret.namespace_or(&self.request.pod_namespace).to_owned(), secret.name().to_owned())
    }
}

impl Placed {
    fn holds(&self, projected: &Projected) -> bool {
        let names = projected.payload.files.iter().map(|(name, _)| name);
        self.arn == projected.arn && self.version == projected.version && self.file_names.iter().eq(names)
    }
}

impl From<&Projected> for Placed {
    fn from(projected: &Projected) -> Self {
        Self {
            arn: projected.arn.clone(),
            version: projected.version.clone(),
            payload_id: Some(projected.payload.id.clone()),
            file_names: projected.payload.files.iter().map(|(name, _)| name.clone()).collect(),
        }
    }
}

impl From<Held> for Placed {
    fn from(held: Held) -> Self {
        Self { arn: held.arn, version: held.version, payload_id: None, file_names: held.file_names }
    }
}

fn current(record: &SecretRecord) -> Result<VersionId, KeeperError> {
    let current = record.stages.get(&Stage::current());
    current.cloned().ok_or_else(|| KeeperError::NoValueForStage(Stage::current()))
}
