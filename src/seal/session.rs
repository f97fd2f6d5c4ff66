//! Keys that are made of what they stand for, and kept nowhere: whoever holds the root key can make them again, so that
//! they are good on every replica and after every restart. Must not know who may have one.
//!
//! A session token is, in URL-safe base64,
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format, `0x01` |
//! | 8 | when it was issued, seconds since 1970, big-endian |
//! | 12 | nonce |
//! | .. | what it tells, encrypted with AES-256-GCM |
//! | 16 | tag |
//!
//! It opens only together with the access key id that it was issued with. The keys that seal tokens and make secret keys
//! are others every day; which day's they are is known from when a token was issued. What opens after `LIFE_SECONDS_MAX`
//! is expired whatever it tells, so a day's keys that became known are worth nothing an hour after that day.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::encoding::{Field, encode};
use super::mac::hmac_sha256;
use super::{DerivedKey, SealError};
use crate::secret::Randomness;

const FORMAT: u8 = 1;
const ISSUED_BYTES: usize = 8;
const HEAD_BYTES: usize = 1 + ISSUED_BYTES + NONCE_LEN;
/// No token that a server issued is longer; what is longer is not decoded.
const TOKEN_CHARS_MAX: usize = 16 * 1024;
/// How long a session may be good for.
pub const LIFE_SECONDS_MAX: i64 = 3600;
const PERIOD_SECONDS: i64 = 86_400;
/// AWS's secret access keys have 40 characters of base64.
pub(super) const SECRET_BYTES: usize = 30;
/// AWS's access key ids have 16 characters after the four that tell their kind.
pub(super) const ID_BYTES: usize = 10;

/// Makes and opens sessions.
pub struct Sessions(DerivedKey);

/// A pair that signs requests.
pub struct AccessKey {
    pub id: String,
    pub secret: Zeroizing<String>,
}

/// A token that opened.
pub struct OpenedSession {
    /// Seconds since 1970.
    pub issued_at: i64,
    pub secret: Zeroizing<String>,
    /// What the token was sealed over.
    pub told: Zeroizing<Vec<u8>>,
}

impl Sessions {
    /// `key` is made from the root key for this purpose and no other.
    pub fn new(key: DerivedKey) -> Self {
        Self(key)
    }

    /// A new key for a session, and the token that tells about it.
    pub fn issue(
        &self,
        told: &[u8],
        issued_at: i64,
        random: &mut dyn Randomness,
    ) -> Result<(AccessKey, String), SealError> {
        let (mut id, mut nonce) = ([0; ID_BYTES], [0; NONCE_LEN]);
        random.fill(&mut id);
        random.fill(&mut nonce);
        let id = format!("ASIA{}", base32(&id));
        let mut token = Vec::with_capacity(HEAD_BYTES + told.len() + AES_256_GCM.tag_len());
        token.push(FORMAT);
        token.extend_from_slice(&issued_at.to_be_bytes());
        token.extend_from_slice(&nonce);
        token.extend_from_slice(told);
        let tag = self
            .cipher(issued_at)
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(bound_to(&id, issued_at)),
                &mut token[HEAD_BYTES..],
            )
            .map_err(|_| SealError::Failed)?;
        token.extend_from_slice(tag.as_ref());
        let token = URL_SAFE_NO_PAD.encode(token);
        let secret = self.secret(&id, &token, issued_at);
        Ok((AccessKey { id, secret }, token))
    }

    /// What a token tells, if this installation issued it with this access key id. Whether it is still good is for the
    /// caller to see.
    pub fn open(&self, id: &str, token: &str) -> Result<OpenedSession, SealError> {
        if token.len() > TOKEN_CHARS_MAX {
            return Err(SealError::DoesNotOpen);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| SealError::DoesNotOpen)?;
        let (head, sealed) = bytes.split_at_checked(HEAD_BYTES).ok_or(SealError::DoesNotOpen)?;
        let (&format, head) = head.split_first().ok_or(SealError::DoesNotOpen)?;
        if format != FORMAT {
            return Err(SealError::Format(format));
        }
        let (issued, nonce) = head.split_first_chunk::<ISSUED_BYTES>().ok_or(SealError::DoesNotOpen)?;
        let issued_at = i64::from_be_bytes(*issued);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::DoesNotOpen)?;
        let mut told = Zeroizing::new(sealed.to_vec());
        let length = self
            .cipher(issued_at)
            .open_in_place(nonce, Aad::from(bound_to(id, issued_at)), told.as_mut_slice())
            .map_err(|_| SealError::DoesNotOpen)?
            .len();
        told.truncate(length);
        Ok(OpenedSession { issued_at, secret: self.secret(id, token, issued_at), told })
    }

    /// The same pair at each call, for somebody who has no session.
    pub fn lasting(&self, name: &str) -> AccessKey {
        let id = self.make("tidelock.key.id.v1", &[Field::Text(name)]);
        let secret = self.make("tidelock.key.secret.v1", &[Field::Text(name)]);
        AccessKey { id: format!("AKIA{}", base32(&id[..ID_BYTES])), secret: shown(&*secret) }
    }

    fn secret(&self, id: &str, token: &str, issued_at: i64) -> Zeroizing<String> {
        let fields = [Field::Text(id), Field::Text(token)];
        shown(&*self.of_day("tidelock.session.secret.v1", issued_at, &fields))
    }

    #[expect(clippy::expect_used, reason = "the key has the 32 bytes that AES-256 takes")]
    fn cipher(&self, issued_at: i64) -> LessSafeKey {
        let key = self.of_day("tidelock.session.seal.v1", issued_at, &[]);
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_slice()).expect("a key of 32 bytes"))
    }

    /// Made with the key of the day on which the session was issued.
    fn of_day(&self, domain: &str, issued_at: i64, fields: &[Field<'_>]) -> Zeroizing<[u8; 32]> {
        let day = issued_at.div_euclid(PERIOD_SECONDS);
        let key = self.make("tidelock.session.day.v1", &[Field::Integer(day)]);
        Zeroizing::new(hmac_sha256(key.as_slice(), &encode(domain, fields.iter().copied())))
    }

    fn make(&self, domain: &str, fields: &[Field<'_>]) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.sign(&encode(domain, fields.iter().copied())))
    }
}

fn bound_to(id: &str, issued_at: i64) -> Vec<u8> {
    encode("tidelock.session.v1", [Field::Text(id), Field::Integer(issued_at)])
}

pub(super) fn shown(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(&bytes[..SECRET_BYTES]))
}

