//! Install, mount and rotation on the Kubernetes that `TIDELOCK_KUBERNETES` names, by Helm and by the manifests: what
//! `make test-versions` runs at both ends of what is supported. Left out of `make test`, whose suites show the newest.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use serde_json::{Value, json};
use tidelock_e2e::shop::{self, Shop};
use tidelock_e2e::{Kubernetes, Options, install, progress};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const PASSWORD: &str = "/run/tidelock/orders-db/password";

/// The cluster is what it is meant to be, and pods' tokens come from where this version can put them.
async fn is_of_the_chosen_version(shop: &Shop) -> Kubernetes {
    let chosen = Kubernetes::chosen().unwrap();
    let version: Value =
        serde_json::from_str(&shop.cluster.kubectl(&["version", "-o", "json"]).await.unwrap()).unwrap();
    assert_eq!(version["serverVersion"]["gitVersion"], chosen.version());
    let words = ["get", "nodes", "-o", "jsonpath={.items[*].status.nodeInfo.kubeletVersion}"];
    assert_eq!(shop.cluster.kubectl(&words).await.unwrap(), chosen.version());
    chosen
}

async fn tokens_come_in_secrets(shop: &Shop, wanted: bool) {
    let driver =
        ["get", "csidriver", "csi.tidelock.dev", "-o", "jsonpath={.spec.serviceAccountTokenInSecrets}"];
    assert_eq!(shop.cluster.kubectl(&driver).await.unwrap() == "true", wanted);
}

/// A secret in a pod, and a rotation that changes the same pod's file.
async fn does_the_main_job(shop: &Shop, how: &str) {
    shop.login("orders-db").await.unwrap();
    shop.schedule("orders-db").await.unwrap();
    shop.apply(&[shop.pod("app", "orders-db", "orders-db", json!({}))]).await.unwrap();
    let uid = shop.running("app").await.unwrap();
    let old = shop.file("app", PASSWORD).await.unwrap();
    let before = shop.status_is("orders-db", "a current consumer", one_current).await.unwrap();
    shop.rotate("orders-db", how).await.unwrap();
    let new = shop.changed("app", PASSWORD, &old, shop::PATIENCE).await.unwrap();
    assert_eq!((new.chars().count(), shop.running("app").await.unwrap()), (32, uid), "in place");
    let moved = |s: &Value| s["currentVersion"] != before["currentVersion"] && one_current(s);
    shop.status_is("orders-db", "a receipt of the new version", moved).await.unwrap();
    let rotated = async || {
        let words =
            ["-n", shop::NAMESPACE, "get", "rotationschedule", "orders-db", "-o", "jsonpath={.status}"];
        let status: Value = serde_json::from_str(&shop.cluster.kubectl(&words).await.ok()?).ok()?;
        shop::has_condition(&status, "Succeeded", "True").then_some(())
    };
    shop.cluster.wait_for("the rotation to have succeeded", shop::PATIENCE, rotated).await.unwrap();
    progress::note(&format!(
        "Kubernetes {}, by {how}: install, mount, rotation, file changed in place",
        Kubernetes::chosen().unwrap().version()
    ));
}

fn one_current(status: &Value) -> bool {
    status["consumers"]["current"] == 1 && status["consumers"]["total"] == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_installs_what_this_version_can() {
    let shop = Shop::open(1).await.unwrap();
    let chosen = is_of_the_chosen_version(&shop).await;
    tokens_come_in_secrets(&shop, chosen == Kubernetes::Newest).await;
    does_the_main_job(&shop, "helm").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifests_without_helm_have_one_folder_for_each_side_of_1_35() {
    let shop = Shop::without_tidelock(Options::nodes(1)).await.unwrap();
    let chosen = is_of_the_chosen_version(&shop).await;
    shop.cluster.name_image(&shop.image, "docker.io/library/tidelock:0.1.0").await.unwrap();
    let apply =
        async |folder: &str| shop.cluster.kubectl(&["apply", "-k", &format!("{ROOT}/{folder}")]).await;
    if chosen == Kubernetes::Oldest {
        // Whoever takes the wrong folder hears which field it is, and the right one mends what was applied.
        let refused = format!("{:#}", apply("config").await.unwrap_err());
        assert!(refused.contains("serviceAccountTokenInSecrets"), "{refused}");
        apply("config/before-1.35").await.unwrap();
    } else {
        apply("config").await.unwrap();
    }
    install::ready(&shop.cluster).await.unwrap();
    tokens_come_in_secrets(&shop, chosen == Kubernetes::Newest).await;
    does_the_main_job(&shop, "kubectl").await;
}
