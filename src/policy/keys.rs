//! Condition keys: which there are, and what a request says under each. Must not take one that nothing here fills.

use std::collections::BTreeMap;
use std::fmt;

/// Keys with one name each. Like AWS's, they are the same in whatever case they are written.
const KEYS: &[&str] = &[
    "aws:CurrentTime",
    "aws:EpochTime",
    "aws:PrincipalArn",
    "aws:SecureTransport",
    "aws:SourceIp",
    TAG_KEYS,
    "secretsmanager:BlockPublicPolicy",
    "secretsmanager:Description",
    "secretsmanager:ForceDeleteWithoutRecovery",
    "secretsmanager:KmsKeyId",
    "secretsmanager:Name",
    "secretsmanager:RecoveryWindowInDays",
    "secretsmanager:SecretId",
    "secretsmanager:VersionId",
    "secretsmanager:VersionStage",
];

/// Keys that go on with the key of a tag.
const TAGGED: &[&str] =
    &["aws:PrincipalTag/", "aws:RequestTag/", "aws:ResourceTag/", "secretsmanager:ResourceTag/"];

/// The one key that has a list for its value.
const TAG_KEYS: &str = "aws:TagKeys";

/// A key, as a policy writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    written: String,
    folded: String,
}

impl Key {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let folded = text.to_lowercase();
        let of_tag = |prefix: &&str| {
            let begin = prefix.to_lowercase();
            folded.strip_prefix(&begin).is_some_and(|tag| !tag.is_empty())
        };
        let known = KEYS.iter().any(|key| key.to_lowercase() == folded) || TAGGED.iter().any(of_tag);
        known.then(|| Self { written: text.to_owned(), folded })
    }

    pub(super) fn is_list(&self) -> bool {
        self.folded.eq_ignore_ascii_case(TAG_KEYS)
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.folded == name.to_lowercase()
    }

    pub(super) fn is_principal_tag(&self) -> bool {
        self.folded.starts_with("aws:principaltag/")
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// What is known of one request, by key. A key without a value is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context(BTreeMap<String, Vec<String>>);

impl Context {
    pub fn put(&mut self, key: &str, value: impl Into<String>) {
        self.0.entry(key.to_lowercase()).or_default().push(value.into());
    }

    pub fn put_tags<'t>(&mut self, prefix: &str, tags: impl IntoIterator<Item = (&'t String, &'t String)>) {
        for (key, value) in tags {
            self.put(&format!("{prefix}/{key}"), value);
        }
    }

    pub(super) fn values(&self, key: &Key) -> &[String] {
        self.0.get(&key.folded).map_or(&[], Vec::as_slice)
    }

    /// The value, where there is exactly one.
    pub(super) fn value(&self, key: &Key) -> Option<&str> {
        match self.values(key) {
            [value] => Some(value),
            _ => None,
        }
    }
}
