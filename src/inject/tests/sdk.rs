//! Pods with an AWS SDK: what they get, and who keeps what he has.

use super::*;
use crate::inject::sdk::{AWS_SDK_CONFIG, AWS_SDK_STATUS};

fn asking(value: &str) -> Value {
    let mut pod = pod(&[(AWS_SDK, value)]);
    pod["spec"]["serviceAccountName"] = json!("orders-api");
    pod
}

fn variable<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    let all = container["env"].as_array()?;
    all.iter().find(|variable| variable["name"] == name)?["value"].as_str()
}

#[track_caller]
fn kept(pod: &Value, expected: &str) {
    let injection = inject(pod, "shop", &endpoint()).unwrap();
    let why = injection.kept.unwrap_or_else(|| panic!("not kept: {pod}"));
    assert!(why.contains(expected), "`{why}` does not say `{expected}`");
    let status = json!({
        "op": "add", "path": "/metadata/annotations/tidelock.dev~1aws-sdk-status", "value": "AwsIdentityPresent",
    });
    assert_eq!(injection.operations, [status]);
}

#[test]
fn every_container_gets_two_volumes_and_the_environment_of_an_sdk() {
    let pod = patched(&asking("true"));
    let spec = &pod["spec"];
    let token = json!({"serviceAccountToken": {
        "audience": "tidelock.tidelock/api", "expirationSeconds": 3600, "path": "token",
    }});
    assert_eq!(
        spec["volumes"],
        json!([
            {"name": "tidelock-aws-identity", "projected": {"defaultMode": 0o644, "sources": [token]}},
            volume("tidelock-aws-trust", json!({"bundle": "ca"})),
        ])
    );
    for container in [&spec["initContainers"][0], &spec["containers"][0]] {
        assert_eq!(
            container["volumeMounts"],
            json!([
                mount("tidelock-aws-identity", "/run/tidelock-aws/identity"),
                mount("tidelock-aws-trust", "/run/tidelock-aws/trust"),
            ])
        );
        let url = "https://tidelock-server.tidelock.svc:8444";
        let bundle = "/run/tidelock-aws/trust/ca-bundle.crt";
        let expected = [
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", url),
            ("AWS_ENDPOINT_URL_STS", url),
            ("AWS_REGION", "local-1"),
            ("AWS_DEFAULT_REGION", "local-1"),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/shop/orders-api"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/run/tidelock-aws/identity/token"),
            ("AWS_CA_BUNDLE", bundle),
            ("SSL_CERT_FILE", bundle),
            ("NODE_EXTRA_CA_CERTS", "/run/tidelock-aws/trust/ca.crt"),
        ];
        assert_eq!(container["env"].as_array().unwrap().len(), expected.len());
        for (name, value) in expected {
            assert_eq!(variable(container, name), Some(value), "{name}");
        }
    }
    assert_eq!(pod["metadata"]["annotations"][AWS_SDK_STATUS], "Injected");
    assert!(pod["metadata"]["annotations"].get(AWS_SDK_CONFIG).is_none());
}

#[test]
fn the_volumes_are_what_the_node_agent_understands() {
    let pod = patched(&asking("true"));
    let attributes = pod["spec"]["volumes"][1]["csi"]["volumeAttributes"].as_object().unwrap();
    let pairs: Vec<_> =
        attributes.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
    assert_eq!(Content::parse(pairs), Ok(Content::CaBundle));
    let of = |pairs: &[(&'static str, &'static str)]| Content::parse(pairs.to_vec());
    assert!(matches!(of(&[(SECRET, "a")]), Ok(Content::Secret(_))));
    for more in [SECRET, KEYS, MODE, OWNER_UID, "path"] {
        let message = of(&[("bundle", "ca"), (more, "0400")]).unwrap_err().to_string();
        assert!(message.contains("stands alone") && message.contains(more), "{message}");
    }
    assert!(
        of(&[("bundle", "all")]).unwrap_err().to_string().contains("`all` is not known; write `bundle: ca`")
    );
    let of_kubelet = [("bundle", "ca"), ("csi.storage.k8s.io/pod.name", "orders")];
    assert_eq!(of(&of_kubelet), Ok(Content::CaBundle));
}

#[test]
fn a_second_look_adds_nothing_and_serves_containers_that_came_since() {
    for mode in ["true", "profile"] {
        let mut once = patched(&asking(mode));
        assert_eq!(inject(&once, "shop", &endpoint()).unwrap(), Injection::default(), "{mode}");
        let sidecar = json!({"name": "proxy", "image": "p"});
        once["spec"]["containers"].as_array_mut().unwrap().push(sidecar);
        let twice = patched(&once);
        assert_eq!(twice["spec"]["volumes"], once["spec"]["volumes"]);
        let (first, second) = (&twice["spec"]["containers"][0], &twice["spec"]["containers"][1]);
        assert_eq!(first["env"], second["env"], "{mode}");
        assert_eq!(first["volumeMounts"], second["volumeMounts"], "{mode}");
    }
}

