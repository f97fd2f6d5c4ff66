//! What is counted and measured here. Labels are words of fixed lists: never a name, an id or a message.

use super::{Keeper, KeeperError};
use crate::access::Operation;
use crate::secret::{Arn, VersionId};

const OPERATIONS: &str = "tidelock_operations_total";
const PURGED: &str = "tidelock_secrets_purged_total";
const RECEIPTS: &str = "tidelock_projection_receipts_total";
const WITHDRAWN: &str = "tidelock_projection_withdrawals_total";
const COMMIT_TO_RECEIPT: &str = "tidelock_projection_commit_to_receipt_seconds";

/// Counts a use-case by how it ended.
pub(super) fn counted<T>(operation: Operation, outcome: Result<T, KeeperError>) -> Result<T, KeeperError> {
    let word = outcome.as_ref().err().map_or("done", KeeperError::reason);
    metrics::counter!(OPERATIONS, "verb" => operation.verb(), "outcome" => word).increment(1);
    outcome
}

pub(super) fn purged() {
    metrics::counter!(PURGED).increment(1);
}

pub(super) fn received() {
    metrics::counter!(RECEIPTS).increment(1);
}

pub(super) fn withdrawn(reason: &'static str) {
    metrics::counter!(WITHDRAWN, "reason" => reason).increment(1);
}

impl Keeper {
    /// How long it took from the commit that made a version current until a pod that held another one holds it.
    pub(super) fn measure_receipt(&self, arn: &Arn, version: &VersionId) {
        let now = self.ports.clock.monotonic();
        let memory = self.memory();
        if let Some((promoted, at)) = memory.promoted.get(arn)
            && promoted == version
        {
            metrics::histogram!(COMMIT_TO_RECEIPT).record(now.duration_since(*at));
        }
    }
}
