//! The store as the server sees it: passes everything on, notes where it stands, and notices trouble and a newer leader.
//! Must not change an answer.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::StorePosition;
use crate::secret::{Arn, Name, VersionId};
use crate::store::{
    AccessKeyRecord, AuditRecord, Batch, BeforePut, Epoch, Installation, MountRecord, PolicyRecord, Position,
    RotationRecord, SecretRecord, Store, StoreError, VersionRecord, VersionSummary,
};

pub struct WatchedStore {
    pub store: Arc<dyn Store>,
    /// For the Lease, which tells a later leader whether the store was put back from an older copy.
    pub positions: watch::Sender<Option<StorePosition>>,
    /// What the store last complained of that concerns more than the one who asked.
    pub troubles: watch::Sender<Option<StoreError>>,
    /// Cancelled when a newer leader has the store: this process must end.
    pub fenced: CancellationToken,
}

impl WatchedStore {
    fn seen<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        match &answer {
            Err(StoreError::Fenced) => self.fenced.cancel(),
            // Its own affair: whoever asked decides again.
            Ok(_) | Err(StoreError::Conflict) => {}
            Err(trouble) => {
                self.troubles.send_replace(Some(trouble.clone()));
            }
        }
        answer
    }
}

pub fn noted(position: Position) -> StorePosition {
    StorePosition { epoch: position.epoch.0, commit: position.commit }
}

#[async_trait]
impl Store for WatchedStore {
    async fn installation(&self) -> Result<Option<Installation>, StoreError> {
        self.seen(self.store.installation().await)
    }

    async fn raise_epoch(&self) -> Result<Epoch, StoreError> {
        self.seen(self.store.raise_epoch().await)
    }

    async fn position(&self) -> Result<Position, StoreError> {
        self.seen(self.store.position().await)
    }

    async fn newest_record_at(&self) -> Result<Option<Timestamp>, StoreError> {
        self.seen(self.store.newest_record_at().await)
    }

    async fn commit(&self, batch: Batch) -> Result<Position, StoreError> {
        let position = self.seen(self.store.commit(batch).await)?;
        // Commits that end together may be told in another order; the highest stands.
        self.positions.send_if_modified(|now| {
            let newer = now.is_none_or(|now| now < noted(position));
            if newer {
                *now = Some(noted(position));
            }
            newer
        });
        Ok(position)
    }

    async fn secret(&self, arn: &Arn) -> Result<Option<SecretRecord>, StoreError> {
        self.seen(self.store.secret(arn).await)
    }

    async fn secret_named(&self, name: &Name) -> Result<Option<SecretRecord>, StoreError> {
        self.seen(self.store.secret_named(name).await)
    }

    async fn secrets(&self, after: Option<&Name>, limit: usize) -> Result<Vec<SecretRecord>, StoreError> {
        self.seen(self.store.secrets(after, limit).await)
    }

    async fn version(&self, arn: &Arn, id: &VersionId) -> Result<Option<VersionRecord>, StoreError> {
        self.seen(self.store.version(arn, id).await)
    }

    async fn versions(&self, arn: &Arn) -> Result<Vec<VersionSummary>, StoreError> {
        self.seen(self.store.versions(arn).await)
    }

    async fn before_put(&self, arn: &Arn, id: &VersionId) -> Result<BeforePut, StoreError> {
        self.seen(self.store.before_put(arn, id).await)
    }

    async fn rotation(&self, arn: &Arn) -> Result<Option<RotationRecord>, StoreError> {
        self.seen(self.store.rotation(arn).await)
    }

    async fn rotations(&self) -> Result<Vec<RotationRecord>, StoreError> {
        self.seen(self.store.rotations().await)
    }

    async fn policy(&self, arn: &Arn) -> Result<Option<PolicyRecord>, StoreError> {
        self.seen(self.store.policy(arn).await)
    }

    async fn access_key(&self, id: &str) -> Result<Option<AccessKeyRecord>, StoreError> {
        self.seen(self.store.access_key(id).await)
    }

    async fn access_keys(&self, namespace: Option<&str>) -> Result<Vec<AccessKeyRecord>, StoreError> {
        self.seen(self.store.access_keys(namespace).await)
    }

    async fn mount(&self, id: &str) -> Result<Option<MountRecord>, StoreError> {
        self.seen(self.store.mount(id).await)
    }

    async fn mounts_of_secret(&self, arn: &Arn) -> Result<Vec<MountRecord>, StoreError> {
        self.seen(self.store.mounts_of_secret(arn).await)
    }

    async fn mounts_on_node(&self, node: &str) -> Result<Vec<MountRecord>, StoreError> {
        self.seen(self.store.mounts_on_node(node).await)
    }

    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        self.seen(self.store.audit(after, limit).await)
    }
}
