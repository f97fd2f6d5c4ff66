//! A node that is cut off while its pods go on: nobody says that they have what they cannot have, and on its return all
//! is told.

use std::time::Instant;

use serde_json::Value;
use tidelock_e2e::shop::Shop;

use super::outage::{empties, leaver, nothing_of, settled};
use super::{PASSWORD, PATIENCE, all_missed_nothing, evidence, force_delete, name_on};

/// The cable is pulled. Meanwhile a new version is made, and a pod of the node is deleted by force.
pub async fn a_node_is_cut_off(shop: &Shop, victim: usize) {
    let node = shop.cluster.node(victim);
    let (leaver, left) = leaver(shop, victim).await;
    let reader = shop.running(&name_on(victim)).await.unwrap();
    let old = shop.file(&name_on(1), PASSWORD).await.unwrap();
    empties(shop, victim).await;
    let before = shop.status("orders-db").await.unwrap()["currentVersion"].clone();

    node.partition().unwrap();
    let cut = Instant::now();
    force_delete(shop, &leaver).await;
    shop.rotate("orders-db", &format!("while-{victim}-is-cut-off")).await.unwrap();
    let unknown = until_unknown(shop, &before).await;
    println!(
        "{:.0} s after the cable was pulled the two pods there are unknown",
        cut.elapsed().as_secs_f32()
    );
    assert_ne!(unknown["currentVersion"], before, "rotated meanwhile");
    kubernetes_gives_up(shop, &node.name()).await;
    let status = shop.status("orders-db").await.unwrap();
    assert_eq!(status["consumers"], unknown["consumers"], "the deleted pod still counts");
    for uid in [&reader, &left] {
        let script = format!("cat /var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~csi/*/mount/password");
        assert_eq!(node.run("sh", &["-c", &script]).await.unwrap(), old, "the files there are as they were");
    }
    println!(
        "fault: node cut off | new version meanwhile, one pod deleted by force | its two pods unknown, never current, their \
         files as they were"
    );

    node.heal().unwrap();
    shop.cluster.kubectl(&["uncordon", &node.name()]).await.unwrap();
    shop.changed(&name_on(victim), PASSWORD, &old, PATIENCE).await.unwrap();
    settled(shop).await;
    nothing_of(shop, victim, &left).await;
    let waited = evidence::changed_after_return(shop, victim, &reader).await;
    let reads = all_missed_nothing(shop).await;
    println!(
        "fault: node cut off | it comes back | new version in the files {waited:.1} s after the stream, the deleted pod \
         counts no more and its volume is gone, {reads} whole readings"
    );
}

/// Looks on until the two pods of the node are unknown. At no moment may one of them count as holding what was made since.
async fn until_unknown(shop: &Shop, before: &Value) -> Value {
    let look = async || {
        let status = shop.status("orders-db").await.ok()?;
        let count = |what: &str| status["consumers"][what].as_u64();
        assert_eq!(count("total"), Some(4), "{status}");
        assert!(status["currentVersion"] == *before || count("current") <= Some(2), "{status}");
        (count("unknown") == Some(2) && count("current") == Some(2)).then_some(status)
    };
    let what = "the node's two pods to be unknown, and the others to have the new version";
    shop.cluster.wait_for(what, PATIENCE, look).await.unwrap()
}

/// Kubernetes' own word that it hears nothing of the node.
async fn kubernetes_gives_up(shop: &Shop, node: &str) {
    let words = ["get", "node", node, "-o", "jsonpath={.spec.taints[*].key}"];
    let tainted = async || {
        let taints = shop.cluster.kubectl(&words).await.ok()?;
        taints.contains("node.kubernetes.io/unreachable").then_some(())
    };
    shop.cluster.wait_for("the node to be tainted as unreachable", PATIENCE, tainted).await.unwrap();
}
