//! Requests as kubelet sends them, and as nobody should.

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
