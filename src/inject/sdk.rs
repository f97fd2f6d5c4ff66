//! What a program with an AWS SDK is given, so that it speaks to Tidelock as its pod and with no key: two endpoints, a
//! role, a token of the pod's own, and whom to trust. Must not touch a pod that has an AWS identity of its own: a program
//! speaks to AWS by it.

use serde_json::{Value, json};

use super::annotations::is_at_or_below;
use super::attributes::{BUNDLE, CA, CA_BUNDLE_FILE, DRIVER, OUR_CA_FILE, shown};

/// `tidelock.dev/aws-sdk: "true"`, or `profile`.
pub const AWS_SDK: &str = "tidelock.dev/aws-sdk";
/// Written by the webhook: [`INJECTED`] or [`IDENTITY_PRESENT`].
pub const AWS_SDK_STATUS: &str = "tidelock.dev/aws-sdk-status";
/// Written by the webhook: the configuration file of a pod that asks for a profile.
pub const AWS_SDK_CONFIG: &str = "tidelock.dev/aws-sdk-config";

pub const INJECTED: &str = "Injected";
/// The word for it in annotation, event and warning.
pub const IDENTITY_PRESENT: &str = "AwsIdentityPresent";

/// Beside the folder of secrets, in which every name is a secret's.
const FOLDER: &str = "/run/tidelock-aws";
const TOKEN: &str = "token";
const CONFIG: &str = "config";
const TOKEN_SECONDS: u32 = 3600;
/// 0644, as the API server fills it in.
const FILE_MODE: u32 = 420;

/// How programs reach our API, from the server's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub url: String,
    pub region: String,
    pub account: String,
    /// What pods' tokens for it are made for.
    pub audience: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SdkMode {
    /// The program speaks to Tidelock by its environment.
    Environment,
    /// The program speaks to AWS or to nobody by its environment, and to Tidelock by a profile.
    Profile,
}

impl SdkMode {
    pub(super) fn parse(value: &str) -> Result<SdkMode, String> {
        match value.trim() {
            "true" => Ok(SdkMode::Environment),
            "profile" => Ok(SdkMode::Profile),
            other => Err(format!(
                "`{}` is not known; write \"true\", or `profile` for a separate profile, or take the annotation away",
                shown(other)
            )),
        }
    }
}

/// A volume of the pod and where it goes.
pub(super) struct SdkVolume {
    pub(super) name: &'static str,
    /// Its kind, as a field of the volume.
    pub(super) kind: &'static str,
    pub(super) source: Value,
    pub(super) path: String,
}

pub(super) fn volumes(mode: SdkMode, endpoint: &Endpoint) -> [SdkVolume; 2] {
    let token = json!({"serviceAccountToken": {
        "audience": endpoint.audience, "expirationSeconds": TOKEN_SECONDS, "path": TOKEN,
    }});
    let config = json!({"downwardAPI": {"items": [{
        "path": CONFIG,
        "fieldRef": {"apiVersion": "v1", "fieldPath": format!("metadata.annotations['{AWS_SDK_CONFIG}']")},
    }]}});
    let sources = match mode {
        SdkMode::Environment => vec![token],
        SdkMode::Profile => vec![token, config],
    };
    [
        SdkVolume {
            name: "aws-identity",
            kind: "projected",
            source: json!({"defaultMode": FILE_MODE, "sources": sources}),
            path: format!("{FOLDER}/identity"),
        },
        SdkVolume {
            name: "aws-trust",
            kind: "csi",
            source: json!({"driver": DRIVER, "readOnly": true, "volumeAttributes": {BUNDLE: CA}}),
            path: format!("{FOLDER}/trust"),
        },
    ]
}

/// Whether something at `path` would be in the way of these volumes, or they in its.
pub(super) fn is_in_the_way(path: &str) -> bool {
    is_at_or_below(path, FOLDER) || is_at_or_below(FOLDER, path)
}

