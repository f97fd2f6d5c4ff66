//! The make targets that keep a cluster for a person, and the demo on a cluster that is not its own.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::path::PathBuf;
use std::process::Command;

use tidelock_e2e::{Cluster, images};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const NAME: &str = "made-by-a-test";

/// Runs `make` at the root of the clone; what it printed, answers first.
fn make(words: &[&str], variables: &[(&str, &str)]) -> (String, String) {
    let mut command = Command::new("make");
    command
        .current_dir(ROOT)
        .args(words)
        .env_remove("KUBECONFIG")
        .env_remove("IMAGE")
        .envs(variables.to_vec());
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (answer, progress) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "make {words:?}:\n{answer}{progress}");
    (answer, progress)
}

/// Takes the cluster away also when the test ends early.
struct Kept;

impl Drop for Kept {
    fn drop(&mut self) {
        let _ =
            Command::new("make").current_dir(ROOT).args(["cluster-down", &format!("NAME={NAME}")]).output();
    }
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_stays_until_it_is_taken_down_and_the_demo_leaves_it_as_it_was() {
    let name = format!("NAME={NAME}");
    let kept = Kept;
    let (answer, progress) = make(&["cluster-up", "NODES=1", &name], &[]);
    says(&progress, &[NAME, "1 nodes Ready in"]);
    let kubeconfig =
        answer.lines().find_map(|line| line.strip_prefix("export KUBECONFIG=")).unwrap().to_owned();
    assert!(PathBuf::from(&kubeconfig).exists(), "{kubeconfig}");
    let (again, progress) = make(&["cluster-up", "NODES=1", &name], &[]);
    says(&progress, &["is up already"]);
    says(&again, &[&kubeconfig]);

    let cluster = Cluster::attach(NAME).await.unwrap().unwrap();
    let (image, busybox) = (images::tidelock().await.unwrap(), images::busybox().await.unwrap());
    cluster.load(&image).await.unwrap();
    cluster.load(&busybox).await.unwrap();
    // As a registry would have it.
    cluster.name_image(&busybox, "docker.io/library/busybox:1.37").await.unwrap();
    cluster.static_volume(1, "tidelock-store", "1Gi").await.unwrap();
    the_demo_comes_and_goes(&cluster, &kubeconfig, &image.name()).await;

    drop(cluster);
    let (_, progress) = make(&["cluster-down", &name], &[]);
    says(&progress, &["is gone"]);
    assert!(!Cluster::names().unwrap().contains(&NAME.to_owned()));
    let (_, progress) = make(&["cluster-down", &name], &[]);
    says(&progress, &["was not running"]);
    std::mem::forget(kept);
}

/// Everything of the cluster that somebody could have made, by name.
async fn inventory(cluster: &Cluster) -> Vec<String> {
    let kinds = "namespaces,crd,clusterroles,clusterrolebindings,csidrivers,mutatingwebhookconfigurations,\
                 validatingadmissionpolicies,validatingadmissionpolicybindings,priorityclasses,pv,storageclasses,\
                 configmaps,secrets,serviceaccounts,roles,rolebindings,deployments,statefulsets,daemonsets";
    let names = cluster.kubectl(&["get", kinds, "-A", "-o", "name"]).await.unwrap();
    let mut names: Vec<String> = names.lines().map(str::to_owned).collect();
    names.sort();
    names
}

async fn the_demo_comes_and_goes(cluster: &Cluster, kubeconfig: &str, image: &str) {
    let somebody = ["create", "namespace", "somebody"];
    cluster.kubectl(&somebody).await.unwrap();
    cluster
        .kubectl(&["-n", "somebody", "create", "configmap", "theirs", "--from-literal=a=b"])
        .await
        .unwrap();
    let settled = async || {
        // The cluster makes these by itself a moment after a namespace.
        let words = ["-n", "somebody", "get", "configmap/kube-root-ca.crt", "serviceaccount/default"];
        cluster.kubectl(&words).await.ok().map(drop)
    };
    cluster.wait_for("the namespace's own objects", tidelock_e2e::shop::PATIENCE, settled).await.unwrap();
    let before = inventory(cluster).await;

    let variables = [("KUBECONFIG", kubeconfig), ("IMAGE", image)];
    let (_, told) = tokio::task::block_in_place(|| make(&["demo"], &variables));
    let (first, story) = told.split_once("install the chart with Helm").unwrap();
    says(
        first,
        &[
            "using the cluster at https://",
            "this will be installed there:",
            "namespace tidelock-system: release tidelock",
        ],
    );
    let shown = [
        "first mounted value:",
        "/run/tidelock/orders-db/password:",
        "the same pod, same UID",
        "asked to changed file",
        "kubectl get managedsecret orders-db -n shop",
        "take it away: make demo-down",
    ];
    says(story, &shown);

    let (_, told) = tokio::task::block_in_place(|| make(&["demo-down"], &variables));
    says(&told, &["remove namespace shop", "remove namespace tidelock-system"]);
    assert_eq!(inventory(cluster).await, before, "the demo leaves what it found, and nothing of its own");
}
