//! Reads kubelet's NodePublishVolume: what is asked for, for which pod, with which token.
//! Must not believe anything that a pod's author can write: attributes of a volume are hostile input.

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::csi::VolumeCapability;
    use crate::wire::csi::volume_capability::{BlockVolume, MountVolume};

    const KUBELET: &str = "/var/lib/kubelet";
    const AUDIENCE: &str = "tidelock.test/node";

    fn tokens(source: TokenSource) -> PodTokens {
        PodTokens { audience: AUDIENCE.into(), source }
    }

    fn token_json(audience: &str, token: &str) -> String {
        format!(r#"{{"{audience}":{{"token":"{token}","expirationTimestamp":"2026-11-22T09:00:00Z"}}}}"#)
    }

    fn request() -> NodePublishVolumeRequest {
        let pairs = [
            ("secret", "orders-db"),
            ("csi.storage.k8s.io/ephemeral", "true"),
            ("csi.storage.k8s.io/pod.uid", "uid-1"),
            ("csi.storage.k8s.io/pod.name", "web-0"),
            ("csi.storage.k8s.io/pod.namespace", "shop"),
            ("csi.storage.k8s.io/serviceAccount.name", "orders-api"),
        ];
        let mut request = NodePublishVolumeRequest::default();
        request.target_path = format!("{KUBELET}/pods/uid-1/volumes/kubernetes.io~csi/orders/mount");
        request.readonly = true;
        request.volume_context = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        request.volume_context.insert(TOKENS.into(), token_json(AUDIENCE, "the-token"));
        request
    }

    fn parse(request: &NodePublishVolumeRequest) -> Result<Publication, RequestError> {
        Publication::parse(request, Path::new(KUBELET), &tokens(TokenSource::Attributes))
    }

    fn token(publication: &Publication) -> Option<&str> {
        match &publication.asked {
            Asked::Secret { token, .. } => Some(token.as_str()),
            Asked::CaBundle => None,
        }
    }

    fn refusal(change: impl FnOnce(&mut NodePublishVolumeRequest)) -> String {
        let mut request = request();
        change(&mut request);
        parse(&request).err().expect("must be refused").to_string()
    }

    #[test]
    fn a_complete_request_is_understood() {
        let publication = parse(&request()).unwrap();
        assert_eq!(publication.target.mount_id(), "uid-1/orders");
        assert_eq!(publication.pod.namespace, "shop");
        assert_eq!(publication.pod.service_account, "orders-api");
        assert_eq!(publication.attributes, BTreeMap::from([("secret".to_owned(), "orders-db".to_owned())]));
        assert_eq!(token(&publication), Some("the-token"));
        assert_eq!(publication.layout, Layout { mode: 0o444, group: None, owner: None });
    }

    #[test]
    fn fs_group_mode_and_owner_reach_the_layout() {
        let mut request = request();
        let mount = MountVolume { volume_mount_group: "2000".into(), ..MountVolume::default() };
        request.volume_capability = Some(VolumeCapability { access_type: Some(AccessType::Mount(mount)) });
        assert_eq!(parse(&request).unwrap().layout, Layout { mode: 0o440, group: Some(2000), owner: None });
        request.volume_context.insert("mode".into(), "0400".into());
        request.volume_context.insert("ownerUid".into(), "1000".into());
        let layout = Layout { mode: 0o400, group: Some(2000), owner: Some(1000) };
        assert_eq!(parse(&request).unwrap().layout, layout);
    }

    #[test]
    fn a_bundle_needs_no_token_and_is_for_every_user() {
        let mut request = request();
        without_token(&mut request);
        request.volume_context.remove("secret");
        request.volume_context.insert("bundle".into(), "ca".into());
        let mount = MountVolume { volume_mount_group: "2000".into(), ..MountVolume::default() };
        request.volume_capability = Some(VolumeCapability { access_type: Some(AccessType::Mount(mount)) });
        let publication = parse(&request).unwrap();
        assert_eq!(token(&publication), None);
        assert_eq!(publication.layout, Layout { mode: 0o444, group: None, owner: None });
        let put = |name: &'static str, value: &'static str| {
            move |r: &mut NodePublishVolumeRequest| drop(r.volume_context.insert(name.into(), value.into()))
        };
        assert!(refusal(put("bundle", "ca")).contains("make it two volumes"));
        assert!(refusal(put("bundle", "roots")).contains("write `bundle: ca`"));
    }

    #[test]
    fn wrong_requests_are_refused_with_what_would_be_right() {
        assert!(refusal(|r| r.readonly = false).contains("`readOnly: true`"));
        assert!(refusal(|r| r.target_path = "/etc".into()).contains("target_path must be"));
        let context = |r: &mut NodePublishVolumeRequest, name: &str, value: &str| {
            r.volume_context.insert(format!("{KUBELET_PREFIX}{name}"), value.into());
        };
        assert!(refusal(|r| context(r, "pod.uid", "uid-2")).contains("target path says"));
        assert!(refusal(|r| context(r, "ephemeral", "false")).contains("inline"));
        let without = |name: &'static str| {
            move |r: &mut NodePublishVolumeRequest| {
                r.volume_context.remove(name);
            }
        };
        assert!(refusal(without("csi.storage.k8s.io/pod.name")).contains("podInfoOnMount"));
        assert!(refusal(without("csi.storage.k8s.io/serviceAccount.name")).contains("podInfoOnMount"));
        assert!(refusal(without("secret")).contains("`secret`"));
        assert!(refusal(|r| drop(r.volume_context.insert("sekret".into(), "x".into()))).contains("sekret"));
        let long = "x".repeat(17_000);
        assert!(refusal(|r| drop(r.volume_context.insert("secret".into(), long))).contains("16 KiB"));
        let block = AccessType::Block(BlockVolume {});
        let capability = VolumeCapability { access_type: Some(block) };
        assert!(refusal(|r| r.volume_capability = Some(capability)).contains("block device"));
        for group in ["-1", "wheel", "4294967295"] {
            let mount = MountVolume { volume_mount_group: group.into(), ..MountVolume::default() };
            let capability = VolumeCapability { access_type: Some(AccessType::Mount(mount)) };
            assert!(refusal(|r| r.volume_capability = Some(capability)).contains("fsGroup"), "{group}");
        }
    }

    #[test]
    fn a_token_is_taken_from_the_configured_place_only() {
        assert!(refusal(without_token).contains("tokenRequests"));
        assert!(refusal(|r| set_token(r, &token_json("another", "x"))).contains(AUDIENCE));
        let shown = refusal(|r| set_token(r, "{\"c4nary"));
        assert!(!shown.contains("c4nary"), "{shown}");

        // Forged in the attributes while the driver is told to read secrets.
        let mut request = request();
        let from_secrets = tokens(TokenSource::Secrets);
        let parse = |r: &NodePublishVolumeRequest| Publication::parse(r, Path::new(KUBELET), &from_secrets);
        assert!(matches!(parse(&request), Err(RequestError::NoToken { .. })));
        request.secrets.insert(TOKENS.into(), token_json(AUDIENCE, "from-kubelet"));
        assert_eq!(token(&parse(&request).unwrap()), Some("from-kubelet"));
    }

    #[test]
    fn each_field_of_the_pod_that_is_missing_or_empty_is_named() {
        for (name, says) in [
            ("ephemeral", "inline in the pod"),
            ("pod.uid", "the pod's UID"),
            ("pod.namespace", "the pod's namespace"),
            ("pod.name", "the pod's name"),
            ("serviceAccount.name", "the pod's ServiceAccount"),
            ("serviceAccount.tokens", AUDIENCE),
        ] {
            let key = format!("{KUBELET_PREFIX}{name}");
            let missing = refusal(|r| drop(r.volume_context.remove(&key)));
            assert!(missing.contains(says), "{name} missing: {missing}");
            let empty = refusal(|r| drop(r.volume_context.insert(key.clone(), String::new())));
            assert!(empty.contains(says), "{name} empty: {empty}");
        }
        for path in ["", "mount", "/var/lib/kubelet/pods//volumes/kubernetes.io~csi/orders/mount"] {
            assert!(refusal(|r| r.target_path = path.into()).contains("target_path must be"), "{path}");
        }
        for tokens in ["[]", "7", "{}", "null", "{\"tidelock.test/node\":{}}", &token_json(AUDIENCE, "")] {
            assert!(refusal(|r| set_token(r, tokens)).contains("tokenRequests"), "{tokens}");
        }
    }

    proptest! {
        #[test]
        fn whatever_kubelet_or_a_pod_s_author_says_is_taken_whole_or_refused_in_words(
            name in "(secret|keys|mode|ownerUid|bundle|csi\\.storage\\.k8s\\.io/(ephemeral|pod\\.uid|pod\\.name|serviceAccount\\.tokens)|\\PC{0,8})",
            value in "(orders-db|ca|shop/orders-db|0[0-7]{3}|[0-9]{1,11}|true|uid-1|a=b,c|\\{\"\\PC{0,12}|\\PC{0,16}|[\\x00-\\x1f]{0,4})",
            path in "(/var/lib/kubelet/pods/[a-z0-9-]{0,4}/volumes/kubernetes\\.io~csi/[a-z0-9.-]{0,6}/mount|\\PC{0,30})",
            keep_path in any::<bool>(),
            group in "(|[0-9]{1,11}|\\PC{0,4})",
        ) {
            let mut request = request();
            request.volume_context.insert(name, value);
            if !keep_path {
                request.target_path = path;
            }
            let mount = MountVolume { volume_mount_group: group, ..MountVolume::default() };
            request.volume_capability = Some(VolumeCapability { access_type: Some(AccessType::Mount(mount)) });
            match parse(&request) {
                Ok(publication) => {
                    prop_assert_eq!(publication.target.pod_uid(), "uid-1");
                    prop_assert!(!publication.pod.name.is_empty() && token(&publication) != Some(""));
                    prop_assert!(publication.layout.mode & !0o777 == 0);
                    let kubelets = |name: &String| name.starts_with(KUBELET_PREFIX);
                    prop_assert!(!publication.attributes.keys().any(kubelets));
                }
                Err(refused) => {
                    let text = refused.to_string();
                    prop_assert!(!text.contains("the-token") && !text.contains(char::is_control), "{text}");
                }
            }
        }
    }

    fn without_token(request: &mut NodePublishVolumeRequest) {
        request.volume_context.remove(TOKENS);
    }

    fn set_token(request: &mut NodePublishVolumeRequest, text: &str) {
        request.volume_context.insert(TOKENS.into(), text.into());
    }
}
