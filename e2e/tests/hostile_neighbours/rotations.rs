//! Attacks on rotations: their marks on forged objects, their pods in the rotations' namespace and in one's own.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidelock_e2e::{images, install};

use super::{MALLORY, Stage, account, binding, schedule, service_account};

const ROTATIONS: &str = "tidelock-rotations";
const NO_POD: &str = "reserved for pods of Tidelock's rotation Jobs";
const NO_JOB: &str = "reserved for Jobs that Tidelock's server creates";
const TOKEN: &str = "00000000-0000-0000-0000-00000000000a";

fn marks() -> Value {
    json!({"tidelock.dev/rotation": "orders-db", "tidelock.dev/attempt": "1"})
}

/// A pod's spec that does nothing and has nothing of ours.
fn plain(stage: &Stage<'_>, name: &str, account: &str) -> Value {
    let mut pod = stage.pod(name, account, json!({}));
    pod["spec"]["volumes"] = json!([]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([]);
    pod
}

fn template(stage: &Stage<'_>) -> Value {
    let mut spec = plain(stage, "any", "default")["spec"].clone();
    spec["restartPolicy"] = json!("Never");
    json!({"metadata": {"labels": marks()}, "spec": spec})
}

/// What controllers make of templates, which takes them up to a minute.
pub async fn are_left_to_controllers(stage: &Stage<'_>) {
    let mut template = template(stage);
    let job = json!({"metadata": {"labels": marks()}, "spec": {"template": template.clone()}});
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "cron", "namespace": MALLORY},
        "spec": {"schedule": "* * * * *", "jobTemplate": job}});
    stage.mallory.creates(&cron).await.unwrap();
    template["metadata"]["labels"]["app"] = json!("set");
    template["spec"]["restartPolicy"] = json!("Always");
    let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "set", "namespace": MALLORY},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "set"}}, "template": template}});
    stage.mallory.creates(&set).await.unwrap();
    stage.shop.apply(&[account(MALLORY, "tidelock-rotation")]).await.unwrap();
    stage.mallory.creates(&plain(stage, "forged", "tidelock-rotation")).await.unwrap();
}

