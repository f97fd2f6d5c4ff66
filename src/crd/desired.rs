//! What a ManagedSecret asks for, in the words of the domain and with every default filled in.
//! Must not ask the cluster: all that it needs is the object itself.

use std::collections::BTreeMap;

use crate::access::{Grant, ServiceAccount};
use crate::secret::symmetric::KeyEncoding;
use crate::secret::{Name, NameError, PasswordRules, Stage, StageError};

use super::managed_secret::{Access, Effective, EffectiveAccess, ManagedSecret};
use super::value::{self, ValueSpec};

pub const RECOVERY_WINDOW_DAYS: u8 = 30;
const SYMMETRIC_KEY_BYTES: usize = 32;

/// A ManagedSecret's spec, parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    pub name: Name,
    pub description: Option<String>,
    pub value: ValueSource,
    pub grants: Vec<DesiredGrant>,
    pub recovery_window_days: u8,
}

/// Where the first value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueSource {
    /// The password alone, or as the member `key` of the object `template`.
    Generate {
        object: Option<(BTreeMap<String, String>, String)>,
        password: PasswordRules,
    },
    FromSecret {
        name: String,
        key: String,
    },
    SymmetricKey {
        bytes: usize,
        encoding: KeyEncoding,
    },
    External,
}

/// One line of `spec.access` that owns its words; `access` decides with a borrowed one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredGrant {
    pub account: ServiceAccount,
    pub stages: Vec<Stage>,
    pub keys: Option<Vec<String>>,
}

impl DesiredGrant {
    pub fn as_grant(&self) -> Grant<'_> {
        Grant { account: &self.account, stages: &self.stages, keys: self.keys.as_deref() }
    }
}

/// Why a spec cannot be understood. Most of it the schema refuses before; what was stored under an older schema, or
/// with validation off, is refused here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// It is not what this program knows as a spec.
    #[error("{0}")]
    Unread(String),
    #[error("spec.name: {0}")]
    Name(#[from] NameError),
    #[error("spec.name `{name}`: begin it with the namespace, such as `{namespace}/{rest}`")]
    OutsideNamespace { name: String, namespace: String, rest: String },
    #[error("metadata.namespace is missing")]
    NoNamespace,
    #[error("spec.value: write exactly one of generate, fromSecret, symmetricKey or external; found {0}")]
    ValueKinds(usize),
    #[error("spec.value.generate: write template and key together, or neither of them")]
    TemplateWithoutKey,
    #[error("spec.value.generate.key `{0}` also stands in template; remove it there")]
    KeyInTemplate(String),
    #[error("spec.value.generate.password.length is {0}: write 1 to 4096")]
    PasswordLength(i32),
    #[error("spec.value.symmetricKey.bytes is {0}: write 16 to 64")]
    KeyBytes(i32),
    #[error(
        "spec.value.fromSecret.name is not the name of a Secret: write lower case letters, digits, `-` and `.`, and no `/`"
    )]
    SourceName,
    #[error("spec.access[{0}]: name the ServiceAccount of the pods, such as {{serviceAccount: orders-api}}")]
    NoServiceAccount(usize),
    #[error("spec.access[{0}].stages: {1}")]
    Stage(usize, StageError),
    #[error("spec.recoveryWindowDays is {0}: write 7 to 30")]
    RecoveryWindow(i32),
}

/// Names become part of a URL: what no object can be called is not asked for, whatever schema let it in.
pub fn is_object_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    (1..=253).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.')
}

impl TryFrom<&ManagedSecret> for Desired {
    type Error = SpecError;

    fn try_from(object: &ManagedSecret) -> Result<Self, SpecError> {
        let namespace = object.metadata.namespace.as_deref().ok_or(SpecError::NoNamespace)?;
        let spec = &object.spec;
        let own = object.metadata.name.as_deref().unwrap_or_default();
        let text = spec.name.clone().unwrap_or_else(|| format!("{namespace}/{own}"));
        let name = Name::parse(&text)?;
        if name.namespace() != Some(namespace) || name.rest().is_none_or(str::is_empty) {
            let rest = text.rsplit('/').find(|part| !part.is_empty()).unwrap_or(own).to_owned();
            return Err(SpecError::OutsideNamespace { name: text, namespace: namespace.to_owned(), rest });
        }
        let days = spec.recovery_window_days.unwrap_or(i32::from(RECOVERY_WINDOW_DAYS));
        let recovery_window_days = u8::try_from(days)
            .ok()
            .filter(|days| (7..=30).contains(days))
            .ok_or(SpecError::RecoveryWindow(days))?;
        let access = spec.access.as_deref().unwrap_or_default();
        let grants = access
            .iter()
            .enumerate()
            .map(|(index, access)| grant(index, access, namespace))
            .collect::<Result<_, _>>()?;
        let value = ValueSource::try_from(&spec.value)?;
        let description = spec.description.clone().filter(|text| !text.is_empty());
        Ok(Self { name, description, value, grants, recovery_window_days })
    }
}

impl TryFrom<&ValueSpec> for ValueSource {
    type Error = SpecError;

