//! The driver gone before the pods, by force, and the two ways out that the README names.

use serde_json::json;
use tidelock_e2e::shop::{NAMESPACE, PATIENCE, Shop};
use tidelock_e2e::{Part, install};

use super::on_node;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/tidelock");

pub async fn a_namespace_that_a_forced_uninstall_strands_can_be_freed(shop: &Shop) {
    shop.login("leaving").await.unwrap();
    shop.apply(&[
        shop.pod("stranded-1", "leaving", "leaving", on_node(shop, 1, json!({}))),
        shop.pod("stranded-2", "leaving", "leaving", on_node(shop, 2, json!({}))),
    ])
    .await
    .unwrap();
    shop.running("stranded-1").await.unwrap();
    shop.running("stranded-2").await.unwrap();

    let uninstall = ["uninstall", install::RELEASE, "--namespace", install::NAMESPACE, "--wait"];
    shop.cluster.helm(&uninstall).await.expect_err("pods still have our volumes");
    let refused =
        shop.cluster.kubectl(&["-n", install::NAMESPACE, "get", "daemonset", "tidelock-node"]).await;
    refused.expect("a refused uninstall leaves everything");
    // As the refusal says: what Helm takes for half uninstalled is whole again, or goes all the same.
    shop.cluster.helm(&["rollback", install::RELEASE, "1", "--namespace", install::NAMESPACE]).await.unwrap();
    install::install(&shop.cluster, &shop.image, &["server.recheckEvery=10s"]).await.unwrap();
    shop.cluster.helm(&[&uninstall[..], &["--no-hooks"]].concat()).await.unwrap();

    shop.cluster.kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"]).await.unwrap();
    for index in [1, 2] {
        let log = shop.cluster.node(index).log(Part::Kubelet);
        let stuck = async || {
            let text = std::fs::read_to_string(&log).ok()?;
            text.contains("csi.tidelock.dev not found in the list of registered CSI drivers").then_some(())
        };
        shop.cluster.wait_for("kubelet to miss the driver", PATIENCE, stuck).await.unwrap();
    }
    assert_eq!(left(shop).await, ["stranded-1", "stranded-2"], "they hang");

    // By hand, as the README says.
    let by_hand = "findmnt --noheadings --raw --source csi.tidelock.dev --output TARGET | \
         while read -r mount; do umount \"$mount\" && rm -r \"${mount%/mount}\"; done";
    shop.cluster.node(1).run("bash", &["-c", by_hand]).await.unwrap();
    shop.cluster.node(1).restart_part(Part::Kubelet).await.unwrap();
    let one = async || (left(shop).await == ["stranded-2"]).then_some(());
    shop.cluster.wait_for("the pod of the node cured by hand to go", PATIENCE, one).await.unwrap();

    drain(shop).await;
    let gone = async || shop.cluster.kubectl(&["get", "namespace", NAMESPACE]).await.is_err().then_some(());
    shop.cluster.wait_for("the namespace to go", PATIENCE, gone).await.unwrap();
}

/// The agents alone, to unmount and no more, as the README says.
async fn drain(shop: &Shop) {
    let (repository, tag) =
        (format!("image.repository={}", shop.image.repository), format!("image.tag={}", shop.image.tag));
    let template = ["template", install::RELEASE, CHART, "--namespace", install::NAMESPACE, "--show-only"];
    let settings =
        ["templates/node.yaml", "--set", "node.drainOnly=true", "--set", &repository, "--set", &tag];
    let manifests = shop.cluster.helm(&[&template[..], &settings[..]].concat()).await.unwrap();
    let file = shop.cluster.folder().join("drain.yaml");
    std::fs::write(&file, manifests).unwrap();
    shop.cluster.kubectl(&["apply", "-f", file.to_str().unwrap()]).await.unwrap();
}

async fn left(shop: &Shop) -> Vec<String> {
    let words = ["-n", NAMESPACE, "get", "pods", "-o", "jsonpath={.items[*].metadata.name}"];
    let text = shop.cluster.kubectl(&words).await.unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}
