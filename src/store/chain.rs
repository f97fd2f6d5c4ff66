//! The chain of the audit, the same in every adapter. Must not store anything.

use super::AuditEntry;
use crate::seal::{self, Field};

/// The hash of an audit row: over the hash of the row before it (zeros for the first), its number and all it says.
pub fn audit_hash(before: &[u8; 32], sequence: u64, entry: &AuditEntry) -> [u8; 32] {
    let at = entry.at.to_string();
    let fields = [
        Field::Text(&at),
        Field::Text(&entry.who),
        Field::Text(&entry.verb),
        entry.secret.as_ref().map_or(Field::Null, |arn| Field::Text(arn.as_str())),
        entry.version.as_ref().map_or(Field::Null, |id| Field::Text(id.as_str())),
        entry.pod.as_deref().map_or(Field::Null, Field::Text),
        Field::Text(&entry.outcome),
    ];
    seal::audit_hash(before, sequence, &fields)
}
