//! `spec.value` of a ManagedSecret: where its first value comes from.
//! Must not hold values: those are made by the controller, never written into a resource.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the first version of the secret is made. Exactly one member is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.generate), has(self.fromSecret), has(self.symmetricKey), has(self.external)].filter(x, x).size() == 1"
).message("value: write exactly one of generate, fromSecret, symmetricKey or external, such as value: {generate: {}}"))]
pub struct ValueSpec {
    /// Makes a random password, alone or as one key of a JSON object. A later rotation with the rotator `generate`
    /// follows the same rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<GenerateValue>,
    /// Takes the value over from a Secret of the same namespace, byte for byte, once. Later changes of that Secret
    /// are not followed. The Secret is neither changed nor removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_secret: Option<FromSecret>,
    /// Makes a random key for symmetric encryption or signing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symmetric_key: Option<SymmetricKey>,
    /// Makes no value: somebody writes it later through the API (PutSecretValue). Pods that ask for the secret wait
    /// until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalValue>,
}

/// A generated password, and the object that it stands in.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.template) == has(self.key)")
        .message("generate: write template and key together, or neither of them for a plain password"),
    validation = Rule::new("!has(self.template) || !has(self.key) || !(self.key in self.template)")
        .message("generate: remove the key that is generated from template; its value would be overwritten")
)]
pub struct GenerateValue {
    /// The other members of the JSON object that the value becomes. All are text: write numbers in quotes. Without
    /// it the value is the password alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 64))]
    pub template: Option<BTreeMap<String, TemplateText>>,
    /// The member of the JSON object that holds the generated password, such as `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
    /// The rules of the password, with the names that AWS gives them. Default: 32 characters of all kinds but space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<PasswordRules>,
}

/// One text of a template.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
pub struct TemplateText(#[schemars(length(max = 4096))] pub String);

/// AWS's rules of GetRandomPassword.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!(has(self.excludeLowercase) && self.excludeLowercase && has(self.excludeUppercase) && self.excludeUppercase \
         && has(self.excludeNumbers) && self.excludeNumbers && has(self.excludePunctuation) && self.excludePunctuation \
         && !(has(self.includeSpace) && self.includeSpace))"
    ).message("password: every kind of character is excluded; leave at least one in"),
    validation = Rule::new(
        "(has(self.requireEachIncludedType) && !self.requireEachIncludedType) \
         || (has(self.length) ? self.length : 32) >= \
         [!(has(self.excludeLowercase) && self.excludeLowercase), !(has(self.excludeUppercase) && self.excludeUppercase), \
          !(has(self.excludeNumbers) && self.excludeNumbers), !(has(self.excludePunctuation) && self.excludePunctuation), \
          has(self.includeSpace) && self.includeSpace].filter(x, x).size()"
    ).message("password: length is below the number of required kinds; make it longer or write requireEachIncludedType: false")
)]
pub struct PasswordRules {
    /// How many characters the password has, 1 to 4096. Default: 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub length: Option<i32>,
    /// Characters that must not occur, such as `"'@/\`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub exclude_characters: Option<String>,
    /// Whether to leave out a to z. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_lowercase: Option<bool>,
    /// Whether to leave out A to Z. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_uppercase: Option<bool>,
    /// Whether to leave out 0 to 9. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_numbers: Option<bool>,
    /// Whether to leave out the 32 punctuation characters of ASCII. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_punctuation: Option<bool>,
    /// Whether a space may occur. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_space: Option<bool>,
    /// Whether each kind of character that is not left out occurs at least once. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_each_included_type: Option<bool>,
}

/// A key of a Secret in the namespace of the ManagedSecret.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FromSecret {
    /// The name of the Secret. Whoever writes this must be allowed to read that Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// The key in the Secret's data whose bytes become the value.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A random symmetric key.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SymmetricKey {
    /// The key's length in bytes, 16 to 64. Default: 32, a key for AES-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 64))]
    pub bytes: Option<i32>,
    /// How the key is written down: `Raw` as the bytes themselves, `Base64` or `Hex` as text. Default: Raw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<KeyEncoding>,
}

/// How a key is written down.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyEncoding {
    #[default]
    Raw,
    Base64,
    Hex,
}

/// No first value. It has no members.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
pub struct ExternalValue {}
