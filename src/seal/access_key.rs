//! Lasting access keys: made at random, and their secret sealed as a value is, but bound to the key's id. Must not know
//! who holds one.

use zeroize::Zeroizing;

use super::encoding::{Field, encode};
use super::sealed::{decrypt_bytes, seal_bytes};
use super::session::{ID_BYTES, SECRET_BYTES, base32, shown};
use super::{AccessKey, DataKey, SealError, Sealed, WrappedKey};
use crate::secret::Randomness;

/// What the secret of a key is bound to. It opens in no other installation, nor under another id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPlace<'a> {
    pub installation: &'a str,
    pub id: &'a str,
}

impl KeyPlace<'_> {
    /// What the root key binds the data key to.
    pub fn of_key(&self) -> Vec<u8> {
        self.encode("tidelock.access-key.key.v1")
    }

    fn of_body(&self) -> Vec<u8> {
        self.encode("tidelock.access-key.body.v1")
    }

    fn encode(&self, domain: &str) -> Vec<u8> {
        encode(domain, [Field::Text(self.installation), Field::Text(self.id)])
    }
}

/// A pair that nobody has yet: 80 bits of id, 240 of secret.
pub fn new_access_key(random: &mut dyn Randomness) -> AccessKey {
    let mut id = [0; ID_BYTES];
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    random.fill(&mut id);
    random.fill(&mut *secret);
    AccessKey { id: format!("AKIA{}", base32(&id)), secret: shown(&*secret) }
}

/// Whether a text has the form of a lasting key's id.
pub fn is_access_key_id(text: &str) -> bool {
    let digits = text.strip_prefix("AKIA").filter(|digits| digits.len() == 16);
    digits.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b)))
}

/// Seals a key's secret. `wrapped` is the data key, wrapped for this place.
pub fn seal_access_key(
    place: KeyPlace<'_>,
    key: DataKey,
    wrapped: WrappedKey,
    secret: &str,
    random: &mut dyn Randomness,
) -> Result<Sealed, SealError> {
    seal_bytes(place.of_body(), &key, wrapped, secret.as_bytes(), random)
}

/// Opens a key's secret, to see whether it signed a request.
pub fn open_access_key(
    place: KeyPlace<'_>,
    key: &DataKey,
    sealed: &Sealed,
) -> Result<Zeroizing<String>, SealError> {
    let bytes = decrypt_bytes(place.of_body(), key, sealed)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| SealError::DoesNotOpen)?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::{RootSecret, SystemRandom};
    use super::*;

    #[test]
    fn a_secret_opens_under_its_own_id_in_its_own_installation_only() {
        let root = RootSecret::from_bytes(&[7; 32]).unwrap();
        let (made, other) = (new_access_key(&mut SystemRandom), new_access_key(&mut SystemRandom));
        assert!(is_access_key_id(&made.id) && made.secret.len() == 40, "{}", made.id);
        assert!(made.id != other.id && *made.secret != *other.secret);
        let place = KeyPlace { installation: "one", id: &made.id };
        let key = DataKey::generate(&mut SystemRandom);
        let id = super::super::KeyId::new("file:1".into());
        let wrapped = root.wrap(&id, &key, &place.of_key(), &mut SystemRandom).unwrap();
        let sealed = seal_access_key(place, key, wrapped, &made.secret, &mut SystemRandom).unwrap();
        assert!(!sealed.encode().unwrap().windows(40).any(|window| window == made.secret.as_bytes()));

        let unwrap = |place: KeyPlace<'_>| root.unwrap(sealed.wrapped_key(), &place.of_key());
        let key = unwrap(place).unwrap();
        assert_eq!(*open_access_key(place, &key, &sealed).unwrap(), *made.secret);
        for wrong in [KeyPlace { id: &other.id, ..place }, KeyPlace { installation: "two", ..place }] {
            assert!(unwrap(wrong).is_err());
            assert!(open_access_key(wrong, &key, &sealed).is_err());
        }
    }

    #[test]
    fn only_an_id_has_the_form_of_one() {
        assert!(is_access_key_id("AKIAABCDEFGH234567ZZ"));
        for wrong in [
            "",
            "AKIA",
            "ASIAABCDEFGH234567ZZ",
            "AKIAABCDEFGH234567Z",
            "AKIAABCDEFGH234567Z1",
            "AKIAabcdefgh234567zz",
        ] {
            assert!(!is_access_key_id(wrong), "{wrong}");
        }
    }
}
