//! The store's folder: its lock, its file, and the connections to it. Must not know what the tables mean.
//!
//! `tidelock.db` (with `-wal` and `-shm` beside it while open) and `lock`, which one process at a time holds.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock, statfs};

use super::fault::{fault, io_fault};
use crate::failpoint;
use crate::store::StoreError;

/// SQLite's smallest page.
const FILE_BYTES_MIN: u64 = 512;

/// A folder that this process holds alone, until dropped.
pub(super) struct Folder {
    file: PathBuf,
    lock: File,
}

impl Drop for Folder {
    /// Closing would not do: a process that was forked just now, and has not become another program yet, has the same
    /// lock in its hands.
    fn drop(&mut self) {
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

impl Folder {
    /// Takes the folder, making its files when they are not there; the folder itself must be.
    pub(super) fn take(folder: &Path) -> Result<Self, StoreError> {
        let kind = statfs(folder).map_err(|error| io_fault(folder, &error.into()))?.f_type;
        if let Some(network) = network_filesystem(kind as u64) {
            return Err(StoreError::NetworkFilesystem(network));
        }
        let (lock, file) = (folder.join("lock"), folder.join("tidelock.db"));
        let held = private(&lock)?;
        flock(&held, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => StoreError::Locked(folder.display().to_string()),
            other => io_fault(&lock, &other.into()),
        })?;
        // SQLite gives its other files the mode of this one.
        let length = private(&file)?.metadata().map_err(|error| io_fault(&file, &error))?.len();
        // SQLite would take what is left of it for nothing, and begin anew.
        if (1..FILE_BYTES_MIN).contains(&length) {
            return Err(StoreError::Corrupt(format!("it is cut short to {length} bytes")));
        }
        // Its name must be on disk before anything in it is acknowledged.
        File::open(folder).and_then(|held| held.sync_all()).map_err(|error| io_fault(folder, &error))?;
        Ok(Self { file, lock: held })
    }

    /// The connection that writes.
    pub(super) fn writer(&self) -> Result<Connection, StoreError> {
        let connection = self.connect()?;
        let mode: String =
            connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(fault)?;
        if mode != "wal" {
            return Err(StoreError::Unavailable(format!("the write-ahead log cannot be had: {mode}")));
        }
        // FULL: a commit is on disk before it is acknowledged. secure_delete: a removed seal is overwritten.
        connection
            .execute_batch(
                "PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA journal_size_limit = 16777216;",
            )
            .map_err(fault)?;
        if !failpoint::guard("fsync") {
            connection.execute_batch("PRAGMA synchronous = OFF").map_err(fault)?;
        }
        Ok(connection)
    }

    /// A connection that only reads. Its copies of pages are few, for the kernel has the file in memory as well.
    pub(super) fn reader(&self) -> Result<Connection, StoreError> {
        let connection = self.connect()?;
        connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -512;").map_err(fault)?;
        Ok(connection)
    }

    fn connect(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.file, flags).map_err(fault)?;
        connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(fault)?;
        connection.set_prepared_statement_cache_capacity(64);
        // A file that was tampered with must not run code of its own, through triggers, views or its schema.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(fault)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).map_err(fault)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false).map_err(fault)?;
        // A statement is planned once, whatever is asked for by it.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(fault)?;
        connection
            .execute_batch(
                "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY;",
            )
            .map_err(fault)?;
        Ok(connection)
    }
}

/// Opens or makes a file that only this user may read.
fn private(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| io_fault(path, &error))
}

/// Filesystems whose memory maps and locks are not shared by all who mount them. FUSE is among them, for nobody can
/// tell which of its filesystems are local.
fn network_filesystem(kind: u64) -> Option<&'static str> {
    // The magic numbers of statfs(2); some kernels sign-extend them.
    Some(match kind & 0xffff_ffff {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x00c3_6400 => "CephFS",
        0x6573_5546 => "FUSE",
        0x0102_1997 => "9P",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x4750_4653 => "GPFS",
        0x0bd0_0bd0 => "Lustre",
        0x7461_636f => "OCFS2",
        0x0116_1970 => "GFS2",
        0x564c => "NCP",
        0x7375_7245 => "Coda",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_filesystems_are_known_and_local_ones_are_not_taken_for_them() {
        for (kind, name) in [(0x6969, "NFS"), (0xffff_ffff_ff53_4d42, "SMB"), (0x6573_5546, "FUSE")] {
            assert_eq!(network_filesystem(kind), Some(name));
        }
        // ext4, xfs, btrfs, tmpfs, overlayfs, zfs
        for kind in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1] {
            assert_eq!(network_filesystem(kind), None, "{kind:x}");
        }
    }

    #[test]
    fn a_folder_is_held_by_one_at_a_time_and_its_files_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let held = Folder::take(folder.path()).unwrap();
        let second = Folder::take(folder.path()).map(|_| ()).unwrap_err();
        assert_eq!(second.reason(), "StoreLocked");
        let writer = held.writer().unwrap();
        writer.execute_batch("CREATE TABLE t (x)").unwrap();
        for file in ["tidelock.db", "tidelock.db-wal", "lock"] {
            let mode = std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        // As in a child between fork and exec.
        let copy = held.lock.try_clone().unwrap();
        drop(held);
        assert!(Folder::take(folder.path()).is_ok());
        drop(copy);
    }

    #[test]
    fn a_commit_waits_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Folder::take(folder.path()).unwrap().writer().unwrap();
        let asked = |pragma: &str| writer.query_row(pragma, [], |row| row.get::<_, i64>(0)).unwrap();
        // 2 is FULL: in WAL mode the log is synchronised at each commit, not at checkpoints only.
        assert_eq!((asked("PRAGMA synchronous"), asked("PRAGMA secure_delete")), (2, 1));
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_that_names_it() {
        let error = Folder::take(Path::new("/nowhere/store")).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("/nowhere/store"), "{error}");
    }
}
