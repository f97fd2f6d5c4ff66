//! Describe: all that is known about a secret but its values. Must not open anything.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::secret::{Arn, Name, Origin, Stage, VersionId};
use crate::store::{Deletion, GrantRecord, VersionSummary};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub arn: Arn,
    pub name: Name,
    pub origin: Origin,
    pub description: Option<String>,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
    pub accessed_at: Option<Timestamp>,
    pub rotated_at: Option<Timestamp>,
    pub deletion: Option<Deletion>,
    pub rotation_enabled: Option<bool>,
    /// Versions that bear stages; others are hidden, as AWS hides them.
    pub stages: BTreeMap<VersionId, Vec<Stage>>,
    /// Every version, with stages or without, oldest first.
    pub versions: Vec<VersionSummary>,
    pub grants: Vec<GrantRecord>,
    pub recovery_window_days: u8,
}
