//! What a pod's annotations ask for. Must not look at anything of the pod but its annotations.

use std::collections::BTreeMap;

use super::attributes::{self, Attributes, SecretRef, Wrong, shown};
use super::sdk::{AWS_SDK, AWS_SDK_CONFIG, AWS_SDK_STATUS, SdkMode};

pub const ANNOTATION_PREFIX: &str = "tidelock.dev/";
/// `tidelock.dev/inject: orders-db,billing-key`
pub const INJECT: &str = "tidelock.dev/inject";
/// `tidelock.dev/containers: app,migrate`; without it all containers, init containers included.
pub(super) const CONTAINERS: &str = "tidelock.dev/containers";

/// Refinements are written `tidelock.dev/<word>.<secret>`.
const PATH: &str = "path";
const KEYS: &str = "keys";
const MODE: &str = "mode";
const OWNER_UID: &str = "owner-uid";
const REFINEMENTS: [&str; 4] = [PATH, KEYS, MODE, OWNER_UID];

const SECRETS_MAX: usize = 64;
const PATH_BYTES_MAX: usize = 1024;
const DEFAULT_FOLDER: &str = "/run/tidelock";
/// What a container cannot run without.
const SYSTEM_FOLDERS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Why a pod is refused. Each message says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("annotation `{annotation}`: {wrong}")]
    Annotation { annotation: String, wrong: Wrong },
    #[error(
        "secrets `{first}` and `{second}` would both be at `{path}`; set another path with the annotation `{hint}`"
    )]
    PathTwice { first: String, second: String, path: String, hint: String },
    #[error(
        "container `{container}` has something mounted at `{mounted}`, where `{path}` of secret `{secret}` would be; set another path with the annotation `{hint}`"
    )]
    PathTaken { container: String, mounted: String, path: String, secret: String, hint: String },
    #[error(
        "container `{container}` has something mounted at `{mounted}`, where `{path}` for programs with an AWS SDK would be; mount it elsewhere, or remove the annotation `{AWS_SDK}`"
    )]
    SdkPathTaken { container: String, mounted: String, path: String },
    #[error(
        "secret `{secret}` would be at `{path}`, which the files for programs with an AWS SDK need; set another path with the annotation `{hint}`"
    )]
    SecretInSdkPath { secret: String, path: String, hint: String },
    #[error("Tidelock serves Linux pods only, and this pod's spec.os.name is `{0}`")]
    NotLinux(String),
    #[error(
        "a static pod is started by its node before anybody is asked, so nothing can be injected; remove the annotations of {ANNOTATION_PREFIX}"
    )]
    StaticPod,
    #[error("the pod has no list spec.containers")]
    NoContainers,
}

impl Refusal {
    pub(super) fn annotation(annotation: &str, wrong: impl Into<String>) -> Refusal {
        Refusal::Annotation { annotation: annotation.to_owned(), wrong: Wrong(wrong.into()) }
    }
}

/// One secret that a pod wants and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) attributes: Attributes,
    pub(super) path: String,
}

/// What all annotations of a pod ask for together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) secrets: Vec<Wanted>,
    pub(super) sdk: Option<SdkMode>,
    /// `None`: all.
    pub(super) containers: Option<Vec<String>>,
}

/// Reads the annotations of a pod in `namespace`; `None` when it asks for nothing.
pub(super) fn parse(
    annotations: &BTreeMap<String, String>,
    namespace: &str,
) -> Result<Option<Asked>, Refusal> {
    let list = annotations.get(INJECT);
    let sdk = annotations.get(AWS_SDK).map(|value| SdkMode::parse(value));
    let sdk = sdk.transpose().map_err(|wrong| Refusal::annotation(AWS_SDK, wrong))?;
    if list.is_none() && sdk.is_none() {
        return Ok(None);
    }
    let mut secrets = list.map_or(Ok(Vec::new()), |list| parse_list(list, namespace))?;
    let mut containers = None;
    for (annotation, value) in annotations {
        let Some(rest) = annotation.strip_prefix(ANNOTATION_PREFIX) else {
            continue;
        };
        match rest.split_once('.') {
            None if [INJECT, AWS_SDK, AWS_SDK_STATUS, AWS_SDK_CONFIG].contains(&annotation.as_str()) => {}
            None if annotation == CONTAINERS => containers = Some(parse_containers(value)?),
            Some((word, target)) if REFINEMENTS.contains(&word) => {
                let wanted = find(&mut secrets, target, namespace)
                    .map_err(|wrong| Refusal::annotation(annotation, wrong))?;
                refine(wanted, word, value.trim())
                    .map_err(|wrong| Refusal::Annotation { annotation: annotation.clone(), wrong })?;
            }
            _ => {
                return Err(Refusal::annotation(
                    annotation,
                    format!(
                        "is not known; there are {INJECT}, {AWS_SDK}, {CONTAINERS}, and {ANNOTATION_PREFIX}<{}>.<secret>",
                        REFINEMENTS.join("|")
                    ),
                ));
            }
        }
    }
    check_paths(&secrets)?;
    Ok(Some(Asked { secrets, sdk, containers }))
}

/// How the annotation is called that sets the path of a secret.
pub(super) fn path_annotation(secret: &SecretRef) -> String {
    match secret.namespace() {
        Some(namespace) => format!("{ANNOTATION_PREFIX}{PATH}.{namespace}_{}", secret.name()),
        None => format!("{ANNOTATION_PREFIX}{PATH}.{}", secret.name()),
    }
}

