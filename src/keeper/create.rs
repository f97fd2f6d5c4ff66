//! Create: a secret with its first version, or without one. Must not make values.

use crate::secret::{Arn, Name, Origin, SecretValue, VersionId};
use crate::store::GrantRecord;

pub struct Create {
    pub name: Name,
    pub description: Option<String>,
    /// The id of the first version; asked for also without a value, as AWS does.
    pub token: VersionId,
    pub value: Option<SecretValue>,
    pub origin: Origin,
    pub grants: Vec<GrantRecord>,
    pub recovery_window_days: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    pub arn: Arn,
    pub name: Name,
    /// `None` when the secret has no value yet.
    pub version: Option<VersionId>,
}
