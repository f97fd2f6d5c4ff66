//! What is counted and measured here. Labels are words of fixed lists, and names of nodes up to a number: never another
//! name, an id or a message.

use super::access_key::KeyCounts;
use super::{Keeper, KeeperError, Memory, Receipt};
use crate::access::Operation;

const OPERATIONS: &str = "tidelock_operations_total";
const PURGED: &str = "tidelock_secrets_purged_total";
const ACCESS_KEYS: &str = "tidelock_access_keys";
const RECEIPTS: &str = "tidelock_projection_receipts_total";
const WITHDRAWN: &str = "tidelock_projection_withdrawals_total";
const COMMIT_TO_RECEIPT: &str = "tidelock_projection_commit_to_receipt_seconds";

/// Nodes beyond these share one label, for names of nodes that are gone stay in the metrics as long as the process.
const NODES_MAX: usize = 1000;
const OTHER_NODES: &str = "others";

/// Counts a use-case by how it ended.
pub(super) fn counted<T>(operation: Operation, outcome: Result<T, KeeperError>) -> Result<T, KeeperError> {
    let word = outcome.as_ref().err().map_or("done", KeeperError::reason);
    metrics::counter!(OPERATIONS, "verb" => operation.verb(), "outcome" => word).increment(1);
    outcome
}

pub(super) fn purged() {
    metrics::counter!(PURGED).increment(1);
}

pub(super) fn access_keys(counts: KeyCounts) {
    let KeyCounts { good, expiring, expired } = counts;
    for (state, count) in [("good", good), ("expiring", expiring), ("expired", expired)] {
        metrics::gauge!(ACCESS_KEYS, "state" => state).set(count as f64);
    }
}

pub(super) fn received(receipts: u64) {
    metrics::counter!(RECEIPTS).increment(receipts);
}

pub(super) fn withdrawn(reason: &'static str) {
    metrics::counter!(WITHDRAWN, "reason" => reason).increment(1);
}

impl Keeper {
    /// How long it took from the commit that made a version current until the word of a node came that a pod which held
    /// another one holds it.
    pub(super) fn measure_receipt(&self, node: &str, receipt: &Receipt) {
        let mut memory = self.memory();
        let Some((promoted, at)) = memory.promoted.get(&receipt.arn) else { return };
        if *promoted == receipt.version {
            let took = receipt.came_at.saturating_duration_since(*at);
            let node = label(&mut memory, node);
            drop(memory);
            metrics::histogram!(COMMIT_TO_RECEIPT, "node" => node).record(took);
        }
    }
}

fn label(memory: &mut Memory, node: &str) -> String {
    if memory.measured.len() < NODES_MAX {
        memory.measured.insert(node.to_owned());
    }
    let name = if memory.measured.contains(node) { node } else { OTHER_NODES };
    name.to_owned()
}
