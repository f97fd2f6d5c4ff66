//! Open values. Must not be printed, compared in variable time, copied or serialised: the type has none of these.

use zeroize::Zeroizing;

/// Open bytes of a secret. Zeroed when dropped; no `Debug`, `Display`, `Serialize` or `Clone`.
pub struct Plaintext(Zeroizing<Vec<u8>>);

impl Plaintext {
    /// 65,536 bytes, AWS's limit for one value.
    pub const BYTES_MAX: usize = 65_536;

    /// Takes the bytes over; whoever holds another copy must zero it.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A second holder of the same bytes, made on purpose and by name.
    pub fn duplicate(&self) -> Self {
        Self::new(self.0.to_vec())
    }
}

/// Whether the API shows a value as SecretString or SecretBinary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueKind {
    String,
    Binary,
}

/// One value as a caller gave it.
pub struct SecretValue {
    pub kind: ValueKind,
    pub bytes: Plaintext,
}

impl SecretValue {
    pub fn string(text: String) -> Self {
        Self { kind: ValueKind::String, bytes: Plaintext::new(text.into_bytes()) }
    }

    pub fn binary(bytes: Vec<u8>) -> Self {
        Self { kind: ValueKind::Binary, bytes: Plaintext::new(bytes) }
    }
}
