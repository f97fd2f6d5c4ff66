//! The embedded store fulfils the contract, starts as a store must, and keeps what it acknowledged when it is killed.

mod kills;
mod power;
mod put_back;
mod volume;

pub(crate) use volume::{Volume, fault};

use std::path::PathBuf;

use super::codec::VERSION;
use super::*;
use crate::seal::{Place, RootSecret};
use crate::store::contract::{self, Bench, arn, entry, id, installation, secret, version};
use crate::store::{Change, Expected, ROW_MAC};

fn key(root: u8) -> DerivedKey {
    RootSecret::from_bytes(&[root; 32]).unwrap().derive(ROW_MAC)
}

async fn open(folder: &Path) -> Result<Embedded, StoreError> {
    open_for_tests(folder, installation(), key(1)).await
}

/// Opens the store that is there, or makes one as a first start does. For the tests of other rooms as well.
pub async fn open_for_tests(
    folder: &Path,
    ready: Installation,
    key: DerivedKey,
) -> Result<Embedded, StoreError> {
    let mut file = EmbeddedFile::open(folder)?;
    if file.installation()?.is_some_and(|found| found.state == InstallationState::Ready) {
        return file.unlock(key);
    }
    file.begin(&begun(&ready))?;
    let store = file.unlock(key)?;
    let epoch = store.raise_epoch().await?;
    store.commit(batch(epoch, vec![Change::PutInstallation(ready)])).await?;
    Ok(store)
}

fn begun(ready: &Installation) -> Installation {
    Installation { state: InstallationState::Initialising, root_key: None, ..ready.clone() }
}

fn initialising() -> Installation {
    begun(&installation())
}

fn batch(epoch: Epoch, changes: Vec<Change>) -> Batch {
    Batch { epoch, changes, audit: Vec::new() }
}

struct FolderBench {
    folder: tempfile::TempDir,
}

impl FolderBench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[async_trait]
impl Bench for FolderBench {
    async fn open(&self) -> Result<Box<dyn Store>, StoreError> {
        Ok(Box::new(open(self.folder.path()).await?))
    }

    fn columns(&self) -> Vec<(&'static str, &'static str)> {
        let tables = [
            &INSTALLATION,
            &POSITION,
            &SECRET,
            &VERSION,
            &ROTATION,
            &MOUNT,
            &policies::POLICY,
            &ACCESS_KEY,
            &AUDIT,
        ];
        let of = |table: &'static table::Table| {
            let columns = table.columns.iter().copied().chain(table.bulk).chain(["mac"]);
            // `one` is 1 by a check of the schema.
            columns.filter(|column| *column != "one").map(|column| (table.name, column))
        };
        tables.into_iter().flat_map(of).collect()
    }

    fn harm(&self, table: &str, column: &str) {
        std::fs::copy(self.path("tidelock.db"), self.path("whole")).unwrap();
        let connection = Connection::open(self.path("tidelock.db")).unwrap();
        let other = if column == "arn" {
            format!("'{}'", arn(2))
        } else {
            format!(
                "CASE typeof({column}) WHEN 'integer' THEN {column} + 1 WHEN 'text' THEN {column} || 'x' \
                 WHEN 'blob' THEN zeroblob(32) ELSE 'x' END"
            )
        };
        let sql = format!("UPDATE {table} SET {column} = {other} WHERE {column} IS NOT NULL");
        assert!(connection.execute(&sql, []).unwrap() > 0, "{table}.{column} holds nothing to change");
        // The change must lie in the file itself: `heal` puts only that back.
        drop(connection);
        assert!(!self.path("tidelock.db-wal").exists());
    }

    fn heal(&self) {
        std::fs::rename(self.path("whole"), self.path("tidelock.db")).unwrap();
    }
}

contract::fulfils_the_contract!(FolderBench::new());

