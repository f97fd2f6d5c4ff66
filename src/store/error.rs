//! Why a store could not do what was asked. Must not carry values or keys.

/// The reason word of each is what readiness, conditions, events and logs show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("somebody else changed the record first: read it again and decide again")]
    Conflict,
    #[error("a newer leader has taken over this store: this process must end")]
    Fenced,
    #[error("the row {key} of table {table} does not carry a valid MAC: restore the store from a backup")]
    Tampered { table: &'static str, key: String },
    #[error(
        "the store's rows are not those of its newest commit: a row was removed, or put back from an older copy of \
         itself: restore the whole store from a backup"
    )]
    RowsPutBack,
    #[error(
        "the store was written by a newer program (schema {found}, this one knows up to {known}): install that version again"
    )]
    NewerSchema { found: u32, known: u32 },
    #[error("the store belongs to another installation: {0}")]
    OtherInstallation(String),
    #[error("the first start of this store is not over: it takes no records yet")]
    Initialising,
    #[error("the store's folder lies on {0}, where its write-ahead log is not safe: give it a local volume")]
    NetworkFilesystem(&'static str),
    #[error("another process holds the store at {0}")]
    Locked(String),
    #[error("the store's volume is full")]
    Full,
    #[error("the store's volume is read-only")]
    ReadOnly,
    #[error("the store's file is damaged: restore it from a backup ({0})")]
    Corrupt(String),
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
}

impl StoreError {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Conflict => "StoreConflict",
            Self::Fenced => "Fenced",
            Self::Tampered { .. } | Self::RowsPutBack => "StoreTampered",
            Self::NewerSchema { .. } => "StoreNewerSchema",
            Self::OtherInstallation(_) => "StoreOfOtherInstallation",
            Self::Initialising => "StoreInitialising",
            Self::NetworkFilesystem(_) => "StoreOnNetworkFilesystem",
            Self::Locked(_) => "StoreLocked",
            Self::Full => "StoreFull",
            Self::ReadOnly => "StoreReadOnly",
            Self::Corrupt(_) => "StoreCorrupt",
            Self::Unavailable(_) => "StoreUnavailable",
        }
    }
}
