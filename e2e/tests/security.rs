//! What somebody gets who has a pod, a role or a node and wants more: nothing, and a reason. On real clusters.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use serde_json::{Value, json};
use tidelock_e2e::caller::Caller;
use tidelock_e2e::install;
use tidelock_e2e::shop::{self, NAMESPACE, Shop};

const TOKEN: &str = "00000000-0000-0000-0000-00000000000a";

fn refused(answer: &(u16, Value), kind: &str) -> String {
    let (status, body) = answer;
    assert_eq!((*status, body["__type"].as_str()), (400, Some(kind)), "{body}");
    body["Message"].as_str().unwrap().to_owned()
}

/// Waits until an event about a pod says this.
async fn event_says(shop: &Shop, pod: &str, words: &str) {
    let selector = format!("involvedObject.name={pod}");
    let arguments =
        ["-n", NAMESPACE, "get", "events", "--field-selector", &selector, "-o", "jsonpath={..message}"];
    shop.cluster
        .wait_for(&format!("an event about pod {pod} to say `{words}`"), shop::PATIENCE, async || {
            shop.cluster.kubectl(&arguments).await.ok().filter(|text| text.contains(words)).map(drop)
        })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_a_pod_or_a_role_and_no_right_gets_no_value_and_hears_why() {
    let shop = Shop::open(1).await.unwrap();
    shop.login("orders-db").await.unwrap();
    shop.cluster.kubectl(&["-n", NAMESPACE, "create", "serviceaccount", "stranger"]).await.unwrap();
    shop.apply(&[
        shop.pod("app", "orders-db", "orders-db", json!({})),
        shop.pod("stranger", "orders-db", "stranger", json!({})),
    ])
    .await
    .unwrap();
    shop.running("app").await.unwrap();
    tokens_count_for_their_audience_only(&shop).await;
    another_account_waits_and_reading_everything_does_not_help(&shop).await;
    a_rotation_s_pod_cannot_be_forged(&shop).await;
    a_volume_cannot_be_written_to(&shop).await;
    a_token_ends_with_its_pod(&shop).await;
}

async fn tokens_count_for_their_audience_only(shop: &Shop) {
    let audience = |end: &str| format!("tidelock.{}/{end}", install::NAMESPACE);
    let (status, body) = Caller::new(shop, "orders-db", &audience("api"))
        .await
        .unwrap()
        .reveals("shop/orders-db")
        .await
        .unwrap();
    assert!(status == 200 && body["SecretString"].is_string(), "{status} {}", body["__type"]);
    for wrong in ["node", "stream"] {
        let answer = Caller::new(shop, "orders-db", &audience(wrong))
            .await
            .unwrap()
            .reveals("shop/orders-db")
            .await
            .unwrap();
        refused(&answer, "UnrecognizedClientException");
    }
}

async fn another_account_waits_and_reading_everything_does_not_help(shop: &Shop) {
    event_says(shop, "stranger", "shop/stranger").await;
    let rbac = |kind: &str, more: Value| {
        let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": "read-all"}});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object
    };
    let everything = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "read-all"});
    let subject = json!({"kind": "ServiceAccount", "namespace": NAMESPACE, "name": "stranger"});
    shop.apply(&[
        rbac("ClusterRole", json!({"rules": [everything]})),
        rbac("ClusterRoleBinding", json!({"roleRef": role, "subjects": [subject]})),
    ])
    .await
    .unwrap();
    let user = format!("--as=system:serviceaccount:{NAMESPACE}:stranger");
    let may_read = [
        "auth",
        "can-i",
        "get",
        "managedsecrets.tidelock.dev",
        "--subresource=value",
        "-n",
        NAMESPACE,
        &user,
    ];
    let heard =
        async || shop.cluster.kubectl(&may_read).await.ok().filter(|answer| answer.trim() == "yes").map(drop);
    shop.cluster.wait_for("RBAC to know the role", shop::PATIENCE, heard).await.unwrap();
    let caller =
        Caller::new(shop, "stranger", &format!("tidelock.{}/api", install::NAMESPACE)).await.unwrap();
    let message = refused(&caller.reveals("shop/orders-db").await.unwrap(), "AccessDeniedException");
    assert!(message.contains("secretsmanager:GetSecretValue"), "{message}");
    // Metadata is what that role is for.
    let (status, described) =
        caller.call("DescribeSecret", json!({"SecretId": "shop/orders-db"})).await.unwrap();
    assert_eq!(status, 200, "{described}");
    let pod = ["-n", NAMESPACE, "get", "pod", "stranger", "-o", "jsonpath={.status.phase}"];
    assert_eq!(shop.cluster.kubectl(&pod).await.unwrap(), "Pending");
}

