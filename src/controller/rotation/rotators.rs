//! The rotators that RotateSecret can name: `generate`, and what the server's configuration adds. Must not take what it
//! does not understand: a field that is ignored would be a rotation that does something else.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::spec::Work;
use crate::crd::JobRotator;
use crate::rotation::{GENERATE, PasswordRules, Rules, is_rotator_name};

/// By name.
#[derive(Clone, Debug)]
pub struct Rotators(BTreeMap<String, Work>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotatorsError {
    #[error("the file is not YAML: {0}")]
    Yaml(String),
    #[error("`{0}` is no name of a rotator: write letters, digits, `-` and `_`, at most 64")]
    Name(String),
    #[error("{GENERATE} is built in: take another name")]
    BuiltIn,
    #[error("{at}: {wrong}")]
    Rotator { at: String, wrong: String },
}

#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generate: Option<Generate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    job: Option<JobRotator>,
}

#[derive(Serialize, Deserialize)]
struct Generate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<PasswordRules>,
}

impl Default for Rotators {
    fn default() -> Self {
        Self(BTreeMap::from([(GENERATE.to_owned(), Work::Generate(Rules::default()))]))
    }
}

impl Rotators {
    /// `{name: {generate: {...}} | {job: {...}}}`, in YAML.
    pub fn parse(text: &str) -> Result<Self, RotatorsError> {
        let given: Option<BTreeMap<String, Value>> = serde_yaml::from_str(text)
            .map_err(|error| RotatorsError::Yaml(first_line(&error.to_string())))?;
        let mut rotators = Self::default();
        for (name, entry) in given.unwrap_or_default() {
            if !is_rotator_name(&name) {
                return Err(RotatorsError::Name(name));
            }
            if name == GENERATE {
                return Err(RotatorsError::BuiltIn);
            }
            let work = work(&name, &entry)?;
            rotators.0.insert(name, work);
        }
        Ok(rotators)
    }

    pub fn names(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }

    pub(super) fn named(&self, name: &str) -> Option<&Work> {
        self.0.get(name)
    }
}

fn work(name: &str, given: &Value) -> Result<Work, RotatorsError> {
    let wrong = |at: String, wrong: String| RotatorsError::Rotator { at, wrong };
    let entry: Entry = serde_path_to_error::deserialize(given.clone()).map_err(|error| {
        let at = match error.path().to_string() {
            whole if whole == "." => name.to_owned(),
            path => format!("{name}.{path}"),
        };
        wrong(at, error.inner().to_string())
    })?;
    let read = serde_json::to_value(&entry).map_err(|error| wrong(name.to_owned(), error.to_string()))?;
    if let Some(at) = unknown(given, &read, name) {
        return Err(wrong(
            at,
            "there is no such field; look at docs/rotators.md for those that there are".to_owned(),
        ));
    }
    match (entry.generate, entry.job) {
        (Some(Generate { key, password }), None) => {
            let Rules::PasswordOrKey { key: usual, .. } = Rules::default() else { unreachable!() };
            let (key, password) = (key.unwrap_or(usual), password.unwrap_or_default());
            Ok(Work::Generate(Rules::PasswordOrKey { key, password }))
        }
        (None, Some(job)) => {
            check(&job).map_err(|(field, right)| wrong(format!("{name}.job.{field}"), right.to_owned()))?;
            Ok(Work::Job(Box::new(job)))
        }
        _ => Err(wrong(name.to_owned(), "write exactly one of generate or job".to_owned())),
    }
}

/// The lines after it quote the file.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// The first member that was given and not read.
fn unknown(given: &Value, read: &Value, at: &str) -> Option<String> {
    match (given, read) {
        (Value::Object(given), Value::Object(read)) => given
            .iter()
            .filter(|(_, value)| !value.is_null())
            .find_map(|(name, value)| match read.get(name) {
                None => Some(format!("{at}.{name}")),
                Some(read) => unknown(value, read, &format!("{at}.{name}")),
            }),
        (Value::Array(given), Value::Array(read)) => {
            let pairs = given.iter().zip(read).enumerate();
            pairs.into_iter().find_map(|(n, (given, read))| unknown(given, read, &format!("{at}[{n}]")))
        }
        _ => None,
    }
}

