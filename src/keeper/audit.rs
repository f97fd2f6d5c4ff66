//! What the audit says of each use-case. Must not hold values, nor text that a caller chose but names and ids.

use super::{Keeper, KeeperError};
use crate::access::{Operation, Principal};
use crate::secret::{Arn, VersionId};
use crate::store::AuditEntry;

/// The word for an act that was carried out. A refused one has the error's reason instead.
const DONE: &str = "done";

impl Keeper {
    pub(super) fn done(
        &self,
        by: &Principal,
        operation: Operation,
        arn: &Arn,
        version: Option<&VersionId>,
    ) -> AuditEntry {
        self.entry(by, operation.verb(), Some(arn), version, DONE)
    }

    pub(super) fn entry(
        &self,
        by: &Principal,
        verb: &str,
        arn: Option<&Arn>,
        version: Option<&VersionId>,
        outcome: &str,
    ) -> AuditEntry {
        let pod = by.account().zip(by.pod());
        let pod = pod.map(|(account, pod)| format!("{}/{}/{}", account.namespace, pod.name, pod.uid));
        // Whoever signs with keys and has no pod is told apart by them.
        let session = by.signing().map(|signing| format!("session/{signing}"));
        AuditEntry {
            at: self.now(),
            who: by.to_string(),
            verb: verb.to_owned(),
            secret: arn.cloned(),
            version: version.cloned(),
            pod: pod.or(session),
            outcome: outcome.to_owned(),
        }
    }

    /// Writes down a refusal. It is a refusal whether or not it can be written down.
    pub(super) async fn refused(
        &self,
        by: &Principal,
        operation: Operation,
        arn: Option<&Arn>,
        error: impl Into<KeeperError>,
    ) -> KeeperError {
        let error = error.into();
        let entry = self.entry(by, operation.verb(), arn, None, error.reason());
        self.write_down_refusal(entry).await;
        error
    }
}
