//! Sealing and opening of versions, and the form in which a sealed one is kept. Must not be built outside this room but
//! from its own stored form; must not be opened without an `Authorized`.
//!
//! The stored form is
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format, `0x01` |
//! | 2 | length of the root key's name, big-endian |
//! | .. | the root key's name, UTF-8 |
//! | 2 | length of the wrapped data key, big-endian |
//! | .. | the data key as that root key wrapped it |
//! | 12 | nonce |
//! | .. | the value, encrypted with AES-256-GCM |
//! | 16 | tag |

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::encoding::{Field, encode};
use super::{DataKey, KeyId, SealError, WrappedKey};
use crate::access::Authorized;
use crate::failpoint;
use crate::secret::{Arn, Plaintext, Randomness, VersionId};

const FORMAT: u8 = 1;
const TAG_BYTES: usize = 16;

/// Where a version belongs. A sealed version opens only at the place that it was sealed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    pub region: &'a str,
    pub arn: &'a Arn,
    pub version: &'a VersionId,
}

impl Place<'_> {
    /// What the root key binds the data key to. The key's name is no part of it: re-wrapping must not need the value.
    pub fn of_key(&self) -> Vec<u8> {
        self.encode("tidelock.key.v1")
    }

    fn of_body(&self) -> Vec<u8> {
        self.encode("tidelock.body.v1")
    }

    fn encode(&self, domain: &str) -> Vec<u8> {
        if !failpoint::guard("aad") {
            return encode(domain, []);
        }
        let fields =
            [Field::Text(self.region), Field::Text(self.arn.as_str()), Field::Text(self.version.as_str())];
        encode(domain, fields)
    }
}

/// One sealed version: the wrapped data key, and the encrypted body (nonce, ciphertext, tag).
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    pub(super) key: WrappedKey,
    pub(super) body: Vec<u8>,
}

impl Sealed {
    /// About what it takes in memory.
    pub fn bytes(&self) -> usize {
        self.key.bytes.len() + self.body.len()
    }
}

/// Encrypts a value. Takes the data key away, so that it seals once; `wrapped` is that key, wrapped for this place.
pub fn seal(
    place: Place<'_>,
    key: DataKey,
    wrapped: WrappedKey,
    value: &Plaintext,
    random: &mut dyn Randomness,
) -> Result<Sealed, SealError> {
    seal_bytes(place.of_body(), &key, wrapped, value.expose(), random)
}

pub(super) fn seal_bytes(
    bound_to: Vec<u8>,
    key: &DataKey,
    wrapped: WrappedKey,
    value: &[u8],
    random: &mut dyn Randomness,
) -> Result<Sealed, SealError> {
    let mut nonce = [0; NONCE_LEN];
    random.fill(&mut nonce);
    // Room for the whole body at once: growing would leave copies of the open value behind.
    let mut body = Zeroizing::new(Vec::with_capacity(NONCE_LEN + value.len() + TAG_BYTES));
    body.extend_from_slice(&nonce);
    body.extend_from_slice(value);
    let tag = cipher(key)
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(bound_to),
            &mut body[NONCE_LEN..],
        )
        .map_err(|_| SealError::Failed)?;
    body.extend_from_slice(tag.as_ref());
    Ok(Sealed { key: wrapped, body: std::mem::take(&mut *body) })
}

/// Decrypts a value for somebody who may have it opened.
pub fn open(
    authorized: &Authorized,
    place: Place<'_>,
    key: &DataKey,
    sealed: &Sealed,
) -> Result<Plaintext, SealError> {
    if !authorized.opens(place.arn) {
        return Err(SealError::OtherRight);
    }
    decrypt(place, key, sealed)
}

pub(super) fn decrypt(place: Place<'_>, key: &DataKey, sealed: &Sealed) -> Result<Plaintext, SealError> {
    let mut opened = decrypt_bytes(place.of_body(), key, sealed)?;
    Ok(Plaintext::new(std::mem::take(&mut *opened)))
}

pub(super) fn decrypt_bytes(
    bound_to: Vec<u8>,
    key: &DataKey,
    sealed: &Sealed,
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (nonce, body) = sealed.body.split_at_checked(NONCE_LEN).ok_or(SealError::DoesNotOpen)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::DoesNotOpen)?;
    let mut opened = Zeroizing::new(body.to_vec());
    let length = cipher(key)
        .open_in_place(nonce, Aad::from(bound_to), opened.as_mut_slice())
        .map_err(|_| SealError::DoesNotOpen)?
        .len();
    opened.truncate(length);
    Ok(opened)
}

#[expect(clippy::expect_used, reason = "a data key has the 32 bytes that AES-256 takes")]
fn cipher(key: &DataKey) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.0.as_slice()).expect("a key of 32 bytes"))
}

impl Sealed {
    /// The data key, for the provider that wrapped it.
    pub fn wrapped_key(&self) -> &WrappedKey {
        &self.key
    }

    /// The same body under the same data key, which another root key wrapped.
    pub fn rewrapped(self, key: WrappedKey) -> Self {
        Self { key, body: self.body }
    }

    /// The stored form.
    pub fn encode(&self) -> Result<Vec<u8>, SealError> {
        let name = self.key.key_id.as_str().as_bytes();
        let mut out = Vec::with_capacity(5 + name.len() + self.key.bytes.len() + self.body.len());
        out.push(FORMAT);
        for part in [name, &self.key.bytes] {
            let length = u16::try_from(part.len()).map_err(|_| SealError::Failed)?;
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(part);
        }
        out.extend_from_slice(&self.body);
        Ok(out)
    }

    /// Reads the stored form. Whether it opens is another matter.
    pub fn decode(stored: &[u8]) -> Result<Self, SealError> {
        let (format, rest) = stored.split_first().ok_or(SealError::Malformed)?;
        if *format != FORMAT {
            return Err(SealError::Format(*format));
        }
        let (name, rest) = part(rest)?;
        let (wrapped, body) = part(rest)?;
        let name = std::str::from_utf8(name).map_err(|_| SealError::Malformed)?;
        if body.len() < NONCE_LEN + TAG_BYTES {
            return Err(SealError::Malformed);
        }
        let key = WrappedKey { key_id: KeyId::new(name.to_owned()), bytes: wrapped.to_vec() };
        Ok(Self { key, body: body.to_vec() })
    }
}

fn part(bytes: &[u8]) -> Result<(&[u8], &[u8]), SealError> {
    let (length, rest) = bytes.split_first_chunk::<2>().ok_or(SealError::Malformed)?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(SealError::Malformed)
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed").field("key_id", &self.key.key_id).finish_non_exhaustive()
    }
}
