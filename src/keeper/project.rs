//! Project: the files of a secret for a pod, at its first mount, after a restart, and whenever something changes.
//! Must not trust volume attributes, nor withdraw anything because a question could not be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::secret::{Arn, Plaintext, VersionId};

/// A volume of ours in a pod, as the node's stream tells it once the pod's identity has been proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRequest {
    pub mount_id: String,
    pub pod_namespace: String,
    pub pod_name: String,
    pub pod_uid: String,
    pub attributes: BTreeMap<String, String>,
}

/// What a mount's files hold already, as its manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub arn: Arn,
    pub version: VersionId,
    pub file_names: BTreeSet<String>,
}

/// What a mount should hold.
#[derive(Clone)]
pub struct Projected {
    pub arn: Arn,
    pub version: VersionId,
    /// Shared by every mount that asks for the same.
    pub payload: Arc<Payload>,
}

/// Files of one version: its keys, and `value` unless it is limited to keys. No `Debug`: it holds open values.
pub struct Payload {
    /// Names ARN, version and set of keys, and tells nothing about the content.
    pub id: String,
    pub arn: Arn,
    pub version: VersionId,
    pub files: Vec<(String, Plaintext)>,
}

/// What is to be done with the files of a mount that is complete.
pub enum Refreshed {
    /// The files are right as they are, or nobody could be asked.
    Keep,
    Place(Projected),
    /// The right is gone, or the secret is: the reason word, and a sentence for people.
    Withdraw {
        reason: &'static str,
        message: String,
    },
}
