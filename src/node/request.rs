//! Reads kubelet's NodePublishVolume: what is asked for, for which pod, with which token.
//! Must not believe anything that a pod's author can write: attributes of a volume are hostile input.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use super::config::{PodTokens, TokenSource};
use super::target::{Target, TargetError};
use crate::failpoint;
use crate::inject::attributes::{AttributeError, Content};
use crate::projection::Layout;
use crate::wire::csi::NodePublishVolumeRequest;
use crate::wire::csi::volume_capability::AccessType;

const KUBELET_PREFIX: &str = "csi.storage.k8s.io/";
const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";
const ATTRIBUTE_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Attributes(#[from] AttributeError),
    #[error("the attributes of the volume are longer than 16 KiB")]
    AttributesTooLong,
    #[error("a Tidelock volume must be read-only: write `readOnly: true` under `csi:` in the pod's volume")]
    Writable,
    #[error("a Tidelock volume is a file system, not a block device")]
    Block,
    #[error("a Tidelock volume must be inline in the pod (`csi:` under `volumes:`), not a PersistentVolume")]
    NotEphemeral,
    #[error("kubelet did not say {0}: the CSIDriver object needs `podInfoOnMount: true`")]
    NoPodInfo(&'static str),
    #[error("pod info says the pod's UID is {info:?}, the target path says {path:?}")]
    PodUid { info: String, path: String },
    #[error("the pod's fsGroup {0:?} is not a number")]
    Group(String),
    #[error(
        "kubelet sent no pod token for audience {audience:?} in {place}: the CSIDriver object needs it in \
         `tokenRequests`, and `serviceAccountTokenInSecrets` must fit the agent's `--token-source`"
    )]
    NoToken { audience: String, place: &'static str },
}

/// The pod whose volume it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub service_account: String,
}

/// A volume that kubelet wants to have.
pub struct Publication {
    pub target: Target,
    pub pod: Pod,
    /// As they stand in the pod, without what kubelet adds.
    pub attributes: BTreeMap<String, String>,
    pub layout: Layout,
    pub asked: Asked,
}

/// What the volume is to hold.
pub enum Asked {
    Secret {
        /// As the pod names it.
        name: String,
        token: Zeroizing<String>,
    },
    /// What nobody has to be asked for.
    CaBundle,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asked::Secret { name, .. } => write!(f, "secret {name}"),
            Asked::CaBundle => f.write_str("bundle of CAs"),
        }
    }
}

impl Publication {
    pub fn parse(
        request: &NodePublishVolumeRequest,
        kubelet: &Path,
        tokens: &PodTokens,
    ) -> Result<Publication, RequestError> {
        let target = Target::parse(kubelet, &request.target_path)?;
        if !request.readonly && failpoint::guard("read-only-volume") {
            return Err(RequestError::Writable);
        }
        let context = |name: &str| {
            let said = request.volume_context.get(&format!("{KUBELET_PREFIX}{name}"));
            said.filter(|said| !said.is_empty()).cloned()
        };
        if context("ephemeral").as_deref() != Some("true") {
            return Err(RequestError::NotEphemeral);
        }
        let uid = context("pod.uid").ok_or(RequestError::NoPodInfo("the pod's UID"))?;
        if uid != target.pod_uid() {
            return Err(RequestError::PodUid { info: uid, path: target.pod_uid().to_owned() });
        }
        let pod = Pod {
            namespace: context("pod.namespace").ok_or(RequestError::NoPodInfo("the pod's namespace"))?,
            name: context("pod.name").ok_or(RequestError::NoPodInfo("the pod's name"))?,
            service_account: context("serviceAccount.name")
                .ok_or(RequestError::NoPodInfo("the pod's ServiceAccount"))?,
        };
        let (attributes, content) = read_attributes(&request.volume_context)?;
        let layout = layout(&content, read_group(request)?);
        let asked = match content {
            Content::CaBundle => Asked::CaBundle,
            Content::Secret(asked) => {
                Asked::Secret { name: asked.secret.to_string(), token: read_token(request, tokens)? }
            }
        };
        Ok(Publication { target, pod, layout, asked, attributes })
    }
}

/// Modes and owners that the attributes ask for, on a volume whose pod has this fsGroup. What is no secret is there for
/// every user.
pub fn layout(content: &Content, group: Option<u32>) -> Layout {
    match content {
        Content::Secret(asked) => {
            let default = Layout::with_default_mode(group, asked.owner_uid);
            Layout { mode: asked.mode.unwrap_or(default.mode), ..default }
        }
        Content::CaBundle => Layout::with_default_mode(None, None),
    }
}

pub fn parse_attributes(attributes: &BTreeMap<String, String>) -> Result<Content, AttributeError> {
    Content::parse(attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

fn read_attributes(
    context: &std::collections::HashMap<String, String>,
) -> Result<(BTreeMap<String, String>, Content), RequestError> {
    let written_by_author = |(name, _): &(&String, &String)| !name.starts_with(KUBELET_PREFIX);
    let authors = || context.iter().filter(written_by_author);
    if authors().map(|(name, value)| name.len() + value.len()).sum::<usize>() > ATTRIBUTE_BYTES_MAX {
        return Err(RequestError::AttributesTooLong);
    }
    let attributes: BTreeMap<String, String> =
        authors().map(|(name, value)| (name.clone(), value.clone())).collect();
    let content = parse_attributes(&attributes)?;
    Ok((attributes, content))
}

fn read_group(request: &NodePublishVolumeRequest) -> Result<Option<u32>, RequestError> {
    let access = request.volume_capability.as_ref().and_then(|capability| capability.access_type.as_ref());
    match access {
        Some(AccessType::Block(_)) => Err(RequestError::Block),
        Some(AccessType::Mount(mount)) if !mount.volume_mount_group.is_empty() => {
            let group = mount.volume_mount_group.as_str();
            // The highest number means "no change" to chown.
            let parsed = group.parse().ok().filter(|group| *group < u32::MAX);
            parsed.map(Some).ok_or_else(|| RequestError::Group(group.to_owned()))
        }
        _ => Ok(None),
    }
}

#[derive(Deserialize)]
struct PodToken {
    token: String,
}

impl Drop for PodToken {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

fn read_token(
    request: &NodePublishVolumeRequest,
    tokens: &PodTokens,
) -> Result<Zeroizing<String>, RequestError> {
    let (map, place) = match tokens.source {
        TokenSource::Attributes => (&request.volume_context, "the volume's attributes"),
        TokenSource::Secrets => (&request.secrets, "the call's secrets"),
    };
    let missing = || RequestError::NoToken { audience: tokens.audience.clone(), place };
    let text = map.get(TOKENS).ok_or_else(missing)?;
    // The parser's error is dropped: it could quote the text.
    let mut by_audience: BTreeMap<String, PodToken> = serde_json::from_str(text).map_err(|_| missing())?;
    let mut found = by_audience.remove(&tokens.audience).ok_or_else(missing)?;
    if found.token.is_empty() {
        return Err(missing());
    }
    Ok(Zeroizing::new(std::mem::take(&mut found.token)))
}