    fn try_from(spec: &ValueSpec) -> Result<Self, SpecError> {
        match (&spec.generate, &spec.from_secret, &spec.symmetric_key, &spec.external) {
            (Some(generate), None, None, None) => {
                let object = match (&generate.template, &generate.key) {
                    (None, None) => None,
                    (Some(template), Some(key)) if template.contains_key(key) => {
                        return Err(SpecError::KeyInTemplate(key.clone()));
                    }
                    (Some(template), Some(key)) => {
                        let texts = template.iter().map(|(k, text)| (k.clone(), text.0.clone())).collect();
                        Some((texts, key.clone()))
                    }
                    _ => return Err(SpecError::TemplateWithoutKey),
                };
                let password = password_rules(generate.password.as_ref())?;
                Ok(Self::Generate { object, password })
            }
            (None, Some(from), None, None) if is_object_name(&from.name) => {
                Ok(Self::FromSecret { name: from.name.clone(), key: from.key.clone() })
            }
            (None, Some(_), None, None) => Err(SpecError::SourceName),
            (None, None, Some(key), None) => {
                let bytes = match key.bytes {
                    None => SYMMETRIC_KEY_BYTES,
                    Some(bytes) => usize::try_from(bytes)
                        .ok()
                        .filter(|bytes| (16..=64).contains(bytes))
                        .ok_or(SpecError::KeyBytes(bytes))?,
                };
                let encoding = match key.encoding.unwrap_or_default() {
                    value::KeyEncoding::Raw => KeyEncoding::Raw,
                    value::KeyEncoding::Base64 => KeyEncoding::Base64,
                    value::KeyEncoding::Hex => KeyEncoding::Hex,
                };
                Ok(Self::SymmetricKey { bytes, encoding })
            }
            (None, None, None, Some(_)) => Ok(Self::External),
            (a, b, c, d) => {
                let set = [a.is_some(), b.is_some(), c.is_some(), d.is_some()];
                Err(SpecError::ValueKinds(set.into_iter().filter(|set| *set).count()))
            }
        }
    }
}

impl ValueSource {
    /// What `status.effective.value` records. Two sources with the same text give the same first value or another
    /// random one of the same kind, so a change between them can be applied; any other change cannot.
    pub fn describe(&self) -> String {
        match self {
            Self::Generate { .. } => "generate".to_owned(),
            Self::FromSecret { name, key } => format!("fromSecret {name}/{key}"),
            Self::SymmetricKey { .. } => "symmetricKey".to_owned(),
            Self::External => "external".to_owned(),
        }
    }
}

impl Desired {
    /// What is in force, for the status. `value` is how the first version was made, which later edits do not change.
    pub fn effective(&self, value: String) -> Effective {
        let access = self
            .grants
            .iter()
            .map(|grant| EffectiveAccess {
                service_account: grant.account.to_string(),
                stages: grant.stages.iter().map(ToString::to_string).collect(),
                keys: grant.keys.clone(),
            })
            .collect();
        Effective {
            name: self.name.to_string(),
            value,
            recovery_window_days: i32::from(self.recovery_window_days),
            access,
        }
    }
}

fn password_rules(spec: Option<&value::PasswordRules>) -> Result<PasswordRules, SpecError> {
    let default = PasswordRules::default();
    let Some(spec) = spec else { return Ok(default) };
    let length = match spec.length {
        None => default.length,
        Some(length) => usize::try_from(length)
            .ok()
            .filter(|length| (1..=PasswordRules::LENGTH_MAX).contains(length))
            .ok_or(SpecError::PasswordLength(length))?,
    };
    Ok(PasswordRules {
        length,
        exclude_characters: spec.exclude_characters.clone().unwrap_or_default(),
        exclude_lowercase: spec.exclude_lowercase.unwrap_or(default.exclude_lowercase),
        exclude_uppercase: spec.exclude_uppercase.unwrap_or(default.exclude_uppercase),
        exclude_numbers: spec.exclude_numbers.unwrap_or(default.exclude_numbers),
        exclude_punctuation: spec.exclude_punctuation.unwrap_or(default.exclude_punctuation),
        include_space: spec.include_space.unwrap_or(default.include_space),
        require_each_included_type: spec
            .require_each_included_type
            .unwrap_or(default.require_each_included_type),
    })
}

fn grant(index: usize, access: &Access, namespace: &str) -> Result<DesiredGrant, SpecError> {
    let name = access.service_account.clone().filter(|name| !name.is_empty());
    let name = name.ok_or(SpecError::NoServiceAccount(index))?;
    let namespace = access.namespace.clone().unwrap_or_else(|| namespace.to_owned());
    let stages = match &access.stages {
        None => vec![Stage::current()],
        Some(stages) => stages
            .iter()
            .map(|text| Stage::parse(&text.0).map_err(|error| SpecError::Stage(index, error)))
            .collect::<Result<_, _>>()?,
    };
    let keys = access.keys.as_ref().map(|keys| keys.iter().map(|key| key.0.clone()).collect());
    Ok(DesiredGrant { account: ServiceAccount { namespace, name }, stages, keys })
}
