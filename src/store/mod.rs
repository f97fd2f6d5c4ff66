//! PORT. Where sealed versions, stages, origins, rotations, receipts and the audit are kept; its adapters.
//! Must never see an open value: it takes `Sealed`.

mod chain;
#[cfg(test)]
pub(crate) mod contract;
mod embedded;
mod error;
mod record;
mod start;

pub use chain::audit_hash;
pub use embedded::{Embedded, EmbeddedFile};
#[cfg(test)]
pub(crate) use embedded::{
    HELD_FOR,
    tests::{Volume, fault, open_for_tests},
};
pub use error::StoreError;
pub use record::*;
pub use start::{
    KeySeen, LossAccepted, Observed, Refusal, StartPlan, check_clock, check_position, decide_start,
};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::secret::{Arn, Name, VersionId};

/// What a root key derives the key of the row MACs for.
pub const ROW_MAC: &str = "row-mac";

/// A store of one installation. Every write is one transaction; a write that was acknowledged survives any crash.
#[async_trait]
pub trait Store: Send + Sync {
    /// What this store was made for; `None` before the very first start has begun.
    async fn installation(&self) -> Result<Option<Installation>, StoreError>;

    /// Makes the caller the one writer: later batches of earlier epochs fail with `Fenced`.
    async fn raise_epoch(&self) -> Result<Epoch, StoreError>;

    /// Epoch and sequence of the newest commit, to tell a store that was put back from an older copy.
    async fn position(&self) -> Result<Position, StoreError>;

    /// The newest time in any record that was ever written, to notice a clock that lags behind the store.
    async fn newest_record_at(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Writes all of the batch or nothing. Batches that wait together share one flush to disk.
    async fn commit(&self, batch: Batch) -> Result<Position, StoreError>;

    async fn secret(&self, arn: &Arn) -> Result<Option<SecretRecord>, StoreError>;
    async fn secret_named(&self, name: &Name) -> Result<Option<SecretRecord>, StoreError>;
    /// By name, after the given one; at most `limit` of them.
    async fn secrets(&self, after: Option<&Name>, limit: usize) -> Result<Vec<SecretRecord>, StoreError>;

    async fn version(&self, arn: &Arn, id: &VersionId) -> Result<Option<VersionRecord>, StoreError>;
    /// All versions of a secret without their bodies.
    async fn versions(&self, arn: &Arn) -> Result<Vec<VersionSummary>, StoreError>;
    /// What whoever writes a version under this id has to know.
    async fn before_put(&self, arn: &Arn, id: &VersionId) -> Result<BeforePut, StoreError>;

    async fn rotation(&self, arn: &Arn) -> Result<Option<RotationRecord>, StoreError>;
    async fn rotations(&self) -> Result<Vec<RotationRecord>, StoreError>;

    async fn policy(&self, arn: &Arn) -> Result<Option<PolicyRecord>, StoreError>;

    async fn access_key(&self, id: &str) -> Result<Option<AccessKeyRecord>, StoreError>;
    /// Those of a namespace's ServiceAccounts, or of all, by id.
    async fn access_keys(&self, namespace: Option<&str>) -> Result<Vec<AccessKeyRecord>, StoreError>;

    async fn mount(&self, id: &str) -> Result<Option<MountRecord>, StoreError>;
    async fn mounts_of_secret(&self, arn: &Arn) -> Result<Vec<MountRecord>, StoreError>;
    async fn mounts_on_node(&self, node: &str) -> Result<Vec<MountRecord>, StoreError>;

    /// Audit rows after a sequence number, oldest first; at most `limit` of them.
    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditRecord>, StoreError>;
}
