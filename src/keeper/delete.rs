//! Delete: schedule, restore, purge. A scheduled deletion must not take files from running pods.

use jiff::Timestamp;

use crate::secret::{Arn, Name};

/// When a deleted secret goes for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletionMode {
    /// After the recovery window that the secret itself names.
    OwnWindow,
    /// After so many days, 7 to 30.
    Days(u8),
    /// Now, with its files in running pods.
    Force,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduled {
    pub arn: Arn,
    pub name: Name,
    pub due_at: Timestamp,
}

/// For whom a secret is brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restoration<'a> {
    /// A caller of the API.
    Caller,
    /// A custom resource of the same namespace and name, applied again.
    Resource {
        uid: &'a str,
        namespace_uid: &'a str,
        /// Somebody with the verb `restore` has agreed that this namespace gets the values of an earlier one.
        approved: bool,
    },
}
