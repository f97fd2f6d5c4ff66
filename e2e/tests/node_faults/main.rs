//! What mounted files live through on their nodes: two hundred pods that come and go, an upgrade of the agents, a power
//! cut. One cluster for all; the server lives on its third node. Must not look into Tidelock.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "rows of the table of faults, and what was measured")]

mod leaks;
mod outage;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidelock_e2e::shop::{NAMESPACE, Shop};
use tidelock_e2e::{Options, install, reading};

/// For what takes a rotation, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(400);
const VALUE: &str = "/run/tidelock/orders-db/value";
const PASSWORD: &str = "/run/tidelock/orders-db/password";
#[tokio::test(flavor = "multi_thread")]
async fn mounted_files_outlive_upgrades_and_reboots_and_nothing_leaks() {
    let shop = Shop::with_store_on(3, Options::nodes(3)).await.unwrap();
    install::install(&shop.cluster, &shop.image, &[]).await.unwrap();
    shop.login("orders-db").await.unwrap();
    shop.schedule("orders-db").await.unwrap();
    shop.status_is("orders-db", "a version", |status| status["currentVersion"].is_string()).await.unwrap();
    let begun = Instant::now();
    let mark = |what: &str| println!("{:5.1} s: {what}", begun.elapsed().as_secs_f32());
    leaks::pods_that_come_and_go_leave_nothing(&shop).await;
    mark("pod cycles");
    let readers: Vec<Value> = (1..=3).map(|node| reader_on(&shop, node)).collect();
    shop.apply(&readers).await.unwrap();
    for node in 1..=3 {
        shop.running(&name_on(node)).await.unwrap();
    }
    both_containers_are_upgraded(&shop).await;
    mark("agents upgraded");
    outage::a_node_loses_its_power(&shop, 2).await;
    mark("a node killed");
}

fn name_on(node: usize) -> String {
    format!("reader-{node}")
}

fn reader_on(shop: &Shop, node: usize) -> Value {
    reading::reads(on_node(shop, &name_on(node), node), VALUE)
}

fn on_node(shop: &Shop, name: &str, node: usize) -> Value {
    let place = json!({"nodeName": shop.cluster.node(node).name()});
    shop.pod(name, "orders-db", "orders-db", place)
}

async fn both_containers_are_upgraded(shop: &Shop) {
    let upgraded = "tidelock.test/upgraded:1";
    shop.cluster.name_image(&shop.image, upgraded).await.unwrap();
    let image = |container: &str| format!("{container}={upgraded}");
    let words = [
        "-n",
        install::NAMESPACE,
        "set",
        "image",
        "daemonset/tidelock-node",
        &image("agent"),
        &image("mounter"),
    ];
    shop.cluster.kubectl(&words).await.unwrap();
    let words = ["-n", install::NAMESPACE, "rollout", "status", "daemonset/tidelock-node", "--timeout=240s"];
    shop.cluster.kubectl(&words).await.unwrap();
    install::ready(&shop.cluster).await.unwrap();
    for pod in shop.own_pods("node").await.unwrap() {
        let images = pod.spec.unwrap().containers.into_iter().map(|container| container.image);
        assert_eq!(images.collect::<Vec<_>>(), [Some(upgraded.to_owned()), Some(upgraded.to_owned())]);
    }
    let reads = all_missed_nothing(shop).await;
    rotates(shop, "upgraded", &[1, 2, 3]).await;
    println!(
        "fault: both containers of all agents upgraded | three pods reading without a pause | {reads} readings, each a \
         whole value; the next version in all of them"
    );
}

async fn all_missed_nothing(shop: &Shop) -> u64 {
    let mut reads = 0;
    for node in 1..=3 {
        reads += reading::missed_nothing(shop, &name_on(node)).await.unwrap();
    }
    reads
}

/// Rotates and waits until the readers on these nodes have the new value, which it returns.
async fn rotates(shop: &Shop, request: &str, nodes: &[usize]) -> String {
    let old = shop.file(&name_on(1), PASSWORD).await.unwrap();
    shop.rotate("orders-db", request).await.unwrap();
    let mut new = String::new();
    for node in nodes {
        new = shop.changed(&name_on(*node), PASSWORD, &old, PATIENCE).await.unwrap();
    }
    new
}

/// Force-deletes a pod: the API forgets it at once, whatever its node says.
async fn force_delete(shop: &Shop, pod: &str) {
    let words = ["-n", NAMESPACE, "delete", "pod", pod, "--force", "--grace-period=0"];
    shop.cluster.kubectl(&words).await.unwrap();
}
