//! Configure: what a custom resource may change about a secret that exists. Must not touch values.

use crate::store::GrantRecord;

/// The wanted state, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configure {
    pub description: Option<String>,
    pub grants: Vec<GrantRecord>,
    pub recovery_window_days: u8,
}
