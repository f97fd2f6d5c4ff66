//! Attacks on the verbs: roles that read everything, and rights that somebody gives himself.

use serde_json::json;
use tidelock_e2e::caller::Caller;
use tidelock_e2e::shop::{NAMESPACE, PATIENCE};

use super::{MALLORY, RBAC, Stage, account, binding, role, service_account};

const VICTIM: &str = "shop/orders-db";

pub async fn no_role_that_reads_gives_a_value(stage: &Stage<'_>) {
    let shop = stage.shop;
    let everything = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]});
    let mut objects = vec![
        json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole", "metadata": {"name": "read-all"}, "rules": [everything]}),
    ];
    // In the victim's own namespace, the last of them in all.
    for held in ["view", "edit", "admin"] {
        objects.push(account(NAMESPACE, held));
        objects.push(binding(NAMESPACE, held, "ClusterRole", held, service_account(NAMESPACE, held)));
    }
    objects.push(account(NAMESPACE, "read-all"));
    let mut everywhere =
        binding("", "read-all", "ClusterRole", "read-all", service_account(NAMESPACE, "read-all"));
    everywhere["kind"] = json!("ClusterRoleBinding");
    everywhere["metadata"] = json!({"name": "read-all"});
    objects.push(everywhere);
    shop.apply(&objects).await.unwrap();
    may(stage, "read-all", &["get", "managedsecrets.tidelock.dev", "--subresource=value"]).await;
    may(stage, "admin", &["create", "pods"]).await;
    for held in ["view", "edit", "admin", "read-all"] {
        let caller = Caller::of_api(shop, held).await.unwrap();
        let answer = caller.reveals(VICTIM).await.unwrap();
        let names_the_action =
            answer.1["Message"].as_str().is_some_and(|text| text.contains("secretsmanager:GetSecretValue"));
        assert!(answer.0 == 200 || names_the_action, "{}", answer.1["Message"]);
        stage.denied("a value by a role that reads", held, answer, "AccessDeniedException");
        let both = json!({"SecretIdList": [VICTIM, "mallory/neighbour"]});
        let (_, body) = caller.call("BatchGetSecretValue", both).await.unwrap();
        stage.hears(&body.to_string());
        // Metadata is what reading everything is for.
        let (status, body) = caller.call("DescribeSecret", json!({"SecretId": VICTIM})).await.unwrap();
        assert!(status == 200 || held != "read-all", "{body}");
    }
    the_verb_itself_reveals(stage).await;
}

/// Without it all refusals above would prove nothing.
async fn the_verb_itself_reveals(stage: &Stage<'_>) {
    let reveal =
        json!([{"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets/value"], "verbs": ["reveal"]}]);
    stage
        .shop
        .apply(&[
            role(NAMESPACE, "reveal", reveal),
            binding(NAMESPACE, "reveal", "Role", "reveal", service_account(NAMESPACE, "view")),
        ])
        .await
        .unwrap();
    let caller = Caller::of_api(stage.shop, "view").await.unwrap();
    let reveals = async || (caller.reveals(VICTIM).await.ok()?.0 == 200).then_some(());
    stage.shop.cluster.wait_for("the verb reveal to reveal", PATIENCE, reveals).await.unwrap();
    stage.row("the verb reveal, given by name", "view", "the value: this is what the verb is for");
}

pub async fn nobody_gives_himself_the_verb_beyond_his_namespace(stage: &Stage<'_>) {
    let reveal = || json!([{"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets/value"], "verbs": ["reveal"]}]);
    let himself = service_account(MALLORY, MALLORY);
    let mallory = &stage.mallory;
    let not_held = "attempting to grant RBAC permissions not currently held";
    let created = mallory.creates(&role(MALLORY, "self", reveal())).await;
    stage.refused("Role with the verb reveal", mallory, created, not_held);
    for all in ["cluster-admin", "tidelock-admin"] {
        let to_all = binding(MALLORY, "self", "ClusterRole", all, himself.clone());
        let created = mallory.creates(&to_all).await;
        stage.refused(&format!("RoleBinding to {all}"), mallory, created, not_held);
    }
    let aggregated = json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole", "rules": reveal(),
        "metadata": {"name": "self", "labels": {"rbac.authorization.k8s.io/aggregate-to-admin": "true"}}});
    for who in [&stage.mallory, &stage.owner] {
        let in_shop = binding(NAMESPACE, "self", "ClusterRole", "admin", himself.clone());
        stage.refused(
            "RoleBinding in the victim's namespace",
            who,
            who.creates(&in_shop).await,
            "is forbidden",
        );
        let answer = who.creates(&aggregated).await;
        stage.refused("ClusterRole aggregated to admin", who, answer, "is forbidden");
    }
    // Whoever has all rights in a namespace has this one: for that namespace, and for no name beyond it.
    stage.shop.apply(&[account(MALLORY, "granted")]).await.unwrap();
    stage.owner.creates(&role(MALLORY, "reveal", reveal())).await.unwrap();
    let granted = binding(MALLORY, "granted", "Role", "reveal", service_account(MALLORY, "granted"));
    stage.owner.creates(&granted).await.unwrap();
    let caller = stage.caller("granted", None).await;
    let own = async || (caller.reveals("mallory/unshared").await.ok()?.0 == 200).then_some(());
    stage.shop.cluster.wait_for("the verb to reveal in its own namespace", PATIENCE, own).await.unwrap();
    stage.row("Role with the verb reveal", "owner", "the values of his own namespace, as SECURITY.md says");
    for name in [VICTIM, "mallory/../shop/orders-db", "/shop/orders-db"] {
        let answer = caller.reveals(name).await.unwrap();
        if answer.1["__type"] == "AccessDeniedException" {
            stage.denied(&format!("that verb for {name}"), "granted", answer, "AccessDeniedException");
        } else {
            let nothing = ["ResourceNotFoundException", "ValidationException", "InvalidParameterException"];
            let none = nothing.iter().any(|kind| answer.1["__type"] == *kind);
            let proof = if none { Ok(()) } else { Err(anyhow::anyhow!("{}", answer.1["__type"])) };
            stage.hears(&answer.1.to_string());
            stage.harmless(&format!("that verb for {name}"), "granted", "there is no such secret", proof);
        }
    }
    stage.owner.kubectl(&["delete", "rolebinding", "granted"]).await.unwrap();
}

/// Waits until RBAC knows what a ServiceAccount of the shop may.
async fn may(stage: &Stage<'_>, account: &str, what: &[&str]) {
    let user = format!("--as=system:serviceaccount:{NAMESPACE}:{account}");
    let words = [&["auth", "can-i", "-n", NAMESPACE, &user][..], what].concat();
    let yes =
        async || stage.shop.cluster.kubectl(&words).await.ok().filter(|said| said.trim() == "yes").map(drop);
    stage.shop.cluster.wait_for(&format!("RBAC to know {account}"), PATIENCE, yes).await.unwrap();
}
