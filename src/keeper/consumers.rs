//! Consumers: which mounts hold which version, as receipts prove. Must not guess: a silent node is unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{Keeper, KeeperError, PAGE, What, measure};
use crate::failpoint;
use crate::secret::{Arn, Stage, VersionId};
use crate::store::{AuditEntry, Change, MountRecord, Store};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consumers {
    pub total: usize,
    /// Hold the version with AWSCURRENT.
    pub current: usize,
    /// Hold another, or nothing yet.
    pub stale: usize,
    /// On nodes that have been silent for 30 s: they count as holding the old version.
    pub unknown: usize,
    /// By the version of the last receipt, whatever is known of the node.
    pub by_version: BTreeMap<VersionId, usize>,
}

/// A node's word that the files of a mount hold a version now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub mount_id: String,
    pub arn: Arn,
    pub version: VersionId,
    /// When the word came, whenever it is written down.
    pub came_at: Instant,
}

/// How long a node may be silent before nobody knows any more what its pods hold.
const SILENCE: Duration = Duration::from_secs(30);

/// Which nodes have a stream. A node that was never heard of is as silent as this keeper is old, and those that the
/// store knows mounts of are told of like any other that falls silent.
pub(super) struct Nodes {
    began_at: Instant,
    known: BTreeMap<String, Node>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    /// A new stream may begin before the end of the old one is noticed.
    Connected {
        streams: usize,
    },
    Lost {
        at: Instant,
        told: bool,
    },
}

impl Nodes {
    pub(super) fn since(began_at: Instant, with_mounts: BTreeSet<String>) -> Self {
        let lost = Node::Lost { at: began_at, told: false };
        Self { began_at, known: with_mounts.into_iter().map(|name| (name, lost)).collect() }
    }

    fn is_silent(&self, node: &str, now: Instant) -> bool {
        if !failpoint::guard("silence-is-unknown") {
            return false;
        }
        match self.known.get(node) {
            Some(Node::Connected { .. }) => false,
            Some(Node::Lost { at, .. }) => now.duration_since(*at) >= SILENCE,
            None => now.duration_since(self.began_at) >= SILENCE,
        }
    }
}

impl Keeper {
    /// A node's agent has opened a stream.
    pub fn node_connected(&self, node: &str) {
        let mut memory = self.memory();
        let known = &mut memory.nodes.known;
        let streams = match known.get(node) {
            Some(Node::Connected { streams }) => streams + 1,
            _ => 1,
        };
        known.insert(node.to_owned(), Node::Connected { streams });
    }

    /// A stream of a node has ended. Its files stay; after a while nobody knows what they are.
    pub fn node_lost(&self, node: &str) {
        let at = self.ports.clock.monotonic();
        let mut memory = self.memory();
        let after = match memory.nodes.known.get(node) {
            Some(Node::Connected { streams }) if *streams > 1 => Node::Connected { streams: streams - 1 },
            Some(Node::Connected { .. }) => Node::Lost { at, told: false },
            _ => return,
        };
        memory.nodes.known.insert(node.to_owned(), after);
    }

    /// The Node is deleted or out of service: its pods run no more, and their mounts are ended.
    pub async fn node_gone(&self, node: &str) -> Result<(), KeeperError> {
        for mount in self.ports.store.mounts_on_node(node).await? {
            self.end_mount(mount, "node-gone").await?;
        }
        let mut memory = self.memory();
        memory.nodes.known.remove(node);
        memory.mounts.remove_node(node);
        Ok(())
    }

    /// Tells of the secrets whose consumers became unknown because their nodes fell silent. To be called every few
    /// seconds.
    pub async fn tell_of_silence(&self) -> Result<(), KeeperError> {
        let now = self.ports.clock.monotonic();
        let silent: Vec<String> = {
            let mut memory = self.memory();
            let fell_silent = memory.nodes.known.iter_mut().filter_map(|(name, node)| match node {
                Node::Lost { at, told } if !*told && now.duration_since(*at) >= SILENCE => {
                    *told = true;
                    Some(name.clone())
                }
                _ => None,
            });
            fell_silent.collect()
        };
        for node in silent {
            for mount in self.ports.store.mounts_on_node(&node).await? {
                self.tell(&mount.arn, What::Consumers);
            }
        }
        Ok(())
    }

    /// The nodes on which the store knows of mounts, for whoever finds out which of them are gone.
    pub async fn nodes_with_mounts(&self) -> Result<BTreeSet<String>, KeeperError> {
        nodes_with_mounts(self.ports.store.as_ref()).await
    }

    /// What the store knows of a node's mounts, for a stream that begins: what the agent does not name is gone.
    pub async fn mounts_on_node(&self, node: &str) -> Result<Vec<MountRecord>, KeeperError> {
        Ok(self.ports.store.mounts_on_node(node).await?)
    }

