//! What is stored. These types are the store's own: neither the wire nor the custom resources use them.
//! Must not hold open values.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::access::ServiceAccount;
use crate::seal::{KeyId, Sealed};
use crate::secret::{Arn, Name, Origin, Stage, ValueKind, VersionId};

/// The number of a leadership. Each write asserts that it is still the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Where a store stands: a store behind a position that it once had was put back from an older copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub epoch: Epoch,
    pub commit: u64,
}

/// The first start writes `Initialising`, then makes the root key, then writes `Ready`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstallationState {
    Initialising,
    Ready,
}

/// What all records of a store share. Region and account are in every ARN and so in every seal: they never change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    pub id: String,
    pub state: InstallationState,
    pub region: String,
    pub account: String,
    /// UID of the namespace kube-system when the store was made; empty outside a cluster.
    pub cluster_id: String,
    /// UID of the ManagedSecret CRD that secrets of origin `CustomResource` were last seen under; empty outside a cluster.
    pub crd_uid: String,
    /// The root key that this store's row MACs are derived from; `None` while `Initialising`.
    pub root_key: Option<KeyId>,
    pub created_at: Timestamp,
}

/// A deletion that waits for the end of its recovery window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    pub requested_at: Timestamp,
    pub due_at: Timestamp,
}

/// One line of `spec.access`: who may read which keys of which stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRecord {
    pub account: ServiceAccount,
    pub stages: Vec<Stage>,
    /// `None` grants the whole value.
    pub keys: Option<Vec<String>>,
}

/// How the AWS API configured a secret's rotation. The secret of a custom resource has none: its schedule says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationConfig {
    /// The rotator as the caller named it: clients compare what they gave with what they read.
    pub rotator: String,
    pub rules: RotationRules,
    /// Since when the rules are these.
    pub since: Timestamp,
}

/// AWS's RotationRules as they were given; without any, rotation happens on request only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RotationRules {
    pub automatically_after_days: Option<i64>,
    pub schedule_expression: Option<String>,
    pub duration: Option<String>,
}

/// A secret without its values. Its stages are in this record, so that one row decides which version is current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRecord {
    pub arn: Arn,
    pub name: Name,
    pub origin: Origin,
    pub description: Option<String>,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
    /// Day of the last read.
    pub accessed_at: Option<Timestamp>,
    /// Day of the last read of each version that was read.
    pub versions_accessed_at: BTreeMap<VersionId, Timestamp>,
    pub rotated_at: Option<Timestamp>,
    pub stages: BTreeMap<Stage, VersionId>,
    pub grants: Vec<GrantRecord>,
    pub recovery_window_days: u8,
    pub deletion: Option<Deletion>,
    pub rotation_enabled: Option<bool>,
    /// Kept when rotation is switched off.
    pub rotation: Option<Box<RotationConfig>>,
    /// `None` until somebody sets one: AWS shows no list then, and an empty one after the last is gone.
    pub tags: Option<BTreeMap<String, String>>,
    /// The number of its resource policy; `None` when it has none.
    pub policy: Option<u64>,
    /// Grows by one with each write of this record.
    pub revision: u64,
}

/// The resource policy of a secret, as somebody put it. Who reads the secret's record knows whether there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRecord {
    pub arn: Arn,
    /// The revision of the secret's record that it came with: another policy of the same secret has another number.
    pub number: u64,
    pub text: String,
    pub put_at: Timestamp,
}

/// A lasting key of a caller outside, who acts as one ServiceAccount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKeyRecord {
    pub id: String,
    pub account: ServiceAccount,
    /// Of the ServiceAccount when the key was made: another one of that name has no part in it.
    pub uid: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    /// Not each use: see the keeper.
    pub used_at: Option<Timestamp>,
    /// The secret that signs.
    pub sealed: Sealed,
    /// Grows by one with each write of this record.
    pub revision: u64,
}

