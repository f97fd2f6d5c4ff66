//! Attacks through the server: fields and marks by which it would do for their author what he may not do himself.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidelock_e2e::install;
use tidelock_e2e::shop::{NAMESPACE, has_condition};

use super::{MALLORY, Stage, login, schedule, secret};

pub async fn do_nothing_that_their_author_may_not(stage: &Stage<'_>) {
    let author = &stage.author;
    let bank = json!({"fromSecret": {"name": "bank", "key": "password"}});
    let taken = json!({"value": bank, "access": [{"serviceAccount": MALLORY}]});
    let may_not_get = "you may not get Secret bank in namespace mallory";
    let created = author.creates(&secret("taken", taken.clone())).await;
    stage.refused("fromSecret of a Secret that he may not get", author, created, may_not_get);
    let mut nameless = secret("", taken);
    nameless["metadata"] = json!({"generateName": "taken-", "namespace": MALLORY});
    let created = author.creates(&nameless).await;
    stage.refused("the same under a name to be generated", author, created, may_not_get);
    author.creates(&secret("plain", json!({"value": login()}))).await.unwrap();
    let swap = json!({"spec": {"value": {"generate": null, "fromSecret": bank["fromSecret"]}}});
    let patched = author.patches("managedsecret/plain", None, &swap).await;
    stage.refused("the same in a secret that he has", author, patched, may_not_get);
    let elsewhere =
        secret("far", json!({"value": {"fromSecret": {"name": "../../shop/secrets/x", "key": "y"}}}));
    let created = author.creates(&elsewhere).await;
    stage.refused(
        "fromSecret of another namespace by its path",
        author,
        created,
        "spec.value.fromSecret.name",
    );

    let runs = schedule("plain", "plain", json!({"job": {"image": "busybox"}}));
    let created = author.creates(&runs).await;
    stage.refused("rotator job", author, created, "you may not create Jobs in namespace mallory");
    for (annotation, says) in
        [("rotate", "you may not rotate this secret"), ("approve-restore", "you may not restore this secret")]
    {
        let patch = json!({"metadata": {"annotations": {format!("tidelock.dev/{annotation}"): "now"}}});
        let patched = author.patches("managedsecret/plain", None, &patch).await;
        stage.refused(&format!("annotation {annotation}"), author, patched, says);
    }
    // What the server does not do for anybody yet cannot be asked of it.
    for field in ["sync", "rollout", "adminSecret"] {
        let mut asks = secret("asks", json!({"value": login()}));
        asks["spec"][field] = json!({"name": "bank"});
        let says = format!("unknown field \"spec.{field}\"");
        stage.refused(&format!("a field {field}"), author, author.creates(&asks).await, &says);
    }
    others_names_are_not_his(stage).await.unwrap();
    a_forged_status_misleads_nobody(stage).await;
    guards_are_out_of_reach(stage).await;
}

async fn others_names_are_not_his(stage: &Stage<'_>) -> Result<()> {
    let author = &stage.author;
    let own = json!([{"serviceAccount": MALLORY}]);
    for (name, named) in
        [("stolen", "shop/orders-db"), ("squatted", "shop/new"), ("ours", "tidelock-system/x")]
    {
        author.creates(&secret(name, json!({"name": named, "value": login(), "access": own}))).await?;
        let outside = async |status: Value| says(&status, "NameOutsideNamespace");
        let proof = stage.object_says("managedsecret", name, "NameOutsideNamespace", outside).await;
        stage.harmless(
            &format!("a secret called {named}"),
            &author.user,
            "refused: NameOutsideNamespace",
            proof,
        );
    }
    let dots = json!({"name": "mallory/../shop/orders-db", "value": login(), "access": own});
    author.creates(&secret("dots", dots)).await?;
    let made = async |status: Value| {
        status["arn"].as_str().is_some_and(|arn| arn.contains(":secret:mallory/../shop/orders-db-"))
    };
    let proof = stage.object_says("managedsecret", "dots", "its ARN", made).await;
    stage.harmless("a secret called mallory/../shop/orders-db", &author.user, "a secret of his own", proof);

    let by_path = author.creates(&schedule("far", "shop/orders-db", json!({"generate": {}}))).await;
    stage.refused("a schedule for a secret of another namespace", author, by_path, "spec.secret");
    author.creates(&schedule("near", "orders-db", json!({"generate": {}}))).await?;
    let unknown = async |status: Value| says(&status, "SecretNotFound");
    let proof = stage.object_says("rotationschedule", "near", "SecretNotFound", unknown).await;
    stage.harmless(
        "a schedule for a namesake of another's secret",
        &author.user,
        "refused: SecretNotFound",
        proof,
    );
    Ok(())
}

/// His own object says that it is the victim's secret, and is deleted.
async fn a_forged_status_misleads_nobody(stage: &Stage<'_>) {
    let before = stage.shop.status("orders-db").await.unwrap();
    let forged = json!({"status": {"arn": before["arn"], "currentVersion": before["currentVersion"],
        "versions": before["versions"], "effective": before["effective"]}});
    for name in ["plain", "stolen"] {
        stage.owner.patches(&format!("managedsecret/{name}"), Some("status"), &forged).await.unwrap();
        let asks = json!({"metadata": {"annotations": {"tidelock.dev/rotate": "forged"}}});
        stage.owner.patches(&format!("managedsecret/{name}"), None, &asks).await.unwrap();
        stage.owner.kubectl(&["delete", "managedsecret", name]).await.unwrap();
    }
    let scheduled = stage.event_says("plain", "DeletionScheduled").await;
    let proof = async {
        scheduled?;
        let after = stage.shop.status("orders-db").await?;
        ensure!(
            after["currentVersion"] == before["currentVersion"] && has_condition(&after, "Ready", "True"),
            "{after}"
        );
        let told = stage.shop.cluster.events(NAMESPACE, "orders-db").await?;
        ensure!(!told.contains("DeletionScheduled") && !told.contains("RotationStarted"), "{told}");
        Ok(())
    };
    stage.harmless(
        "a status with the victim's ARN, rotated and deleted",
        "owner",
        "his own secret was deleted",
        proof.await,
    );
}

async fn guards_are_out_of_reach(stage: &Stage<'_>) {
    for who in [&stage.mallory, &stage.owner] {
        for object in [
            "validatingadmissionpolicybinding/tidelock-rotation-pods",
            "validatingadmissionpolicy/tidelock-secret-authors",
            "mutatingwebhookconfiguration/tidelock",
            "csidriver/csi.tidelock.dev",
            "customresourcedefinition/managedsecrets.tidelock.dev",
        ] {
            let deleted = who.kubectl(&["delete", object, "--wait=false"]).await;
            stage.refused(&format!("delete {object}"), who, deleted, "is forbidden");
        }
        let approves = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "name": "tidelock-held-deletions", "namespace": install::NAMESPACE,
            "annotations": {"tidelock.dev/approve-deletions": "1-0"}}});
        stage.refused("approve held deletions", who, who.creates(&approves).await, "is forbidden");
        let key = who.kubectl(&["-n", install::NAMESPACE, "get", "secret", "tidelock-root-key"]).await;
        stage.refused("read the root key's Secret", who, key, "is forbidden");
    }
}

fn says(status: &Value, reason: &str) -> bool {
    status["conditions"].as_array().into_iter().flatten().any(|condition| condition["reason"] == reason)
}
