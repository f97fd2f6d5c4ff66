//! Encryption: sealing and opening of versions and sessions, MACs of rows, chain of the audit, comparison in constant
//! time.
//! The only room that imports `aws_lc_rs`. Must not do I/O.

mod access_key;
mod encoding;
mod key;
mod mac;
mod random;
mod root;
mod scoped;
mod sealed;
mod session;
mod tally;
#[cfg(test)]
mod tests;

pub use access_key::{KeyPlace, is_access_key_id, new_access_key, open_access_key, seal_access_key};
pub use encoding::Field;
pub use key::{DataKey, DerivedKey, KeyId, WrappedKey};
pub use mac::{audit_hash, digest, hex, hmac_sha256, row_is_whole, row_mac, sha256};
pub use random::{SystemRandom, same};
pub use root::RootSecret;
pub use scoped::ScopedSecret;
pub use sealed::{Place, Sealed, open, seal};
pub use session::{AccessKey, LIFE_SECONDS_MAX, OpenedSession, Sessions};
pub use tally::Tally;

/// Opens without a right, which tests of the store have none of.
#[cfg(test)]
pub fn open_for_tests(
    place: Place<'_>,
    key: &DataKey,
    sealed: &Sealed,
) -> Result<crate::secret::Plaintext, SealError> {
    sealed::decrypt(place, key, sealed)
}

/// Why something could not be sealed or opened. Must not carry values or keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error(
        "the sealed value does not open: it was changed, or moved from another secret, version or region"
    )]
    DoesNotOpen,
    #[error(
        "the format {0} of the sealed value is unknown to this program: install the version that wrote it again"
    )]
    Format(u8),
    #[error("the sealed value is not in its stored form: restore the store from a backup")]
    Malformed,
    #[error("the right that was shown is for another secret, or for an operation that opens no value")]
    OtherRight,
    #[error("the value could not be sealed")]
    Failed,
}
