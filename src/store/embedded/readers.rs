//! Connections that read beside the writer. Must not write.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::folder::Folder;
use crate::seal::DerivedKey;
use crate::store::StoreError;

/// So many read at once.
const READERS_MAX: usize = 4;

/// A pool that opens connections when they are first needed.
pub(super) struct Readers {
    folder: Arc<Folder>,
    key: Arc<DerivedKey>,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(folder: Arc<Folder>, key: Arc<DerivedKey>) -> Self {
        Self { folder, key, idle: Mutex::new(Vec::new()), permits: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    /// Reads with one of the connections, on a thread that may block.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection, &DerivedKey) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let ended = |_| StoreError::Unavailable("a reader has ended".into());
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| StoreError::Unavailable("it is closed".into()))?;
        let readers = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            // Held until the read is over, also when the caller has gone away meanwhile.
            let _permit = permit;
            let idle = readers.idle().pop();
            let connection = idle.map_or_else(|| readers.folder.reader(), Ok)?;
            let outcome = read(&connection, &readers.key);
            readers.idle().push(connection);
            outcome
        })
        .await
        .map_err(ended)?
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
