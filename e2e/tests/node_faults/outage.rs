//! A node that goes down and comes back on its old disk.

use std::time::Instant;

use serde_json::Value;
use tidelock_e2e::shop::Shop;

use super::{PASSWORD, PATIENCE, all_missed_nothing, force_delete, name_on, on_node};

/// Power cut and reboot. Meanwhile a new version is made, and a pod of the node is deleted by force.
pub async fn a_node_loses_its_power(shop: &Shop, victim: usize) {
    let node = shop.cluster.node(victim);
    let leaver = format!("leaver-{victim}");
    shop.apply(&[on_node(shop, &leaver, victim)]).await.unwrap();
    let uid = shop.running(&leaver).await.unwrap();
    let total = |status: &Value| status["consumers"]["total"] == 4 && status["consumers"]["current"] == 4;
    shop.status_is("orders-db", "four consumers", total).await.unwrap();
    let old = shop.file(&name_on(1), PASSWORD).await.unwrap();
    // No rotation of ours may be on the node as well: that is another test's.
    shop.cluster.kubectl(&["cordon", &node.name()]).await.unwrap();
    no_rotation_runs(shop).await;

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
    let settled = |status: &Value| status["consumers"]["total"] == 3 && status["consumers"]["current"] == 3;
    shop.status_is("orders-db", "three consumers with the new version", settled).await.unwrap();
    nothing_of(shop, victim, &uid).await;
    let reads = all_missed_nothing(shop).await;
    println!(
        "fault: node killed and rebooted | new version meanwhile, one pod deleted | files back with it {:.0} s after the boot, \
         the deleted pod's volume gone, {reads} whole readings",
        files.as_secs_f32()
    );
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

async fn nothing_of(shop: &Shop, node: usize, uid: &str) {
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
