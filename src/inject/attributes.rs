//! The grammar of the attributes of our CSI volumes, written by the webhook or by hand and read by the node agent.
//! They are hostile input: anybody who may create pods writes what he likes. Must not accept what it does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The name of our CSI driver.
pub const DRIVER: &str = "csi.tidelock.dev";

/// The secret: `name` or `namespace/name` of a ManagedSecret. Required.
pub const SECRET: &str = "secret";
/// Which keys become files: `key` or `key=file`, separated by commas. Without it all keys, and the whole value.
pub const KEYS: &str = "keys";
/// The files' mode, in octal.
pub const MODE: &str = "mode";
/// The numeric user who owns the files.
pub const OWNER_UID: &str = "ownerUid";

/// Instead of all those: what the volume holds that is no secret. There is [`CA`].
pub const BUNDLE: &str = "bundle";
/// Certificate authorities, for programs that check whom they speak to: the public ones and ours.
pub const CA: &str = "ca";
/// The public roots and our authorities, in PEM.
pub const CA_BUNDLE_FILE: &str = "ca-bundle.crt";
/// Our authorities alone, for who adds them to roots of his own.
pub const OUR_CA_FILE: &str = "ca.crt";

/// The file that holds the whole value.
pub const WHOLE_VALUE_FILE: &str = "value";

/// Added by kubelet, which tells with them of the pod.
const KUBELET_PREFIX: &str = "csi.storage.k8s.io/";
const KEYS_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 253;
const NAMESPACE_BYTES_MAX: usize = 63;
const FILE_BYTES_MAX: usize = 255;
const KEY_BYTES_MAX: usize = 255;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    #[error(
        "attribute `{SECRET}` is missing; write the name of a ManagedSecret, as in `{SECRET}: orders-db`"
    )]
    NoSecret,
    #[error(
        "attribute `{0}` is not known; there are {SECRET}, {KEYS}, {MODE} and {OWNER_UID}, or {BUNDLE} alone"
    )]
    Unknown(String),
    #[error("attribute `{BUNDLE}`: `{0}` is not known; write `{BUNDLE}: {CA}`")]
    UnknownBundle(String),
    #[error(
        "attribute `{BUNDLE}` stands alone, and there is `{0}` beside it; a volume holds a secret or a bundle: make it two volumes"
    )]
    BundleAndMore(String),
    #[error("attribute `{attribute}`: {wrong}")]
    Wrong { attribute: &'static str, wrong: Wrong },
}

/// What is wrong with one value, and what would be right; the same for attributes and annotations.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(pub(super) String);

/// A ManagedSecret as a pod names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretRef {
    /// `None` is the pod's own namespace.
    namespace: Option<String>,
    name: String,
}

/// A key of a secret and the file that it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    key: String,
    file: String,
}

/// What a volume of ours holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Secret(Attributes),
    /// [`CA_BUNDLE_FILE`] and [`OUR_CA_FILE`], which are no secret.
    CaBundle,
}

impl Content {
    /// Reads the attributes of a volume, as kubelet hands them over.
    pub fn parse<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Result<Content, AttributeError> {
        let of_author = |(name, _): &(&str, &str)| !name.starts_with(KUBELET_PREFIX);
        let Some((_, bundle)) = pairs.clone().into_iter().find(|(name, _)| *name == BUNDLE) else {
            return Attributes::parse(pairs).map(Content::Secret);
        };
        if bundle != CA {
            return Err(AttributeError::UnknownBundle(shown(bundle)));
        }
        match pairs.into_iter().filter(of_author).find(|(name, _)| *name != BUNDLE) {
            Some((more, _)) => Err(AttributeError::BundleAndMore(shown(more))),
            None => Ok(Content::CaBundle),
        }
    }
}

/// What a volume with a secret asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    pub secret: SecretRef,
    /// Empty: all keys, and the whole value.
    pub keys: Vec<KeyFile>,
    pub mode: Option<u32>,
    pub owner_uid: Option<u32>,
}

impl Attributes {
    /// Reads the attributes of a volume, as they stand in the pod or as kubelet hands them over.
    pub fn parse<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Attributes, AttributeError> {
        let mut secret = None;
        let (mut keys, mut mode, mut owner_uid) = (Vec::new(), None, None);
        for (name, value) in pairs {
            match name {
                SECRET => secret = Some(SecretRef::parse(value).map_err(in_attribute(SECRET))?),
                KEYS => keys = parse_keys(value).map_err(in_attribute(KEYS))?,
                MODE => mode = Some(parse_mode(value).map_err(in_attribute(MODE))?),
                OWNER_UID => owner_uid = Some(parse_uid(value).map_err(in_attribute(OWNER_UID))?),
                // What kubelet adds is not the author's; the agent takes it from there under its own name.
                _ if name.starts_with(KUBELET_PREFIX) => {}
                _ => return Err(AttributeError::Unknown(shown(name))),
            }
        }
        let secret = secret.ok_or(AttributeError::NoSecret)?;
        Ok(Attributes { secret, keys, mode, owner_uid })
    }

