//! The chart and the manifests without Helm, judged by a real API server and real Helm. No pods run here.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use serde_json::Value;
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
    for forbidden in [
        ["get", "secrets", "-n", "shop"],
        ["list", "secrets", "-n", NAMESPACE],
        ["get", "secrets/other", "-n", NAMESPACE],
        ["delete", "secrets/tidelock-root-key", "-n", NAMESPACE],
        ["update", "secrets/tidelock-root-key", "-n", NAMESPACE],
        ["create", "jobs.batch", "-n", "shop"],
        ["create", "pods", "-n", "shop"],
        ["create", "pods/exec", "-n", "shop"],
        ["create", "serviceaccounts/token", "-n", "shop"],
        ["update", "managedsecrets.tidelock.dev", "-n", "shop"],
        ["reveal", "managedsecrets.tidelock.dev/value", "-n", "shop"],
        ["impersonate", "users", "-n", "shop"],
    ] {
        assert!(!can(cluster, server, &forbidden).await, "the server may {forbidden:?}");
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

/// What runs with more than the level `restricted` allows, and why it must: see decision 8 in ARCHITECTURE.md.
const EXCEPTIONS: [&str; 2] = ["tidelock-node/agent", "tidelock-node/mounter"];

async fn restricted_but_for_the_named(cluster: &Cluster) {
    let mut seen = 0;
    for workload in objects(cluster, "statefulsets,daemonsets,deployments,jobs").await {
        let name = workload["metadata"]["name"].as_str().unwrap();
        let pod = &workload["spec"]["template"]["spec"];
        for container in pod["containers"].as_array().unwrap() {
            seen += 1;
            let place = format!("{name}/{}", container["name"].as_str().unwrap());
            let context = &container["securityContext"];
            assert_eq!(context["readOnlyRootFilesystem"], true, "{place}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{place} has no limit of memory");
            let restricted = context["allowPrivilegeEscalation"] == false
                && context["runAsNonRoot"] == true
                && context["capabilities"]["drop"] == serde_json::json!(["ALL"])
                && context["capabilities"]["add"].is_null()
                && context["seccompProfile"]["type"] == "RuntimeDefault";
            assert_eq!(restricted, !EXCEPTIONS.contains(&place.as_str()), "{place}: {context}");
            if place != "tidelock-node/mounter" {
                assert_ne!(context["privileged"], true, "{place}");
            }
        }
    }
    assert_eq!(seen, 3);
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
async fn values_that_the_chart_does_not_know_are_refused() {
    let cluster = Cluster::api_only().await.unwrap();
    for (setting, named) in [
        ("stroe.volume.size=2Gi", "stroe"),
        ("account=12", "account"),
        ("region=Europe", "region"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("node.kubeletDir=var/lib/kubelet", "kubeletDir"),
    ] {
        let refused = helm_install(&cluster, &[setting]).await.unwrap_err();
        assert!(format!("{refused:#}").contains(named), "{setting}: {refused:#}");
    }
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