#[test]
fn secrets_and_an_identity_go_together_and_into_the_named_containers_only() {
    let both = pod(&[(INJECT, "orders-db"), (AWS_SDK, "true"), ("tidelock.dev/containers", "app")]);
    let placed = patched(&both);
    let spec = &placed["spec"];
    assert_eq!(spec["volumes"].as_array().unwrap().len(), 3);
    assert_eq!(spec["containers"][0]["volumeMounts"].as_array().unwrap().len(), 3);
    // Without a ServiceAccount of its own a pod has the namespace's.
    let role = variable(&spec["containers"][0], "AWS_ROLE_ARN");
    assert_eq!(role, Some("arn:aws:iam::123456789012:role/shop/default"));
    let init = &spec["initContainers"][0];
    assert!(init.get("volumeMounts").is_none() && init.get("env").is_none());
    let asked = inject(&both, "shop", &endpoint()).unwrap().asked;
    assert_eq!(asked.len(), 1, "an identity is no secret that one may or may not have");
}

#[test]
fn what_a_container_has_in_its_environment_stays() {
    let mut had = asking("true");
    had["spec"]["containers"][0]["env"] = json!([{"name": "LOG", "value": "info"}]);
    had["spec"]["volumes"] = json!([{"name": "tidelock-aws-trust", "emptyDir": {}}]);
    let pod = patched(&had);
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["env"].as_array().unwrap().len(), 10);
    assert_eq!(variable(container, "LOG"), Some("info"));
    assert_eq!(pod["spec"]["volumes"][2]["name"], "tidelock-aws-trust-2");
}

#[test]
fn who_has_an_identity_or_an_endpoint_of_his_own_keeps_it() {
    for name in [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL_STS",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_CA_BUNDLE",
        "SSL_CERT_FILE",
        "NODE_EXTRA_CA_CERTS",
    ] {
        let reference = json!({"secretKeyRef": {"name": "aws", "key": "x"}});
        for own in [json!({"name": name, "value": "mine"}), json!({"name": name, "valueFrom": reference})] {
            for list in ["initContainers", "containers"] {
                let mut pod = asking("true");
                pod["spec"][list][0]["env"] = json!([{"name": "LOG", "value": "info"}, own]);
                kept(&pod, name);
                // Also where that container is not one of those that are served.
                pod["metadata"]["annotations"]["tidelock.dev/containers"] = json!("app");
                kept(&pod, name);
            }
        }
    }
    let mut other = asking("true");
    other["spec"]["containers"][0]["env"] = json!([{"name": "AWS_MAX_ATTEMPTS", "value": "5"}]);
    assert_eq!(inject(&other, "shop", &endpoint()).unwrap().kept, None);
}

#[test]
fn what_the_webhooks_of_eks_have_injected_is_kept() {
    for audience in ["sts.amazonaws.com", "pods.eks.amazonaws.com"] {
        let mut pod = asking("true");
        pod["spec"]["volumes"] = json!([{"name": "aws-iam-token", "projected": {"sources": [
            {"serviceAccountToken": {"audience": audience, "expirationSeconds": 86400, "path": "token"}},
        ]}}]);
        kept(&pod, audience);
    }
    // A pod that keeps its own gets the secrets that it asks for.
    let mut pod = pod(&[(INJECT, "orders-db"), (AWS_SDK, "true")]);
    pod["spec"]["containers"][0]["env"] = json!([{"name": "AWS_PROFILE", "value": "prod"}]);
    let placed = patched(&pod);
    assert_eq!(
        placed["spec"]["volumes"],
        json!([volume("tidelock-orders-db", json!({"secret": "orders-db"}))])
    );
    assert_eq!(placed["spec"]["containers"][0]["env"], pod["spec"]["containers"][0]["env"]);
    // A status that somebody has copied decides nothing.
    let mut copied = asking("true");
    copied["metadata"]["annotations"][AWS_SDK_STATUS] = json!("AwsIdentityPresent");
    let placed = patched(&copied);
    assert_eq!(placed["metadata"]["annotations"][AWS_SDK_STATUS], "Injected");
    assert_eq!(placed["spec"]["volumes"].as_array().unwrap().len(), 2);
}

