//! Describe: all that is known about a secret but its values. Must not open anything.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::authorise::Act;
use super::{Keeper, KeeperError};
use crate::access::{Operation, Principal};
use crate::secret::{Arn, Name, Origin, SecretId, Stage, VersionId};
use crate::store::{Deletion, GrantRecord, RotationConfig, VersionSummary};

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
    pub rotation: Option<RotationConfig>,
    pub next_rotation: Option<Timestamp>,
    /// Versions that bear stages; others are hidden, as AWS hides them.
    pub stages: BTreeMap<VersionId, Vec<Stage>>,
    /// Every version, with stages or without, oldest first.
    pub versions: Vec<VersionSummary>,
    pub grants: Vec<GrantRecord>,
    pub recovery_window_days: u8,
    pub tags: Option<BTreeMap<String, String>>,
}

impl Keeper {
    /// Works on a secret that is scheduled for deletion as well.
    pub async fn describe(&self, by: &Principal, id: &SecretId) -> Result<Description, KeeperError> {
        let act = Act { by, operation: Operation::Describe, id, version: None };
        let (record, _) = self.authorised(act, |_| Vec::new()).await?;
        let mut versions = self.ports.store.versions(&record.arn).await?;
        versions.sort_by(|one, other| (one.created_at, &one.id).cmp(&(other.created_at, &other.id)));
        let next_rotation = self.next_rotation(&record).await?;
        let mut stages: BTreeMap<VersionId, Vec<Stage>> = BTreeMap::new();
        for (stage, version) in record.stages {
            stages.entry(version).or_default().push(stage);
        }
        Ok(Description {
            arn: record.arn,
            name: record.name,
            origin: record.origin,
            description: record.description,
            created_at: record.created_at,
            changed_at: record.changed_at,
            accessed_at: record.accessed_at,
            rotated_at: record.rotated_at,
            deletion: record.deletion,
            rotation_enabled: record.rotation_enabled,
            rotation: record.rotation.map(|config| *config),
            next_rotation,
            stages,
            versions,
            grants: record.grants,
            recovery_window_days: record.recovery_window_days,
            tags: record.tags,
        })
    }
}
