//! A node that goes down and comes back on its old disk: one with readers only, and the server's own.

use std::time::Instant;

use serde_json::{Value, json};
use tidelock_e2e::caller::Caller;
use tidelock_e2e::shop::{NAMESPACE, Shop};

use super::{
    PASSWORD, PATIENCE, SERVER, all_missed_nothing, evidence, force_delete, name_on, on_node, rotates,
};

/// Power cut and reboot. Meanwhile a new version is made, and a pod of the node is deleted by force.
pub async fn a_node_loses_its_power(shop: &Shop, victim: usize) {
    let node = shop.cluster.node(victim);
    let (leaver, left) = leaver(shop, victim).await;
    let reader = shop.running(&name_on(victim)).await.unwrap();
    let old = shop.file(&name_on(1), PASSWORD).await.unwrap();
    empties(shop, victim).await;

    node.kill().await.unwrap();
    force_delete(shop, &leaver).await;
    shop.rotate("orders-db", &format!("while-{victim}-is-down")).await.unwrap();
    let others: Vec<usize> = (1..=3).filter(|other| *other != victim).collect();
    for other in &others {
        shop.changed(&name_on(*other), PASSWORD, &old, PATIENCE).await.unwrap();
    }
    // The deleted pod among them: nobody has seen it end.
    let gone = |status: &Value| status["consumers"]["unknown"] == 2 && status["consumers"]["current"] == 2;
    shop.status_is("orders-db", "the node's two consumers as unknown", gone).await.unwrap();
    shop.cluster.start_node(victim).await.unwrap();
    let booted = Instant::now();
    shop.cluster.kubectl(&["uncordon", &node.name()]).await.unwrap();
    for reader in 1..=3 {
        shop.changed(&name_on(reader), PASSWORD, &old, PATIENCE).await.unwrap();
    }
    let files = booted.elapsed();
    shop.running(&name_on(victim)).await.unwrap();
    settled(shop).await;
    nothing_of(shop, victim, &left).await;
    let waited = evidence::mounted_after_return(shop, victim, &reader).await;
    // The node takes part in all again: the rotation may run on it.
    let asked = Instant::now();
    rotates(shop, &format!("{victim}-is-back"), &[1, 2, 3]).await;
    println!("{:.0} s for a rotation after the reboot", asked.elapsed().as_secs_f32());
    let reads = all_missed_nothing(shop).await;
    println!(
        "fault: node killed and rebooted | new version meanwhile, one pod deleted | files back with it {:.0} s after the boot, \
         {waited:.1} s after kubelet and the stream were there, the deleted pod's volume gone, {reads} whole readings",
        files.as_secs_f32()
    );
}

/// Power cut and reboot of the node that the server runs on, beside a pod with a mount.
pub async fn the_server_s_node_loses_its_power(shop: &Shop) {
    let node = shop.cluster.node(SERVER);
    no_rotation_runs(shop).await;
    settled(shop).await;
    let versions = stored_versions(shop).await;
    let value = shop.file(&name_on(1), PASSWORD).await.unwrap();
    let reader = shop.running(&name_on(SERVER)).await.unwrap();

    node.kill().await.unwrap();
    for other in (1..=3).filter(|other| *other != SERVER) {
        assert_eq!(shop.file(&name_on(other), PASSWORD).await.unwrap(), value, "without a server");
    }
    shop.cluster.start_node(SERVER).await.unwrap();
    let booted = Instant::now();
    // What the API has of the pods on the node is from before. These ask the processes themselves.
    let ready = async || evidence::server(shop, "readyz").await.map(drop);
    shop.cluster.wait_for("the server to be ready again", PATIENCE, ready).await.unwrap();
    let served = booted.elapsed();
    assert_eq!(stored_versions(shop).await, versions, "no version is lost");
    let back =
        async || shop.file(&name_on(SERVER), PASSWORD).await.ok().filter(|now| *now == value).map(drop);
    shop.cluster.wait_for("the pod beside the server to have its files", PATIENCE, back).await.unwrap();
    let waited = evidence::mounted_after_return(shop, SERVER, &reader).await;
    let streams = async || {
        evidence::server(shop, "metrics")
            .await?
            .lines()
            .any(|line| line == "tidelock_node_streams 3")
            .then_some(())
    };
    shop.cluster.wait_for("the streams of three nodes", PATIENCE, streams).await.unwrap();

    rotates(shop, "server-is-back", &[1, 2, 3]).await;
    settled(shop).await;
    let received = evidence::received_at_once(shop, 3).await;
    let reads = all_missed_nothing(shop).await;
    println!(
        "fault: server's node killed and rebooted | three pods reading, one beside the server | server ready {:.0} s after \
         the boot with all versions, files back {waited:.1} s after kubelet and the stream were there, {received} pods \
         of 3 with the next version within 5 s of its commit, {reads} whole readings",
        served.as_secs_f32()
    );
}