#[test]
fn a_profile_comes_as_a_file_and_leaves_the_environment_alone() {
    let mut asked = asking("profile");
    asked["spec"]["containers"][0]["env"] = json!([{"name": "AWS_PROFILE", "value": "prod"}]);
    let pod = patched(&asked);
    let spec = &pod["spec"];
    assert_eq!(spec["containers"][0]["env"], asked["spec"]["containers"][0]["env"]);
    assert!(spec["initContainers"][0].get("env").is_none());
    let sources = &spec["volumes"][0]["projected"]["sources"];
    assert_eq!(sources[0]["serviceAccountToken"]["path"], "token");
    let item = &sources[1]["downwardAPI"]["items"][0];
    assert_eq!(item["path"], "config");
    assert_eq!(item["fieldRef"]["fieldPath"], "metadata.annotations['tidelock.dev/aws-sdk-config']");
    assert_eq!(spec["containers"][0]["volumeMounts"].as_array().unwrap().len(), 2);
    let url = "https://tidelock-server.tidelock.svc:8444";
    let expected = format!(
        "[profile tidelock]
role_arn = arn:aws:iam::123456789012:role/shop/orders-api
web_identity_token_file = /run/tidelock-aws/identity/token
region = local-1
ca_bundle = /run/tidelock-aws/trust/ca-bundle.crt
services = tidelock

[services tidelock]
secrets_manager =
  endpoint_url = {url}
secrets-manager =
  endpoint_url = {url}
sts =
  endpoint_url = {url}
"
    );
    assert_eq!(pod["metadata"]["annotations"][AWS_SDK_CONFIG], expected);
    assert_eq!(pod["metadata"]["annotations"][AWS_SDK_STATUS], "Injected");
}

#[test]
fn another_word_or_a_refinement_without_a_secret_is_refused_with_what_is_right() {
    for wrong in ["", "false", "True", "yes", "profiles"] {
        refused(&asking(wrong), "annotation `tidelock.dev/aws-sdk`: ");
        refused(&asking(wrong), "write \"true\", or `profile`");
    }
    patched(&asking(" true\n"));
    let lonely = pod(&[(AWS_SDK, "true"), ("tidelock.dev/path.db", "/x")]);
    refused(&lonely, "annotation `tidelock.dev/path.db`: goes with the annotation `tidelock.dev/inject`");
    let unknown = pod(&[(AWS_SDK, "true"), ("tidelock.dev/aws-sdk-role", "x")]);
    refused(&unknown, "is not known; there are tidelock.dev/inject, tidelock.dev/aws-sdk");
    let mut windows = asking("true");
    windows["spec"]["os"] = json!({"name": "windows"});
    refused(&windows, "Linux pods only");
}

#[test]
fn a_place_that_is_taken_is_told() {
    let mut pod = asking("true");
    pod["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "x", "mountPath": "/run/tidelock-aws/trust"}]);
    refused(&pod, "container `app` has something mounted at `/run/tidelock-aws/trust`");
    for path in ["/run/tidelock-aws", "/run/tidelock-aws/trust/x", "/run"] {
        let annotations = [(INJECT, "db"), (AWS_SDK, "true"), ("tidelock.dev/path.db", path)];
        refused(
            &super::pod(&annotations),
            "which the files for programs with an AWS SDK need; set another path",
        );
        // Without an SDK nobody needs that place.
        patched(&super::pod(&[annotations[0], annotations[2]]));
    }
}

proptest! {
    #[test]
    fn whatever_stands_in_a_pod_it_is_refused_kept_or_served_once_and_for_all(
        value in "(true|profile|\\PC{0,6})",
        name in "(AWS_(PROFILE|REGION|ROLE_ARN|ENDPOINT_URL_[A-Z]{0,3})|SSL_CERT_FILE|[A-Z_]{0,8})",
        text in proptest::option::of("(local-1|\\PC{0,6})"),
        path in "(/run/tidelock-aws(/trust|/identity)?(/x)?|/[a-z]{0,4})",
    ) {
        let mut asked = asking(&value);
        asked["spec"]["containers"][0]["env"] = json!([{"name": name, "value": text}]);
        asked["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "x", "mountPath": path}]);
        match inject(&asked, "shop", &endpoint()) {
            Err(refusal) => prop_assert!(!refusal.to_string().contains(char::is_control)),
            Ok(injection) => {
                let once = patched(&asked);
                let again = inject(&once, "shop", &endpoint()).unwrap();
                prop_assert!(again.operations.is_empty());
                prop_assert_eq!(&again.kept, &injection.kept);
                prop_assert_eq!(&once["spec"]["containers"][0]["env"][0], &asked["spec"]["containers"][0]["env"][0]);
                let is_served = once["spec"]["volumes"].is_array();
                prop_assert_eq!(is_served, injection.kept.is_none());
            }
        }
    }
}
