//! ADAPTER. The store in a folder of this machine: SQLite with a write-ahead log. Must be the only holder of its folder.
//!
//! A start goes in two steps, for the key of the row MACs is derived from the root key, and on the very first start there
//! is no root key yet. `EmbeddedFile` is the file before the key: it tells what the file claims to be, and writes the
//! one row that needs no MAC, the installation in state `Initialising`. `EmbeddedFile::unlock` takes the key and gives the
//! store. What was claimed is verified there: only an empty store may be without MACs.

mod access_keys;
mod apply;
mod codec;
mod fault;
mod folder;
mod journal;
mod ledger;
mod mounts;
mod parts;
mod policies;
mod readers;
mod recent;
mod schema;
mod soundness;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, params};
use tokio::sync::{mpsc, oneshot};

use access_keys::ACCESS_KEY;
use codec::{AUDIT, INSTALLATION, SECRET};
use fault::fault;
use folder::Folder;
use journal::ROTATION;
use ledger::{Ledger, POSITION};
use mounts::MOUNT;
use readers::Readers;
#[cfg(test)]
pub(crate) use recent::HELD_FOR;
use recent::Recent;
use table::Read;
use writer::{Job, Work};

use super::{
    AccessKeyRecord, AuditRecord, Batch, BeforePut, Epoch, Installation, InstallationState, MountRecord,
    PolicyRecord, Position, RotationRecord, SecretRecord, Store, StoreError, VersionRecord, VersionSummary,
    audit_hash,
};
use crate::seal::{DerivedKey, Tally};
use crate::secret::{Arn, Name, VersionId};

/// The store's file, locked and of this program's schema, before there is a key to verify it with.
pub struct EmbeddedFile {
    // Closed before the folder is given back.
    connection: Connection,
    folder: Folder,
}

impl EmbeddedFile {
    /// Takes the folder, which must exist, and brings its file to this program's schema.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let folder = Folder::take(folder)?;
        let mut connection = folder.writer()?;
        schema::migrate(&mut connection)?;
        Ok(Self { folder, connection })
    }

    /// What the file claims to be. To be believed once `unlock` has verified it.
    pub fn installation(&self) -> Result<Option<Installation>, StoreError> {
        apply::claimed_installation(&self.connection)
    }

    /// Whether the file holds anything but what a first start writes.
    pub fn has_records(&self) -> Result<bool, StoreError> {
        apply::has_records(&self.connection)
    }

    /// The first step of a first start: notes which installation this is to be, before its root key is made.
    pub fn begin(&mut self, record: &Installation) -> Result<(), StoreError> {
        let begun = self.installation()?;
        let ready = begun.is_some_and(|found| found.state == InstallationState::Ready);
        if ready || record.state != InstallationState::Initialising || self.has_records()? {
            return Err(StoreError::OtherInstallation("it was begun before and is in use".into()));
        }
        INSTALLATION.put_without_mac(&self.connection, &codec::installation_row(record))
    }

    /// Verifies what the file claims, and all that is in it, and gives the store.
    pub fn unlock(self, key: DerivedKey) -> Result<Embedded, StoreError> {
        let Self { folder, mut connection } = self;
        let transaction = connection.transaction().map_err(fault)?;
        let installation = apply::installation(&transaction, &key)?.ok_or(StoreError::Initialising)?;
        let tally = match installation.state {
            InstallationState::Ready => soundness::check(&transaction, &key)?,
            InstallationState::Initialising => {
                // Without a MAC anybody could have written that state: so it is believed of an empty store only.
                if apply::has_records(&transaction)? {
                    return Err(INSTALLATION.tampered(&[codec::number(1)]));
                }
                // An earlier attempt may have written it under a key that was never kept.
                POSITION.delete(&transaction, "", [])?;
                let tally = Tally::of_no_rows();
                Ledger::blank().write(&transaction, &key, &tally)?;
                tally
            }
        };
        transaction.commit().map_err(fault)?;
        let (key, folder) = (Arc::new(key), Arc::new(folder));
        let (jobs, waiting) = mpsc::channel(writer::WAITING_MAX);
        let recent = Arc::new(Recent::new());
        let writer = writer::start(connection, Arc::clone(&key), Arc::clone(&recent), tally, waiting)?;
        let readers = Arc::new(Readers::new(folder, key));
        Ok(Embedded { jobs: Some(jobs), writer: Some(writer), readers, recent })
    }
}

/// The store. Dropping it waits until the batch that is being written is on disk.
pub struct Embedded {
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    readers: Arc<Readers>,
    recent: Arc<Recent>,
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            // A panic of that thread has already failed whoever waited for it.
            let _ = writer.join();
        }
    }
}

