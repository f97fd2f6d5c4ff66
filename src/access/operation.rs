//! What can be asked for, and the verb and resource that RBAC is asked with. Must not know who holds which.

use crate::failpoint;

/// One kind of act on a secret. Verbs of our own on subresources of our own: no read-only wildcard holds `reveal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Read the whole value through the API.
    Reveal,
    /// Have the value, or keys of it, as files in a pod.
    Project,
    Put,
    MoveStage,
    Rotate,
    CancelRotation,
    ReadPolicy,
    ListPolicies,
    WritePolicy,
    DeletePolicy,
    Restore,
    Describe,
    ListVersions,
    List,
    Create,
    Update,
    Tag,
    Untag,
    Delete,
}

impl Operation {
    pub fn verb(self) -> &'static str {
        match self {
            Self::Reveal if !failpoint::guard("own-verbs") => "get",
            Self::Reveal => "reveal",
            Self::Project => "project",
            Self::Put => "put",
            Self::MoveStage => "stage",
            Self::Rotate => "rotate",
            Self::CancelRotation => "cancel",
            Self::ReadPolicy | Self::ListPolicies => "readpolicy",
            Self::WritePolicy | Self::DeletePolicy => "writepolicy",
            Self::Restore => "restore",
            Self::Describe | Self::ListVersions => "get",
            Self::List => "list",
            Self::Create => "create",
            Self::Update | Self::Tag | Self::Untag => "update",
            Self::Delete => "delete",
        }
    }

    /// The action as AWS calls it; a projection, which AWS has not, reads as the value's reading does.
    pub fn action(self) -> &'static str {
        match self {
            Self::Reveal | Self::Project => "GetSecretValue",
            Self::Put => "PutSecretValue",
            Self::MoveStage => "UpdateSecretVersionStage",
            Self::Rotate => "RotateSecret",
            Self::CancelRotation => "CancelRotateSecret",
            Self::ReadPolicy => "GetResourcePolicy",
            Self::ListPolicies => "ListResourcePolicies",
            Self::WritePolicy => "PutResourcePolicy",
            Self::DeletePolicy => "DeleteResourcePolicy",
            Self::Restore => "RestoreSecret",
            Self::Describe => "DescribeSecret",
            Self::ListVersions => "ListSecretVersionIds",
            Self::List => "ListSecrets",
            Self::Create => "CreateSecret",
            Self::Update => "UpdateSecret",
            Self::Tag => "TagResource",
            Self::Untag => "UntagResource",
            Self::Delete => "DeleteSecret",
        }
    }

    /// The subresource of `managedsecrets` that the verb is asked on.
    pub fn subresource(self) -> Option<&'static str> {
        match self {
            Self::Reveal | Self::Project | Self::Put | Self::MoveStage => Some("value"),
            Self::Rotate | Self::CancelRotation => Some("rotation"),
            Self::ReadPolicy | Self::ListPolicies | Self::WritePolicy | Self::DeletePolicy => Some("policy"),
            Self::Restore
            | Self::Describe
            | Self::ListVersions
            | Self::List
            | Self::Create
            | Self::Update
            | Self::Tag
            | Self::Untag
            | Self::Delete => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_ordinary_verb_reaches_a_value() {
        for operation in [Operation::Reveal, Operation::Project, Operation::Put, Operation::MoveStage] {
            let ordinary = ["get", "list", "watch", "create", "update", "patch", "delete"];
            assert!(!ordinary.contains(&operation.verb()) && operation.subresource() == Some("value"));
        }
    }
}
