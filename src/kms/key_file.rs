//! The provider whose root key is a line of text: in a cluster the content of a Kubernetes Secret, elsewhere a file.
//! Must not write the line anywhere: whoever has made one keeps it.
//!
//! The line is `tidelock-root-key-v1:<installation id>:<32 bytes in base64>`. It carries the id of the installation that
//! it was made for, so that a key beside another store, or beside none, is noticed before anything is generated.

use std::path::Path;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{KmsError, RootKey};
use crate::seal::{DataKey, DerivedKey, KeyId, RootSecret, SealError, SystemRandom, WrappedKey, hex};
use crate::secret::Randomness;

const FORMAT: &str = "tidelock-root-key-v1";
/// Longer than any line that is a key: a file that is no key is not read to its end.
const BYTES_MAX: u64 = 4096;

/// A root key in this process' memory; zeroed when dropped.
pub struct KeyFile {
    id: KeyId,
    installation: String,
    secret: RootSecret,
}

impl KeyFile {
    /// A new key for an installation, as the line that is to be kept.
    pub fn generate(installation: &str, random: &mut dyn Randomness) -> Zeroizing<String> {
        let secret = RootSecret::generate(random);
        let key = Zeroizing::new(STANDARD.encode(secret.expose()));
        Zeroizing::new([FORMAT, ":", installation, ":", &key, "\n"].concat())
    }

    /// Reads the line. `place` says where it was found, for the error.
    pub fn parse(place: &str, text: &str) -> Result<Self, KmsError> {
        let bad = |wrong| KmsError::BadKeyFile { path: place.to_owned(), wrong };
        let line = text.strip_suffix('\n').unwrap_or(text);
        let (format, rest) = line.split_once(':').ok_or_else(|| bad("it does not begin with a format"))?;
        if format != FORMAT {
            return Err(bad("its format is not tidelock-root-key-v1"));
        }
        let (installation, key) = rest.split_once(':').ok_or_else(|| bad("it has no installation id"))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if installation.is_empty() || !installation.chars().all(plain) {
            return Err(bad("its installation id is not one: letters, digits and hyphens are allowed"));
        }
        let bytes =
            Zeroizing::new(STANDARD.decode(key).map_err(|_| bad("its last part is not standard base64"))?);
        let secret = RootSecret::from_bytes(&bytes).ok_or_else(|| bad("it does not hold 32 bytes"))?;
        let id = KeyId::new(format!("file:{}", hex(&secret.name())));
        Ok(Self { id, installation: installation.to_owned(), secret })
    }

    /// Reads the line from a file; `None` when there is no such file.
    pub fn read(path: &Path) -> Result<Option<Self>, KmsError> {
        use std::io::Read;
        let place = path.display().to_string();
        let unavailable = |error: std::io::Error| KmsError::Unavailable(format!("{place}: {error}"));
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unavailable(error)),
        };
        // Room for all of it at once: growing would leave copies of the key behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES_MAX as usize + 1));
        file.take(BYTES_MAX).read_to_end(&mut bytes).map_err(unavailable)?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| KmsError::BadKeyFile { path: place.clone(), wrong: "it is not text" })?;
        Self::parse(&place, text).map(Some)
    }

    /// The installation that this key was made for.
    pub fn installation(&self) -> &str {
        &self.installation
    }
}

#[async_trait]
impl RootKey for KeyFile {
    fn key_id(&self) -> &KeyId {
        &self.id
    }

    async fn wrap(&self, key: &DataKey, aad: &[u8]) -> Result<WrappedKey, KmsError> {
        self.secret
            .wrap(&self.id, key, aad, &mut SystemRandom)
            .map_err(|error| KmsError::Unavailable(error.to_string()))
    }

    async fn unwrap(&self, wrapped: &WrappedKey, aad: &[u8]) -> Result<DataKey, KmsError> {
        if wrapped.key_id != self.id {
            return Err(KmsError::OtherKey { wanted: wrapped.key_id.clone(), have: self.id.clone() });
        }
        self.secret.unwrap(wrapped, aad).map_err(|error| match error {
            SealError::Format(_) => KmsError::Unavailable(error.to_string()),
            _ => KmsError::DoesNotOpen,
        })
    }

    async fn derive(&self, purpose: &'static str) -> Result<DerivedKey, KmsError> {
        Ok(self.secret.derive(purpose))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> KeyFile {
        KeyFile::parse("test", &KeyFile::generate("0190-abc", &mut SystemRandom)).unwrap()
    }

    #[tokio::test]
    async fn it_fulfils_the_contract_of_root_keys() {
        crate::kms::contract::run(&made(), &made()).await;
    }

    #[test]
    fn a_made_line_reads_back_with_its_installation_and_the_same_name_each_time() {
        let line = KeyFile::generate("0190-abc", &mut SystemRandom);
        let (one, again) =
            (KeyFile::parse("a", &line).unwrap(), KeyFile::parse("b", line.trim_end()).unwrap());
        assert_eq!(one.installation(), "0190-abc");
        assert_eq!(one.key_id(), again.key_id());
        assert_ne!(one.key_id(), made().key_id());
        assert!(one.key_id().as_str().starts_with("file:"));
    }

    #[test]
    fn a_line_that_is_no_key_is_refused_saying_why_and_never_shown() {
        let check = |text: &str, wrong: &str| {
            let error = KeyFile::parse("Secret tidelock/root-key", text).map(|_| ()).unwrap_err();
            assert_eq!(error.reason(), "RootKeyMalformed");
            let message = error.to_string();
            assert!(message.contains(wrong) && message.contains("Secret tidelock/root-key"), "{message}");
            assert!(!message.contains("AAAA"), "{message}");
        };
        check("", "does not begin with a format");
        check("AAAA", "does not begin with a format");
        check("tidelock-root-key-v2:i:AAAA", "is not tidelock-root-key-v1");
        check("tidelock-root-key-v1:AAAA", "no installation id");
        check("tidelock-root-key-v1::AAAA", "installation id is not one");
        check("tidelock-root-key-v1:a b:AAAA", "installation id is not one");
        check("tidelock-root-key-v1:i:AAAA", "does not hold 32 bytes");
        check("tidelock-root-key-v1:i:AAAA*", "not standard base64");
        check(&format!("tidelock-root-key-v1:i:{}\n\n", STANDARD.encode([1; 32])), "not standard base64");
    }

    #[test]
    fn a_key_is_read_from_a_file_and_a_missing_file_is_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root-key");
        assert!(KeyFile::read(&path).unwrap().is_none());
        let line = KeyFile::generate("i", &mut SystemRandom);
        std::fs::write(&path, line.as_bytes()).unwrap();
        let read = KeyFile::read(&path).unwrap().unwrap();
        assert_eq!(read.key_id(), KeyFile::parse("", &line).unwrap().key_id());
        std::fs::write(&path, [0xff; 10]).unwrap();
        assert!(matches!(KeyFile::read(&path), Err(KmsError::BadKeyFile { wrong: "it is not text", .. })));
        assert!(matches!(KeyFile::read(folder.path()), Err(KmsError::Unavailable(_))));
    }
}
