//! The tables of the embedded store, and how a file of an older version becomes one of this version. Must never change a
//! migration that was released: a change is one more migration. One that touches rows must write their MACs anew.

use rusqlite::Connection;

use super::fault::fault;
use crate::store::StoreError;

/// "TDLK": what says that a file is a store of Tidelock.
const APPLICATION_ID: i32 = 0x5444_4c4b;

const MIGRATIONS: &[&str] = &[FIRST, COUNTED, POLICIES, ACCESS_KEYS];

/// `version` is a rowid table with the sealed value last: the columns before it are read without touching the pages
/// that large values spill into. The small tables are kept by their primary key alone.
const FIRST: &str = "
CREATE TABLE installation (
  one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL, state TEXT NOT NULL, region TEXT NOT NULL,
  account TEXT NOT NULL, cluster_id TEXT NOT NULL, crd_uid TEXT NOT NULL, root_key TEXT, created_at TEXT NOT NULL,
  mac BLOB NOT NULL) STRICT;
CREATE TABLE position (
  one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, commit_number INTEGER NOT NULL,
  audit_sequence INTEGER NOT NULL, audit_head BLOB NOT NULL, newest_at TEXT, mac BLOB NOT NULL) STRICT;
CREATE TABLE secret (
  name TEXT PRIMARY KEY, arn TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL, record TEXT NOT NULL,
  mac BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE version (
  number INTEGER PRIMARY KEY, arn TEXT NOT NULL, id TEXT NOT NULL, created_at TEXT NOT NULL, kind TEXT NOT NULL,
  digest BLOB, mac BLOB NOT NULL, sealed BLOB, UNIQUE (arn, id)) STRICT;
CREATE TABLE rotation (
  arn TEXT PRIMARY KEY, revision INTEGER NOT NULL, record TEXT NOT NULL, mac BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE mount (
  id TEXT PRIMARY KEY, node TEXT NOT NULL, arn TEXT NOT NULL, record TEXT NOT NULL, mac BLOB NOT NULL)
  STRICT, WITHOUT ROWID;
CREATE INDEX mount_by_node ON mount (node);
CREATE INDEX mount_by_arn ON mount (arn);
CREATE TABLE audit (
  sequence INTEGER PRIMARY KEY, at TEXT NOT NULL, who TEXT NOT NULL, verb TEXT NOT NULL, secret TEXT, version TEXT,
  pod TEXT, outcome TEXT NOT NULL, hash BLOB NOT NULL, mac BLOB NOT NULL) STRICT;
";

/// Rows are counted. The one row that there is gets its value, and a MAC that covers it, when there is a key: see
/// `soundness`.
const COUNTED: &str = "ALTER TABLE position ADD COLUMN tally_seal BLOB;";

/// Resource policies. No older store has one, so nothing is counted anew.
const POLICIES: &str = "
CREATE TABLE policy (
  arn TEXT PRIMARY KEY, number INTEGER NOT NULL, record TEXT NOT NULL, mac BLOB NOT NULL) STRICT, WITHOUT ROWID;
";

/// Lasting access keys of callers outside. No older store has one.
const ACCESS_KEYS: &str = "
CREATE TABLE access_key (
  id TEXT PRIMARY KEY, namespace TEXT NOT NULL, revision INTEGER NOT NULL, record TEXT NOT NULL, sealed BLOB NOT NULL,
  mac BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX access_key_by_namespace ON access_key (namespace);
";

/// Checks that the file is ours and brings it to this version.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(fault)?;
    let number = |pragma: &str| transaction.query_row(pragma, [], |row| row.get::<_, i64>(0)).map_err(fault);
    let known = MIGRATIONS.len();
    let found = u32::try_from(number("PRAGMA user_version")?)
        .map_err(|_| StoreError::Corrupt("its schema has a negative number".into()))?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    if number("PRAGMA application_id")? != i64::from(APPLICATION_ID) && (found > 0 || tables > 0) {
        return Err(StoreError::OtherInstallation("its file was made by another program".into()));
    }
    if found as usize > known {
        return Err(StoreError::NewerSchema { found, known: known as u32 });
    }
    if found as usize == known {
        return Ok(());
    }
    for migration in &MIGRATIONS[found as usize..] {
        transaction.execute_batch(migration).map_err(fault)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(fault)?;
    transaction.pragma_update(None, "user_version", known as i64).map_err(fault)?;
    transaction.commit().map_err(fault)
}
