//! Put: a new version of a secret. Must not write a value twice under one token.

use crate::secret::{Arn, Name, Stage, VersionId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    pub arn: Arn,
    pub name: Name,
    pub version: VersionId,
    /// The stages on the version now.
    pub stages: Vec<Stage>,
}
