//! Parts of a secret's stored form, each with its way there and back. As in `codec`, a field is added with a default and
//! never renamed. Must not know rows.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::{Deletion, RotationConfig, RotationRules};

#[derive(Serialize, Deserialize)]
pub(super) struct StoredDeletion {
    requested_at: Timestamp,
    due_at: Timestamp,
}

impl From<&Deletion> for StoredDeletion {
    fn from(deletion: &Deletion) -> Self {
        Self { requested_at: deletion.requested_at, due_at: deletion.due_at }
    }
}

impl From<StoredDeletion> for Deletion {
    fn from(stored: StoredDeletion) -> Self {
        Self { requested_at: stored.requested_at, due_at: stored.due_at }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredRotationConfig {
    rotator: String,
    automatically_after_days: Option<i64>,
    schedule_expression: Option<String>,
    duration: Option<String>,
    since: Timestamp,
}

impl From<&RotationConfig> for StoredRotationConfig {
    fn from(config: &RotationConfig) -> Self {
        let RotationConfig { rotator, rules, since } = config.clone();
        let RotationRules { automatically_after_days, schedule_expression, duration } = rules;
        Self { rotator, automatically_after_days, schedule_expression, duration, since }
    }
}

impl From<StoredRotationConfig> for RotationConfig {
    fn from(stored: StoredRotationConfig) -> Self {
        let StoredRotationConfig { rotator, automatically_after_days, schedule_expression, duration, since } =
            stored;
        let rules = RotationRules { automatically_after_days, schedule_expression, duration };
        Self { rotator, rules, since }
    }
}
