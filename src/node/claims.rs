//! What a pod's token says of its ServiceAccount. Must not be taken for a proof: nobody has looked at the signature.
//!
//! The token has come from kubelet, over the socket that only root may use, as pod info has. That is what the trust
//! window rests on. Pod info lacks the ServiceAccount's uid, which tells namesakes apart: a namespace that was deleted
//! and made anew has another `default`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::request::{Asked, Publication};

#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    pod: Object,
    serviceaccount: Object,
}

#[derive(Deserialize)]
struct Object {
    name: String,
    uid: String,
}

/// The uid of the ServiceAccount, if the token says of the pod all that kubelet says of it.
pub fn account_uid(publication: &Publication) -> Option<String> {
    let Asked::Secret { token, .. } = &publication.asked else { return None };
    let text = token.split('.').nth(1)?;
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let Kubernetes { namespace, pod, serviceaccount } = claims.kubernetes;
    let is_the_pods = namespace == publication.pod.namespace
        && pod.name == publication.pod.name
        && pod.uid == publication.target.pod_uid()
        && serviceaccount.name == publication.pod.service_account;
    (is_the_pods && !serviceaccount.uid.is_empty()).then_some(serviceaccount.uid)
}
