//! Where the secrets were made, in the store's own record of its installation.
//! Must not forget the earlier place before the controller says so.

use std::sync::Arc;

use async_trait::async_trait;

use crate::controller::managed_secret::{Anchor, AnchorError, Place};
use crate::store::{Batch, Change, Epoch, Installation, Store};

pub struct StoreAnchor {
    pub store: Arc<dyn Store>,
    pub epoch: Epoch,
}

impl StoreAnchor {
    async fn installation(&self) -> Result<Installation, AnchorError> {
        let found = self.store.installation().await.map_err(|error| AnchorError(error.to_string()))?;
        found.ok_or_else(|| AnchorError("the store has no record of its installation".to_owned()))
    }
}

#[async_trait]
impl Anchor for StoreAnchor {
    async fn recorded(&self) -> Result<Place, AnchorError> {
        let Installation { cluster_id, crd_uid, .. } = self.installation().await?;
        Ok(Place { cluster_id, crd_uid })
    }

    async fn record(&self, place: &Place) -> Result<(), AnchorError> {
        let installation = Installation {
            cluster_id: place.cluster_id.clone(),
            crd_uid: place.crd_uid.clone(),
            ..self.installation().await?
        };
        let batch = Batch {
            epoch: self.epoch,
            changes: vec![Change::PutInstallation(installation)],
            audit: Vec::new(),
        };
        self.store.commit(batch).await.map(drop).map_err(|error| AnchorError(error.to_string()))
    }
}
