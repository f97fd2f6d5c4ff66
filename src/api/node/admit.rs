//! Which node is at the other end, and whose pod is behind a mount: the identities that a stream rests on.
//! Must not ask about rights.

use tonic::Status;
use tonic::metadata::MetadataMap;

use super::NodeSettings;
use super::refusal::Refusal;
use crate::access::Principal;
use crate::api::authenticate::bearer;
use crate::cluster::TokenRefused;
use crate::failpoint;
use crate::wire::node::Mount;
use crate::wire::node::refused::Reason;

const TEXT_BYTES_MAX: usize = 253;
const ATTRIBUTES_MAX: usize = 32;
const ATTRIBUTE_BYTES_MAX: usize = 16 * 1024;

/// The node that the bearer of the request's metadata speaks for.
pub(super) async fn agent(settings: &NodeSettings, metadata: &MetadataMap) -> Result<String, Status> {
    let header = metadata.get("authorization").map(|value| value.as_bytes());
    let token = header
        .and_then(bearer)
        .ok_or_else(|| Status::unauthenticated("send the agent's own token as authorization: Bearer"))?;
    agent_token(settings, token).await
}

/// The node of a token of the agent's own: our ServiceAccount, bound to a pod that is bound to a node.
pub(super) async fn agent_token(settings: &NodeSettings, token: &str) -> Result<String, Status> {
    let mut reviewed = settings.tokens.authenticate(token, &settings.stream_audience).await;
    if !failpoint::guard("stream-audience") && reviewed.is_err() {
        reviewed = settings.tokens.authenticate(token, &settings.mount_audience).await;
    }
    let who = reviewed.map_err(|refused| match refused {
        TokenRefused::Unavailable(_) => Status::unavailable(refused.to_string()),
        _ => Status::unauthenticated(refused.to_string()),
    })?;
    if who.account() != Some(&settings.agent) {
        return Err(Status::permission_denied(format!(
            "streams are for the node agent's ServiceAccount {}, not for {who}",
            settings.agent
        )));
    }
    who.pod().and_then(|pod| pod.node.clone()).ok_or_else(|| {
        Status::permission_denied(
            "the agent's token names no node: use a projected token of the pod's own (Kubernetes 1.33 or later)",
        )
    })
}

/// Whose mount this is. Everything that the node says of the pod must be what the pod's own token says.
pub(super) async fn pod(
    settings: &NodeSettings,
    node: &str,
    mount: &Mount,
    token: &str,
) -> Result<Principal, Refusal> {
    let reviewed = settings.tokens.authenticate(token, &settings.mount_audience).await;
    let who = reviewed.map_err(|refused| match refused {
        TokenRefused::Unavailable(_) => Refusal::new(Reason::Unavailable, refused.to_string()),
        _ => Refusal::new(Reason::TokenRejected, refused.to_string()),
    })?;
    let no = |what: &str| Err(Refusal::new(Reason::TokenRejected, format!("the pod's token {what}")));
    let (Some(account), Some(pod)) = (who.account(), who.pod()) else {
        return no("is not bound to a pod");
    };
    if failpoint::guard("node-bound-stream") && pod.node.as_deref() != Some(node) {
        return no(&format!("is not bound to node {node}, from which it came"));
    }
    let another =
        pod.uid != mount.pod_uid || pod.name != mount.pod_name || account.namespace != mount.pod_namespace;
    if failpoint::guard("pod-bound-token") && another {
        return no("belongs to another pod than the volume");
    }
    if account.name != mount.service_account {
        return no("belongs to another ServiceAccount than the volume's pod");
    }
    Ok(who)
}

/// Whether a mount is of a form that can be worked with. What comes from a node is not ours.
pub(super) fn well_formed(mount: &Mount) -> Result<(), String> {
    let texts = [
        ("pod_uid", &mount.pod_uid),
        ("volume", &mount.volume),
        ("pod_namespace", &mount.pod_namespace),
        ("pod_name", &mount.pod_name),
        ("service_account", &mount.service_account),
    ];
    let known = if mount.manifest_lost { &texts[..2] } else { &texts[..] };
    for (name, text) in known {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return Err(format!("{name} must have 1 to {TEXT_BYTES_MAX} bytes, not {}", text.len()));
        }
    }
    if mount.mount_id != format!("{}/{}", mount.pod_uid, mount.volume) {
        return Err("mount_id must be <pod_uid>/<volume>".to_owned());
    }
    let bytes: usize = mount.attributes.iter().map(|(key, value)| key.len() + value.len()).sum();
    if mount.attributes.len() > ATTRIBUTES_MAX || bytes > ATTRIBUTE_BYTES_MAX {
        return Err(format!(
            "a volume has at most {ATTRIBUTES_MAX} attributes of {ATTRIBUTE_BYTES_MAX} bytes together"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::node::from_node::Message;

    fn mount() -> Mount {
        Mount {
            mount_id: "uid-1/orders-db".into(),
            pod_namespace: "shop".into(),
            pod_name: "orders-0".into(),
            pod_uid: "uid-1".into(),
            volume: "orders-db".into(),
            service_account: "orders-api".into(),
            ..Mount::default()
        }
    }

    #[test]
    fn a_mount_names_pod_volume_and_an_id_made_of_both() {
        let wrong = |change: fn(&mut Mount)| {
            let mut mount = mount();
            change(&mut mount);
            well_formed(&mount).is_err()
        };
        assert!(well_formed(&mount()).is_ok());
        assert!(wrong(|mount| mount.mount_id = "uid-2/orders-db".into()));
        assert!(wrong(|mount| mount.pod_namespace.clear()));
        assert!(wrong(|mount| mount.pod_name = "x".repeat(254)));
        assert!(wrong(|mount| drop(mount.attributes.insert("k".into(), "v".repeat(16 * 1024)))));
        assert!(wrong(|mount| mount.attributes = (0..33).map(|n| (n.to_string(), String::new())).collect()));
    }

    proptest! {
        #[test]
        fn whatever_bytes_a_node_sends_are_no_message_or_one_that_is_checked(
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
            flipped in any::<proptest::sample::Index>(),
            bit in 0..8_u8,
        ) {
            use prost::Message as _;

            use crate::wire::node::FromNode;
            let attach = crate::wire::node::Attach { request_id: 7, mount: Some(mount()), pod_token: "t".into() };
            let mut sent = FromNode::from(attach).encode_to_vec();
            let at = flipped.index(sent.len());
            sent[at] ^= 1 << bit;
            for bytes in [bytes, sent] {
                let Ok(FromNode { message: Some(Message::Attach(attach)) }) = FromNode::decode(&*bytes) else {
                    continue;
                };
                let mount = attach.mount.clone().unwrap_or_default();
                if well_formed(&mount).is_ok() {
                    prop_assert_eq!(mount.mount_id, format!("{}/{}", mount.pod_uid, mount.volume));
                    prop_assert!(mount.pod_uid.len() <= TEXT_BYTES_MAX && !mount.pod_uid.is_empty());
                }
            }
        }
    }

    #[test]
    fn of_a_lost_manifest_only_pod_and_volume_are_known() {
        let lost = Mount {
            mount_id: "uid-1/orders-db".into(),
            pod_uid: "uid-1".into(),
            volume: "orders-db".into(),
            manifest_lost: true,
            ..Mount::default()
        };
        assert!(well_formed(&lost).is_ok());
        assert!(well_formed(&Mount { manifest_lost: false, ..lost }).is_err());
    }
}
