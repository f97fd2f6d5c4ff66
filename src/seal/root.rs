//! What a provider that holds a root key's own bytes does with them: wrap, unwrap, derive. Must not read or write key
//! files: that is the provider's.
//!
//! A wrapped key is
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format, `0x01` |
//! | 32 | salt, fresh for each wrapping |
//! | 32 | the data key, encrypted |
//! | 16 | tag |
//!
//! Key and nonce of each wrapping are made by HKDF-SHA-256 from root key and salt: no number of wrappings wears a root
//! key out, as random nonces under one key would.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

use super::{DataKey, DerivedKey, KeyId, SealError, WrappedKey};
use crate::secret::Randomness;

const FORMAT: u8 = 1;
const SALT_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
const WRAPPED_BYTES: usize = 1 + SALT_BYTES + KEY_BYTES + TAG_BYTES;

const WRAP: &[u8] = b"tidelock.wrap.v1";
const DERIVE: &[u8] = b"tidelock.derive.v1";
const NAME: &[u8] = b"tidelock.name.v1";

/// The 256 bits of a root key, for providers that must hold them themselves.
pub struct RootSecret(Zeroizing<[u8; KEY_BYTES]>);

impl RootSecret {
    pub fn generate(random: &mut dyn Randomness) -> Self {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        random.fill(bytes.as_mut_slice());
        Self(bytes)
    }

    /// A key that was made earlier; `None` when the bytes are too few or too many.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
    }

    /// For the provider that writes the key into its own custody, and for nobody else.
    pub(crate) fn expose(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// A name for this key: made from it by a one-way function, so that two keys never share one.
    pub fn name(&self) -> [u8; 16] {
        let mut name = [0; 16];
        self.expand(&[], &[NAME], &mut name);
        name
    }

    /// Wraps a data key; it unwraps only with the same `aad`.
    pub fn wrap(
        &self,
        id: &KeyId,
        key: &DataKey,
        aad: &[u8],
        random: &mut dyn Randomness,
    ) -> Result<WrappedKey, SealError> {
        let mut salt = [0; SALT_BYTES];
        random.fill(&mut salt);
        let (cipher, nonce) = self.wrapping(&salt);
        let mut sealed = key.0.clone();
        let tag = cipher
            .seal_in_place_separate_tag(nonce, Aad::from(aad), sealed.as_mut_slice())
            .map_err(|_| SealError::Failed)?;
        let mut bytes = Vec::with_capacity(WRAPPED_BYTES);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&salt);
        bytes.extend_from_slice(sealed.as_slice());
        bytes.extend_from_slice(tag.as_ref());
        Ok(WrappedKey { key_id: id.clone(), bytes })
    }

    pub fn unwrap(&self, wrapped: &WrappedKey, aad: &[u8]) -> Result<DataKey, SealError> {
        let (format, rest) = wrapped.bytes.split_first().ok_or(SealError::DoesNotOpen)?;
        if *format != FORMAT {
            return Err(SealError::Format(*format));
        }
        if wrapped.bytes.len() != WRAPPED_BYTES {
            return Err(SealError::DoesNotOpen);
        }
        let (salt, sealed) = rest.split_at(SALT_BYTES);
        let (cipher, nonce) = self.wrapping(salt);
        let mut opened = Zeroizing::new(sealed.to_vec());
        let key = cipher
            .open_in_place(nonce, Aad::from(aad), opened.as_mut_slice())
            .map_err(|_| SealError::DoesNotOpen)?;
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        bytes.copy_from_slice(key);
        Ok(DataKey(bytes))
    }

    /// A key for one purpose, the same at each call, from which neither the root key nor another purpose's can be found.
    pub fn derive(&self, purpose: &str) -> DerivedKey {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        self.expand(&[], &[DERIVE, b":", purpose.as_bytes()], bytes.as_mut_slice());
        DerivedKey::of(&bytes)
    }

    #[expect(clippy::expect_used, reason = "the key has the 32 bytes that AES-256 takes")]
    fn wrapping(&self, salt: &[u8]) -> (LessSafeKey, Nonce) {
        let mut bytes = Zeroizing::new([0; KEY_BYTES + NONCE_LEN]);
        self.expand(salt, &[WRAP], bytes.as_mut_slice());
        let (key, nonce) = bytes.split_at(KEY_BYTES);
        let mut nonce_bytes = [0; NONCE_LEN];
        nonce_bytes.copy_from_slice(nonce);
        let key = UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes");
        (LessSafeKey::new(key), Nonce::assume_unique_for_key(nonce_bytes))
    }

    #[expect(
        clippy::expect_used,
        reason = "HKDF-SHA-256 gives up to 8,160 bytes, nobody here asks for more than 44"
    )]
    fn expand(&self, salt: &[u8], info: &[&[u8]], out: &mut [u8]) {
        struct Bytes(usize);
        impl hkdf::KeyType for Bytes {
            fn len(&self) -> usize {
                self.0
            }
        }
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(self.0.as_slice());
        extracted
            .expand(info, Bytes(out.len()))
            .and_then(|material| material.fill(out))
            .expect("a length that HKDF gives");
    }
}
