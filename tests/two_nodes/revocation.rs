//! How fast a right that ends takes the files from running pods.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidelock_e2e::shop::{NAMESPACE, Shop};

use super::{FOLDER, PROMISED, VALUE, delete, on_node};

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