#[tokio::test]
async fn a_first_start_goes_from_nothing_to_ready_and_resumes_at_each_step() {
    let bench = FolderBench::new();
    let open = || EmbeddedFile::open(bench.folder.path()).unwrap();
    assert_eq!(open().installation().unwrap(), None);
    assert_eq!(open().unlock(key(1)).map(|_| ()), Err(StoreError::Initialising));
    let other = Installation { id: "other".into(), ..initialising() };
    open().begin(&other).unwrap();
    open().begin(&initialising()).unwrap();
    assert_eq!(open().installation().unwrap(), Some(initialising()));

    // A key that was lost before it was ever used is no loss: the next one serves.
    drop(open().unlock(key(2)).unwrap());
    let store = open().unlock(key(1)).unwrap();
    let epoch = store.raise_epoch().await.unwrap();
    let early = store.commit(batch(epoch, vec![Change::PutSecret(secret(1), Expected::Absent)])).await;
    assert_eq!(early, Err(StoreError::Initialising));
    store.commit(batch(epoch, vec![Change::PutInstallation(installation())])).await.unwrap();
    store.commit(batch(epoch, vec![Change::PutSecret(secret(1), Expected::Absent)])).await.unwrap();
    drop(store);

    let mut file = open();
    assert!(file.has_records().unwrap());
    assert_eq!(file.begin(&initialising()).map_err(|error| error.reason()), Err("StoreOfOtherInstallation"));
    assert!(matches!(file.unlock(key(2)), Err(StoreError::Tampered { table: "installation", .. })));
}

#[tokio::test]
async fn a_store_in_use_that_is_made_to_look_unfinished_is_tampered_with() {
    let bench = FolderBench::new();
    let store = open(bench.folder.path()).await.unwrap();
    let epoch = store.position().await.unwrap().epoch;
    store.commit(batch(epoch, vec![Change::PutSecret(secret(1), Expected::Absent)])).await.unwrap();
    drop(store);
    let connection = Connection::open(bench.path("tidelock.db")).unwrap();
    connection.execute("UPDATE installation SET state = 'initialising', mac = x''", []).unwrap();
    drop(connection);
    let file = EmbeddedFile::open(bench.folder.path()).unwrap();
    assert!(matches!(file.unlock(key(1)), Err(StoreError::Tampered { table: "installation", .. })));
}

#[tokio::test]
async fn audit_rows_that_were_cut_out_are_missed() {
    let cut = async |sql: &str| {
        let bench = FolderBench::new();
        let store = open(bench.folder.path()).await.unwrap();
        let epoch = store.position().await.unwrap().epoch;
        let audit = vec![entry(1, "one"), entry(2, "two"), entry(3, "three")];
        store.commit(Batch { epoch, changes: Vec::new(), audit }).await.unwrap();
        drop(store);
        let connection = Connection::open(bench.path("tidelock.db")).unwrap();
        assert_eq!(connection.execute(sql, []).unwrap(), 1);
        drop(connection);
        match open(bench.folder.path()).await {
            Ok(store) => store.audit(0, 10).await.map(drop),
            Err(error) => Err(error),
        }
    };
    for sql in ["DELETE FROM audit WHERE sequence = 2", "DELETE FROM audit WHERE sequence = 3"] {
        assert!(matches!(cut(sql).await, Err(StoreError::Tampered { table: "audit", .. })), "{sql}");
    }
}

