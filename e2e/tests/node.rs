//! Volumes as kubelet handles them: who waits and why, who may read, what is left behind.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use serde_json::{Value, json};
use tidelock_e2e::install;
use tidelock_e2e::shop::{NAMESPACE, PATIENCE, Shop};

const PASSWORD: &str = "/run/tidelock/orders-db/password";

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_cannot_have_its_volume_waits_and_an_event_says_why() {
    let shop = Shop::open(1).await.unwrap();
    shop.login("orders-db").await.unwrap();

    // Another ServiceAccount.
    shop.apply(&[shop.pod("stranger", "orders-db", "default", json!({}))]).await.unwrap();
    event(&shop, "stranger", "NotAllowed").await;

    // A secret that does not exist yet: the pod starts when it does.
    shop.apply(&[shop.pod("early", "later", "later", json!({"serviceAccountName": "orders-db"}))])
        .await
        .unwrap();
    event(&shop, "early", "UnknownSecret").await;
    let access = json!([{"serviceAccount": "orders-db"}]);
    let generate = json!({"generate": {"template": {"username": "x"}, "key": "password"}});
    shop.apply(&[json!({
        "apiVersion": "tidelock.dev/v1alpha1", "kind": "ManagedSecret",
        "metadata": {"name": "later", "namespace": NAMESPACE},
        "spec": {"value": generate, "access": access},
    })])
    .await
    .unwrap();
    shop.running("early").await.unwrap();

    // A volume that is not read-only, written by hand.
    let volume =
        json!({"driver": "csi.tidelock.dev", "readOnly": false, "volumeAttributes": {"secret": "orders-db"}});
    let mut pod =
        shop.pod("writer", "orders-db", "orders-db", json!({"volumes": [{"name": "v", "csi": volume}]}));
    pod["metadata"]["annotations"] = json!({});
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/secret"}]);
    shop.apply(&[pod]).await.unwrap();
    event(&shop, "writer", "readOnly: true").await;

    // The server away: it is said, and the pod starts when the server is back.
    let scale = async |replicas: &str| {
        let words = ["-n", install::NAMESPACE, "scale", "statefulset/tidelock-server", replicas];
        shop.cluster.kubectl(&words).await.unwrap();
    };
    // Admitted while the webhook is there, scheduled when the server is gone.
    let gate = json!({"schedulingGates": [{"name": "test.tidelock.dev/wait"}]});
    shop.apply(&[shop.pod("patient", "orders-db", "orders-db", gate)]).await.unwrap();
    scale("--replicas=0").await;
    let none = async || shop.own_pods("server").await.ok().filter(Vec::is_empty).map(drop);
    shop.cluster.wait_for("no server to be left", PATIENCE, none).await.unwrap();
    let open = ["-n", NAMESPACE, "patch", "pod", "patient", "--type=json", "-p"];
    let patch = r#"[{"op":"remove","path":"/spec/schedulingGates"}]"#;
    shop.cluster.kubectl(&[&open[..], &[patch]].concat()).await.unwrap();
    event(&shop, "patient", "ServerAway").await;
    scale("--replicas=1").await;
    shop.running("patient").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_without_root_reads_by_its_group_and_nothing_is_left_when_it_goes() {
    let shop = Shop::open(1).await.unwrap();
    shop.login("orders-db").await.unwrap();
    shop.schedule("orders-db").await.unwrap();
    let user = json!({"runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": true});
    let grouped = json!({"runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": true, "fsGroup": 2000});
    let mut plain = shop.pod("plain", "orders-db", "orders-db", json!({"securityContext": user}));
    plain["spec"]["containers"][0]["securityContext"] = json!({"readOnlyRootFilesystem": true});
    let group = shop.pod("group", "orders-db", "orders-db", json!({"securityContext": grouped}));
    shop.apply(&[plain, group]).await.unwrap();
    for pod in ["plain", "group"] {
        shop.running(pod).await.unwrap();
    }
    let modes = async |pod: &str| {
        let words = ["stat", "-L", "-c", "%a %u %g", PASSWORD];
        shop.cluster.exec(NAMESPACE, pod, None, &words).await.unwrap().stdout.trim().to_owned()
    };
    let old = shop.file("plain", PASSWORD).await.unwrap();
    assert_eq!(shop.file("group", PASSWORD).await.unwrap(), old);
    assert_eq!((modes("plain").await, modes("group").await), ("444 0 0".into(), "440 0 2000".into()));
    let planted = ["ln", "-s", "/etc/passwd", "/run/tidelock/orders-db/planted"];
    let output = shop.cluster.exec(NAMESPACE, "group", None, &planted).await.unwrap();
    assert!(!output.success && output.stderr.contains("Read-only"), "{}", output.stderr);

    shop.rotate("orders-db", "first").await.unwrap();
    for pod in ["plain", "group"] {
        shop.changed(pod, PASSWORD, &old, PATIENCE).await.unwrap();
    }
    assert_eq!(modes("group").await, "440 0 2000", "after a swap as before");

    shop.cluster.kubectl(&["-n", NAMESPACE, "delete", "pod", "plain", "group"]).await.unwrap();
    let node = shop.cluster.node(1);
    let mounts = node.run("cat", &["/proc/self/mountinfo"]).await.unwrap();
    assert!(!mounts.contains("kubernetes.io~csi"), "{mounts}");
    let manifests = node.run("ls", &["/run/tidelock/manifests"]).await.unwrap();
    assert_eq!(manifests.trim(), "");
    let empty = |s: &Value| s["consumers"]["total"] == 0;
    shop.status_is("orders-db", "no consumer", empty).await.unwrap();
}

async fn event(shop: &Shop, pod: &str, words: &str) {
    let what = format!("an event on pod {pod} that says {words}");
    let said = async || {
        let events = shop.cluster.events(NAMESPACE, pod).await.ok()?;
        events.contains(words).then_some(())
    };
    shop.cluster.wait_for(&what, PATIENCE, said).await.unwrap();
}
