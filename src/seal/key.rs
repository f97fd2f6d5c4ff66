//! Keys and their names. Key bytes are zeroed on drop and never printed; no type here can be cloned or serialised
//! while it is open.

use std::fmt;

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::secret::Randomness;

/// Names a root key without telling anything about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key of one version: 256 bits, used for one sealing.
pub struct DataKey(pub(super) Zeroizing<[u8; 32]>);

impl DataKey {
    pub fn generate(random: &mut dyn Randomness) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        random.fill(bytes.as_mut_slice());
        Self(bytes)
    }

    /// Whether both are one key, for contract tests: nothing else compares keys.
    #[cfg(test)]
    pub fn is(&self, other: &Self) -> bool {
        super::same(self.0.as_slice(), other.0.as_slice())
    }
}

/// A key made from the root key for one purpose. Kept as HMAC-SHA-256 takes it, for it signs each row that is read or
/// written; on the heap, so that it lies in one place however often it is moved. The library wipes it when it goes.
pub struct DerivedKey(Box<hmac::Key>);

impl DerivedKey {
    pub(super) fn of(bytes: &[u8; 32]) -> Self {
        Self(Box::new(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 32] {
        super::mac::array(hmac::sign(&self.0, message).as_ref())
    }
}

/// A data key as the root key wrapped it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    pub key_id: KeyId,
    pub bytes: Vec<u8>,
}
