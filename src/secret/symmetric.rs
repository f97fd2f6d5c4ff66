//! Random keys for symmetric ciphers. Must not be drawn from anything but the randomness it is given.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{Plaintext, Randomness, SecretValue, ValueKind};

/// How a key is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyEncoding {
    /// The bytes themselves, SecretBinary in the API.
    Raw,
    Base64,
    Hex,
}

pub const KEY_BYTES_MIN: usize = 16;
pub const KEY_BYTES_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a symmetric key has {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes, not {0}")]
pub struct KeyBytesError(pub usize);

/// Draws a key of so many bytes.
pub fn draw_key(
    bytes: usize,
    encoding: KeyEncoding,
    random: &mut dyn Randomness,
) -> Result<SecretValue, KeyBytesError> {
    if !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&bytes) {
        return Err(KeyBytesError(bytes));
    }
    let mut key = Zeroizing::new(vec![0; bytes]);
    random.fill(&mut key);
    Ok(match encoding {
        KeyEncoding::Raw => {
            SecretValue { kind: ValueKind::Binary, bytes: Plaintext::new(std::mem::take(&mut *key)) }
        }
        KeyEncoding::Base64 => SecretValue::string(STANDARD.encode(key.as_slice())),
        KeyEncoding::Hex => SecretValue::string(hex(&key)),
    })
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::password::tests::Seeded;

    #[test]
    fn one_key_is_written_in_three_ways() {
        let draw = |encoding| draw_key(32, encoding, &mut Seeded(7)).unwrap();
        let raw = draw(KeyEncoding::Raw);
        assert_eq!((raw.kind, raw.bytes.len()), (ValueKind::Binary, 32));
        let base64 = draw(KeyEncoding::Base64);
        assert_eq!(STANDARD.decode(base64.bytes.expose()).unwrap(), raw.bytes.expose());
        let hex = draw(KeyEncoding::Hex);
        assert_eq!((hex.kind, hex.bytes.len()), (ValueKind::String, 64));
        assert_eq!(&hex.bytes.expose()[..2], format!("{:02x}", raw.bytes.expose()[0]).as_bytes());
    }

    #[test]
    fn keys_have_16_to_64_bytes() {
        for (bytes, good) in [(0, false), (15, false), (16, true), (64, true), (65, false)] {
            assert_eq!(draw_key(bytes, KeyEncoding::Raw, &mut Seeded(7)).is_ok(), good, "{bytes}");
        }
    }
}
