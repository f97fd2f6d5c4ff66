//! The built-in rotator without a target: the four steps make a new random value and nothing else. Each step may run
//! again after it was cut off at any point, and then finds its work done.
//!
//! 1. createSecret: when the version has no value yet, take the current value, replace what is generated, and put it
//!    at AWSPENDING. A value that stands there stays.
//! 2. setSecret: there is no target.
//! 3. testSecret: the value at AWSPENDING is one that createSecret makes, and not the current one. Run for itself, on a copy
//!    of the current value, it says whether createSecret can start from that.
//! 4. finishSecret: move AWSCURRENT from the version that holds it now.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use tokio::io::AsyncReadExt as _;
use zeroize::{Zeroize as _, Zeroizing};

use super::event::Event;
use super::{RotatorError, patiently};
use crate::rotation::{KeyEncoding, PasswordRules, Rules, Step};
use crate::secret::symmetric::draw_key;
use crate::secret::{Randomness, Stage, ValueKind};
use crate::wire::aws::{
    Api, CallError, GetRandomPassword, GetSecretValue, PutSecretValue, SecretText, SecretValue,
    UpdateSecretVersionStage, written,
};

/// What is made, and tested.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub rules: &'a Rules,
    /// Whether AWSPENDING holds a copy of the current value.
    pub of_copy: bool,
}

pub async fn run(api: &Api, event: &Event, step: Step, subject: Subject<'_>) -> Result<(), RotatorError> {
    let rules = subject.rules;
    let description = patiently(|| api.describe_secret(&event.secret_id)).await;
    let description = description.map_err(failed("the secret cannot be described"))?;
    let token = event.client_request_token.as_str();
    let stages = description.version_ids_to_stages.get(token).map(Vec::as_slice).unwrap_or_default();
    let bears = |stage: &str| stages.iter().any(|held| held == stage);
    if bears(Stage::CURRENT) {
        tracing::info!(step = step.as_str(), "the version is current already: nothing to do");
        return Ok(());
    }
    if !bears(Stage::PENDING) {
        return Err(RotatorError::NotPending(token.to_owned()));
    }
    match step {
        Step::CreateSecret => create(api, event, rules).await,
        Step::SetSecret => Ok(()),
        Step::TestSecret => test(api, event, subject).await,
        Step::FinishSecret => finish(api, event, description.version_at(Stage::CURRENT)).await,
    }
}

async fn create(api: &Api, event: &Event, rules: &Rules) -> Result<(), RotatorError> {
    if pending(api, event).await?.is_some() {
        tracing::info!("the version has its value already");
        return Ok(());
    }
    let made = match rules {
        Rules::Password { key: None, password } => Made::Text(random_password(api, password).await?),
        Rules::Password { key: Some(key), password } => {
            let current = current(api, event).await?;
            let object = Object::read(&current, key)?;
            Made::Text(object.replaced(key, random_password(api, password).await?)?)
        }
        Rules::PasswordOrKey { key, password } => {
            let current = current(api, event).await?;
            if current.secret_string.is_none() {
                return Err(RotatorError::NotText);
            }
            let new = random_password(api, password).await?;
            Made::Text(match Object::parse(&current) {
                None => new,
                Some(object) => object.keyed(key)?.replaced(key, new)?,
            })
        }
        Rules::SymmetricKey { bytes, encoding } => symmetric_key(usize::from(*bytes), *encoding).await?,
    };
    let (secret_string, secret_binary) = match made {
        Made::Text(text) => (Some(text), None),
        Made::Binary(base64) => (None, Some(base64)),
    };
    let put = PutSecretValue {
        secret_id: &event.secret_id,
        client_request_token: &event.client_request_token,
        secret_string,
        secret_binary,
        version_stages: &[Stage::PENDING],
    };
    patiently(|| api.put_secret_value(&put)).await.map_err(failed("the new value cannot be put"))
}

async fn test(api: &Api, event: &Event, subject: Subject<'_>) -> Result<(), RotatorError> {
    let pending = pending(api, event).await?.ok_or(RotatorError::BadPending("it is missing"))?;
    if subject.of_copy {
        return can_start_from(&pending, subject.rules);
    }
    if let Rules::Password { key: Some(key), .. } = subject.rules {
        Object::read(&pending, key).map_err(|_| RotatorError::BadPending("its generated key is missing"))?;
    }
    let current = current(api, event).await?;
    let text =
        |value: &Option<SecretText>| value.as_ref().map(|text| Zeroizing::new(text.expose().to_owned()));
    if text(&pending.secret_string) == text(&current.secret_string)
        && text(&pending.secret_binary) == text(&current.secret_binary)
    {
        return Err(RotatorError::BadPending("it is the current value"));
    }
    Ok(())
}

/// What createSecret asks of the current value.
fn can_start_from(value: &SecretValue, rules: &Rules) -> Result<(), RotatorError> {
    match rules {
        Rules::Password { key: None, .. } | Rules::SymmetricKey { .. } => Ok(()),
        Rules::Password { key: Some(key), .. } => Object::read(value, key).map(drop),
        Rules::PasswordOrKey { key, .. } => {
            if value.secret_string.is_none() {
                return Err(RotatorError::NotText);
            }
            Object::parse(value).map_or(Ok(()), |object| object.keyed(key).map(drop))
        }
    }
}

