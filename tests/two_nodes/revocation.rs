//! How fast a right that ends takes the files from running pods, and which end of a secret does not.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidelock_e2e::shop::{NAMESPACE, PATIENCE, Shop};

use super::{FOLDER, PASSWORD, PROMISED, VALUE, delete, on_node, restart_container};

/// What the installation of this test says instead of 60 s, and how long an answer of the authorizer stands.
const RECHECK: Duration = Duration::from_secs(10);
const ANSWER_STANDS: Duration = Duration::from_secs(5);

pub async fn a_right_that_ends_takes_the_files_in_time(shop: &Shop) {
    shop.cluster.kubectl(&["-n", NAMESPACE, "create", "serviceaccount", "by-role"]).await.unwrap();
    shop.apply(&role()).await.unwrap();
    shop.apply(&[
        shop.pod("granted-1", "orders-db", "orders-db", on_node(shop, 1, json!({}))),
        shop.pod("granted-2", "orders-db", "orders-db", on_node(shop, 2, json!({}))),
        shop.pod("by-role", "orders-db", "by-role", on_node(shop, 2, json!({}))),
    ])
    .await
    .unwrap();
    for pod in ["granted-1", "granted-2", "by-role"] {
        shop.running(pod).await.unwrap();
    }
    assert_eq!(names(shop, "granted-1").await, ["password", "username", "value"]);

    let account = json!({"serviceAccount": "orders-db"});
    let only = json!({"serviceAccount": "orders-db", "keys": ["username"]});
    become_files(shop, "keys narrowed to one", json!([only]), &["username"]).await;
    become_files(shop, "the whole value again", json!([account]), &["password", "username", "value"]).await;
    become_files(shop, "the entry removed", json!([]), &[]).await;
    become_files(shop, "the entry back", json!([account]), &["password", "username", "value"]).await;
    // Whoever has it from RBAC was not touched by all that.
    shop.file("by-role", VALUE).await.unwrap();

    let begun = Instant::now();
    shop.cluster.kubectl(&["-n", NAMESPACE, "delete", "rolebinding", "projects"]).await.unwrap();
    let gone = async || names(shop, "by-role").await.is_empty().then_some(());
    let bound = RECHECK + ANSWER_STANDS + PROMISED;
    shop.cluster.wait_for("files by an RBAC role to go", bound, gone).await.unwrap();
    println!("an RBAC role taken away: {:.1} s of {bound:?}", begun.elapsed().as_secs_f32());
    shop.file("granted-2", VALUE).await.unwrap();
    delete(shop, &["granted-1", "granted-2", "by-role"]).await;
}

/// Changes `access` and waits until both nodes' pods have just these files.
async fn become_files(shop: &Shop, what: &str, access: Value, wanted: &[&str]) {
    let patch = json!({"spec": {"access": access}}).to_string();
    shop.cluster
        .kubectl(&["-n", NAMESPACE, "patch", "managedsecret", "orders-db", "--type=merge", "-p", &patch])
        .await
        .unwrap();
    let begun = Instant::now();
    let so = async || {
        let both = futures::future::join(names(shop, "granted-1"), names(shop, "granted-2")).await;
        (both.0 == wanted && both.1 == wanted).then_some(())
    };
    shop.cluster.wait_for(&format!("files after {what}"), PROMISED, so).await.unwrap();
    println!("{what}: {:.2} s", begun.elapsed().as_secs_f32());
}

/// The names of the files that a pod sees.
async fn names(shop: &Shop, pod: &str) -> Vec<String> {
    let output = shop.cluster.exec(NAMESPACE, pod, None, &["ls", FOLDER]).await.unwrap();
    assert!(output.success, "the folder itself stays: {}", output.stderr);
    output.stdout.split_whitespace().map(str::to_owned).collect()
}

pub async fn a_deleted_secret_leaves_running_pods_their_files(shop: &Shop) {
    shop.apply(&[shop.pod("running", "orders-db", "orders-db", on_node(shop, 2, json!({})))]).await.unwrap();
    shop.running("running").await.unwrap();
    let value = shop.file("running", PASSWORD).await.unwrap();
    shop.cluster
        .kubectl(&["-n", NAMESPACE, "delete", "rotationschedule,managedsecret", "orders-db"])
        .await
        .unwrap();

    let seen = async || {
        shop.cluster
            .events(NAMESPACE, "orders-db")
            .await
            .ok()
            .filter(|text| text.contains("DeletionScheduled"))
    };
    shop.cluster.wait_for("the deletion to be scheduled", PATIENCE, seen).await.unwrap();

    shop.apply(&[shop.pod("late", "orders-db", "orders-db", on_node(shop, 1, json!({})))]).await.unwrap();
    let told =
        async || shop.cluster.events(NAMESPACE, "late").await.ok().filter(|text| text.contains("deletion"));
    let told = shop.cluster.wait_for("an event that tells of the deletion", PATIENCE, told).await.unwrap();
    println!("a new pod of a deleted secret hears: {}", told.lines().last().unwrap_or_default().trim());

    restart_container(shop, "running").await;
    assert_eq!(shop.file("running", PASSWORD).await.unwrap(), value);
    // Nor does the agent's own restart take them.
    super::faults::kill(shop, 2, "agent").await;
    super::faults::ready_again(shop, 2).await;
    restart_container(shop, "running").await;
    assert_eq!(shop.file("running", PASSWORD).await.unwrap(), value);
    delete(shop, &["running", "late"]).await;
}

fn role() -> [Value; 2] {
    let group = "rbac.authorization.k8s.io";
    let meta = json!({"name": "projects", "namespace": NAMESPACE});
    [
        json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": meta, "rules": [{
            "apiGroups": ["tidelock.dev"], "resources": ["managedsecrets/value"], "resourceNames": ["orders-db"],
            "verbs": ["project"]}]}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": meta,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "projects"},
            "subjects": [{"kind": "ServiceAccount", "namespace": NAMESPACE, "name": "by-role"}]}),
    ]
}
