//! The use-cases, one file per verb: the one place where domain, seal, store and key provider meet.
//! Must not know HTTP, gRPC or Kubernetes objects.

mod configure;
mod consumers;
mod create;
mod delete;
mod describe;
mod error;
mod project;
mod put;
mod stage;
mod value;

use async_trait::async_trait;

pub use configure::Configure;
pub use consumers::Consumers;
pub use create::{Create, Created};
pub use delete::{DeletionMode, Restoration, Scheduled};
pub use describe::Description;
pub use error::KeeperError;
pub use project::{Held, MountRequest, Payload, Projected, Refreshed};
pub use put::Put;
pub use stage::Moved;
pub use value::Revealed;

use crate::access::{NamePolicy, Operation, Principal, RbacAnswer};
use crate::secret::{Arn, Name};

/// PORT. What only the cluster can answer about a caller.
#[async_trait]
pub trait Rights: Send + Sync {
    /// Asks the cluster's RBAC. An answer may be some seconds old.
    async fn ask(&self, who: &Principal, operation: Operation, name: &Name) -> RbacAnswer;

    /// The Job whose own pod the caller is: the pod runs, carries the label that only the Job controller may give,
    /// and the Job owns it. `None` for everybody else.
    async fn rotation_job(&self, _who: &Principal) -> Option<RotationJob> {
        None
    }
}

/// What a rotation's pod was proved to belong to. Compared with the journal before it gives a right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationJob {
    pub namespace: String,
    pub uid: String,
    pub attempt: u32,
}

/// What an installation's keeper is set to.
#[derive(Debug, Clone)]
pub struct Settings {
    pub region: String,
    pub account: String,
    pub names: NamePolicy,
}

/// One thing that has happened, told after it was committed. Whoever lags behind reads everything again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub arn: Arn,
    pub what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// There is a new secret.
    Created,
    /// AWSCURRENT is on another version.
    Value,
    /// Other stages than AWSCURRENT moved.
    Stages,
    /// Description, grants or recovery window are others.
    Configuration,
    /// A deletion is scheduled. Files stay where they are.
    Deleted,
    Restored,
    /// The secret is no more: its files go.
    Removed,
    /// A mount came or went, or holds another version.
    Consumers,
}