async fn finish(api: &Api, event: &Event, current: Option<&str>) -> Result<(), RotatorError> {
    let request = UpdateSecretVersionStage {
        secret_id: &event.secret_id,
        version_stage: Stage::CURRENT,
        move_to_version_id: Some(&event.client_request_token),
        remove_from_version_id: current,
    };
    patiently(|| api.update_stage(&request)).await.map_err(failed("AWSCURRENT cannot be moved"))
}

async fn pending(api: &Api, event: &Event) -> Result<Option<SecretValue>, RotatorError> {
    let request = GetSecretValue {
        secret_id: &event.secret_id,
        version_id: Some(&event.client_request_token),
        version_stage: Some(Stage::PENDING),
    };
    match patiently(|| api.secret_value(&request)).await {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(failed("the value at AWSPENDING cannot be read")(error)),
    }
}

async fn current(api: &Api, event: &Event) -> Result<SecretValue, RotatorError> {
    let request =
        GetSecretValue { secret_id: &event.secret_id, version_id: None, version_stage: Some(Stage::CURRENT) };
    match patiently(|| api.secret_value(&request)).await {
        Err(error) if error.is_not_found() => Err(RotatorError::NoCurrentValue),
        read => read.map_err(failed("the current value cannot be read")),
    }
}

async fn random_password(api: &Api, rules: &PasswordRules) -> Result<SecretText, RotatorError> {
    let request = GetRandomPassword {
        password_length: rules.length,
        exclude_characters: rules.exclude_characters.clone(),
        exclude_lowercase: rules.exclude_lowercase,
        exclude_uppercase: rules.exclude_uppercase,
        exclude_numbers: rules.exclude_numbers,
        exclude_punctuation: rules.exclude_punctuation,
        include_space: rules.include_space,
        require_each_included_type: rules.require_each_included_type,
    };
    let answer = patiently(|| api.random_password(&request)).await;
    answer.map(|answer| answer.random_password).map_err(failed("no password can be generated"))
}

enum Made {
    Text(SecretText),
    /// In base64, as the API takes bytes.
    Binary(SecretText),
}

async fn symmetric_key(length: usize, encoding: KeyEncoding) -> Result<Made, RotatorError> {
    /// Bytes that the kernel made, given out once.
    struct Drawn(Zeroizing<Vec<u8>>);
    impl Randomness for Drawn {
        fn fill(&mut self, bytes: &mut [u8]) {
            let rest = self.0.len() - bytes.len();
            bytes.copy_from_slice(&self.0[rest..]);
            self.0.truncate(rest);
        }
    }
    let mut drawn = Drawn(Zeroizing::new(vec![0; length]));
    let mut source = tokio::fs::File::open("/dev/urandom").await.map_err(RotatorError::Random)?;
    source.read_exact(&mut drawn.0).await.map_err(RotatorError::Random)?;
    let key = draw_key(length, encoding.into(), &mut drawn).map_err(RotatorError::Key)?;
    let bytes = key.bytes.expose();
    Ok(match (key.kind, std::str::from_utf8(bytes)) {
        (ValueKind::String, Ok(text)) => Made::Text(SecretText::new(text.to_owned())),
        _ => Made::Binary(SecretText::new(STANDARD.encode(bytes))),
    })
}

/// A value that is a JSON object; its texts are zeroed when it goes.
struct Object(Map<String, Value>);

impl Object {
    fn parse(value: &SecretValue) -> Option<Self> {
        let text = value.secret_string.as_ref().map(SecretText::expose).unwrap_or_default();
        serde_json::from_str(text).map(Self).ok()
    }

    fn read(value: &SecretValue, key: &str) -> Result<Self, RotatorError> {
        Self::parse(value).ok_or_else(|| RotatorError::NoKey(key.to_owned()))?.keyed(key)
    }

    fn keyed(self, key: &str) -> Result<Self, RotatorError> {
        if self.0.contains_key(key) { Ok(self) } else { Err(RotatorError::NoKey(key.to_owned())) }
    }

    /// Its text with another value of the key.
    fn replaced(mut self, key: &str, text: SecretText) -> Result<SecretText, RotatorError> {
        if let Some(Value::String(old)) = self.0.get_mut(key) {
            old.zeroize();
        }
        self.0.insert(key.to_owned(), Value::String(text.expose().to_owned()));
        let bytes = written(&self.0).ok_or(RotatorError::BadPending("it is longer than a value may be"))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| RotatorError::BadPending("it is not text"))?;
        Ok(SecretText::new(text.to_owned()))
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        fn wipe(value: &mut Value) {
            match value {
                Value::String(text) => text.zeroize(),
                Value::Array(items) => items.iter_mut().for_each(wipe),
                Value::Object(members) => members.values_mut().for_each(wipe),
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
        self.0.values_mut().for_each(wipe);
    }
}

fn failed(doing: &'static str) -> impl Fn(CallError) -> RotatorError {
    move |source| RotatorError::Call { doing, source }
}
