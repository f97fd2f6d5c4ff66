//! The kind RotationSchedule. Must not give defaults to its fields: those stand in code and show in
//! `status.effective`.

#![expect(clippy::duplicated_attributes, reason = "columns of one type are no duplicates")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rotator::Rotator;

/// When and how a secret is rotated.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "tidelock.dev",
    version = "v1alpha1",
    kind = "RotationSchedule",
    namespaced,
    status = "RotationScheduleStatus",
    shortname = "rot",
    category = "tidelock",
    derive = "PartialEq",
    doc = "When and how a ManagedSecret of the same namespace is rotated. Removing it switches rotation off and ends an attempt under way; the secret and its versions stay.",
    printcolumn(name = "Secret", type_ = "string", json_path = ".spec.secret"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Succeeded",
        type_ = "string",
        priority = 1,
        json_path = r#".status.conditions[?(@.type=="Succeeded")].status"#
    ),
    printcolumn(name = "Last", type_ = "date", json_path = ".status.lastRotation"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextRotation"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct RotationScheduleSpec {
    /// The name of the ManagedSecret in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("secret cannot be changed; create another RotationSchedule for the other secret"))]
    pub secret: String,
    /// When rotations are due, in AWS's grammar: `rate(12 hours)`, `rate(30 days)` or `cron(0 4 ? * SUN *)`. Rotations
    /// are at least 4 hours apart.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new(
        r"self.matches('^(rate\\([1-9][0-9]* (hours?|days?)\\)|cron\\(0 ([^ )]+ ){4}[^ )]+\\))$')"
    ).message("schedule: write rate(<n> hours), rate(<n> days), or cron(0 <hour> <day of month> <month> <day of week> <year>) with six fields, such as cron(0 4 ? * SUN *)"))]
    pub schedule: String,
    /// The time zone that a schedule is read in, by its name in the IANA database, such as `Europe/Berlin`. Default:
    /// UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// How long after the due time a rotation may still begin, in whole hours from `1h` to `24h`. It must not reach
    /// past midnight or into the next due time. Default: until the end of the day for days and `cron`, one hour for
    /// schedules that are due several times a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 3))]
    #[x_kube(validation = Rule::new("self.matches('^([1-9]|1[0-9]|2[0-4])h$')")
        .message("window: write whole hours from 1h to 24h, such as 2h"))]
    pub window: Option<String>,
    /// Whether to rotate once as soon as this object is made. Without it nothing runs before the first window: AWS's test
    /// of the rotator is not made. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_immediately: Option<bool>,
    /// Whether to begin no further rotation by schedule. One that runs is finished. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// What does the rotation.
    pub rotator: Rotator,
    /// How often a failed rotation is tried again, and how long is waited in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
}

/// Attempts after the first one.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Retries {
    /// How many times a failed attempt is followed by another, 0 to 20. Default: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 20))]
    pub limit: Option<i32>,
    /// The waits between attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
}

/// Waits that double from `min` up to `max`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    r"!has(self.min) || !has(self.max) || !self.min.matches('^([0-9]{1,6}[smh]){1,3}$') || !self.max.matches('^([0-9]{1,6}[smh]){1,3}$') || duration(self.min) <= duration(self.max)"
).message("backoff: min is longer than max; exchange them"))]
pub struct Backoff {
    /// The wait after the first failure, such as `30s` or `5m`. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 21))]
    #[x_kube(validation = Rule::new(r"self.matches('^([0-9]{1,6}[smh]){1,3}$')")
        .message("backoff: write a length of time in hours, minutes and seconds, such as 30s, 5m or 1h30m"))]
    pub min: Option<String>,
    /// The longest wait. Default: 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 21))]
    #[x_kube(validation = Rule::new(r"self.matches('^([0-9]{1,6}[smh]){1,3}$')")
        .message("backoff: write a length of time in hours, minutes and seconds, such as 30s, 5m or 1h30m"))]
    pub max: Option<String>,
}

/// What Tidelock has done and sees.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RotationScheduleStatus {
    /// The generation of the object that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is in force, defaults included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<EffectiveSchedule>,
    /// When the last rotation succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rotation: Option<Time>,
    /// When the next rotation begins at the earliest; absent while suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation: Option<Time>,
    /// The rotation that runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_progress: Option<InProgress>,
    /// `Ready`: rotations can be made. `Rotating`: one runs. `Succeeded`: how the last one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Option<Vec<Condition>>,
}

/// What is in force, defaults included.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveSchedule {
    /// When rotations are due.
    pub schedule: String,
    /// The time zone that the schedule is read in.
    pub time_zone: String,
    /// How long after the due time a rotation may still begin; absent when it is until the end of the day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// Whether scheduled rotations are suspended.
    pub suspend: bool,
    /// Which rotator is used.
    pub rotator: String,
    /// How many times a failed attempt is followed by another.
    pub retry_limit: i32,
    /// The wait after the first failure.
    pub backoff_min: String,
    /// The longest wait.
    pub backoff_max: String,
}

/// A rotation that runs.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct InProgress {
    /// The version that it makes, which carries AWSPENDING.
    pub version_id: String,
    /// The step that it is at: createSecret, setSecret, testSecret or finishSecret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Which attempt it is since the rotation began or was resumed, from 1.
    pub attempt: i64,
    /// The Job of the attempt as `<namespace>/<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}