impl Embedded {
    /// Once sent, the work is done even when the caller goes away.
    async fn write(&self, work: Work) -> Result<Position, StoreError> {
        let ended = || StoreError::Unavailable("its writer has ended".into());
        let (answer, outcome) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        jobs.send(Job { work, answer }).await.map_err(|_| ended())?;
        outcome.await.map_err(|_| ended())?
    }

    /// All versions of a secret, in the order in which they were written.
    async fn history(&self, arn: &Arn) -> Result<Arc<Vec<VersionSummary>>, StoreError> {
        if let Some(known) = self.recent.versions(arn) {
            return Ok(known);
        }
        let (began, wanted) = (self.recent.generation(), arn.clone());
        let found =
            self.readers.read(move |connection, key| apply::versions(connection, key, &wanted)).await?;
        let found = Arc::new(found);
        self.recent.read_versions(began, arn, &found);
        Ok(found)
    }

    async fn mounts_where(&self, clause: &'static str, is: String) -> Result<Vec<MountRecord>, StoreError> {
        let read = move |connection: &Connection, key: &DerivedKey| {
            let rows = MOUNT.select(connection, key, clause, [is], Read::Whole)?;
            rows.into_iter().map(mounts::mount).collect()
        };
        self.readers.read(read).await
    }

    async fn secret_where(
        &self,
        column: &'static str,
        is: String,
    ) -> Result<Option<SecretRecord>, StoreError> {
        self.readers.read(move |connection, key| apply::secret(connection, key, column, &is)).await
    }
}

#[async_trait]
impl Store for Embedded {
    async fn installation(&self) -> Result<Option<Installation>, StoreError> {
        self.readers.read(apply::installation).await
    }

    async fn raise_epoch(&self) -> Result<Epoch, StoreError> {
        self.write(Work::RaiseEpoch).await.map(|position| position.epoch)
    }

    async fn position(&self) -> Result<Position, StoreError> {
        self.readers.read(|connection, key| Ok(Ledger::read(connection, key)?.position)).await
    }

    async fn newest_record_at(&self) -> Result<Option<Timestamp>, StoreError> {
        self.readers.read(|connection, key| Ok(Ledger::read(connection, key)?.newest_at)).await
    }

    async fn commit(&self, batch: Batch) -> Result<Position, StoreError> {
        self.write(Work::Commit(batch)).await
    }

    async fn secret(&self, arn: &Arn) -> Result<Option<SecretRecord>, StoreError> {
        if let Some(known) = self.recent.secret_of(arn) {
            return Ok(Some(known));
        }
        let began = self.recent.generation();
        let found = self.secret_where("arn", arn.to_string()).await?;
        found.iter().for_each(|record| self.recent.read_secret(began, record));
        Ok(found)
    }

    async fn secret_named(&self, name: &Name) -> Result<Option<SecretRecord>, StoreError> {
        if let Some(known) = self.recent.secret(name) {
            return Ok(Some(known));
        }
        let began = self.recent.generation();
        let found = self.secret_where("name", name.to_string()).await?;
        found.iter().for_each(|record| self.recent.read_secret(began, record));
        Ok(found)
    }

    async fn secrets(&self, after: Option<&Name>, limit: usize) -> Result<Vec<SecretRecord>, StoreError> {
        // No name is empty: everything comes after the empty text.
        let after = after.map(Name::to_string).unwrap_or_default();
        let read = move |connection: &Connection, key: &DerivedKey| {
            let clause = "WHERE name > ?1 ORDER BY name LIMIT ?2";
            let rows =
                SECRET.select(connection, key, clause, params![after, limit_of(limit)], Read::Whole)?;
            rows.into_iter().map(codec::secret).collect()
        };
        self.readers.read(read).await
    }

    async fn version(&self, arn: &Arn, id: &VersionId) -> Result<Option<VersionRecord>, StoreError> {
        if let Some(known) = self.recent.version(arn, id) {
            return Ok(Some(known));
        }
        let began = self.recent.generation();
        let (arn, id) = (arn.clone(), id.clone());
        let found =
            self.readers.read(move |connection, key| apply::version(connection, key, &arn, &id)).await?;
        found.iter().for_each(|record| self.recent.read_version(began, record));
        Ok(found)
    }

    async fn versions(&self, arn: &Arn) -> Result<Vec<VersionSummary>, StoreError> {
        self.history(arn).await.map(Arc::unwrap_or_clone)
    }

