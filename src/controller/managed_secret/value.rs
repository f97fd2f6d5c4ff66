//! The first value of a secret, from `spec.value`. Must not log or keep what it makes.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use zeroize::Zeroize;

use crate::crd::ValueSource;
use crate::crd::reasons::Reason;
use crate::secret::{Plaintext, Randomness, SecretValue, ValueKind, symmetric, template};

/// Why there is no value yet.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    #[error("spec.value.generate.password: {0}")]
    Password(#[from] crate::secret::password::PasswordError),
    #[error("spec.value.symmetricKey: {0}")]
    Key(#[from] symmetric::KeyBytesError),
    #[error("spec.value.generate: the object could not be written")]
    Object,
    #[error("there is no Secret {namespace}/{name}: create it, or name another one in spec.value.fromSecret")]
    NoSource { namespace: String, name: String },
    #[error(
        "the Secret {namespace}/{name} has no key `{key}`: name one of its keys in spec.value.fromSecret.key"
    )]
    NoSourceKey { namespace: String, name: String, key: String },
    #[error(
        "the server may not read Secrets in namespace {namespace}: create a RoleBinding there from ClusterRole \
         {role} to ServiceAccount {server}"
    )]
    SourceForbidden { namespace: String, role: String, server: String },
    #[error("key `{key}` of the Secret has {bytes} bytes: a value has 1 to {}", Plaintext::BYTES_MAX)]
    SourceSize { key: String, bytes: usize },
    #[error("the Secret {namespace}/{name} could not be read: {source}")]
    SourceUnread { namespace: String, name: String, source: Box<kube::Error> },
}

impl ValueError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Password(_) | Self::Key(_) | Self::Object => Reason::SpecInvalid,
            Self::NoSource { .. } | Self::NoSourceKey { .. } => Reason::SourceNotFound,
            Self::SourceForbidden { .. } => Reason::SourceForbidden,
            Self::SourceSize { .. } => Reason::SourceUnusable,
            Self::SourceUnread { .. } => Reason::TryingAgain,
        }
    }
}

/// Who reads sources, for the message that says which right is missing.
#[derive(Debug, Clone)]
pub struct Reader {
    /// The ClusterRole to bind.
    pub role: String,
    /// The server's ServiceAccount, as `<namespace>/<name>`.
    pub server: String,
}

/// `None` for a value that somebody writes later.
pub async fn first_value(
    source: &ValueSource,
    namespace: &str,
    client: &Client,
    reader: &Reader,
    random: &mut (dyn Randomness + Send),
) -> Result<Option<SecretValue>, ValueError> {
    match source {
        ValueSource::Generate { object, password } => {
            let generated = password.draw(random)?;
            let bytes = match object {
                None => generated,
                Some((texts, key)) => template::fill(texts, key, &generated).ok_or(ValueError::Object)?,
            };
            Ok(Some(SecretValue { kind: ValueKind::String, bytes }))
        }
        ValueSource::SymmetricKey { bytes, encoding } => {
            Ok(Some(symmetric::draw_key(*bytes, *encoding, random)?))
        }
        ValueSource::FromSecret { name, key } => {
            taken_over(client, namespace, name, key, reader).await.map(Some)
        }
        ValueSource::External => Ok(None),
    }
}

async fn taken_over(
    client: &Client,
    namespace: &str,
    name: &str,
    key: &str,
    reader: &Reader,
) -> Result<SecretValue, ValueError> {
    let names = || (namespace.to_owned(), name.to_owned());
    let found = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name).await;
    let mut data = match found {
        Ok(Some(secret)) => secret.data.unwrap_or_default(),
        Ok(None) => {
            let (namespace, name) = names();
            return Err(ValueError::NoSource { namespace, name });
        }
        Err(kube::Error::Api(status)) if status.code == 403 => {
            let Reader { role, server } = reader.clone();
            return Err(ValueError::SourceForbidden { namespace: namespace.to_owned(), role, server });
        }
        Err(error) => {
            let (namespace, name) = names();
            return Err(ValueError::SourceUnread { namespace, name, source: Box::new(error) });
        }
    };
    let bytes = data.remove(key).map(|bytes| bytes.0);
    for other in data.values_mut() {
        other.0.zeroize();
    }
    let Some(bytes) = bytes else {
        let (namespace, name) = names();
        return Err(ValueError::NoSourceKey { namespace, name, key: key.to_owned() });
    };
    let bytes = Plaintext::new(bytes);
    if bytes.is_empty() || bytes.len() > Plaintext::BYTES_MAX {
        return Err(ValueError::SourceSize { key: key.to_owned(), bytes: bytes.len() });
    }
    let is_text = std::str::from_utf8(bytes.expose()).is_ok();
    Ok(SecretValue { kind: if is_text { ValueKind::String } else { ValueKind::Binary }, bytes })
}
