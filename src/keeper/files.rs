//! The files that a value becomes in a pod. Must not leave out a file that was asked for and can be had.

use std::collections::{BTreeMap, BTreeSet};

use super::KeeperError;
use crate::access::Denied;
use crate::inject::KeyFile;
use crate::inject::attributes::WHOLE_VALUE_FILE;
use crate::seal::{digest, hex};
use crate::secret::keys::{KeysError, is_file_name, members};
use crate::secret::{Arn, Plaintext, VersionId};

/// Files of one version: its keys, and `value` unless it is limited to keys. No `Debug`: it holds open values.
pub struct Payload {
    /// Names ARN, version and set of keys, and tells nothing about the content.
    pub id: String,
    pub arn: Arn,
    pub version: VersionId,
    /// By file name.
    pub files: Vec<(String, Plaintext)>,
}

/// Which files a mount gets: what it asked for, within what it may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selection {
    /// The whole value, and each key.
    Whole,
    /// Each key that is granted, under its own name; of those, what the value has.
    Granted(BTreeSet<String>),
    /// Just these keys, under these file names.
    Named(BTreeMap<String, String>),
}

impl Selection {
    /// `granted` of `None` is the whole value; an empty `wanted` is everything that may be had.
    pub(super) fn of(granted: Option<&BTreeSet<String>>, wanted: &[KeyFile]) -> Self {
        match granted {
            None if wanted.is_empty() => Self::Whole,
            Some(granted) if wanted.is_empty() => Self::Granted(granted.clone()),
            granted => {
                let may = |key: &&KeyFile| granted.is_none_or(|granted| granted.contains(key.key()));
                let named = wanted.iter().filter(may);
                Self::Named(named.map(|key| (key.file().to_owned(), key.key().to_owned())).collect())
            }
        }
    }

    /// Whether everything that was wanted may be had.
    pub(super) fn check_complete(&self, wanted: &[KeyFile]) -> Result<(), Denied> {
        let Self::Named(named) = self else { return Ok(()) };
        match wanted.iter().find(|key| !named.contains_key(key.file())) {
            None => Ok(()),
            Some(missing) => Err(Denied::No(format!(
                "the key `{}` is not among those that spec.access grants this ServiceAccount: add it there, or \
                 leave it out of the attribute keys",
                missing.key()
            ))),
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        match self {
            Self::Whole => false,
            Self::Granted(keys) => keys.is_empty(),
            Self::Named(named) => named.is_empty(),
        }
    }

    /// The id of the payload that this selection of a version makes.
    pub(super) fn payload_id(&self, arn: &Arn, version: &VersionId) -> String {
        let mut parts = vec![arn.as_str().as_bytes(), version.as_str().as_bytes()];
        match self {
            Self::Whole => parts.push(b"whole"),
            Self::Granted(keys) => {
                parts.push(b"granted");
                parts.extend(keys.iter().map(String::as_bytes));
            }
            Self::Named(named) => {
                parts.push(b"named");
                parts.extend(named.iter().flat_map(|(file, key)| [file.as_bytes(), key.as_bytes()]));
            }
        }
        hex(&digest("tidelock.payload.v1", &parts))
    }

    /// The files themselves, by name.
    pub(super) fn cut(&self, value: Plaintext) -> Result<Vec<(String, Plaintext)>, KeeperError> {
        let mut files: BTreeMap<String, Plaintext> = match (members(&value), self) {
            (Err(KeysError::NotAnObject), Self::Whole) => BTreeMap::new(),
            (Err(error), _) => return Err(KeeperError::InvalidParameter(error.to_string())),
            // A key that cannot be a file of its name is in the file of the whole value.
            (Ok(members), Self::Whole) => members.into_iter().filter(|(key, _)| is_file_name(key)).collect(),
            (Ok(members), Self::Granted(keys)) => {
                let granted = |(key, _): &(String, Plaintext)| keys.contains(key) && is_file_name(key);
                members.into_iter().filter(granted).collect()
            }
            (Ok(members), Self::Named(named)) => return named_files(members, named),
        };
        if files.contains_key(WHOLE_VALUE_FILE) {
            return Err(KeeperError::InvalidParameter(format!(
                "the secret has a key `{WHOLE_VALUE_FILE}`, which is the name of the file that holds the whole \
                 value: say with keys which files you want, such as `{WHOLE_VALUE_FILE}=<another name>`"
            )));
        }
        if *self == Self::Whole {
            files.insert(WHOLE_VALUE_FILE.to_owned(), value);
        } else if files.is_empty() {
            return Err(KeeperError::InvalidParameter(
                "the value has none of the keys that spec.access grants this ServiceAccount".to_owned(),
            ));
        }
        Ok(files.into_iter().collect())
    }
}

fn named_files(
    mut members: BTreeMap<String, Plaintext>,
    named: &BTreeMap<String, String>,
) -> Result<Vec<(String, Plaintext)>, KeeperError> {
    let file = |(file, key): (&String, &String)| match members.get_mut(key) {
        Some(content) => Ok((file.clone(), content.duplicate())),
        None => Err(KeeperError::InvalidParameter(KeysError::NoSuchKey(key.clone()).to_string())),
    };
    named.iter().map(file).collect()
}
