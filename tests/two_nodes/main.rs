//! Two nodes with pods on both: what a node may, how fast a right ends, and what outlives the agent's death.
//! One cluster for all of it. Must not look into Tidelock, but for the stream that a hostile node speaks.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "what was measured is shown")]

mod faults;
mod hostile;
mod revocation;
mod uninstall;

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tidelock_e2e::install;
use tidelock_e2e::shop::{NAMESPACE, PATIENCE, Shop};

const FOLDER: &str = "/run/tidelock/orders-db";
const VALUE: &str = "/run/tidelock/orders-db/value";
const PASSWORD: &str = "/run/tidelock/orders-db/password";
/// Promised between a change, or the return of a node's stream, and the files.
const PROMISED: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_keep_to_their_own_and_pods_keep_their_files() {
    let shop = Shop::open_with(tidelock_e2e::Options::nodes(2), &["server.recheckEvery=10s"]).await.unwrap();
    shop.login("orders-db").await.unwrap();
    shop.schedule("orders-db").await.unwrap();
    shop.status_is("orders-db", "a version", |status| status["currentVersion"].is_string()).await.unwrap();
    let begun = Instant::now();
    let mark = |what: &str| println!("{:5.1} s: {what}", begun.elapsed().as_secs_f32());
    hostile::a_node_has_no_say_over_another_node_s_pods(&shop).await;
    mark("a hostile node");
    a_pod_in_a_user_namespace_of_its_own_reads_its_files(&shop).await;
    mark("hostUsers: false");
    revocation::a_right_that_ends_takes_the_files_in_time(&shop).await;
    mark("revocation");
    faults::files_outlive_agent_mounter_and_server(&shop).await;
    mark("dead agents");
    revocation::a_deleted_secret_leaves_running_pods_their_files(&shop).await;
    mark("scheduled deletion");
    faults::nothing_is_left_on_the_nodes(&shop).await;
    mark("nothing left");
    uninstall::a_namespace_that_a_forced_uninstall_strands_can_be_freed(&shop).await;
    mark("forced uninstall");
}

async fn a_pod_in_a_user_namespace_of_its_own_reads_its_files(shop: &Shop) {
    let user = json!({"hostUsers": false, "securityContext": {"runAsUser": 1000, "runAsNonRoot": true, "fsGroup": 2000}});
    shop.apply(&[
        shop.pod("apart", "orders-db", "orders-db", json!({"hostUsers": false})),
        shop.pod("apart-user", "orders-db", "orders-db", user),
    ])
    .await
    .unwrap();
    let pods = ["apart", "apart-user"];
    let mut old = String::new();
    for pod in pods {
        shop.running(pod).await.unwrap();
        let map =
            shop.cluster.exec(NAMESPACE, pod, None, &["cat", "/proc/self/uid_map"]).await.unwrap().stdout;
        let outside = map.split_whitespace().nth(1).map(str::to_owned);
        assert!(
            outside.is_some_and(|first| first != "0"),
            "{pod} is in the node's own user namespace: {map}"
        );
        old = shop.file(pod, PASSWORD).await.unwrap();
        assert!(!old.is_empty());
    }
    shop.rotate("orders-db", "apart").await.unwrap();
    for pod in pods {
        shop.changed(pod, PASSWORD, &old, PATIENCE).await.unwrap();
    }
    let words = ["stat", "-L", "-c", "%a %u %g", PASSWORD];
    let seen = shop.cluster.exec(NAMESPACE, "apart-user", None, &words).await.unwrap().stdout;
    println!("in a user namespace the files look like: {}", seen.trim());
    delete(shop, &pods).await;
}

/// A pod's spec that lies on one node.
fn on_node(shop: &Shop, index: usize, mut more: Value) -> Value {
    more["nodeName"] = json!(shop.cluster.node(index).name());
    more
}

/// The agent's pod of a node.
async fn agent_on(shop: &Shop, index: usize) -> String {
    agent(shop, index).await.metadata.name.unwrap()
}

async fn agent(shop: &Shop, index: usize) -> Pod {
    let node = shop.cluster.node(index).name();
    let pods = shop.own_pods("node").await.unwrap();
    let found = pods
        .into_iter()
        .find(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(&node));
    found.expect("an agent runs on each node")
}

async fn delete(shop: &Shop, pods: &[&str]) {
    shop.cluster.kubectl(&[&["-n", NAMESPACE, "delete", "pod"], pods].concat()).await.unwrap();
}

/// Ends a pod's container from inside and waits until kubelet has started it again.
async fn restart_container(shop: &Shop, pod: &str) {
    let count = async || {
        let words = [
            "-n",
            NAMESPACE,
            "get",
            "pod",
            pod,
            "-o",
            "jsonpath={.status.containerStatuses[0].restartCount}",
        ];
        shop.cluster.kubectl(&words).await.ok()?.parse::<u32>().ok()
    };
    let before = count().await.unwrap();
    // Its own process may be the first to end.
    let _ = shop.cluster.exec(NAMESPACE, pod, None, &["kill", "1"]).await;
    let again = async || count().await.filter(|now| *now > before);
    shop.cluster.wait_for(&format!("the container of {pod} to start again"), PATIENCE, again).await.unwrap();
    shop.running(pod).await.unwrap();
}

/// Scales the server and waits until it is so.
async fn servers(shop: &Shop, replicas: usize) {
    let words =
        ["-n", install::NAMESPACE, "scale", "statefulset/tidelock-server", &format!("--replicas={replicas}")];
    shop.cluster.kubectl(&words).await.unwrap();
    let so = async || {
        let pods = shop.own_pods("server").await.ok()?;
        (pods.len() == replicas && pods.iter().all(install::is_ready)).then_some(())
    };
    shop.cluster.wait_for("the server to be scaled", PATIENCE, so).await.unwrap();
}
