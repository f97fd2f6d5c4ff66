//! Project: the files of a secret for a pod, at its first mount and after a restart.
//! Must not trust volume attributes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::authorise::{Act, Asked};
use super::files::Selection;
use super::live::{LiveMount, Placed};
use super::measure::counted;
use super::refresh::Payloads;
use super::{Keeper, KeeperError, Payload, Refreshed, What, said};
use crate::access::{Authorized, Denied, Operation, Principal, RbacAnswer, ServiceAccount};
use crate::failpoint;
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
    /// The node has no copy of the values and wants one.
    pub copy_wanted: bool,
}

/// What a mount should hold.
#[derive(Clone)]
pub struct Projected {
    pub arn: Arn,
    pub version: VersionId,
    /// Shared by every mount of one refresh that asks for the same.
    pub payload: Arc<Payload>,
    pub first_mounts: FirstMounts,
    /// The uid of the pod's ServiceAccount.
    pub account_uid: String,
}

/// What another pod of the same ServiceAccount would get now that asked for the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstMounts {
    Served,
    /// A deletion waits, or not every key that is asked for is granted: running pods keep what there is, new ones
    /// get nothing.
    Refused,
}

/// The secret, and whether the pod may have it.
pub(super) type Projectable = (SecretRecord, Result<Authorized, Denied>);

/// Whom the cluster is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    /// The pod, with all that its token said: each pod is a question of its own.
    ByPod,
    /// Its ServiceAccount, as after a restart: one question for all of its pods.
    ByAccount,
}

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
        let before = self.memory().mounts.insert(mount.clone());
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
                    Some(before) => memory.mounts.insert(before),
                    None => memory.mounts.remove(&id),
                };
                Err(error)
            }
        }
    }

    async fn attach_known(&self, mount: &LiveMount) -> Result<Projected, KeeperError> {
        let (record, decided) = self.projectable(mount, Asking::ByPod).await?;
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
        let first_mounts = FirstMounts::of(&record, &selection, mount);
        let account_uid = mount.pod.uid().to_owned();
        Ok(Projected { arn: record.arn, version, payload, first_mounts, account_uid })
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
        mount.copy_wanted = held.as_ref().is_some_and(|held| held.copy_wanted);
        mount.placed = held.map(Placed::from);
        self.memory().mounts.insert(LiveMount { copy_wanted: false, ..mount.clone() });
        if let Some(placed) = &mount.placed {
            self.note_held(&mount, placed).await?;
        }
        let right = self.projectable(&mount, Asking::ByPod).await;
        Ok(self.refresh_one(mount, right, &mut Payloads::new()).await)
    }

    /// The secret that the mount's resource stands for now, and whether the pod may have it.
    pub(super) async fn projectable(
        &self,
        mount: &LiveMount,
        asking: Asking,
    ) -> Result<Projectable, KeeperError> {
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
        let rbac = self.answer_about(mount, act(&id), &record.name, asking).await;
        let said = said::of_projection();
        let asked = Asked { act: act(&id), record: &record, stages: &[Stage::current()], said: &said };
        let decided = self.decided(asked, &rbac).await?;
        Ok((record, decided))
    }

    /// What the cluster says about the pod. Asked by account it is asked about the pod all the same when the answer is
    /// not what it last was about the pod: an authorizer may look at more than the account, or a right has changed.
    async fn answer_about(&self, mount: &LiveMount, act: Act<'_>, name: &Name, asking: Asking) -> RbacAnswer {
        let last = mount.answered.as_ref().filter(|(of, _)| of == name).map(|(_, answer)| answer);
        if asking == Asking::ByAccount
            && let Some(last) = last
        {
            let answer = self.ask(Act { by: &mount.pod.without_extra(), ..act }, name).await;
            if answer == *last {
                return answer;
            }
        }
        let answer = self.ask(act, name).await;
        if !matches!(answer, RbacAnswer::Unknown(_)) {
            self.memory().mounts.set_answered(&mount.request.mount_id, (name.clone(), answer.clone()));
        }
        answer
    }

    pub(super) async fn payload(
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
    pub(super) fn set_placed(&self, id: &str, placed: Option<Placed>) -> bool {
        self.memory().mounts.set_placed(id, placed)
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

    pub(super) async fn note_withdrawn(
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

impl FirstMounts {
    pub(super) fn of(record: &SecretRecord, selection: &Selection, mount: &LiveMount) -> Self {
        let complete = selection.check_complete(&mount.wanted.keys).is_ok();
        if complete && record.deletion.is_none() { Self::Served } else { Self::Refused }
    }
}

pub(super) fn current(record: &SecretRecord) -> Result<VersionId, KeeperError> {
    let current = record.stages.get(&Stage::current());
    current.cloned().ok_or_else(|| KeeperError::NoValueForStage(Stage::current()))
}
