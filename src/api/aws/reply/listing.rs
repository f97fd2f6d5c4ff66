//! The bodies of lists. Must not show more of a secret than AWS does.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{RulesBody, Seconds, TagBody, ValueBody, tag_bodies};
use crate::api::aws::error::ApiError;
use crate::keeper::{Listed, Objection, PolicyOf, SecretRecord, Versions};
use crate::secret::Stage;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api::aws) struct SecretsBody<'a> {
    secret_list: Vec<SecretBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

impl<'a> SecretsBody<'a> {
    pub(in crate::api::aws) fn of(listed: &'a Listed, next_token: Option<String>) -> Self {
        let body = |found: &'a SecretRecord| SecretBody {
            next_rotation_date: listed.next_rotations.get(&found.arn).copied().map(Seconds),
            ..SecretBody::from(found)
        };
        Self { secret_list: listed.secrets.iter().map(body).collect(), next_token }
    }
}

/// As a description, but for the stages, which have another name here.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SecretBody<'a> {
    #[serde(rename = "ARN")]
    arn: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation_enabled: Option<bool>,
    #[serde(rename = "RotationLambdaARN", skip_serializing_if = "Option::is_none")]
    rotator: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation_rules: Option<RulesBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_rotation_date: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_rotated_date: Option<Seconds>,
    last_changed_date: Seconds,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_accessed_date: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_date: Option<Seconds>,
    created_date: Seconds,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    secret_versions_to_stages: BTreeMap<&'a str, Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<TagBody<'a>>>,
}

impl<'a> From<&'a SecretRecord> for SecretBody<'a> {
    fn from(found: &'a SecretRecord) -> Self {
        let mut stages: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (stage, version) in &found.stages {
            stages.entry(version.as_str()).or_default().push(stage.as_str());
        }
        Self {
            arn: found.arn.as_str(),
            name: found.name.as_str(),
            description: found.description.as_deref().filter(|text| !text.is_empty()),
            rotation_enabled: found.rotation_enabled,
            rotator: found.rotation.as_ref().map(|config| config.rotator.as_str()),
            rotation_rules: found.rotation.as_deref().and_then(RulesBody::of),
            next_rotation_date: None,
            last_rotated_date: found.rotated_at.map(Seconds),
            last_changed_date: Seconds(found.changed_at),
            last_accessed_date: found.accessed_at.map(Seconds),
            deleted_date: found.deletion.as_ref().map(|deletion| Seconds(deletion.due_at)),
            created_date: Seconds(found.created_at),
            secret_versions_to_stages: stages,
            tags: found.tags.as_ref().map(tag_bodies),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api::aws) struct VersionsBody<'a> {
    #[serde(rename = "ARN")]
    arn: &'a str,
    name: &'a str,
    versions: Vec<VersionBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct VersionBody<'a> {
    version_id: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    version_stages: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_accessed_date: Option<Seconds>,
    created_date: Seconds,
    /// AWS's name for the key that nobody chose (recorded).
    kms_key_ids: [&'a str; 1],
}

impl<'a> VersionsBody<'a> {
    pub(in crate::api::aws) fn of(found: &'a Versions, next_token: Option<String>) -> Self {
        let versions = found.versions.iter().map(|version| VersionBody {
            version_id: version.id.as_str(),
            version_stages: version.stages.iter().map(Stage::as_str).collect(),
            last_accessed_date: version.accessed_at.map(Seconds),
            created_date: Seconds(version.created_at),
            kms_key_ids: ["DefaultEncryptionKey"],
        });
        Self { arn: found.arn.as_str(), name: found.name.as_str(), versions: versions.collect(), next_token }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api::aws) struct BatchBody<'a> {
    pub secret_values: Vec<ValueBody<'a>>,
    pub errors: Vec<BatchError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api::aws) struct BatchError {
    secret_id: String,
    error_code: &'static str,
    message: String,
}

impl BatchError {
    pub(in crate::api::aws) fn of(secret_id: String, error: ApiError) -> Self {
        Self { secret_id, error_code: error.kind, message: error.message }
    }
}

/// Of a secret without a policy: AWS leaves the policy out.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api::aws) struct PolicyBody<'a> {
    #[serde(rename = "ARN")]
    arn: &'a str,
    name: &'a str,
    policy_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_policy: Option<&'a str>,
}

impl<'a> PolicyBody<'a> {
    /// With the policy's text, where it was asked for.
    pub(in crate::api::aws) fn read(found: &'a PolicyOf, policy_name: &'a str) -> Self {
        Self { resource_policy: found.text.as_deref(), ..Self::named(found, policy_name) }
    }

    pub(in crate::api::aws) fn named(found: &'a PolicyOf, policy_name: &'a str) -> Self {
        Self { arn: found.arn.as_str(), name: found.name.as_str(), policy_name, resource_policy: None }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api::aws) struct PoliciesBody<'a> {
    resource_policies: Vec<SummaryBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SummaryBody<'a> {
    policy_name: &'a str,
}

impl<'a> PoliciesBody<'a> {
    pub(in crate::api::aws) fn of(names: impl Iterator<Item = &'a str>) -> Self {
        Self { resource_policies: names.map(|policy_name| SummaryBody { policy_name }).collect() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api::aws) struct ValidationBody {
    policy_validation_passed: bool,
    validation_errors: Vec<ObjectionBody>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ObjectionBody {
    check_name: &'static str,
    error_message: String,
}

impl ValidationBody {
    pub(in crate::api::aws) fn of(objections: &[Objection]) -> Self {
        let body = |objection: &Objection| match objection {
            Objection::Public(statement) => ObjectionBody {
                check_name: "BROAD_ACCESS",
                error_message: format!(
                    "The statement {statement} allows every principal access to the secret."
                ),
            },
            Objection::LockOut => ObjectionBody {
                check_name: "CALLER_LOCKOUT",
                error_message: "The policy would not allow you to update the resource policy in the future."
                    .to_owned(),
            },
        };
        let validation_errors: Vec<_> = objections.iter().map(body).collect();
        Self { policy_validation_passed: validation_errors.is_empty(), validation_errors }
    }
}