/// RFC 4648's base32, of a number of bytes that needs no padding.
pub(super) fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let groups = bytes.chunks(5).flat_map(|group| {
        let number = group.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        (0..8).rev().map(move |at| char::from(ALPHABET[(number >> (at * 5) & 31) as usize]))
    });
    groups.collect()
}

#[cfg(test)]
mod tests {
    use super::super::SystemRandom;
    use super::*;

    const NOON: i64 = 1_900_000_000;

    fn sessions(key: u8) -> Sessions {
        Sessions::new(DerivedKey::of(&[key; 32]))
    }

    fn issue(by: &Sessions) -> (AccessKey, String) {
        by.issue(b"who it is", NOON, &mut SystemRandom).unwrap()
    }

    #[test]
    fn a_session_opens_with_its_own_key_id_on_every_replica_and_nowhere_else() {
        let (key, token) = issue(&sessions(7));
        let opened = sessions(7).open(&key.id, &token).unwrap();
        assert_eq!((opened.told.as_slice(), opened.issued_at), (&b"who it is"[..], NOON));
        assert_eq!((opened.secret.as_str(), opened.secret.len()), (key.secret.as_str(), 40));
        assert!(key.id.starts_with("ASIA") && key.id.len() == 20, "{}", key.id);

        let (other, _) = issue(&sessions(7));
        assert!(sessions(7).open(&other.id, &token).is_err());
        assert!(sessions(8).open(&key.id, &token).is_err());
        assert!(!token.contains(key.secret.as_str()));
    }

    #[test]
    fn no_changed_character_of_a_token_opens() {
        let (key, token) = issue(&sessions(7));
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(sessions(7).open(&key.id, &changed).is_err(), "character {at}");
            assert!(sessions(7).open(&key.id, &token[..at]).is_err(), "{at} characters");
        }
        assert!(sessions(7).open(&key.id, &"A".repeat(TOKEN_CHARS_MAX + 1)).is_err());
        assert!(matches!(sessions(7).open(&key.id, "AgAA"), Err(SealError::DoesNotOpen)));
        let later = format!("Ag{}", &token[2..]);
        assert!(matches!(sessions(7).open(&key.id, &later), Err(SealError::Format(2))));
    }

    #[test]
    fn each_day_has_keys_of_its_own_and_a_lasting_key_has_none() {
        let of = |day: i64| *sessions(7).of_day("x", day * PERIOD_SECONDS, &[]);
        assert!(of(3) != of(4));
        assert_eq!(of(3), *sessions(7).of_day("x", 4 * PERIOD_SECONDS - 1, &[]));
        let (one, again) = (sessions(7).lasting("dev"), sessions(7).lasting("dev"));
        assert_eq!((one.id.as_str(), one.secret.as_str()), (again.id.as_str(), again.secret.as_str()));
        assert!(one.id.starts_with("AKIA") && sessions(7).lasting("other").id != one.id);
    }

    /// A session that an earlier build issued is opened by every later one.
    #[test]
    fn a_token_of_format_1_opens_for_ever() {
        let (id, token) = ("ASIAAAAQEAYEAUDAOCAJ", FIXED_TOKEN);
        let opened = sessions(7).open(id, token).unwrap();
        assert_eq!((opened.told.as_slice(), opened.secret.as_str()), (&b"fixed"[..], FIXED_SECRET));
    }

    const FIXED_TOKEN: &str = "AQAAAABxP7MAAAECAwQFBgcICQoLAyI_4GWL3Yh1eIodc67kCmF7LKzq";
    const FIXED_SECRET: &str = "hgHSp1IiICzMRaO/KxOZzhw34hwzXXRdcoeqEKST";
}
