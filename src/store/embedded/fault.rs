//! What an error of SQLite or of the file system means to the store's callers. Must not pass on texts with values:
//! SQLite's own texts name tables and columns only.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::ffi::{SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_SHORT_READ};

use crate::store::StoreError;

pub(super) fn fault(error: rusqlite::Error) -> StoreError {
    // SQLite says so in the code itself everywhere but for the index of its log and for a last page that is cut.
    match error.sqlite_error().map(|error| error.extended_code) {
        Some(SQLITE_IOERR_SHMSIZE) => return StoreError::Full,
        Some(SQLITE_IOERR_SHORT_READ) => return StoreError::Corrupt("it is cut short".to_owned()),
        _ => {}
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full,
        Some(ErrorCode::ReadOnly) => StoreError::ReadOnly,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt(error.to_string()),
        // The only constraints beside primary keys are one ARN per secret and one row per version: somebody was first.
        Some(ErrorCode::ConstraintViolation) => StoreError::Conflict,
        _ => StoreError::Unavailable(error.to_string()),
    }
}

pub(super) fn io_fault(path: &Path, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
        io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly,
        _ => StoreError::Unavailable(format!("{}: {error}", path.display())),
    }
}
