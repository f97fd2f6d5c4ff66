//! Move a stage from one version to another. Must not touch values.

use crate::secret::{Arn, Name};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    pub arn: Arn,
    pub name: Name,
}