pub async fn marks_are_nobody_s_to_give(stage: &Stage<'_>) {
    let mallory = &stage.mallory;
    let owner = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "orders-db",
        "uid": "00000000-0000-0000-0000-000000000001", "controller": true}]);
    let mut labelled = plain(stage, "labelled", "tidelock-rotation");
    labelled["metadata"]["labels"] = marks();
    labelled["metadata"]["ownerReferences"] = owner;
    stage.refused(
        "a pod with a rotation's labels and owner",
        mallory,
        mallory.creates(&labelled).await,
        NO_POD,
    );
    let labels = json!({"metadata": {"labels": marks()}});
    let patched = mallory.patches("pod/forged", None, &labels).await;
    stage.refused("the labels on a pod that runs", mallory, patched, NO_POD);
    for (what, at) in [
        ("a Job with the labels", "/metadata"),
        ("a Job with them in its template", "/spec/template/metadata"),
    ] {
        let mut job = json!({"apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "forged", "namespace": MALLORY}, "spec": {"template": template(stage)}});
        job["spec"]["template"]["metadata"] = json!({});
        job.pointer_mut(at).unwrap()["labels"] = marks();
        stage.refused(what, mallory, mallory.creates(&job).await, NO_JOB);
    }
    let from_cron = mallory.kubectl(&["create", "job", "forged", "--from=cronjob/cron"]).await;
    stage.refused("a Job made of a CronJob", mallory, from_cron, NO_JOB);
    by_other_ways_to_write_labels(stage).await;
    the_rotations_namespace_is_closed(stage).await;

    stage.is_running("forged").await.unwrap();
    let caller = stage.caller("tidelock-rotation", Some("forged")).await;
    let put = json!({"SecretId": "shop/orders-db", "SecretString": "mallory's", "ClientRequestToken": TOKEN,
        "VersionStages": ["AWSPENDING"]});
    let answer = caller.call("PutSecretValue", put).await.unwrap();
    stage.denied(
        "a pod with the rotations' ServiceAccount's name",
        &mallory.user,
        answer,
        "AccessDeniedException",
    );
    for (name, says) in [("set", NO_POD), ("cron", NO_JOB)] {
        let told = stage.event_says(name, says).await;
        stage.harmless(
            &format!("the labels by the controller of {name}"),
            &mallory.user,
            &format!("refused: {says}"),
            told,
        );
    }
}

/// With all rights in the namespace: subresources carry labels along.
async fn by_other_ways_to_write_labels(stage: &Stage<'_>) {
    let labels = json!({"metadata": {"labels": marks()}});
    for who in [&stage.mallory, &stage.owner] {
        let says = if std::ptr::eq(who, &stage.owner) { NO_POD } else { "is forbidden" };
        let patched = who.patches("pod/forged", Some("status"), &labels).await;
        stage.refused("the labels by the pod's status", who, patched, says);
        let binds = json!({"apiVersion": "v1", "kind": "Binding", "target": {"apiVersion": "v1", "kind": "Node", "name": "node1"},
            "metadata": {"name": "forged", "namespace": MALLORY, "labels": marks()}});
        for path in ["pods/forged/binding", "bindings"] {
            let bound = who.posts(&format!("/api/v1/namespaces/{MALLORY}/{path}"), &binds).await;
            stage.refused(&format!("the labels by {path}"), who, bound, says);
        }
    }
    // Whatever else takes a whole pod must not take its labels.
    for subresource in ["resize", "ephemeralcontainers"] {
        let answer = stage.owner.patches("pod/forged", Some(subresource), &labels).await;
        stage.hears(&format!("{answer:?}"));
        let proof = async {
            let words = ["-n", MALLORY, "get", "pod", "forged", "-o", "jsonpath={.metadata.labels}"];
            let labels = stage.shop.cluster.kubectl(&words).await?;
            ensure!(!labels.contains("tidelock.dev/"), "{labels}");
            anyhow::Ok(())
        };
        stage.harmless(
            &format!("the labels by the pod's {subresource}"),
            "owner",
            "no label is written",
            proof.await,
        );
    }
}

async fn the_rotations_namespace_is_closed(stage: &Stage<'_>) {
    for who in [&stage.mallory, &stage.owner] {
        let mut pod = plain(stage, "forged", "tidelock-rotation");
        pod["metadata"]["namespace"] = json!(ROTATIONS);
        let base = format!("/api/v1/namespaces/{ROTATIONS}");
        for (what, path) in [
            ("create a pod", format!("{base}/pods")),
            ("enter a pod", format!("{base}/pods/any/exec?command=ls&stdout=true")),
            (
                "a token of the rotations' ServiceAccount",
                format!("{base}/serviceaccounts/tidelock-rotation/token"),
            ),
            ("create a Job", format!("/apis/batch/v1/namespaces/{ROTATIONS}/jobs")),
        ] {
            let answer = who.posts(&path, &pod).await;
            stage.refused(&format!("{what} in the rotations' namespace"), who, answer, "is forbidden");
        }
        let debug = json!({"spec": {"ephemeralContainers": [{"name": "x", "image": "busybox"}]}});
        let words = [
            "-n",
            ROTATIONS,
            "patch",
            "pod",
            "any",
            "--subresource=ephemeralcontainers",
            "-p",
            &debug.to_string(),
        ];
        stage.refused(
            "an ephemeral container in the rotations' namespace",
            who,
            who.kubectl(&words).await,
            "is forbidden",
        );
        let logs = who.kubectl(&["-n", ROTATIONS, "logs", "any"]).await;
        stage.refused("logs in the rotations' namespace", who, logs, "is forbidden");
    }
}

/// A `job` rotator runs where its schedule is: whoever enters its pod has the secret that it rotates, and no other.
pub async fn pods_in_his_namespace_have_one_secret(stage: &Stage<'_>) {
    let shop = stage.shop;
    let busybox = images::busybox().await.unwrap().name();
    let waits = json!({"job": {"image": busybox, "command": ["sh", "-c", "exec sleep 600"]}});
    shop.apply(&[
        binding(
            MALLORY,
            "tidelock-job-creator",
            "ClusterRole",
            "tidelock-job-creator",
            service_account(install::NAMESPACE, "tidelock-server"),
        ),
        schedule("unshared", "unshared", waits),
    ])
    .await
    .unwrap();
    let rotate = ["-n", MALLORY, "annotate", "managedsecret", "unshared", "tidelock.dev/rotate=entered"];
    shop.cluster.kubectl(&rotate).await.unwrap();
    let pod = rotation_pod(stage).await;
    let asks = |secret: &str| {
        format!(
            "printf '{{\"SecretId\":\"{secret}\"}}' | wget -q -O - --header 'Content-Type: application/x-amz-json-1.1' \
                 --header 'X-Amz-Target: secretsmanager.GetSecretValue' --post-file /dev/stdin $AWS_ENDPOINT_URL_SECRETS_MANAGER/"
        )
    };
    let enter = async |script: &str| {
        stage.mallory.kubectl(&["exec", &pod, "-c", "create-secret", "--", "sh", "-c", script]).await
    };
    let own = enter(&asks("mallory/unshared")).await;
    let outcome = "the one secret that it rotates, as SECURITY.md says";
    let has_value = own.and_then(|said| {
        ensure!(said.contains("SecretString"), "it has no value");
        Ok(())
    });
    stage.harmless("exec into his own namespace's rotation pod", &stage.mallory.user, outcome, has_value);
    for other in ["mallory/neighbour", "shop/orders-db"] {
        let answer = enter(&asks(other)).await;
        stage.refused(&format!("from there, {other}"), &stage.mallory, answer, "400 Bad Request");
    }
    the_marks_of_that_pod_stay(stage, &pod).await;
    a_twin_has_nothing(stage, &pod).await;
    shop.cluster.kubectl(&["-n", MALLORY, "delete", "rotationschedule", "unshared"]).await.unwrap();
}

async fn the_marks_of_that_pod_stay(stage: &Stage<'_>, pod: &str) {
    let object = format!("pod/{pod}");
    for (label, value) in [("attempt", "7"), ("rotation", "orders-db")] {
        let patch = json!({"metadata": {"labels": {format!("tidelock.dev/{label}"): value}}});
        let patched = stage.mallory.patches(&object, None, &patch).await;
        stage.refused(&format!("another {label} on a rotation's pod"), &stage.mallory, patched, NO_POD);
    }
}

/// The same Job as owner, the same ServiceAccount, the same namespace, and not the labels.
async fn a_twin_has_nothing(stage: &Stage<'_>, pod: &str) {
    let words = ["-n", MALLORY, "get", "pod", pod, "-o", "json"];
    let real: Value = serde_json::from_str(&stage.shop.cluster.kubectl(&words).await.unwrap()).unwrap();
    let account = real["spec"]["serviceAccountName"].as_str().unwrap_or("default");
    let mut twin = plain(stage, "twin", account);
    twin["metadata"]["ownerReferences"] = real["metadata"]["ownerReferences"].clone();
    let mut labelled = twin.clone();
    labelled["metadata"]["labels"] = real["metadata"]["labels"].clone();
    stage.refused(
        "a twin of a rotation's pod, labels included",
        &stage.mallory,
        stage.mallory.creates(&labelled).await,
        NO_POD,
    );
    stage.mallory.creates(&twin).await.unwrap();
    let caller = stage.caller(account, Some("twin")).await;
    let answer = caller.reveals("mallory/unshared").await.unwrap();
    stage.denied(
        "a twin of a rotation's pod, without labels",
        &stage.mallory.user,
        answer,
        "AccessDeniedException",
    );
}

async fn rotation_pod(stage: &Stage<'_>) -> String {
    let words = ["-n", MALLORY, "get", "pods", "-l", "tidelock.dev/rotation", "-o", "json"];
    let entered = async || {
        let list: Value = serde_json::from_str(&stage.shop.cluster.kubectl(&words).await.ok()?).ok()?;
        let pod = list["items"].as_array()?.first()?.clone();
        let steps = pod["status"]["initContainerStatuses"].as_array()?;
        let runs =
            steps.iter().any(|step| step["name"] == "create-secret" && !step["state"]["running"].is_null());
        runs.then(|| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned())
    };
    let patience = tidelock_e2e::shop::PATIENCE;
    let found: Result<String> =
        stage.shop.cluster.wait_for("a rotation's pod to be at its first step", patience, entered).await;
    found.unwrap()
}
