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
    ValidatePolicy,
    Restore,
    Describe,
    ListVersions,
    List,
    Create,
    Update,
    /// A new value by an update: RBAC knows it as a put, AWS as an update.
    UpdateValue,
    Tag,
    Untag,
    Delete,
}

impl Operation {
    pub const ALL: [Self; 21] = [
        Self::Reveal,
        Self::Project,
        Self::Put,
        Self::MoveStage,
        Self::Rotate,
        Self::CancelRotation,
        Self::ReadPolicy,
        Self::ListPolicies,
        Self::WritePolicy,
        Self::DeletePolicy,
        Self::ValidatePolicy,
        Self::Restore,
        Self::Describe,
        Self::ListVersions,
        Self::List,
        Self::Create,
        Self::Update,
        Self::UpdateValue,
        Self::Tag,
        Self::Untag,
        Self::Delete,
    ];

    /// By the action's name, as people and policies write it; `Project` for files in a pod.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "Project" => Some(Self::Project),
            name => Self::ALL.into_iter().find(|operation| operation.action() == name),
        }
    }

    pub fn verb(self) -> &'static str {
        match self {
            Self::Reveal if !failpoint::guard("own-verbs") => "get",
            Self::Reveal => "reveal",
            Self::Project => "project",
            Self::Put | Self::UpdateValue => "put",
            Self::MoveStage => "stage",
            Self::Rotate => "rotate",
            Self::CancelRotation => "cancel",
            Self::ReadPolicy | Self::ListPolicies => "readpolicy",
            Self::WritePolicy | Self::DeletePolicy | Self::ValidatePolicy => "writepolicy",
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
            Self::ValidatePolicy => "ValidateResourcePolicy",
            Self::Restore => "RestoreSecret",
            Self::Describe => "DescribeSecret",
            Self::ListVersions => "ListSecretVersionIds",
            Self::List => "ListSecrets",
            Self::Create => "CreateSecret",
            Self::Update | Self::UpdateValue => "UpdateSecret",
            Self::Tag => "TagResource",
            Self::Untag => "UntagResource",
            Self::Delete => "DeleteSecret",
        }
    }

    /// The subresource of `managedsecrets` that the verb is asked on.
    pub fn subresource(self) -> Option<&'static str> {
        match self {
            Self::Reveal | Self::Project | Self::Put | Self::UpdateValue | Self::MoveStage => Some("value"),
            Self::Rotate | Self::CancelRotation => Some("rotation"),
            Self::ReadPolicy
            | Self::ListPolicies
            | Self::WritePolicy
            | Self::DeletePolicy
            | Self::ValidatePolicy => Some("policy"),
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
    fn the_table_of_operations_and_verbs_is_whole() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(root.join("docs/authorisation.md")).unwrap();
        let row = |operation: Operation| {
            let name = match operation {
                Operation::Project => "`Project`".to_owned(),
                Operation::UpdateValue => "`UpdateSecret` with a value".to_owned(),
                other => format!("`{}`", other.action()),
            };
            let on = operation.subresource().map(|sub| format!("/{sub}")).unwrap_or_default();
            format!("| {name} | `{}` | `managedsecrets{on}` |", operation.verb())
        };
        let mut wanted: Vec<String> = Operation::ALL.into_iter().map(row).collect();
        let mut found: Vec<String> = text
            .lines()
            .filter(|line| line.ends_with("` |") && line.contains("| `managedsecrets"))
            .map(str::to_owned)
            .collect();
        wanted.sort();
        found.sort();
        assert_eq!(found, wanted, "docs/authorisation.md");
        for operation in Operation::ALL {
            assert!(Operation::named(operation.action()).is_some(), "{operation:?}");
        }
        assert_eq!(Operation::named("Project"), Some(Operation::Project));
        assert_eq!(Operation::named("GetSecretValue"), Some(Operation::Reveal));
        assert_eq!(Operation::named("UpdateSecret"), Some(Operation::Update));
    }

    #[test]
    fn no_ordinary_verb_reaches_a_value() {
        let of_values = [
            Operation::Reveal,
            Operation::Project,
            Operation::Put,
            Operation::UpdateValue,
            Operation::MoveStage,
        ];
        for operation in of_values {
            let ordinary = ["get", "list", "watch", "create", "update", "patch", "delete"];
            assert!(!ordinary.contains(&operation.verb()) && operation.subresource() == Some("value"));
        }
    }
}
