//! Installing, upgrading and uninstalling with real Helm and without it, with pods that use secrets meanwhile.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;

use serde_json::json;
use tidelock_e2e::Options;
use tidelock_e2e::install::{self, NAMESPACE, RELEASE};
use tidelock_e2e::shop::{self, Shop};

const PASSWORD: &str = "/run/tidelock/orders-db/password";
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

async fn with_a_pod(shop: &Shop) -> String {
    shop.login("orders-db").await.unwrap();
    shop.schedule("orders-db").await.unwrap();
    shop.apply(&[shop.pod("app", "orders-db", "orders-db", json!({}))]).await.unwrap();
    shop.running("app").await.unwrap();
    shop.file("app", PASSWORD).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_keeps_mounts_and_an_uninstall_waits_for_them_and_leaves_the_store() {
    let shop = Shop::open(1).await.unwrap();
    let old = with_a_pod(&shop).await;

    install::install(&shop.cluster, &shop.image, &["log.level=debug"]).await.unwrap();
    assert_eq!(shop.file("app", PASSWORD).await.unwrap(), old, "readable after the upgrade");
    shop.rotate("orders-db", "after-upgrade").await.unwrap();
    let new = shop.changed("app", PASSWORD, &old, shop::PATIENCE).await.unwrap();

    let uninstall = ["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "120s"];
    let refused = format!("{:#}", shop.cluster.helm(&uninstall).await.unwrap_err());
    assert!(refused.contains("pre-delete"), "{refused}");
    let log = shop.cluster.kubectl(&["logs", "-n", NAMESPACE, "job/tidelock-pre-delete"]).await.unwrap();
    assert!(log.contains("shop/app") && log.contains("uninstall.force=true"), "{log}");
    assert_eq!(shop.file("app", PASSWORD).await.unwrap(), new, "a refused uninstall has taken nothing");

    shop.cluster.kubectl(&["delete", "pod", "app", "-n", shop::NAMESPACE, "--timeout=60s"]).await.unwrap();
    shop.cluster.helm(&uninstall).await.unwrap();
    for left in ["secret/tidelock-root-key", "persistentvolumeclaim/store-tidelock-server-0"] {
        shop.cluster.kubectl(&["get", left, "-n", NAMESPACE]).await.unwrap();
    }
    shop.cluster.kubectl(&["get", "managedsecret", "orders-db", "-n", shop::NAMESPACE]).await.unwrap();

    // Installed again it is the same store: the rotated password, not a new one.
    install::install(&shop.cluster, &shop.image, &[]).await.unwrap();
    shop.apply(&[shop.pod("app", "orders-db", "orders-db", json!({}))]).await.unwrap();
    shop.running("app").await.unwrap();
    assert_eq!(shop.file("app", PASSWORD).await.unwrap(), new);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifests_without_helm_carry_the_main_job() {
    let shop = Shop::without_tidelock(Options::nodes(1)).await.unwrap();
    // An overlay of one's own, as the comment in config/kustomization.yaml says. Kustomize wants relative paths.
    let config = format!("{ROOT}/config");
    let work = tempfile::tempdir_in(format!("{ROOT}/e2e")).unwrap();
    let image = format!("{{name: tidelock, newName: {}, newTag: {}}}", shop.image.repository, shop.image.tag);
    fs::write(
        work.path().join("kustomization.yaml"),
        format!("resources: [../../config]\nimages:\n- {image}\n"),
    )
    .unwrap();
    shop.cluster.kubectl(&["apply", "-k", &format!("{config}/common")]).await.unwrap();
    let overlay = work.path().display().to_string();
    shop.cluster.kubectl(&["apply", "-k", &overlay]).await.unwrap();
    install::ready(&shop.cluster).await.unwrap();
    let old = with_a_pod(&shop).await;
    shop.rotate("orders-db", "without-helm").await.unwrap();
    shop.changed("app", PASSWORD, &old, shop::PATIENCE).await.unwrap();
}
