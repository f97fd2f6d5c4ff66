//! One write of the store and what follows it. Must not leave out what follows because whoever asked went away: a
//! caller of the API may hang up while his write is on its way to disk, and pods wait for what it changed.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;

use super::{Changed, Keeper, KeeperError, Memory, What, resource};
use crate::clock::Clock;
use crate::secret::{Arn, VersionId};
use crate::store::{AuditEntry, Batch, Change, SecretRecord, StoreError};

/// What follows a commit, in the order in which it is given.
pub(super) enum After {
    /// The secret is there and its resource stands for it.
    Made(SecretRecord),
    /// This version is the current one now.
    Promoted(VersionId),
    Ended(SecretRecord),
    Tell(What),
}

impl Keeper {
    pub(super) async fn commit(
        &self,
        changes: Vec<Change>,
        audit: Vec<AuditEntry>,
    ) -> Result<(), KeeperError> {
        self.ports.store.commit(Batch { epoch: self.epoch, changes, audit }).await?;
        Ok(())
    }

    /// Commits and does what follows, whether or not the caller waits for it.
    pub(super) async fn commit_then(
        &self,
        arn: &Arn,
        changes: Vec<Change>,
        audit: AuditEntry,
        after: Vec<After>,
    ) -> Result<(), KeeperError> {
        let batch = Batch { epoch: self.epoch, changes, audit: vec![audit] };
        let (store, arn) = (Arc::clone(&self.ports.store), arn.clone());
        let echo = Echo {
            changes: self.changes.clone(),
            memory: Arc::clone(&self.memory),
            clock: Arc::clone(&self.ports.clock),
        };
        let written = tokio::spawn(async move {
            store.commit(batch).await?;
            for step in after {
                echo.follow(&arn, step);
            }
            Ok::<(), StoreError>(())
        });
        match written.await {
            Ok(written) => Ok(written?),
            Err(cut) => Err(StoreError::Unavailable(format!("the write was cut short: {cut}")).into()),
        }
    }

    /// Tells what was committed. That nobody listens is no fault.
    pub(super) fn tell(&self, arn: &Arn, what: What) {
        let _ = self.changes.send(Changed { arn: arn.clone(), what });
    }
}

/// The parts of a keeper that outlive a caller's patience.
struct Echo {
    changes: broadcast::Sender<Changed>,
    memory: Arc<Mutex<Memory>>,
    clock: Arc<dyn Clock>,
}

impl Echo {
    fn follow(&self, arn: &Arn, step: After) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        match step {
            After::Made(record) => {
                if let Some(resource) = resource(&record) {
                    memory.by_resource.insert(resource, record.arn);
                }
            }
            After::Promoted(version) => {
                memory.promoted.insert(arn.clone(), (version, self.clock.monotonic()));
            }
            After::Ended(record) => {
                memory.promoted.remove(arn);
                if let Some(resource) = resource(&record)
                    && memory.by_resource.get(&resource) == Some(arn)
                {
                    memory.by_resource.remove(&resource);
                }
            }
            After::Tell(what) => {
                let _ = self.changes.send(Changed { arn: arn.clone(), what });
            }
        }
    }
}
