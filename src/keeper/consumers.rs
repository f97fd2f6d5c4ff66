//! Consumers: which mounts hold which version, as receipts prove. Must not guess: a silent node is unknown.

use std::collections::BTreeMap;

use crate::secret::VersionId;

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