    /// The attributes as they stand in a pod.
    pub fn render(&self) -> BTreeMap<&'static str, String> {
        let mut pairs = BTreeMap::from([(SECRET, self.secret.to_string())]);
        if !self.keys.is_empty() {
            let keys: Vec<String> = self.keys.iter().map(KeyFile::to_string).collect();
            pairs.insert(KEYS, keys.join(","));
        }
        if let Some(mode) = self.mode {
            pairs.insert(MODE, format!("{mode:04o}"));
        }
        if let Some(uid) = self.owner_uid {
            pairs.insert(OWNER_UID, uid.to_string());
        }
        pairs
    }
}

fn in_attribute(attribute: &'static str) -> impl Fn(Wrong) -> AttributeError {
    move |wrong| AttributeError::Wrong { attribute, wrong }
}

impl SecretRef {
    pub fn parse(text: &str) -> Result<SecretRef, Wrong> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        if !is_dns_subdomain(name) {
            return Err(Wrong(format!(
                "`{}` is not the name of a ManagedSecret; write `name` or `namespace/name`, in lower case letters, digits, `-` and `.`",
                shown(text)
            )));
        }
        if let Some(namespace) = namespace
            && !is_dns_label(namespace)
        {
            return Err(Wrong(format!(
                "`{}` is not the name of a namespace; write `namespace/name`, as in `shop/orders-db`",
                shown(namespace)
            )));
        }
        Ok(SecretRef { namespace: namespace.map(str::to_owned), name: name.to_owned() })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace, which for a bare name is the pod's.
    pub fn namespace_or<'a>(&'a self, pods: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(pods)
    }

    /// The same secret under its shortest name, seen from a pod in that namespace.
    pub(super) fn seen_from(mut self, pods: &str) -> SecretRef {
        self.namespace.take_if(|namespace| namespace == pods);
        self
    }

    pub(super) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl KeyFile {
    pub fn key(&self) -> &str {
        &self.key
    }

    /// One plain file name, never a path.
    pub fn file(&self) -> &str {
        &self.file
    }

    fn parse(text: &str) -> Result<KeyFile, Wrong> {
        let (key, file) = text.split_once('=').unwrap_or((text, text));
        if key.is_empty() || key.len() > KEY_BYTES_MAX || key.chars().any(char::is_control) {
            return Err(Wrong(format!("`{}` names no key; write `key` or `key=file`", shown(text))));
        }
        if file == WHOLE_VALUE_FILE {
            return Err(Wrong(format!(
                "the file `{WHOLE_VALUE_FILE}` is the whole secret; write `{}=<another name>`",
                shown(key)
            )));
        }
        if !is_file_name(file) {
            return Err(Wrong(format!(
                "`{}` cannot be a file; write `{}=<file name>`, one name without `/` that does not begin with `..`",
                shown(file),
                shown(key)
            )));
        }
        Ok(KeyFile { key: key.to_owned(), file: file.to_owned() })
    }
}

impl fmt::Display for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key == self.file { f.write_str(&self.key) } else { write!(f, "{}={}", self.key, self.file) }
    }
}

pub(super) fn parse_keys(text: &str) -> Result<Vec<KeyFile>, Wrong> {
    let keys: Vec<KeyFile> =
        text.split(',').map(|part| KeyFile::parse(part.trim())).collect::<Result<_, _>>()?;
    if keys.len() > KEYS_MAX {
        return Err(Wrong(format!("{} keys are more than {KEYS_MAX}", keys.len())));
    }
    let mut files = BTreeSet::new();
    match keys.iter().find(|key| !files.insert(key.file())) {
        Some(twice) => Err(Wrong(format!(
            "two keys become the file `{}`; give one another name with `key=file`",
            shown(twice.file())
        ))),
        None => Ok(keys),
    }
}

pub(super) fn parse_mode(text: &str) -> Result<u32, Wrong> {
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if is_octal && mode <= 0o777 && mode & 0o444 != 0 => Ok(mode),
        _ => Err(Wrong(format!(
            "`{}` is not a mode in which files can be read; write it in octal, as in `0440`, at most `0777`",
            shown(text)
        ))),
    }
}

pub(super) fn parse_uid(text: &str) -> Result<u32, Wrong> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // The highest number means "no change" to chown.
    match text.parse() {
        Ok(uid) if is_plain && uid < u32::MAX => Ok(uid),
        _ => Err(Wrong(format!("`{}` is not a user id; write a number, as in `1000`", shown(text)))),
    }
}

/// What a stranger wrote, short and printable, for a message.
pub(super) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let mut shown: String =
        text.chars().take(CHARS_MAX).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

fn is_file_name(text: &str) -> bool {
    let is_reserved = text == "." || text.starts_with("..");
    !text.is_empty()
        && text.len() <= FILE_BYTES_MAX
        && !is_reserved
        && !text.contains(['/', ',', '='])
        && !text.chars().any(char::is_control)
        && text.trim() == text
}

fn is_dns_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty()
        && text.len() <= NAMESPACE_BYTES_MAX
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_dns_subdomain(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= NAME_BYTES_MAX
        && text.split('.').all(|part| {
            !part.is_empty() && part.bytes().all(is_inner) && !part.starts_with('-') && !part.ends_with('-')
        })
}
