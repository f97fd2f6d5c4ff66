//! Tells readiness what a store that is served from complains of, and when it is well again.
//! Must not end the process: streams and mounted files go on, and what is not written is not acknowledged.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::store::{Batch, Epoch, Store, StoreError};
use crate::telemetry::Component;

/// Runs until the store is gone. A full or read-only volume is tried again with an empty batch, as nobody else may come
/// to write while the server is not ready.
pub async fn tell(
    store: Arc<dyn Store>,
    epoch: Epoch,
    mut troubles: watch::Receiver<Option<StoreError>>,
    component: Component,
    again: Duration,
) {
    loop {
        component.ready();
        if troubles.changed().await.is_err() {
            return;
        }
        let mut trouble = seen_last(&mut troubles);
        while let Some(error) = trouble {
            component.not_ready(error.reason(), error.to_string());
            if lasts(&error) {
                // The whole file is checked when it is next opened, and not before.
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(again).await;
            let tried = store.commit(Batch { epoch, changes: Vec::new(), audit: Vec::new() }).await;
            // Also what others met meanwhile: it may be of the kind that lasts.
            let met = seen_last(&mut troubles).filter(lasts);
            trouble = met.or(tried.err());
        }
    }
}

/// Takes it as told, so that only what comes from now on counts.
fn seen_last(troubles: &mut watch::Receiver<Option<StoreError>>) -> Option<StoreError> {
    troubles.borrow_and_update().clone()
}

/// Whether no later write can show that it is over.
fn lasts(trouble: &StoreError) -> bool {
    matches!(trouble, StoreError::Tampered { .. } | StoreError::RowsPutBack | StoreError::Corrupt(_))
}
