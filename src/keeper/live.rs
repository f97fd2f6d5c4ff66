//! The mounts that streams have told of, and what each was given. The store knows them too, but not what a token said of
//! the pod. Must not ask anybody, nor decide.

use std::collections::{BTreeMap, BTreeSet};

use super::{Held, KeeperError, MountRequest, Projected};
use crate::access::{Principal, RbacAnswer};
use crate::inject::Attributes;
use crate::secret::{Arn, Name, VersionId};

/// By mount id, and by node: a change is looked for among the mounts of one node, and never among all.
#[derive(Default)]
pub(super) struct LiveMounts {
    by_id: BTreeMap<String, LiveMount>,
    of_node: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Clone)]
pub(super) struct LiveMount {
    pub(super) node: String,
    pub(super) pod: Principal,
    pub(super) request: MountRequest,
    pub(super) wanted: Attributes,
    /// What was last given to it; `None` before that, and after it was withdrawn.
    pub(super) placed: Option<Placed>,
    /// What the cluster last answered about this very pod, and of which secret.
    pub(super) answered: Option<(Name, RbacAnswer)>,
    /// Only in the answer to a resumption.
    pub(super) copy_wanted: bool,
}

#[derive(Clone)]
pub(super) struct Placed {
    pub(super) arn: Arn,
    pub(super) version: VersionId,
    /// `None` after a restart, when only the names of the files are known.
    pub(super) payload_id: Option<String>,
    file_names: BTreeSet<String>,
}

impl LiveMounts {
    /// Gives back what was known under the same id.
    pub(super) fn insert(&mut self, mount: LiveMount) -> Option<LiveMount> {
        let id = mount.request.mount_id.clone();
        let before = self.remove(&id);
        self.of_node.entry(mount.node.clone()).or_default().insert(id.clone());
        self.by_id.insert(id, mount);
        before
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<LiveMount> {
        let mount = self.by_id.remove(id)?;
        if let Some(ids) = self.of_node.get_mut(&mount.node) {
            ids.remove(id);
            if ids.is_empty() {
                self.of_node.remove(&mount.node);
            }
        }
        Some(mount)
    }

    pub(super) fn remove_node(&mut self, node: &str) {
        for id in self.of_node.remove(node).unwrap_or_default() {
            self.by_id.remove(&id);
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<&LiveMount> {
        self.by_id.get(id)
    }

    /// Says whether the mount is still known.
    pub(super) fn set_placed(&mut self, id: &str, placed: Option<Placed>) -> bool {
        self.by_id.get_mut(id).map(|mount| mount.placed = placed).is_some()
    }

    pub(super) fn set_answered(&mut self, id: &str, answered: (Name, RbacAnswer)) {
        if let Some(mount) = self.by_id.get_mut(id) {
            mount.answered = Some(answered);
        }
    }

    pub(super) fn on_node(&self, node: &str) -> impl Iterator<Item = &LiveMount> {
        self.of_node.get(node).into_iter().flatten().filter_map(|id| self.by_id.get(id))
    }
}

impl LiveMount {
    pub(super) fn new(pod: &Principal, node: &str, request: MountRequest) -> Result<Self, KeeperError> {
        let pairs = request.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let wanted =
            Attributes::parse(pairs).map_err(|error| KeeperError::InvalidParameter(error.to_string()))?;
        let (node, pod) = (node.to_owned(), pod.clone());
        Ok(Self { node, pod, request, wanted, placed: None, answered: None, copy_wanted: false })
    }

    /// Namespace and name of the custom resource that the mount asks for.
    pub(super) fn resource(&self) -> (String, String) {
        let secret = &self.wanted.secret;
        (secret.namespace_or(&self.request.pod_namespace).to_owned(), secret.name().to_owned())
    }
}

impl Placed {
    pub(super) fn holds(&self, projected: &Projected) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(id: &str, node: &str) -> LiveMount {
        let request = MountRequest {
            mount_id: id.into(),
            pod_namespace: "shop".into(),
            pod_name: "pod".into(),
            pod_uid: "pod-1".into(),
            attributes: BTreeMap::from([("secret".to_owned(), "orders-db".to_owned())]),
        };
        LiveMount::new(&Principal::Controller, node, request).unwrap()
    }

    #[test]
    fn only_the_mounts_of_the_node_are_looked_at() {
        let mut mounts = LiveMounts::default();
        for number in 0..1000 {
            mounts.insert(mount(&format!("pod-{number}/v"), &format!("node-{}", number % 100)));
        }
        let mut looked_at = 0;
        let of_node = mounts.on_node("node-7").inspect(|_| looked_at += 1);
        assert!(of_node.filter(|mount| mount.node == "node-7").count() == 10);
        assert_eq!(looked_at, 10);

        mounts.insert(mount("pod-7/v", "node-8"));
        assert_eq!((mounts.on_node("node-7").count(), mounts.on_node("node-8").count()), (9, 11));
        assert!(mounts.remove("pod-7/v").is_some() && mounts.remove("pod-7/v").is_none());
        mounts.remove_node("node-8");
        assert_eq!((mounts.on_node("node-8").count(), mounts.get("pod-8/v").is_some()), (0, false));
        assert_eq!((mounts.by_id.len(), mounts.of_node.len()), (989, 99));
    }
}
