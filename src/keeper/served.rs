//! What nodes did on their own while this server was away: first mounts that they filled from copies of theirs.
//! Must not judge it: what was given was given. A mount that is still there is resumed, and judged then.

use jiff::Timestamp;

use super::{Held, Keeper, KeeperError, MountRequest};
use crate::access::ServiceAccount;
use crate::store::AuditEntry;

const VERB: &str = "trust-window";

impl Keeper {
    /// Writes down the node's word. It may be told more than once: until its agent has heard that this was done.
    pub async fn served_meanwhile(
        &self,
        node: &str,
        request: &MountRequest,
        account: &str,
        held: &Held,
        at: Timestamp,
    ) -> Result<(), KeeperError> {
        let account = ServiceAccount { namespace: request.pod_namespace.clone(), name: account.to_owned() };
        let audit = AuditEntry {
            at: self.now(),
            who: format!("system:node:{node}"),
            verb: VERB.to_owned(),
            secret: Some(held.arn.clone()),
            version: Some(held.version.clone()),
            pod: Some(format!("{}/{}/{}", request.pod_namespace, request.pod_name, request.pod_uid)),
            outcome: format!("served to {} at {at:.0}", account.user()),
        };
        self.commit(Vec::new(), vec![audit]).await
    }
}