/// One version. `sealed` is `None` for the empty AWSPENDING version that a rotation begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRecord {
    pub arn: Arn,
    pub id: VersionId,
    pub created_at: Timestamp,
    pub kind: ValueKind,
    pub sealed: Option<Sealed>,
}

/// A version as listings show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionSummary {
    pub id: VersionId,
    pub created_at: Timestamp,
    pub has_value: bool,
}

/// What a secret has before a version is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeforePut {
    /// What is there under the new version's id.
    pub version: Option<VersionRecord>,
    pub rotation: Option<RotationRecord>,
    /// All that there are, in the order in which they were written.
    pub versions: Arc<Vec<VersionSummary>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationState {
    Running,
    Succeeded,
    Failed,
    Abandoned,
}

/// The Job of one attempt, and the pod that has proved to be its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub service_account: String,
    pub attempt: u32,
    pub started_at: Timestamp,
    /// Whether every pod of it is known to be gone.
    pub gone: bool,
}

/// The journal of the newest rotation of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationRecord {
    pub arn: Arn,
    pub version: VersionId,
    /// Whether it only tests the rotator: `version` is a copy of the current one then, and is removed in the end.
    pub is_test: bool,
    pub state: RotationState,
    pub step: Option<String>,
    pub attempt: u32,
    /// Failed attempts since the rotation began or was resumed after it had given up.
    pub failures: u32,
    pub jobs: Vec<JobRecord>,
    pub begun_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub failed_at: Option<Timestamp>,
    /// Reason word and sentence of the last failure; never text from a rotator's output.
    pub failure: Option<(String, String)>,
    /// The last token of the annotation `tidelock.dev/rotate` that was acted on.
    pub handled_trigger: Option<String>,
    pub revision: u64,
}

/// A projection of a secret in a pod, and the receipt for what its files hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRecord {
    pub id: String,
    pub node: String,
    pub pod_namespace: String,
    pub pod_name: String,
    pub pod_uid: String,
    pub account: ServiceAccount,
    pub arn: Arn,
    pub attributes: BTreeMap<String, String>,
    /// The version whose files are proved to be in place.
    pub holds: Option<VersionId>,
    pub holds_since: Option<Timestamp>,
}

/// What an audit row says before the store gives it its number and its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub at: Timestamp,
    pub who: String,
    pub verb: String,
    pub secret: Option<Arn>,
    pub version: Option<VersionId>,
    /// `namespace/name/uid`; of a caller without a pod who signed with keys, `session/<session>/<key id>` or `session/<access key id>`.
    pub pod: Option<String>,
    pub outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    pub sequence: u64,
    pub entry: AuditEntry,
    /// SHA-256 over the hash before and this entry.
    pub hash: [u8; 32],
}

/// What a write expects to find. A batch whose expectation fails changes nothing and reports `Conflict`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Absent,
    Revision(u64),
}

/// One change of a batch.
#[derive(Debug, Clone)]
pub enum Change {
    PutInstallation(Installation),
    /// The store writes the record with its expected revision plus one.
    PutSecret(SecretRecord, Expected),
    /// Removes the secret with policy, versions, rotation and mounts.
    RemoveSecret(Arn, Expected),
    /// Fails with `Conflict` when the version exists with a value: a value is written once.
    PutVersion(VersionRecord),
    RemoveVersion(Arn, VersionId),
    PutRotation(RotationRecord, Expected),
    /// Goes with a write of the secret's record, which names its number.
    PutPolicy(PolicyRecord),
    RemovePolicy(Arn),
    /// The store writes the record with its expected revision plus one.
    PutAccessKey(AccessKeyRecord, Expected),
    RemoveAccessKey(String),
    PutMount(MountRecord),
    RemoveMount(String),
}

/// One transaction: all changes and their audit rows, or nothing.
#[derive(Debug, Clone)]
pub struct Batch {
    pub epoch: Epoch,
    pub changes: Vec<Change>,
    pub audit: Vec<AuditEntry>,
}
