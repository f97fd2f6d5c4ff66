//! What the status of a ManagedSecret says, and writing it. Must not write what is there already.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;

use crate::crd::condition::{self, Finding, READY, SYNCED, Status};
use crate::crd::reasons::Reason;
use crate::crd::{
    Consumers, Effective, EffectiveAccess, ManagedSecret, ManagedSecretStatus, Readable, VersionStatus,
};
use crate::keeper::{self, Description};
use crate::secret::{Stage, VersionId};

/// The one field manager of everything that Tidelock writes.
pub const FIELD_MANAGER: &str = "tidelock";

/// How a look at the resource ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub synced: bool,
    pub reason: Reason,
    pub message: String,
}

/// What the status is made of.
pub struct Facts<'a> {
    pub outcome: &'a Outcome,
    /// The resource's own secret, if there is one.
    pub secret: Option<&'a Description>,
    pub consumers: Option<keeper::Consumers>,
    /// How the first version was made.
    pub made_by: Option<String>,
    pub generation: Option<i64>,
    pub now: Timestamp,
}

pub fn build(before: Option<&ManagedSecretStatus>, facts: Facts<'_>) -> ManagedSecretStatus {
    let Facts { outcome, secret, consumers, made_by, generation, now } = facts;
    let findings = [ready(outcome, secret), synced(outcome)];
    let old = before.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let conditions = Some(condition::merge(old, &findings, generation, now));
    let Some(secret) = secret else {
        return ManagedSecretStatus { observed_generation: generation, conditions, ..Default::default() };
    };
    let current = secret.stages.iter().find(|(_, stages)| stages.contains(&Stage::current()));
    ManagedSecretStatus {
        arn: Some(secret.arn.to_string()),
        observed_generation: generation,
        effective: made_by.map(|made_by| effective(secret, made_by)),
        current_version: current.map(|(id, _)| id.to_string()),
        versions: Some(versions(secret)),
        consumers: consumers.as_ref().map(shown),
        last_rotation: secret.rotated_at.map(|at| Time(condition::whole_second(at))),
        conditions,
    }
}

/// Whether pods can mount it, whatever became of the last edit of `spec`.
fn ready(outcome: &Outcome, secret: Option<&Description>) -> Finding {
    let not = |reason, message: &str| Finding::new(READY, Status::False, reason, message);
    let Some(secret) = secret else { return not(outcome.reason, &outcome.message) };
    if secret.deletion.is_some() {
        return not(outcome.reason, &outcome.message);
    }
    let has_value = secret.stages.iter().any(|(id, stages)| {
        let written = secret.versions.iter().any(|version| version.id == *id && version.has_value);
        written && stages.contains(&Stage::current())
    });
    if has_value {
        Finding::new(READY, Status::True, Reason::Available, "pods can mount the secret")
    } else {
        not(Reason::WaitingForValue, "write the first value through the API, with PutSecretValue")
    }
}

fn synced(outcome: &Outcome) -> Finding {
    let status = if outcome.synced { Status::True } else { Status::False };
    Finding::new(SYNCED, status, outcome.reason, outcome.message.clone())
}

/// From the secret itself, so that a refused edit does not show as in force.
fn effective(secret: &Description, value: String) -> Effective {
    let access = secret
        .grants
        .iter()
        .map(|grant| EffectiveAccess {
            service_account: grant.account.to_string(),
            stages: grant.stages.iter().map(ToString::to_string).collect(),
            keys: grant.keys.clone(),
        })
        .collect();
    let recovery_window_days = i32::from(secret.recovery_window_days);
    Effective { name: secret.name.to_string(), value, recovery_window_days, access }
}

fn versions(secret: &Description) -> Vec<VersionStatus> {
    let created_at = |id: &VersionId| secret.versions.iter().find(|v| v.id == *id).map(|v| v.created_at);
    let mut versions: Vec<VersionStatus> = secret
        .stages
        .iter()
        .map(|(id, stages)| {
            let mut stages: Vec<String> = stages.iter().map(ToString::to_string).collect();
            stages.sort();
            let created_at = created_at(id).map(|at| Time(condition::whole_second(at)));
            VersionStatus { id: id.to_string(), stages, created_at }
        })
        .collect();
    versions.sort_by(|a, b| a.id.cmp(&b.id));
    versions
}

fn shown(consumers: &keeper::Consumers) -> Consumers {
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    Consumers {
        total: count(consumers.total),
        current: count(consumers.current),
        stale: count(consumers.stale),
        unknown: count(consumers.unknown),
        summary: Some(format!("{}/{}", consumers.current, consumers.total)),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusPatch<'a> {
    api_version: &'a str,
    kind: &'a str,
    metadata: PatchedObject<'a>,
    status: &'a ManagedSecretStatus,
}

/// With the UID, so that the status of a resource never lands on its successor of the same name.
#[derive(Debug, Serialize)]
struct PatchedObject<'a> {
    name: &'a str,
    uid: Option<&'a str>,
}

pub async fn write(
    api: &Api<Readable<ManagedSecret>>,
    read: &Readable<ManagedSecret>,
    status: &ManagedSecretStatus,
) -> Result<(), kube::Error> {
    let (object, name) = (&read.object, read.object.name_any());
    if read.status_unread {
        // What others wrote into it would stay beside what we apply.
        let none = serde_json::json!({"metadata": {"uid": object.metadata.uid}, "status": null});
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&none)).await?;
    }
    let patch = StatusPatch {
        api_version: &ManagedSecret::api_version(&()),
        kind: &ManagedSecret::kind(&()),
        metadata: PatchedObject { name: &name, uid: object.metadata.uid.as_deref() },
        status,
    };
    let params = PatchParams::apply(FIELD_MANAGER).force();
    api.patch_status(&name, &params, &Patch::Apply(&patch)).await.map(drop)
}