async fn a_rotation_s_pod_cannot_be_forged(shop: &Shop) {
    let mut forged = shop.pod("forged", "orders-db", "stranger", json!({}));
    forged["metadata"]["annotations"] = json!({});
    forged["metadata"]["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "orders-db",
        "uid": "00000000-0000-0000-0000-000000000001", "controller": true}]);
    let mut labelled = forged.clone();
    labelled["metadata"]["labels"] =
        json!({"tidelock.dev/rotation": "orders-db", "tidelock.dev/attempt": "1"});
    let denied = shop.apply(&[labelled]).await.unwrap_err();
    assert!(format!("{denied:#}").contains("tidelock.dev/rotation"), "{denied:#}");
    // Without the label it is a pod like any other. The garbage collector will end it: its owner is not there.
    forged["metadata"]["ownerReferences"] = json!([]);
    shop.apply(&[forged]).await.unwrap();
    shop.running("forged").await.unwrap();
    let caller = Caller::bearing(shop, &bound_token(shop, "stranger", "forged").await).await.unwrap();
    let put = json!({"SecretId": "shop/orders-db", "SecretString": "mine", "ClientRequestToken": TOKEN,
        "VersionStages": ["AWSPENDING"]});
    refused(&caller.call("PutSecretValue", put).await.unwrap(), "AccessDeniedException");
}

async fn a_volume_cannot_be_written_to(shop: &Shop) {
    let plant = ["ln", "-s", "/etc/passwd", "/run/tidelock/orders-db/planted"];
    let planted = shop.cluster.exec(NAMESPACE, "app", None, &plant).await.unwrap();
    assert!(!planted.success && planted.stderr.contains("Read-only file system"), "{}", planted.stderr);
    let swap = ["mv", "/run/tidelock/orders-db/..data", "/run/tidelock/orders-db/aside"];
    let swapped = shop.cluster.exec(NAMESPACE, "app", None, &swap).await.unwrap();
    assert!(!swapped.success && swapped.stderr.contains("Read-only file system"), "{}", swapped.stderr);
    let mut writable = shop.pod("writable", "orders-db", "orders-db", json!({}));
    writable["metadata"]["annotations"] = json!({});
    writable["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "login", "mountPath": "/login"}]);
    writable["spec"]["volumes"] = json!([{"name": "login", "csi": {"driver": "csi.tidelock.dev", "readOnly": false,
        "volumeAttributes": {"secret": "orders-db"}}}]);
    shop.apply(&[writable]).await.unwrap();
    event_says(shop, "writable", "readOnly: true").await;
}

async fn a_token_ends_with_its_pod(shop: &Shop) {
    let caller = Caller::bearing(shop, &bound_token(shop, "orders-db", "app").await).await.unwrap();
    assert_eq!(caller.reveals("shop/orders-db").await.unwrap().0, 200);
    shop.cluster.kubectl(&["-n", NAMESPACE, "delete", "pod", "app"]).await.unwrap();
    let ended = async || {
        let answer = caller.reveals("shop/orders-db").await.unwrap();
        (answer.0 != 200).then(|| refused(&answer, "UnrecognizedClientException"))
    };
    shop.cluster.wait_for("the token of a deleted pod to be refused", shop::PATIENCE, ended).await.unwrap();
}

async fn bound_token(shop: &Shop, account: &str, pod: &str) -> String {
    let audience = format!("tidelock.{}/api", install::NAMESPACE);
    let arguments =
        ["-n", NAMESPACE, "create", "token", account, "--audience", &audience, "--bound-object-kind", "Pod"];
    let all = [&arguments[..], &["--bound-object-name", pod]].concat();
    shop.cluster.kubectl(&all).await.unwrap().trim().to_owned()
}
