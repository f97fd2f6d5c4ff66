//! Who made a secret, and so who may end it. Must not decide: the keeper and the controllers do.

/// Stored with each secret. A secret of a custom resource follows that resource; one made by the API is its
/// caller's alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A ManagedSecret: its namespace and name, its own UID, and the UID of its namespace when the secret was made.
    CustomResource {
        namespace: String,
        name: String,
        uid: String,
        namespace_uid: String,
    },
    Api,
}