    /// The node's word that files of its mounts now hold a version: of each mount at most one. All are one write. A
    /// receipt for a mount that is gone says nothing.
    pub async fn receipts(&self, node: &str, receipts: &[Receipt]) -> Result<(), KeeperError> {
        let (mut changes, mut audit, mut moved, mut stale) =
            (Vec::new(), Vec::new(), BTreeSet::new(), BTreeSet::new());
        let mut measured = Vec::new();
        for receipt in receipts {
            let Receipt { mount_id, arn, version, .. } = receipt;
            let Some(mount) = self.mount_of(node, mount_id).await? else { continue };
            let Some(secret) = self.ports.store.secret(arn).await? else { continue };
            if mount.holds.as_ref() != Some(version) || mount.arn != *arn {
                let changed_hands = mount.arn == *arn && mount.holds.is_some();
                measured.extend(changed_hands.then_some(receipt));
                audit.push(self.of_mount(&mount, "receipt", Some(version)));
                let (holds, holds_since) = (Some(version.clone()), Some(self.now()));
                changes.push(Change::PutMount(MountRecord { arn: arn.clone(), holds, holds_since, ..mount }));
                moved.insert(arn);
            }
            // It may have been placed while another version became current: then it is given that one once more.
            if secret.stages.get(&Stage::current()) != Some(version) {
                stale.insert((mount_id, arn));
            }
        }
        if !changes.is_empty() {
            let written = audit.len() as u64;
            self.commit(changes, audit).await?;
            measure::received(written);
        }
        measured.into_iter().for_each(|receipt| self.measure_receipt(node, receipt));
        moved.into_iter().for_each(|arn| self.tell(arn, What::Consumers));
        for (mount_id, arn) in stale {
            self.forget_placed(mount_id);
            self.tell(arn, What::Value);
        }
        Ok(())
    }

    /// The volume is unpublished, or its first mount was given up.
    pub async fn detach(&self, node: &str, mount_id: &str) -> Result<(), KeeperError> {
        if let Some(mount) = self.mount_of(node, mount_id).await? {
            self.end_mount(mount, "detach").await?;
        }
        let mut memory = self.memory();
        if memory.mounts.get(mount_id).is_some_and(|mount| mount.node == node) {
            memory.mounts.remove(mount_id);
        }
        Ok(())
    }

    /// Who holds what. A mount on a silent node counts as unknown, whatever its last receipt said.
    pub async fn consumers(&self, arn: &Arn) -> Result<Consumers, KeeperError> {
        let record = self.ports.store.secret(arn).await?;
        let current = record.and_then(|record| record.stages.get(&Stage::current()).cloned());
        let mounts = self.ports.store.mounts_of_secret(arn).await?;
        let now = self.ports.clock.monotonic();
        let memory = self.memory();
        let mut counted = Consumers { total: mounts.len(), ..Consumers::default() };
        for mount in mounts {
            let is_current = mount.holds.is_some() && mount.holds == current;
            match memory.nodes.is_silent(&mount.node, now) {
                true => counted.unknown += 1,
                false if is_current => counted.current += 1,
                false => counted.stale += 1,
            }
            if let Some(version) = mount.holds {
                *counted.by_version.entry(version).or_default() += 1;
            }
        }
        Ok(counted)
    }

    /// A mount of that node; a node has no say over another's.
    async fn mount_of(&self, node: &str, mount_id: &str) -> Result<Option<MountRecord>, KeeperError> {
        let mount = self.ports.store.mount(mount_id).await?;
        Ok(mount.filter(|mount| mount.node == node))
    }

    async fn end_mount(&self, mount: MountRecord, verb: &str) -> Result<(), KeeperError> {
        let audit = self.of_mount(&mount, verb, None);
        self.commit(vec![Change::RemoveMount(mount.id)], vec![audit]).await?;
        self.tell(&mount.arn, What::Consumers);
        Ok(())
    }

    fn of_mount(&self, mount: &MountRecord, verb: &str, version: Option<&VersionId>) -> AuditEntry {
        AuditEntry {
            at: self.now(),
            who: format!("system:node:{}", mount.node),
            verb: verb.to_owned(),
            secret: Some(mount.arn.clone()),
            version: version.cloned(),
            pod: Some(format!("{}/{}/{}", mount.pod_namespace, mount.pod_name, mount.pod_uid)),
            outcome: "done".to_owned(),
        }
    }
}

pub(super) async fn nodes_with_mounts(store: &dyn Store) -> Result<BTreeSet<String>, KeeperError> {
    let (mut nodes, mut after) = (BTreeSet::new(), None);
    loop {
        let page = store.secrets(after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(nodes) };
        after = Some(last.name.clone());
        for record in &page {
            nodes.extend(store.mounts_of_secret(&record.arn).await?.into_iter().map(|mount| mount.node));
        }
    }
}
