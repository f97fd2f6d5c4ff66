//! Versions: which ones a secret has, and their stages. Must not open anything.

use jiff::Timestamp;

use super::authorise::Act;
use super::measure::counted;
use super::{Keeper, KeeperError};
use crate::access::{Operation, Principal};
use crate::secret::moves::stages_of;
use crate::secret::{Arn, Name, SecretId, Stage, VersionId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    pub arn: Arn,
    pub name: Name,
    /// Oldest first; those without stages are there as well.
    pub versions: Vec<Version>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub id: VersionId,
    pub created_at: Timestamp,
    pub stages: Vec<Stage>,
    /// Day of the last read.
    pub accessed_at: Option<Timestamp>,
}

impl Keeper {
    /// Works on a secret that is scheduled for deletion as well.
    pub async fn versions(&self, by: &Principal, id: &SecretId) -> Result<Versions, KeeperError> {
        counted(Operation::ListVersions, self.versions_once(by, id).await)
    }

    async fn versions_once(&self, by: &Principal, id: &SecretId) -> Result<Versions, KeeperError> {
        let act = Act { by, operation: Operation::ListVersions, id, version: None };
        let (record, _) = self.authorised(act, |_| Vec::new()).await?;
        let found = self.ports.store.versions(&record.arn).await?;
        let mut versions: Vec<_> = found
            .into_iter()
            .map(|found| Version {
                stages: stages_of(&record.stages, &found.id),
                accessed_at: record.versions_accessed_at.get(&found.id).copied(),
                id: found.id,
                created_at: found.created_at,
            })
            .collect();
        versions.sort_by(|one, other| (one.created_at, &one.id).cmp(&(other.created_at, &other.id)));
        Ok(Versions { arn: record.arn, name: record.name, versions })
    }
}
