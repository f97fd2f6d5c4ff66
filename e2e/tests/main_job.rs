//! The main job on real clusters: a ManagedSecret becomes files in running pods, and a rotation changes them in place.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use serde_json::{Value, json};
use tidelock_e2e::install;
use tidelock_e2e::shop::{self, NAMESPACE, Shop};

const PASSWORD: &str = "/run/tidelock/orders-db/password";

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_becomes_files_on_both_nodes_and_a_rotation_changes_them_in_place() {
    let shop = Shop::open(2).await.unwrap();
    shop.login("orders-db").await.unwrap();
    shop.schedule("orders-db").await.unwrap();
    let on = |node: usize| json!({"nodeName": shop.cluster.node(node).name()});
    shop.apply(&[
        shop.pod("one", "orders-db", "orders-db", on(1)),
        shop.pod("two", "orders-db", "orders-db", on(2)),
    ])
    .await
    .unwrap();
    let uids = (shop.running("one").await.unwrap(), shop.running("two").await.unwrap());
    let old = shop.file("one", PASSWORD).await.unwrap();
    assert_eq!(old.chars().count(), 32, "the default length of a password");
    assert_eq!(shop.file("two", PASSWORD).await.unwrap(), old);
    assert_eq!(shop.file("one", "/run/tidelock/orders-db/username").await.unwrap(), "orders");
    let whole = shop.file("one", "/run/tidelock/orders-db/value").await.unwrap();
    let whole: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(whole, json!({"username": "orders", "password": old}));
    let both = |s: &Value| s["consumers"]["current"] == 2 && s["consumers"]["total"] == 2;
    let before = shop.status_is("orders-db", "two current consumers", both).await.unwrap();

    shop.rotate("orders-db", "first").await.unwrap();
    let new = shop.changed("one", PASSWORD, &old, shop::PATIENCE).await.unwrap();
    // Both nodes are pushed to at once; the bound is the promised deadline, not a measure.
    assert_eq!(shop.changed("two", PASSWORD, &old, Duration::from_secs(5)).await.unwrap(), new);
    assert_eq!((shop.running("one").await.unwrap(), shop.running("two").await.unwrap()), uids, "restarted");
    let moved = |s: &Value| s["currentVersion"] != before["currentVersion"] && both(s);
    let after = shop.status_is("orders-db", "that both hold the new version", moved).await.unwrap();
    let versions = after["versions"].as_array().unwrap();
    let previous = versions.iter().find(|version| version["id"] == before["currentVersion"]).unwrap();
    assert_eq!(previous["stages"], json!(["AWSPREVIOUS"]));

    // Another token asks for another rotation.
    shop.rotate("orders-db", "second").await.unwrap();
    shop.changed("one", PASSWORD, &new, shop::PATIENCE).await.unwrap();
    assert!(shop::has_condition(&shop.status("orders-db").await.unwrap(), "Ready", "True"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_away_leaves_files_readable_and_brings_what_it_missed() {
    let shop = Shop::open(1).await.unwrap();
    shop.login("orders-db").await.unwrap();
    shop.schedule("orders-db").await.unwrap();
    shop.apply(&[shop.pod("app", "orders-db", "orders-db", json!({}))]).await.unwrap();
    shop.running("app").await.unwrap();
    let old = shop.file("app", PASSWORD).await.unwrap();

    // The whole agent pod away, and no new one until we say so.
    select_nodes(&shop, json!({"no": "node"})).await;
    gone(&shop, "node").await;
    shop.rotate("orders-db", "while-away").await.unwrap();
    let missed = |s: &Value| s["consumers"]["current"] == 0 && s["consumers"]["total"] == 1;
    shop.status_is("orders-db", "a consumer that missed a version", missed).await.unwrap();
    assert_eq!(shop.file("app", PASSWORD).await.unwrap(), old, "files are readable without an agent");

    select_nodes(&shop, json!({"no": null})).await;
    install::ready(&shop.cluster).await.unwrap();
    shop.changed("app", PASSWORD, &old, Duration::from_secs(5)).await.unwrap();
    shop.status_is("orders-db", "a current consumer", |s| s["consumers"]["current"] == 1).await.unwrap();
}

async fn select_nodes(shop: &Shop, labels: Value) {
    let patch = json!({"spec": {"template": {"spec": {"nodeSelector": labels}}}}).to_string();
    let daemons =
        ["-n", install::NAMESPACE, "patch", "daemonset/tidelock-node", "--type=merge", "-p", &patch];
    shop.cluster.kubectl(&daemons).await.unwrap();
}

async fn gone(shop: &Shop, component: &str) {
    let what = format!("no pod of the {component} to be left");
    let none = async || shop.own_pods(component).await.ok().filter(Vec::is_empty).map(drop);
    shop.cluster.wait_for(&what, shop::PATIENCE, none).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_deleted_while_the_server_is_away_leaves_its_secret_restorable() {
    let shop = Shop::open(1).await.unwrap();
    shop.login("orders-db").await.unwrap();
    shop.apply(&[shop.pod("app", "orders-db", "orders-db", json!({}))]).await.unwrap();
    shop.running("app").await.unwrap();
    let status = shop.status("orders-db").await.unwrap();

    scale_server(&shop, "--replicas=0").await;
    gone(&shop, "server").await;
    shop.cluster.kubectl(&["delete", "namespace", NAMESPACE, "--timeout=100s"]).await.unwrap();

    scale_server(&shop, "--replicas=1").await;
    install::ready(&shop.cluster).await.unwrap();
    shop.cluster.kubectl(&["create", "namespace", NAMESPACE]).await.unwrap();
    shop.login("orders-db").await.unwrap();
    let waits = |s: &Value| {
        s["conditions"]
            .as_array()
            .is_some_and(|all| all.iter().any(|c| c["reason"] == "RestoreNeedsApproval"))
    };
    let held = shop.status_is("orders-db", "that a restore needs approval", waits).await.unwrap();
    assert!(!shop::has_condition(&held, "Ready", "True"), "nothing was made anew: {held}");
    let approve = format!("tidelock.dev/approve-restore={}", status["arn"].as_str().unwrap());
    shop.cluster
        .kubectl(&["-n", NAMESPACE, "annotate", "managedsecret", "orders-db", &approve])
        .await
        .unwrap();
    let ready = |s: &Value| shop::has_condition(s, "Ready", "True");
    let back = shop.status_is("orders-db", "that it is ready again", ready).await.unwrap();
    assert_eq!((&back["arn"], &back["currentVersion"]), (&status["arn"], &status["currentVersion"]));
}

async fn scale_server(shop: &Shop, replicas: &str) {
    let scale = ["-n", install::NAMESPACE, "scale", "statefulset/tidelock-server", replicas];
    shop.cluster.kubectl(&scale).await.unwrap();
}
