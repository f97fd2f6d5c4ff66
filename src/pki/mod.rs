//! Our certificate authority, leaf certificates, and the trust bundle.
//! Must not name `aws_lc_rs`, open sockets, read the time, or know where the authority is kept.
//!
//! The life of an authority, in parts of its own length (ten years):
//! ```text
//! 0          1/2                3/4                 1
//! |-- signs --|---- signs -------|-- still trusted --|
//!             | next: published  | next: signs -------------------...
//! ```
//! Whoever fetched the bundle within the quarter before the change trusts the leaves made after it.

mod authority;
mod leaf;
mod validity;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use authority::{Authority, Change, Files, file};
pub use leaf::{Certificates, Leaf};
pub use validity::{Validity, validity_of_der, validity_of_pem};

/// How long what we sign is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    pub authority: Duration,
    pub leaf: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Lifetimes { authority: DAY * 3652, leaf: DAY * 7 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("making a certificate failed: {0}")]
    Make(#[source] rcgen::Error),
    #[error(
        "`{0}` is missing from the stored authority: restore it from a backup, or delete the whole object"
    )]
    Missing(&'static str),
    /// Without the source: a parser's message may quote what it could not parse, and that may be the key.
    #[error("`{0}` of the stored authority is not readable as PEM: restore it, or delete the whole object")]
    Unreadable(&'static str),
    #[error(
        "`{0}` and `{1}` of the stored authority do not belong together: restore them, or delete the whole object"
    )]
    Mismatch(&'static str, &'static str),
    #[error("the provider of TLS does not take the key just made: {0}")]
    Provider(#[source] rustls::Error),
}