/// What the API server checks of a RotationSchedule by the rules in its definition.
fn check(job: &JobRotator) -> Result<(), (&'static str, &'static str)> {
    if job.image.is_empty() {
        return Err(("image", "write the image of the container"));
    }
    for env in job.env.iter().flatten() {
        if env.name.is_empty() || env.name.starts_with("TIDELOCK_") || env.name.starts_with("AWS_") {
            return Err((
                "env",
                "names that begin with TIDELOCK_ or AWS_ are set by Tidelock; choose another name",
            ));
        }
        if env.value.is_some() && env.value_from.is_some() {
            return Err(("env", "write value or valueFrom, not both"));
        }
        let from = env.value_from.as_ref();
        if from.is_some_and(|from| from.secret_key_ref.is_some() == from.config_map_key_ref.is_some()) {
            return Err(("env", "valueFrom: write exactly one of secretKeyRef or configMapKeyRef"));
        }
    }
    for volume in job.volumes.iter().flatten() {
        let kinds = [volume.secret.is_some(), volume.config_map.is_some(), volume.empty_dir.is_some()];
        if kinds.into_iter().filter(|set| *set).count() != 1 {
            return Err(("volumes", "write exactly one of secret, configMap or emptyDir"));
        }
        if ["/run/tidelock", "/var/run/tidelock"].iter().any(|own| volume.mount_path.starts_with(own)) {
            return Err(("volumes", "/run/tidelock is Tidelock's own; choose another mountPath"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generate_is_always_there_and_others_are_added() {
        let text = "tokens: {generate: {key: token, password: {length: 40}}}\nplain: {generate: {}}\n\
                    orders-db: {job: {image: 'registry/rotate:1', env: [{name: HOST, value: pg}]}}\n";
        let rotators = Rotators::parse(text).unwrap();
        assert_eq!(rotators.names(), ["generate", "orders-db", "plain", "tokens"].map(str::to_owned).into());
        let Some(Work::Generate(Rules::PasswordOrKey { key, password })) = rotators.named("tokens") else {
            panic!("no generated password")
        };
        assert_eq!((key.as_str(), password.length), ("token", Some(40)));
        assert_eq!(rotators.named("plain"), Some(&Work::Generate(Rules::default())));
        assert!(
            matches!(rotators.named("orders-db"), Some(Work::Job(job)) if job.image == "registry/rotate:1")
        );
        assert!(rotators.named("nobody").is_none());
        for empty in ["", "{}", "# nothing\n"] {
            assert_eq!(Rotators::parse(empty).unwrap().names().len(), 1, "{empty:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_by_its_field_with_what_is_right() {
        for (text, words) in [
            ("a: {generate: {}, job: {image: x}}", "a: write exactly one of generate or job"),
            ("a: {}", "a: write exactly one"),
            ("a: {lambda: {}}", "a.lambda: there is no such field"),
            ("a: {job: {image: x, hostNetwork: true}}", "a.job.hostNetwork: there is no such field"),
            (
                "a: {job: {image: x, env: [{name: A, valeu: b}]}}",
                "a.job.env[0].valeu: there is no such field",
            ),
            ("a: {generate: {lenght: 3}}", "a.generate.lenght: there is no such field"),
            ("a: {generate: {password: {lenght: 3}}}", "a.generate.password"),
            ("a: {generate: {password: {length: many}}}", "a.generate.password.length: invalid type"),
            ("a: {job: {}}", "a.job: missing field `image`"),
            ("a: text", "a: invalid type"),
            ("a: {job: {image: ''}}", "a.job.image: write the image"),
            (
                "a: {job: {image: x, env: [{name: AWS_REGION, value: eu}]}}",
                "a.job.env: names that begin with",
            ),
            ("a: {job: {image: x, volumes: [{name: v, mountPath: /v}]}}", "a.job.volumes: write exactly one"),
            ("a/b: {generate: {}}", "`a/b` is no name"),
            ("generate: {generate: {}}", "built in"),
            ("- a", "not YAML"),
            ("a: {generate: {}\nb: [", "not YAML"),
        ] {
            let error = Rotators::parse(text).unwrap_err().to_string();
            assert!(error.contains(words) && error.lines().count() == 1, "{text}: {error}");
        }
    }
}
