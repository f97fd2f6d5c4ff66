//! The messages of the AWS API that this program itself sends and reads. Must not derive `Debug` where a value is.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// A text that is a value: zeroed when dropped, and never printed.
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// An answer whose members do not matter.
#[derive(Deserialize)]
pub struct Empty {}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeSecret<'a> {
    pub secret_id: &'a str,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SecretDescription {
    #[serde(rename = "ARN")]
    pub arn: String,
    pub name: String,
    #[serde(default)]
    pub rotation_enabled: Option<bool>,
    #[serde(default)]
    pub version_ids_to_stages: BTreeMap<String, Vec<String>>,
}

impl SecretDescription {
    /// The version that a stage sits on.
    pub fn version_at(&self, stage: &str) -> Option<&str> {
        let holds = |stages: &&Vec<String>| stages.iter().any(|held| held == stage);
        self.version_ids_to_stages.iter().find(|(_, stages)| holds(stages)).map(|(id, _)| id.as_str())
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateAccessKey<'a> {
    pub service_account: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
}

/// A new key for a program outside, the secret with it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all(deserialize = "PascalCase", serialize = "camelCase"))]
pub struct CreatedAccessKey {
    pub access_key_id: String,
    pub secret_access_key: SecretText,
    pub service_account: String,
    pub created: String,
    pub expires: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListAccessKeys<'a> {
    pub namespace: &'a str,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all(deserialize = "PascalCase", serialize = "camelCase"))]
pub struct AccessKeys {
    pub access_keys: Vec<AccessKey>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all(deserialize = "PascalCase", serialize = "camelCase"))]
pub struct AccessKey {
    pub access_key_id: String,
    pub service_account: String,
    pub created: String,
    pub expires: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RevokeAccessKey<'a> {
    pub access_key_id: &'a str,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RevokedAccessKey {
    pub access_key_id: String,
    pub service_account: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExplainAccess<'a> {
    pub secret_id: &'a str,
    pub principal: &'a str,
    pub operation: &'a str,
}

/// Whether somebody may, and who says what about it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all(deserialize = "PascalCase", serialize = "camelCase"))]
pub struct Explained {
    #[serde(rename(deserialize = "ARN"))]
    pub arn: String,
    pub name: String,
    /// `Allowed`, `Denied` or `Unknown`.
    pub decision: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub refusal: String,
    pub sides: Vec<Side>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all(deserialize = "PascalCase", serialize = "camelCase"))]
pub struct Side {
    pub side: String,
    pub says: String,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetSecretValue<'a> {
    pub secret_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_stage: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SecretValue {
    #[serde(rename = "ARN")]
    pub arn: String,
    pub name: String,
    pub version_id: String,
    #[serde(default)]
    pub secret_string: Option<SecretText>,
    /// Base64.
    #[serde(default)]
    pub secret_binary: Option<SecretText>,
    #[serde(default)]
    pub version_stages: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PutSecretValue<'a> {
    pub secret_id: &'a str,
    pub client_request_token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_string: Option<SecretText>,
    /// Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_binary: Option<SecretText>,
    pub version_stages: &'a [&'a str],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateSecretVersionStage<'a> {
    pub secret_id: &'a str,
    pub version_stage: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub move_to_version_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove_from_version_id: Option<&'a str>,
}

/// AWS's rules of a generated password; what is left out has AWS's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct GetRandomPassword {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_length: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_characters: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_lowercase: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_uppercase: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_numbers: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_punctuation: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_space: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_each_included_type: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RandomPassword {
    pub random_password: SecretText,
}
