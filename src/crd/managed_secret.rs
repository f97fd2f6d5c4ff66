//! The kind ManagedSecret. Must not give defaults to its fields: those stand in `desired` and show in
//! `status.effective`.

#![expect(clippy::duplicated_attributes, reason = "columns of one type are no duplicates")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::ValueSpec;

/// What a ManagedSecret asks for.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "tidelock.dev",
    version = "v1alpha1",
    kind = "ManagedSecret",
    namespaced,
    status = "ManagedSecretStatus",
    shortname = "ms",
    category = "tidelock",
    derive = "PartialEq",
    doc = "A secret that Tidelock makes, keeps encrypted outside etcd, rotates, and brings as files into pods. Removing it schedules the secret for deletion; applying it again within the recovery window restores it.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        priority = 1,
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.currentVersion"),
    printcolumn(
        name = "Consumers",
        type_ = "string",
        json_path = ".status.consumers.summary",
        description = "Pods whose files hold the current version, of all pods that have the secret mounted."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)"
    ).message("name cannot be changed after the secret was made; create another ManagedSecret with the new name")
)]
pub struct ManagedSecretSpec {
    /// The secret's name in the AWS API. It begins with the namespace and a slash, such as `shop/orders-db`.
    /// Default: `<namespace>/<name of this object>`. It cannot be changed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 512), regex(pattern = r"^[A-Za-z0-9_+=.@-]+/[A-Za-z0-9/_+=.@-]+$"))]
    pub name: Option<String>,
    /// What the secret is for, in up to 2048 characters. It is not secret. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub description: Option<String>,
    /// How the first version of the secret is made.
    pub value: ValueSpec,
    /// Who may have the value. Each entry names one ServiceAccount; rights that RBAC gives come on top. Default:
    /// nobody but whom RBAC allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub access: Option<Vec<Access>>,
    /// How many days the secret can be restored after this object was removed, 7 to 30. Default: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 7, max = 30))]
    pub recovery_window_days: Option<i32>,
}

/// One grant: a ServiceAccount, and what of the secret it may have.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.serviceAccount) && self.serviceAccount.size() > 0")
        .message("access: name the ServiceAccount of the pods, such as {serviceAccount: orders-api}")
)]
pub struct Access {
    /// The name of the ServiceAccount.
    // Required by the rule above, whose message says what to write; required by the schema it would only say that
    // something is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub service_account: Option<String>,
    /// The namespace of the ServiceAccount. Default: the namespace of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
    /// The staging labels whose versions it may have. Default: AWSCURRENT only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20), extend("x-kubernetes-list-type" = "set"))]
    pub stages: Option<Vec<StageText>>,
    /// The members of the JSON object that it may have as files. With `keys`, the API refuses it the whole value.
    /// Default: all of them and the whole value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub keys: Option<Vec<KeyText>>,
}

/// A staging label.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
pub struct StageText(#[schemars(length(min = 1, max = 256))] pub String);

/// A member of a JSON object.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
pub struct KeyText(#[schemars(length(min = 1, max = 253))] pub String);

/// What Tidelock has done and sees.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ManagedSecretStatus {
    /// The secret's ARN, by which the AWS API and audit records name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    /// The generation of the object that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is in force, defaults included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<Effective>,
    /// The id of the version that carries AWSCURRENT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_version: Option<String>,
    /// The versions that carry a staging label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub versions: Option<Vec<VersionStatus>>,
    /// The pods that have the secret mounted, and what their files hold. Written at most every 2 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumers: Option<Consumers>,
    /// When the secret was last rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rotation: Option<Time>,
    /// `Ready`: the secret has a value that pods can mount. `Synced`: the secret is as `spec` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Option<Vec<Condition>>,
}

/// What is in force, defaults included.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Effective {
    /// The secret's name in the AWS API.
    pub name: String,
    /// How the first version was made, such as `generate` or `fromSecret old/key`.
    pub value: String,
    /// How many days a removed secret can be restored.
    pub recovery_window_days: i32,
    /// Who may have what.
    #[serde(default)]
    pub access: Vec<EffectiveAccess>,
}

/// One grant with its defaults.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveAccess {
    /// The ServiceAccount as `<namespace>/<name>`.
    pub service_account: String,
    /// The staging labels whose versions it may have.
    #[serde(default)]
    pub stages: Vec<String>,
    /// The members that it may have; absent when it may have the whole value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<String>>,
}

/// One version of the secret.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// The version's id, which is the client request token that it was written with.
    pub id: String,
    /// The staging labels on it.
    pub stages: Vec<String>,
    /// When it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
}

/// The pods that have the secret mounted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Consumers {
    /// How many pods have it mounted.
    pub total: i64,
    /// How many of them are proved to hold the current version.
    pub current: i64,
    /// How many of them are proved to hold an older version.
    pub stale: i64,
    /// How many are on a node that has not been heard of for 30 seconds. They count as holding an older version.
    pub unknown: i64,
    /// `current/total`, for tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}