/// A pod on the node that will be deleted where the node cannot see it. Its name and UID.
pub async fn leaver(shop: &Shop, node: usize) -> (String, String) {
    let name = format!("leaver-{node}");
    shop.apply(&[on_node(shop, &name, node)]).await.unwrap();
    let uid = shop.running(&name).await.unwrap();
    let total = |status: &Value| status["consumers"]["total"] == 4 && status["consumers"]["current"] == 4;
    shop.status_is("orders-db", "four consumers", total).await.unwrap();
    (name, uid)
}

/// No rotation of ours may be on the node as well: that is another test's.
pub async fn empties(shop: &Shop, node: usize) {
    shop.cluster.kubectl(&["cordon", &shop.cluster.node(node).name()]).await.unwrap();
    no_rotation_runs(shop).await;
}

/// Its files are there before its node has told that the pod has ended, and of a pod on a dead node nobody knows.
async fn no_rotation_runs(shop: &Shop) {
    let words = ["-n", "tidelock-rotations", "get", "pods", "-o", "jsonpath={.items[*].status.phase}"];
    let ended = async || {
        let phases = shop.cluster.kubectl(&words).await.ok()?;
        phases.split_whitespace().all(|phase| phase == "Succeeded" || phase == "Failed").then_some(())
    };
    shop.cluster.wait_for("the rotation's pod to have ended", PATIENCE, ended).await.unwrap();
}

/// Waits until the three readers count, and hold the version that is current.
pub async fn settled(shop: &Shop) -> Value {
    let settled = |status: &Value| {
        let consumers = &status["consumers"];
        consumers["total"] == 3 && consumers["current"] == 3 && consumers["unknown"] == 0
    };
    shop.status_is("orders-db", "three consumers with the current version", settled).await.unwrap()
}

pub async fn nothing_of(shop: &Shop, node: usize, uid: &str) {
    let node = shop.cluster.node(node);
    let mut left = String::new();
    let gone = async || {
        let script = format!(
            "grep {uid} /proc/self/mountinfo; ls -d /var/lib/kubelet/pods/{uid}; grep -rl {uid} /run/tidelock/manifests; true"
        );
        left = node.run("sh", &["-c", &script]).await.ok()?;
        left.trim().is_empty().then_some(())
    };
    if let Err(late) = shop.cluster.wait_for("nothing of a pod that is gone to be left", PATIENCE, gone).await
    {
        panic!("{late}\nleft: {left}");
    }
}

/// All versions that the server's store has, also those without stages, and the value that it opens.
async fn stored_versions(shop: &Shop) -> [Value; 2] {
    let caller = Caller::of_api(shop, "orders-db").await.unwrap();
    let id = format!("{NAMESPACE}/orders-db");
    let wanted = json!({"SecretId": id, "IncludeDeprecated": true});
    let (status, listed) = caller.call("ListSecretVersionIds", wanted).await.unwrap();
    assert_eq!(status, 200, "{listed}");
    let (status, value) = caller.reveals(&id).await.unwrap();
    assert_eq!(status, 200);
    [listed["Versions"].clone(), value["SecretString"].clone()]
}
