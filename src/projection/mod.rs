//! Files of a secret in a directory: atomic swap, modes, owners, all by directory file descriptor.
//! Must not know Kubernetes, nor where values come from; must not follow a symbolic link that it finds.

mod files;
mod folder;
mod swap;

#[cfg(test)]
mod tests;

use std::io;

pub use files::{FileName, Files, Layout};
pub use swap::{Former, present, replace, sweep};

/// Why files could not be put in place. None of these holds a value.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    #[error(
        "a file cannot be called {name:?}: {why}; choose other keys, or give the key another name in the secret"
    )]
    Name { name: String, why: &'static str },
    #[error("two files would be called {name:?}: give one of them another name")]
    NameTwice { name: String },
    #[error(
        "{name:?} in the volume was not put there by Tidelock: {found}; nothing was changed, delete the pod to get a \
         clean volume"
    )]
    Foreign { name: String, found: &'static str },
    #[error("the files do not fit into the volume's cap on bytes or files")]
    Full,
    #[error("{doing} failed: {source}")]
    Io { doing: &'static str, source: io::Error },
}

impl ProjectionError {
    /// One word for events, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            ProjectionError::Name { .. } | ProjectionError::NameTwice { .. } => "BadFileName",
            ProjectionError::Foreign { .. } => "ForeignEntry",
            ProjectionError::Full => "TooLarge",
            ProjectionError::Io { .. } => "WriteFailed",
        }
    }
}