    async fn before_put(&self, arn: &Arn, id: &VersionId) -> Result<BeforePut, StoreError> {
        let held = self.recent.rotation(arn).zip(self.recent.versions(arn));
        let (rotation, versions) = match held {
            Some(held) => held,
            None => {
                // Both in one reading, for each costs a change of threads.
                let (began, wanted) = (self.recent.generation(), arn.clone());
                let read = move |connection: &Connection, key: &DerivedKey| {
                    let rotation = apply::rotation(connection, key, &wanted)?;
                    Ok((rotation, Arc::new(apply::versions(connection, key, &wanted)?)))
                };
                let (rotation, versions) = self.readers.read(read).await?;
                self.recent.read_rotation(began, arn, rotation.as_ref());
                self.recent.read_versions(began, arn, &versions);
                (rotation, versions)
            }
        };
        let version = match versions.iter().any(|version| version.id == *id) {
            true => self.version(arn, id).await?,
            false => None,
        };
        Ok(BeforePut { version, rotation, versions })
    }

    async fn rotation(&self, arn: &Arn) -> Result<Option<RotationRecord>, StoreError> {
        if let Some(known) = self.recent.rotation(arn) {
            return Ok(known);
        }
        let (began, wanted) = (self.recent.generation(), arn.clone());
        let found =
            self.readers.read(move |connection, key| apply::rotation(connection, key, &wanted)).await?;
        self.recent.read_rotation(began, arn, found.as_ref());
        Ok(found)
    }

    async fn rotations(&self) -> Result<Vec<RotationRecord>, StoreError> {
        let read = |connection: &Connection, key: &DerivedKey| {
            let rows = ROTATION.select(connection, key, "ORDER BY arn", [], Read::Whole)?;
            rows.into_iter().map(journal::rotation).collect()
        };
        self.readers.read(read).await
    }

    async fn policy(&self, arn: &Arn) -> Result<Option<PolicyRecord>, StoreError> {
        let arn = arn.clone();
        self.readers.read(move |connection, key| apply::policy(connection, key, &arn)).await
    }

    async fn access_key(&self, id: &str) -> Result<Option<AccessKeyRecord>, StoreError> {
        let id = id.to_owned();
        self.readers.read(move |connection, key| apply::access_key(connection, key, &id)).await
    }

    async fn access_keys(&self, namespace: Option<&str>) -> Result<Vec<AccessKeyRecord>, StoreError> {
        let namespace = namespace.map(str::to_owned);
        let read = move |connection: &Connection, key: &DerivedKey| {
            let rows = match namespace {
                Some(namespace) => {
                    let clause = "WHERE namespace = ?1 ORDER BY id";
                    ACCESS_KEY.select(connection, key, clause, [namespace], Read::Whole)
                }
                None => ACCESS_KEY.select(connection, key, "ORDER BY id", (), Read::Whole),
            }?;
            rows.into_iter().map(access_keys::access_key).collect()
        };
        self.readers.read(read).await
    }

    async fn mount(&self, id: &str) -> Result<Option<MountRecord>, StoreError> {
        Ok(self.mounts_where("WHERE id = ?1", id.to_owned()).await?.pop())
    }

    async fn mounts_of_secret(&self, arn: &Arn) -> Result<Vec<MountRecord>, StoreError> {
        self.mounts_where("WHERE arn = ?1 ORDER BY id", arn.to_string()).await
    }

    async fn mounts_on_node(&self, node: &str) -> Result<Vec<MountRecord>, StoreError> {
        self.mounts_where("WHERE node = ?1 ORDER BY id", node.to_owned()).await
    }

    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        let read = move |connection: &Connection, key: &DerivedKey| {
            let clause = "WHERE sequence > ?1 ORDER BY sequence LIMIT ?2";
            let after = i64::try_from(after).unwrap_or(i64::MAX);
            let rows = AUDIT.select(connection, key, clause, params![after, limit_of(limit)], Read::Whole)?;
            let rows = rows.into_iter().map(codec::audit).collect::<Result<Vec<_>, _>>()?;
            linked(&rows)?;
            Ok(rows)
        };
        self.readers.read(read).await
    }
}

/// Each row follows from the one before it: none is missing between them, none was put in.
fn linked(rows: &[AuditRecord]) -> Result<(), StoreError> {
    for pair in rows.windows(2) {
        let [before, row] = pair else { continue };
        let follows = row.sequence == before.sequence + 1
            && row.hash == audit_hash(&before.hash, row.sequence, &row.entry);
        if !follows {
            return Err(AUDIT.tampered(&[codec::number(row.sequence)]));
        }
    }
    Ok(())
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
