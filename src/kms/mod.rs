//! PORT. Root keys, which wrap data keys; their providers.
//! Must not know the store, nor hand out the root key itself.

#[cfg(test)]
mod contract;
mod key_file;

pub use key_file::KeyFile;

use async_trait::async_trait;

use crate::seal::{DataKey, DerivedKey, KeyId, WrappedKey};

/// A root key in some provider's hands. Implementations never let it out.
#[async_trait]
pub trait RootKey: Send + Sync {
    /// Names the key in every record that it wraps.
    fn key_id(&self) -> &KeyId;

    /// Wraps a data key; `aad` must be given again to unwrap it.
    async fn wrap(&self, key: &DataKey, aad: &[u8]) -> Result<WrappedKey, KmsError>;

    async fn unwrap(&self, wrapped: &WrappedKey, aad: &[u8]) -> Result<DataKey, KmsError>;

    /// A key for one purpose, the same at each call, from which the root key cannot be found.
    async fn derive(&self, purpose: &'static str) -> Result<DerivedKey, KmsError>;
}

/// Why a root key could not serve. Must not carry key material.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    #[error(
        "the record was wrapped by the root key {wanted}, this provider has {have}: give back the key that wrapped it"
    )]
    OtherKey { wanted: KeyId, have: KeyId },
    #[error("the wrapped key does not open: it was changed, or moved from another record")]
    DoesNotOpen,
    #[error("the key file {path} is not a root key: {wrong}")]
    BadKeyFile { path: String, wrong: &'static str },
    #[error("the root key cannot be reached: {0}")]
    Unavailable(String),
}

impl KmsError {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::OtherKey { .. } => "RootKeyMismatch",
            Self::DoesNotOpen => "DataKeyDoesNotOpen",
            Self::BadKeyFile { .. } => "RootKeyMalformed",
            Self::Unavailable(_) => "RootKeyUnavailable",
        }
    }
}