#[tokio::test]
async fn a_second_process_is_told_who_holds_the_folder() {
    let bench = FolderBench::new();
    let store = open(bench.folder.path()).await.unwrap();
    let second = EmbeddedFile::open(bench.folder.path()).map(|_| ());
    assert_eq!(second, Err(StoreError::Locked(bench.folder.path().display().to_string())));
    drop(store);
    open(bench.folder.path()).await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_and_a_file_of_another_program_are_refused_and_left_alone() {
    let check = |prepare: &str, wanted: &str| {
        let bench = FolderBench::new();
        let connection = Connection::open(bench.path("tidelock.db")).unwrap();
        connection.execute_batch(prepare).unwrap();
        drop(connection);
        let error = EmbeddedFile::open(bench.folder.path()).map(|_| ()).unwrap_err();
        assert_eq!(error.reason(), wanted, "{error}");
        let connection = Connection::open(bench.path("tidelock.db")).unwrap();
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'secret'";
        assert_eq!(connection.query_row(sql, [], |row| row.get::<_, i64>(0)), Ok(0));
    };
    check("PRAGMA application_id = 1413762123; PRAGMA user_version = 99", "StoreNewerSchema");
    check("CREATE TABLE t (x)", "StoreOfOtherInstallation");
    check("PRAGMA user_version = 1", "StoreOfOtherInstallation");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_corrupt() {
    let bench = FolderBench::new();
    std::fs::write(bench.path("tidelock.db"), [7; 8192]).unwrap();
    let error = EmbeddedFile::open(bench.folder.path()).map(|_| ()).unwrap_err();
    assert_eq!(error.reason(), "StoreCorrupt", "{error}");
}

#[tokio::test]
async fn a_schema_with_another_name_in_it_is_not_served_from() {
    let bench = FolderBench::new();
    drop(open(bench.folder.path()).await.unwrap());
    // As a flipped bit in the file's own text makes it: whole for SQLite, and none of what is read by.
    let connection = Connection::open(bench.path("tidelock.db")).unwrap();
    connection.execute_batch("ALTER TABLE version RENAME COLUMN number TO numbes").unwrap();
    drop(connection);
    let error = EmbeddedFile::open(bench.folder.path()).unwrap().unlock(key(1)).map(|_| ()).unwrap_err();
    assert!(error.reason().starts_with("Store"), "{error}");
}

#[tokio::test]
async fn a_full_store_says_so_and_goes_on_when_there_is_room_again() {
    let bench = FolderBench::new();
    drop(open(bench.folder.path()).await.unwrap());
    let file = EmbeddedFile::open(bench.folder.path()).unwrap();
    // SQLite answers a reached page limit as it answers a full disk.
    file.connection.execute_batch("PRAGMA max_page_count = 40").unwrap();
    let store = file.unlock(key(1)).unwrap();
    let epoch = store.position().await.unwrap().epoch;
    store.commit(batch(epoch, vec![Change::PutSecret(secret(1), Expected::Absent)])).await.unwrap();
    let mut written = 0;
    let error = loop {
        match store.commit(batch(epoch, vec![Change::PutVersion(version(1, written))])).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, StoreError::Full);
    assert_eq!(store.versions(&arn(1)).await.unwrap().len(), written as usize);
    let half = (0..written / 2).map(|n| Change::RemoveVersion(arn(1), id(n))).collect();
    store.commit(batch(epoch, half)).await.unwrap();
    store.commit(batch(epoch, vec![Change::PutVersion(version(1, written))])).await.unwrap();
}

#[tokio::test]
async fn no_value_and_no_key_lies_in_the_files_in_clear() {
    let bench = FolderBench::new();
    let store = open(bench.folder.path()).await.unwrap();
    let epoch = store.position().await.unwrap().epoch;
    let record = version(1, 1);
    let changes = vec![Change::PutSecret(secret(1), Expected::Absent), Change::PutVersion(record.clone())];
    store.commit(batch(epoch, changes)).await.unwrap();
    let sealed = record.sealed.unwrap().encode().unwrap();
    let mut found = 0;
    for file in ["tidelock.db", "tidelock.db-wal"] {
        let bytes = std::fs::read(bench.path(file)).unwrap();
        // The open value is 5,000 sevens.
        assert!(!bytes.windows(64).any(|window| window == [7; 64]), "{file}");
        assert!(!bytes.windows(32).any(|window| window == [1; 32]), "the root key lies in {file}");
        found += bytes.windows(64).filter(|window| *window == &sealed[..64]).count();
    }
    assert!(found > 0, "the sealed value was looked for in the wrong files");
}

#[tokio::test]
async fn a_file_of_each_earlier_schema_is_read_for_ever() {
    let (first, second) = (include_str!("fixtures/store_v1.sql"), include_str!("fixtures/store_v2.sql"));
    let (third, fourth) = (include_str!("fixtures/store_v3.sql"), include_str!("fixtures/store_v4.sql"));
    for (sql, policy, has_key) in
        [(first, None, false), (second, None, false), (third, Some(2), false), (fourth, Some(2), true)]
    {
        let bench = FolderBench::new();
        let connection = Connection::open(bench.path("tidelock.db")).unwrap();
        connection.execute_batch(sql).unwrap();
        drop(connection);
        let store = open(bench.folder.path()).await.unwrap();
        contract::holds_the_fixture(&store, policy, has_key).await;
        // Its one value was sealed under the root key of these tests.
        let sealed = store.version(&arn(1), &id(1)).await.unwrap().unwrap().sealed.unwrap();
        let (arn, id) = (arn(1), id(1));
        let place = Place { region: "local-1", arn: &arn, version: &id };
        let root = RootSecret::from_bytes(&[1; 32]).unwrap();
        assert!(root.unwrap(sealed.wrapped_key(), &place.of_key()).is_ok());
        drop(store);
        open(bench.folder.path()).await.unwrap();
    }
}
