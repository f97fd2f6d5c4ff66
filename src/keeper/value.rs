//! Value: read one version, whole. Must not answer before the audit row of the reading is on disk.

use jiff::Timestamp;

use crate::secret::{Arn, Name, SecretValue, Stage, VersionId};

pub struct Revealed {
    pub arn: Arn,
    pub name: Name,
    pub version: VersionId,
    pub value: SecretValue,
    pub stages: Vec<Stage>,
    pub created_at: Timestamp,
}