/// The environment of each container. Never `AWS_ENDPOINT_URL`: it would divert every other service of AWS as well.
pub(super) fn environment(endpoint: &Endpoint, role: &str) -> [(&'static str, String); 9] {
    let trust = format!("{FOLDER}/trust/{CA_BUNDLE_FILE}");
    [
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", endpoint.url.clone()),
        ("AWS_ENDPOINT_URL_STS", endpoint.url.clone()),
        ("AWS_REGION", endpoint.region.clone()),
        ("AWS_DEFAULT_REGION", endpoint.region.clone()),
        ("AWS_ROLE_ARN", role.to_owned()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", format!("{FOLDER}/identity/{TOKEN}")),
        ("AWS_CA_BUNDLE", trust.clone()),
        ("SSL_CERT_FILE", trust),
        // Node adds to the public roots what others take in their place.
        ("NODE_EXTRA_CA_CERTS", format!("{FOLDER}/trust/{OUR_CA_FILE}")),
    ]
}

/// The configuration file with the profile `tidelock`. Some SDKs look for the service under the one spelling, some under
/// the other.
pub(super) fn config(endpoint: &Endpoint, role: &str) -> String {
    let Endpoint { url, region, .. } = endpoint;
    format!(
        "[profile tidelock]\n\
         role_arn = {role}\n\
         web_identity_token_file = {FOLDER}/identity/{TOKEN}\n\
         region = {region}\n\
         ca_bundle = {FOLDER}/trust/{CA_BUNDLE_FILE}\n\
         services = tidelock\n\
         \n\
         [services tidelock]\n\
         secrets_manager =\n  endpoint_url = {url}\n\
         secrets-manager =\n  endpoint_url = {url}\n\
         sts =\n  endpoint_url = {url}\n"
    )
}

/// The role of the pod's ServiceAccount; a token gets this one and no other.
pub(super) fn role(pod: &Value, namespace: &str, endpoint: &Endpoint) -> String {
    let named = pod["spec"]["serviceAccountName"].as_str().filter(|name| !name.is_empty());
    format!("arn:aws:iam::{}:role/{namespace}/{}", endpoint.account, named.unwrap_or("default"))
}

/// What gives a program an AWS identity, an endpoint, or a file that may hold either.
const OWN: [&str; 10] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    // With it an SDK would take our token to AWS.
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];
const OWN_PREFIXES: [&str; 2] = ["AWS_CONTAINER_CREDENTIALS_", "AWS_ENDPOINT_URL"];
/// Those of EKS: its webhooks give pods tokens for them.
const OWN_AUDIENCES: [&str; 2] = ["sts.amazonaws.com", "pods.eks.amazonaws.com"];

/// What of the pod speaks of an AWS identity, endpoint or trust of its own, in words; what we would write ourselves, and
/// have perhaps written, does not. A variable counts in whichever container it stands.
pub(super) fn own_identity<'a>(
    pod: &Value,
    containers: impl Iterator<Item = (&'a str, &'a [Value])>,
    environment: &[(&'static str, String)],
) -> Option<String> {
    for (container, variables) in containers {
        let is_own = |variable: &&Value| {
            let name = variable["name"].as_str().unwrap_or_default();
            match environment.iter().find(|(ours, _)| *ours == name) {
                Some((_, value)) => variable["value"] != **value,
                None => OWN.contains(&name) || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)),
            }
        };
        if let Some(name) = variables.iter().find(is_own).and_then(|variable| variable["name"].as_str()) {
            return Some(format!("{} in container {}", shown(name), shown(container)));
        }
    }
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let sources = volumes.flat_map(|volume| volume["projected"]["sources"].as_array().into_iter().flatten());
    let mut audiences = sources.filter_map(|source| source["serviceAccountToken"]["audience"].as_str());
    let audience = audiences.find(|audience| OWN_AUDIENCES.contains(audience))?;
    Some(format!("a token for {audience}"))
}
