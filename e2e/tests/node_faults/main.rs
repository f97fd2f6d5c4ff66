//! What mounted files live through on their nodes: two hundred pods that come and go, an upgrade of the agents, a node
//! that is cut off, power cuts of it and of the server's node. One cluster for all; the server lives on its third node.
//! Must not look into Tidelock.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "rows of the table of faults, and what was measured")]

mod evidence;
mod leaks;
mod outage;
mod partition;

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};
use tidelock_e2e::shop::{NAMESPACE, Shop};
use tidelock_e2e::{Options, install, reading};

/// For what takes a rotation, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(400);
const VALUE: &str = "/run/tidelock/orders-db/value";
const PASSWORD: &str = "/run/tidelock/orders-db/password";
/// The node that the server lives on.
const SERVER: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn mounted_files_outlive_upgrades_and_reboots_and_nothing_leaks() {
    let shop = Shop::with_store_on(SERVER, Options::nodes(3)).await.unwrap();
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
    partition::a_node_is_cut_off(&shop, 2).await;
    mark("a node cut off");
    outage::a_node_loses_its_power(&shop, 2).await;
    mark("a node killed");
    outage::the_server_s_node_loses_its_power(&shop).await;
    mark("the server's node killed");
}

fn name_on(node: usize) -> String {
    format!("reader-{node}")
}

fn reader_on(shop: &Shop, node: usize) -> Value {
    reading::reads(on_node(shop, &name_on(node), node), VALUE)
}

fn on_node(shop: &Shop, name: &str, node: usize) -> Value {
    // Nobody takes it away while its node does not answer.
    let place = json!({"nodeName": shop.cluster.node(node).name(), "tolerations": [{"operator": "Exists"}]});
    shop.pod(name, "orders-db", "orders-db", place)
}

/// No node has the new image at first, so the node that is the first has no agent until it comes. Meanwhile a new version
/// is made.
async fn both_containers_are_upgraded(shop: &Shop) {
    let upgraded = "tidelock.test/upgraded:1";
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
    let without = without_agent(shop, upgraded).await;
    let reader = shop.running(&name_on(without)).await.unwrap();
    let old = shop.file(&name_on(without), PASSWORD).await.unwrap();
    let others: Vec<usize> = (1..=3).filter(|other| *other != without).collect();
    rotates(shop, "while-upgrading", &others).await;
    assert_eq!(shop.file(&name_on(without), PASSWORD).await.unwrap(), old, "there is no agent");
    shop.cluster.name_image(&shop.image, upgraded).await.unwrap();
    shop.changed(&name_on(without), PASSWORD, &old, PATIENCE).await.unwrap();
    let words = ["-n", install::NAMESPACE, "rollout", "status", "daemonset/tidelock-node", "--timeout=240s"];
    shop.cluster.kubectl(&words).await.unwrap();
    install::ready(&shop.cluster).await.unwrap();
    for pod in shop.own_pods("node").await.unwrap() {
        let images = pod.spec.unwrap().containers.into_iter().map(|container| container.image);
        assert_eq!(images.collect::<Vec<_>>(), [Some(upgraded.to_owned()), Some(upgraded.to_owned())]);
    }
    let waited = evidence::changed_after_return(shop, without, &reader).await;
    let reads = all_missed_nothing(shop).await;
    rotates(shop, "upgraded", &[1, 2, 3]).await;
    println!(
        "fault: both containers of all agents upgraded | three pods reading without a pause | {reads} readings, each a \
         whole value; a version made while an agent was away in the files {waited:.1} s after its stream, the next in all"
    );
}

/// The number of the node whose new agent waits for its image.
async fn without_agent(shop: &Shop, image: &str) -> usize {
    let waits = |pod: &Pod| {
        let wanted = |found: &Container| found.image.as_deref() == Some(image);
        let is_new = pod.spec.as_ref().is_some_and(|spec| spec.containers.iter().all(wanted));
        let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let mut reasons =
            containers.filter_map(|one| one.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
        let no_image = reasons.any(|reason| reason == "ErrImagePull" || reason == "ImagePullBackOff");
        is_new && no_image
    };
    let found = async || {
        let agents = shop.own_pods("node").await.ok()?;
        let name = agents.into_iter().find(waits)?.spec?.node_name?;
        (1..=3).find(|node| shop.cluster.node(*node).name() == name)
    };
    shop.cluster.wait_for("an agent's new pod to wait for its image", PATIENCE, found).await.unwrap()
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
