//! Installing, upgrading and uninstalling with real Helm and without it, with pods that use secrets meanwhile.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use serde_json::json;
use tidelock_e2e::Options;
use tidelock_e2e::images::earlier::{FIRST_WHOLE, earlier};
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

/// Upgrades to the present chart and image, and reads the file in the pod again and again meanwhile.
async fn upgraded_while_read(shop: &Shop, old: &str) {
    let upgrade = async {
        install::helm_install(&shop.cluster, &shop.image, &["log.level=debug"]).await.unwrap();
        install::rolled_out(&shop.cluster).await.unwrap();
    };
    let mut upgrade = std::pin::pin!(upgrade);
    let mut reads = 0;
    loop {
        tokio::select! {
            () = &mut upgrade => break,
            read = shop.file("app", PASSWORD) => {
                assert_eq!(read.unwrap(), old, "readable throughout the upgrade");
                reads += 1;
            }
        }
    }
    assert!(reads >= 10, "the file was read {reads} times during the upgrade");
    for component in ["server", "node"] {
        for pod in shop.own_pods(component).await.unwrap() {
            let image = pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
            assert_eq!(image, shop.image.name(), "the {component} runs the present image");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_keeps_mounts_and_an_uninstall_waits_for_them_and_leaves_the_store() {
    let first = earlier(FIRST_WHOLE).await.unwrap();
    let shop = Shop::without_tidelock(Options::nodes(1).image(first.image.clone())).await.unwrap();
    install::helm_install_from(&first.chart, &shop.cluster, &first.image, &[]).await.unwrap();
    install::ready(&shop.cluster).await.unwrap();
    let old = with_a_pod(&shop).await;
    let before = shop.status("orders-db").await.unwrap();

    upgraded_while_read(&shop, &old).await;
    let after = shop.status("orders-db").await.unwrap();
    assert_eq!((&after["arn"], &after["currentVersion"]), (&before["arn"], &before["currentVersion"]));
    shop.rotate("orders-db", "after-upgrade").await.unwrap();
    let new = shop.changed("app", PASSWORD, &old, shop::PATIENCE).await.unwrap();

    let uninstall = ["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "120s"];
    let refused = format!("{:#}", shop.cluster.helm(&uninstall).await.unwrap_err());
    assert!(refused.contains("pre-delete"), "{refused}");
    let log = shop.cluster.kubectl(&["logs", "-n", NAMESPACE, "job/tidelock-pre-delete"]).await.unwrap();
    assert!(log.contains("shop/app") && log.contains("helm rollback"), "{log}");
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
    // The image that they name until somebody names his own.
    shop.cluster.name_image(&shop.image, "docker.io/library/tidelock:0.1.0").await.unwrap();
    shop.cluster.kubectl(&["apply", "-k", &format!("{ROOT}/config")]).await.unwrap();
    install::ready(&shop.cluster).await.unwrap();
    let old = with_a_pod(&shop).await;
    shop.rotate("orders-db", "without-helm").await.unwrap();
    shop.changed("app", PASSWORD, &old, shop::PATIENCE).await.unwrap();
}
