//! A sealed value as it is kept. Must not be built outside this room but from its own stored form.

use super::WrappedKey;

/// One sealed version: the wrapped data key, and the encrypted body (nonce, ciphertext, tag).
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    pub(super) key: WrappedKey,
    pub(super) body: Vec<u8>,
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed").field("key_id", &self.key.key_id).finish_non_exhaustive()
    }
}
