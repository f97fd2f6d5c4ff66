//! Encryption: sealing and opening of versions, MACs of rows, chain of the audit, comparison in constant time.
//! The only room that imports `aws_lc_rs`. Must not do I/O.

mod key;
mod sealed;

pub use key::{DataKey, DerivedKey, KeyId, WrappedKey};
pub use sealed::Sealed;
