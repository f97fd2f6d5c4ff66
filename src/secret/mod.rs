//! PURE. What a secret is: names, ARNs, version ids, stages and their moves, values, the rules of generators.
//! Must not do I/O, read the time or make randomness: it takes them as arguments.

mod arn;
pub mod filter;
pub mod keys;
pub mod moves;
mod name;
mod origin;
pub mod password;
mod recovery;
mod stage;
pub mod symmetric;
pub mod template;
mod value;
mod version;

pub use arn::{Arn, ArnParts, SecretId};
pub use name::{Name, NameError};
pub use origin::Origin;
pub use password::PasswordRules;
pub use recovery::{RecoveryWindow, RecoveryWindowError};
pub use stage::{Stage, StageError};
pub use value::{Plaintext, SecretValue, ValueKind};
pub use version::{VersionId, VersionIdError};

/// Where random bytes come from. The rules that need them take it as an argument, so that tests choose.
pub trait Randomness {
    fn fill(&mut self, bytes: &mut [u8]);
}
