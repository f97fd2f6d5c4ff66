//! The chart and the manifests without Helm, judged by a real API server and real Helm. No pods run here.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tidelock_e2e::install::{NAMESPACE, RELEASE};
use tidelock_e2e::{Cluster, Options, generate};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

async fn api_server() -> Cluster {
    Cluster::start(Options::api_only().with_controllers()).await.unwrap()
}

/// Installs without hooks, which need pods to run.
async fn helm_install(cluster: &Cluster, settings: &[&str]) -> anyhow::Result<String> {
    let chart = format!("{ROOT}/charts/tidelock");
    let mut arguments =
        vec!["install", RELEASE, &chart, "--namespace", NAMESPACE, "--create-namespace", "--no-hooks"];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    cluster.helm(&arguments).await
}

async fn objects(cluster: &Cluster, kinds: &str) -> Vec<Value> {
    let text =
        cluster.kubectl(&["get", kinds, "-A", "-l", "app.kubernetes.io/name=tidelock", "-o", "json"]).await;
    let list: Value = serde_json::from_str(&text.unwrap()).unwrap();
    list["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_files_are_what_generate_writes() {
    for (path, text) in generate::files().await.unwrap() {
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(there == text, "{} is not what `make generate` writes: run it", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_installs_with_no_values_and_hints_at_a_missing_storage_class() {
    let cluster = api_server().await;
    let notes = helm_install(&cluster, &[]).await.unwrap();
    assert!(notes.contains("no default StorageClass"), "{notes}");
    assert!(notes.contains("tidelock-root-key"), "{notes}");
    least_rights(&cluster).await;
    restricted_but_for_the_named(&cluster).await;
    ports_apart(&cluster).await;
    let refused = cluster.kubectl(&["get", "pdb", "-A", "--no-headers"]).await.unwrap();
    assert_eq!(refused, "", "a PodDisruptionBudget at one replica would block drains");
}

async fn can(cluster: &Cluster, account: &str, question: &[&str]) -> bool {
    let user = format!("--as=system:serviceaccount:{NAMESPACE}:{account}");
    let mut arguments = vec!["auth", "can-i", &user];
    arguments.extend(question);
    // Exit 1 is kubectl's way to say no.
    cluster.kubectl(&arguments).await.is_ok_and(|answer| answer.trim() == "yes")
}

async fn least_rights(cluster: &Cluster) {
    cluster.kubectl(&["create", "namespace", "shop"]).await.unwrap();
    let server = "tidelock-server";
    let own = ["-n", NAMESPACE];
    assert!(can(cluster, server, &["get", "secrets/tidelock-root-key", own[0], own[1]]).await);
    assert!(can(cluster, server, &["create", "tokenreviews.authentication.k8s.io"]).await);
    // What follows a slash is a name to kubectl, never a subresource.
    let forbidden: [&[&str]; 12] = [
        &["get", "secrets", "-n", "shop"],
        &["list", "secrets", "-n", NAMESPACE],
        &["get", "secrets/other", "-n", NAMESPACE],
        &["delete", "secrets/tidelock-root-key", "-n", NAMESPACE],
        &["update", "secrets/tidelock-root-key", "-n", NAMESPACE],
        &["create", "jobs.batch", "-n", "shop"],
        &["create", "pods", "-n", "shop"],
        &["create", "pods", "--subresource=exec", "-n", "shop"],
        &["create", "serviceaccounts", "--subresource=token", "-n", "shop"],
        &["update", "managedsecrets.tidelock.dev", "-n", "shop"],
        &["reveal", "managedsecrets.tidelock.dev", "--subresource=value", "-n", "shop"],
        &["impersonate", "users", "-n", "shop"],
    ];
    for forbidden in forbidden {
        assert!(!can(cluster, server, forbidden).await, "the server may {forbidden:?}");
    }
    for verb in ["get", "list", "create"] {
        for kind in ["pods", "secrets", "nodes", "managedsecrets.tidelock.dev"] {
            assert!(
                !can(cluster, "tidelock-node", &[verb, kind, "-n", "shop"]).await,
                "an agent may {verb} {kind}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ready_roles_hold_what_their_names_say_and_no_reader_reveals() {
    let cluster = api_server().await;
    helm_install(&cluster, &[]).await.unwrap();
    cluster.kubectl(&["create", "namespace", "shop"]).await.unwrap();
    let roles = ["tidelock-reader", "tidelock-operator", "tidelock-admin", "view", "edit"];
    for role in roles {
        let (role_flag, user_flag) = (format!("--clusterrole={role}"), format!("--user={role}"));
        let words = ["create", "rolebinding", role, "-n", "shop", &role_flag, &user_flag];
        cluster.kubectl(&words).await.unwrap();
    }
    let may = async |role: &str, verb: &str, resource: &str, namespace: &str| {
        let (name, sub) = resource.split_once('/').unwrap_or((resource, ""));
        let (resource, sub) = (format!("{name}.tidelock.dev"), format!("--subresource={sub}"));
        let user = format!("--as={role}");
        let words = ["auth", "can-i", verb, &resource, &sub, "-n", namespace, &user];
        // Exit 1 is kubectl's way to say no.
        cluster.kubectl(&words).await.is_ok_and(|answer| answer.trim() == "yes")
    };
    // The controller that aggregates may take a moment.
    tidelock_e2e::wait_for("the reader's rights to be in view", Duration::from_secs(30), async || {
        may("view", "list", "managedsecrets", "shop").await.then_some(())
    })
    .await
    .unwrap();
    // Of reader, operator, admin, view and edit: who may.
    for (verb, resource, who) in [
        ("get", "managedsecrets", [true; 5]),
        ("watch", "rotationschedules", [true; 5]),
        ("restore", "managedsecrets", [false, true, true, false, false]),
        ("rotate", "managedsecrets/rotation", [false, true, true, false, false]),
        ("cancel", "managedsecrets/rotation", [false, true, true, false, false]),
        ("readpolicy", "managedsecrets/policy", [false, true, true, false, false]),
        ("writepolicy", "managedsecrets/policy", [false, false, true, false, false]),
        ("patch", "managedsecrets", [false, false, true, false, false]),
        ("create", "managedsecrets", [false, false, true, false, false]),
        ("delete", "rotationschedules", [false, false, true, false, false]),
        ("reveal", "managedsecrets/value", [false, false, true, false, false]),
        ("project", "managedsecrets/value", [false, false, true, false, false]),
        ("put", "managedsecrets/value", [false, false, true, false, false]),
        ("stage", "managedsecrets/value", [false, false, true, false, false]),
        ("get", "managedsecrets/value", [false; 5]),
    ] {
        for (role, expected) in roles.into_iter().zip(who) {
            assert_eq!(may(role, verb, resource, "shop").await, expected, "{role}: {verb} {resource}");
        }
    }
    // kubectl asks about no resource that the API server does not serve.
    let reviews: Api<SubjectAccessReview> = Api::all(cluster.client());
    for (role, verb) in
        roles.into_iter().flat_map(|role| ["create", "list", "delete"].map(|verb| (role, verb)))
    {
        let asked =
            json!({"group": "tidelock.dev", "resource": "accesskeys", "verb": verb, "namespace": "shop"});
        let review =
            serde_json::from_value(json!({"spec": {"user": role, "resourceAttributes": asked}})).unwrap();
        let answer = reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap();
        assert_eq!(answer.allowed, role == "tidelock-admin", "{role}: {verb} accesskeys");
    }
    assert!(
        !may("tidelock-admin", "reveal", "managedsecrets/value", "default").await,
        "beyond its namespace"
    );
}

/// What runs with more than the level `restricted` allows, and why it must: see decision 8 in ARCHITECTURE.md.
const EXCEPTIONS: [&str; 2] = ["tidelock-node/agent", "tidelock-node/mounter"];

async fn restricted_but_for_the_named(cluster: &Cluster) {
    let mut seen = 0;
    for workload in objects(cluster, "statefulsets,daemonsets,deployments,jobs").await {
        let name = workload["metadata"]["name"].as_str().unwrap();
        let pod = &workload["spec"]["template"]["spec"];
        for container in pod["containers"].as_array().unwrap() {
            seen += 1;
            restricted_unless_named(&format!("{name}/{}", container["name"].as_str().unwrap()), container);
            if container["name"] != "mounter" {
                for probe in ["livenessProbe", "readinessProbe"] {
                    assert!(container[probe]["httpGet"]["path"].is_string(), "{name} has no {probe}");
                }
            }
        }
    }
    assert_eq!(seen, 3);
    // Hooks are not among the installed objects.
    let hooks = rendered(cluster, &["--show-only", "templates/hooks.yaml"]).await;
    let jobs: Vec<&Value> = hooks.iter().filter(|object| object["kind"] == "Job").collect();
    assert_eq!(jobs.len(), 2);
    for job in jobs {
        let name = job["metadata"]["name"].as_str().unwrap();
        restricted_unless_named(&format!("{name}/hook"), &job["spec"]["template"]["spec"]["containers"][0]);
    }
}

fn restricted_unless_named(place: &str, container: &Value) {
    let context = &container["securityContext"];
    assert_eq!(context["readOnlyRootFilesystem"], true, "{place}");
    assert!(container["resources"]["limits"]["memory"].is_string(), "{place} has no limit of memory");
    assert!(container["resources"]["requests"]["cpu"].is_string(), "{place} reserves nothing");
    let restricted = context["allowPrivilegeEscalation"] == false
        && context["runAsNonRoot"] == true
        && context["capabilities"]["drop"] == serde_json::json!(["ALL"])
        && context["capabilities"]["add"].is_null()
        && context["seccompProfile"]["type"] == "RuntimeDefault";
    assert_eq!(restricted, !EXCEPTIONS.contains(&place), "{place}: {context}");
    if place != "tidelock-node/mounter" {
        assert_ne!(context["privileged"], true, "{place}");
    }
}

/// The objects as Helm renders them.
async fn rendered(cluster: &Cluster, arguments: &[&str]) -> Vec<Value> {
    let chart = format!("{ROOT}/charts/tidelock");
    let all = [&["template", RELEASE, &chart, "--namespace", NAMESPACE], arguments].concat();
    let text = cluster.helm(&all).await.unwrap();
    let objects = serde_yaml::from_multiple::<Value>(&text).unwrap();
    objects.into_iter().filter(|object| !object.is_null()).collect()
}

async fn ports_apart(cluster: &Cluster) {
    let policies = objects(cluster, "networkpolicies").await;
    let server = policies.iter().find(|policy| policy["metadata"]["name"] == "tidelock-server").unwrap();
    let rules = server["spec"]["ingress"].as_array().unwrap();
    let rule = |port: &str| rules.iter().find(|rule| rule["ports"][0]["port"] == port).unwrap();
    assert!(rule("webhook")["from"].is_null(), "the API server cannot be selected");
    let agents = &rule("node")["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"];
    assert_eq!(agents, "node");
    assert_eq!(rules.len(), 4, "each port has a rule of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_that_kubectl_applied_are_taken_over_by_the_chart_with_their_objects() {
    let cluster = api_server().await;
    cluster.kubectl(&["apply", "-f", &format!("{ROOT}/crds")]).await.unwrap();
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]).await.unwrap();
    cluster.kubectl(&["create", "namespace", "shop"]).await.unwrap();
    cluster.kubectl(&["apply", "-f", &format!("{ROOT}/config/samples/orders-db.yaml")]).await.unwrap();
    let get =
        ["get", "managedsecret,rotationschedule", "-n", "shop", "-o", "jsonpath={.items[*].metadata.uid}"];
    let before = cluster.kubectl(&get).await.unwrap();

    let refused = format!("{:#}", helm_install(&cluster, &[]).await.unwrap_err());
    assert!(refused.contains("invalid ownership metadata"), "{refused}");
    let chart = format!("{ROOT}/charts/tidelock");
    // The words of docs/installing.md.
    let own = [RELEASE, &chart, "--namespace", NAMESPACE, "--create-namespace", "--no-hooks"];
    cluster.helm(&[&["install", "--take-ownership"], &own[..]].concat()).await.unwrap();
    assert_eq!(cluster.kubectl(&get).await.unwrap(), before, "the objects are the same ones");
    cluster.helm(&[&["upgrade"], &own[..4], &["--no-hooks"]].concat()).await.unwrap();
    cluster.helm(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--no-hooks"]).await.unwrap();
    assert_eq!(cluster.kubectl(&get).await.unwrap(), before, "an uninstall leaves definitions and objects");

    // Installed again without values the chart finds its own definitions.
    let away = async || {
        let words = ["get", "namespace", "tidelock-rotations", "--ignore-not-found", "-o", "name"];
        cluster.kubectl(&words).await.ok()?.trim().is_empty().then_some(())
    };
    cluster.wait_for("the namespace of rotations to be gone", Duration::from_secs(120), away).await.unwrap();
    helm_install(&cluster, &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_the_chart_does_not_know_are_refused() {
    let cluster = Cluster::api_only().await.unwrap();
    for (setting, named) in [
        ("stroe.volume.size=2Gi", "stroe"),
        ("account=12", "account"),
        ("region=Europe", "region"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("log.format=text", "format"),
        ("imagePullSecrets[0].nmae=login", "imagePullSecrets"),
        ("node.kubeletDir=var/lib/kubelet", "kubeletDir"),
    ] {
        let refused = helm_install(&cluster, &[setting]).await.unwrap_err();
        assert!(format!("{refused:#}").contains(named), "{setting}: {refused:#}");
    }
    // The login of a private registry reaches the Jobs that the server makes.
    let private = rendered(&cluster, &["--set", "imagePullSecrets[0].name=login"]).await;
    let server = private.iter().find(|object| object["kind"] == "StatefulSet").unwrap();
    assert_eq!(server["spec"]["template"]["spec"]["imagePullSecrets"][0]["name"], "login");
    let told = server["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
    assert!(told.contains(&Value::from("--image-pull-secret=login")), "{told:?}");
    // Where kubelet keeps its files is said once and holds everywhere.
    let elsewhere = rendered(&cluster, &["--set", "node.kubeletDir=/data/kubelet"]).await;
    let daemons: Vec<&Value> = elsewhere.iter().filter(|object| object["kind"] == "DaemonSet").collect();
    assert_eq!(daemons.len(), 1);
    let text = daemons[0].to_string();
    assert!(
        text.contains("/data/kubelet/plugins/csi.tidelock.dev") && !text.contains("/var/lib/kubelet"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_the_manifests_without_helm() {
    let cluster = api_server().await;
    let config = format!("{ROOT}/config");
    // The namespace and the kinds must be there before what lies in them.
    cluster.kubectl(&["apply", "-k", &format!("{config}/common")]).await.unwrap();
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]).await.unwrap();
    cluster.kubectl(&["apply", "-k", &config]).await.unwrap();
    let again = cluster.kubectl(&["apply", "-k", &config]).await.unwrap();
    assert!(again.lines().all(|line| line.ends_with("unchanged") || line.ends_with("configured")), "{again}");
    cluster.kubectl(&["apply", "-f", &format!("{ROOT}/crds")]).await.unwrap();
}