fn parse_list(list: &str, namespace: &str) -> Result<Vec<Wanted>, Refusal> {
    let mut secrets: Vec<Wanted> = Vec::new();
    for part in list.split(',').map(str::trim) {
        if part.is_empty() {
            return Err(Refusal::annotation(
                INJECT,
                "names of ManagedSecrets are expected, separated by commas, as in `orders-db,billing-key`",
            ));
        }
        let secret = SecretRef::parse(part)
            .map_err(|wrong| Refusal::Annotation { annotation: INJECT.to_owned(), wrong })?
            .seen_from(namespace);
        if secrets.iter().any(|wanted| wanted.attributes.secret == secret) {
            return Err(Refusal::annotation(INJECT, format!("`{secret}` is there twice; once is enough")));
        }
        let path = format!("{DEFAULT_FOLDER}/{}", secret.name());
        let attributes = Attributes { secret, keys: Vec::new(), mode: None, owner_uid: None };
        secrets.push(Wanted { attributes, path });
    }
    if secrets.len() > SECRETS_MAX {
        return Err(Refusal::annotation(
            INJECT,
            format!("{} secrets are more than {SECRETS_MAX}, the most for one pod", secrets.len()),
        ));
    }
    Ok(secrets)
}

/// The secret that a refinement means: `name`, or `namespace_name`, for an annotation's name has no room for a slash
/// and no Kubernetes name has an underscore.
fn find<'a>(secrets: &'a mut [Wanted], target: &str, namespace: &str) -> Result<&'a mut Wanted, String> {
    let (of_namespace, name) = match target.split_once('_') {
        Some((of_namespace, name)) => (Some(of_namespace), name),
        None => (None, target),
    };
    let is_meant = |wanted: &Wanted| {
        let secret = &wanted.attributes.secret;
        secret.name() == name && of_namespace.is_none_or(|ns| ns == secret.namespace_or(namespace))
    };
    let meant: Vec<usize> =
        secrets.iter().enumerate().filter(|(_, wanted)| is_meant(wanted)).map(|(index, _)| index).collect();
    match meant[..] {
        [index] => Ok(&mut secrets[index]),
        [] => {
            if secrets.is_empty() {
                return Err(format!("goes with the annotation `{INJECT}`, which this pod does not have"));
            }
            let names: Vec<String> =
                secrets.iter().map(|wanted| wanted.attributes.secret.to_string()).collect();
            Err(format!("`{INJECT}` does not ask for `{}`; it asks for {}", shown(target), names.join(", ")))
        }
        _ => Err(format!(
            "`{INJECT}` asks for more than one `{name}`; write `<namespace>_{name}` for the one you mean"
        )),
    }
}

fn refine(wanted: &mut Wanted, word: &str, value: &str) -> Result<(), Wrong> {
    match word {
        PATH => wanted.path = parse_path(value)?,
        KEYS => wanted.attributes.keys = attributes::parse_keys(value)?,
        MODE => wanted.attributes.mode = Some(attributes::parse_mode(value)?),
        OWNER_UID => wanted.attributes.owner_uid = Some(attributes::parse_uid(value)?),
        // The caller has looked the word up in `REFINEMENTS`.
        _ => {}
    }
    Ok(())
}

fn parse_path(text: &str) -> Result<String, Wrong> {
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    let is_plain = trimmed.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
            && !rest.contains(':')
            && !rest.chars().any(char::is_control)
    });
    if !is_plain || trimmed.len() > PATH_BYTES_MAX {
        return Err(Wrong(format!(
            "`{}` is not a folder in a container; write an absolute path without `..`, `//` and `:`, as in `{DEFAULT_FOLDER}/orders-db`",
            shown(text)
        )));
    }
    if let Some(system) = SYSTEM_FOLDERS.into_iter().find(|system| is_at_or_below(trimmed, system)) {
        return Err(Wrong(format!(
            "`{trimmed}` is in `{system}`, which a container needs; write another, as in `{DEFAULT_FOLDER}/orders-db`"
        )));
    }
    Ok(trimmed.to_owned())
}

fn parse_containers(value: &str) -> Result<Vec<String>, Refusal> {
    let names: Vec<String> = value.split(',').map(|name| name.trim().to_owned()).collect();
    if names.iter().any(String::is_empty) {
        return Err(Refusal::annotation(
            CONTAINERS,
            "names of containers are expected, separated by commas; without the annotation all containers are served",
        ));
    }
    Ok(names)
}

/// No secret at another's path, and none inside another: its folder is read-only, so nothing can be mounted there.
fn check_paths(secrets: &[Wanted]) -> Result<(), Refusal> {
    for (index, second) in secrets.iter().enumerate() {
        let overlaps = |first: &&Wanted| {
            is_at_or_below(&first.path, &second.path) || is_at_or_below(&second.path, &first.path)
        };
        if let Some(first) = secrets[..index].iter().find(overlaps) {
            return Err(Refusal::PathTwice {
                first: first.attributes.secret.to_string(),
                second: second.attributes.secret.to_string(),
                path: second.path.clone(),
                hint: path_annotation(&second.attributes.secret),
            });
        }
    }
    Ok(())
}

pub(super) fn is_at_or_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
