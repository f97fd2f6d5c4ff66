//! The server killed at each point of create, rotate, delete and restore: the story completes by itself, and exactly one
//! version results. The server is a process of this machine; everything else is a whole cluster.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use serde_json::{Value, json};
use tidelock_e2e::Options;
use tidelock_e2e::host_server::Host;
use tidelock_e2e::shop::{self, NAMESPACE, Shop, has_condition};
use tokio::time::timeout;

const CREATE: [&str; 5] = [
    "create.value-made",
    "create.before-commit",
    "create.committed",
    "status.before-write",
    "status.written",
];
const ROTATE: [&str; 11] = [
    "rotate.before-begin",
    "rotate.begun",
    "rotate.before-job",
    "rotate.job-created",
    "rotate.job-recorded",
    "put.before-commit",
    "put.committed",
    "stage.before-commit",
    "stage.committed",
    "rotate.before-success",
    "rotate.succeeded",
];
const DELETE: [&str; 3] = ["delete.confirmed", "delete.before-commit", "delete.committed"];
const RESTORE: [&str; 2] = ["restore.before-commit", "restore.committed"];

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_any_point_leaves_one_version_and_the_story_goes_on() {
    let shop = Shop::without_tidelock(Options::nodes(1)).await.unwrap();
    let host = Host::prepare(&shop).await.unwrap();
    // The first start has failpoints of its own; here it is over before the first kill.
    host.start_ready().await.unwrap().kill().await.unwrap();
    for point in CREATE {
        let name = point.replace('.', "-");
        shop.login(&name).await.unwrap();
        dies_and_returns(&host, point, async || {
            let status = shop.status_is(&name, "Ready", |s| has_condition(s, "Ready", "True")).await.unwrap();
            assert_eq!(versions(&status).len(), 1, "{point}: {status}");
        })
        .await;
    }
    rotations(&shop, &host).await;
    deletions(&shop, &host).await;
}

/// One rotation for each point, of one secret that a pod has mounted all the while.
async fn rotations(shop: &Shop, host: &Host<'_>) {
    shop.login("orders-db").await.unwrap();
    shop.apply(&[json!({
        "apiVersion": "tidelock.dev/v1alpha1", "kind": "RotationSchedule",
        "metadata": {"name": "orders-db", "namespace": NAMESPACE},
        "spec": {"secret": "orders-db", "schedule": "rate(365 days)", "rotateImmediately": false, "rotator": {"generate": {}},
            "retries": {"limit": 5, "backoff": {"min": "1s", "max": "2s"}}},
    })])
    .await
    .unwrap();
    let server = host.start_ready().await.unwrap();
    shop.status_is("orders-db", "Ready", |s| has_condition(s, "Ready", "True")).await.unwrap();
    shop.apply(&[shop.pod("app", "orders-db", "orders-db", json!({}))]).await.unwrap();
    shop.running("app").await.unwrap();
    server.kill().await.unwrap();
    for point in ROTATE {
        let before = shop.status("orders-db").await.unwrap();
        let (old, known) = (current(&before), versions(&before));
        shop.rotate("orders-db", point).await.unwrap();
        dies_and_returns(host, point, async || {
            let rotated = |s: &Value| current(s) != old && s["consumers"]["current"] == 1;
            let after = shop.status_is("orders-db", "another version in the pod", rotated).await.unwrap();
            one_new_version(point, &after, &old, &known);
            schedule_succeeded(shop).await;
            let settled = shop.status("orders-db").await.unwrap();
            assert_eq!(current(&settled), current(&after), "{point}: rotated once, not twice");
            one_new_version(point, &settled, &old, &known);
        })
        .await;
    }
    let jobs = shop.cluster.kubectl(&["get", "jobs", "-A", "-o", "json"]).await.unwrap();
    let jobs: Value = serde_json::from_str(&jobs).unwrap();
    let running = |job: &&Value| job["status"]["active"].as_u64().unwrap_or(0) > 0;
    let running: Vec<&Value> = jobs["items"].as_array().unwrap().iter().filter(running).collect();
    assert!(running.is_empty(), "orphaned Jobs: {running:?}");
}

async fn schedule_succeeded(shop: &Shop) {
    let words = ["-n", NAMESPACE, "get", "rotationschedule", "orders-db", "-o", "json"];
    let settled = async || {
        let text = shop.cluster.kubectl(&words).await.ok()?;
        let status = serde_json::from_str::<Value>(&text).ok()?["status"].clone();
        (has_condition(&status, "Succeeded", "True") && status["inProgress"].is_null()).then_some(())
    };
    shop.cluster.wait_for("the rotation to be told as succeeded", shop::PATIENCE, settled).await.unwrap();
}

fn one_new_version(point: &str, status: &Value, old: &str, known: &BTreeSet<String>) {
    let new: Vec<String> = versions(status).difference(known).cloned().collect();
    assert_eq!(new, [current(status)], "{point}: one new version, and it is current: {status}");
    assert_eq!(bearer(status, "AWSPREVIOUS").as_deref(), Some(old), "{point}: {status}");
    let pending = bearer(status, "AWSPENDING");
    assert!(pending.is_none() || pending == Some(current(status)), "{point}: {status}");
}

/// A resource that goes while the server is away, and one that comes back.
async fn deletions(shop: &Shop, host: &Host<'_>) {
    for point in DELETE.into_iter().chain(RESTORE) {
        let name = point.replace('.', "-");
        shop.login(&name).await.unwrap();
        let server = host.start_ready().await.unwrap();
        let before = shop.status_is(&name, "Ready", |s| has_condition(s, "Ready", "True")).await.unwrap();
        let remove = ["-n", NAMESPACE, "delete", "managedsecret", &name];
        if RESTORE.contains(&point) {
            shop.cluster.kubectl(&remove).await.unwrap();
            scheduled(shop, host, 1.0).await;
            server.kill().await.unwrap();
            shop.login(&name).await.unwrap();
        } else {
            server.kill().await.unwrap();
            shop.cluster.kubectl(&remove).await.unwrap();
        }
        dies_and_returns(host, point, async || {
            if DELETE.contains(&point) {
                scheduled(shop, host, 1.0).await;
                shop.login(&name).await.unwrap();
            }
            let after = shop.status_is(&name, "Ready", |s| has_condition(s, "Ready", "True")).await.unwrap();
            assert_eq!(after["arn"], before["arn"], "{point}: the same secret is back");
            assert_eq!(versions(&after), versions(&before), "{point}: with its version");
            scheduled(shop, host, 0.0).await;
        })
        .await;
    }
}

async fn scheduled(shop: &Shop, host: &Host<'_>, wanted: f64) {
    let name = "tidelock_secrets_scheduled_for_deletion";
    let seen = async || host.metric(name).await.ok().filter(|now| *now == wanted).map(drop);
    let what = format!("{wanted} secrets to be scheduled for deletion");
    shop.cluster.wait_for(&what, shop::PATIENCE, seen).await.unwrap();
}

/// Starts a server that dies at `point`, then one that lives, under which `check` must come true.
#[expect(clippy::print_stdout, reason = "a row of the table of faults that the test run ends with")]
async fn dies_and_returns(host: &Host<'_>, point: &str, check: impl AsyncFnOnce()) {
    let mut doomed = host.start(Some(point)).await.unwrap();
    let ended = timeout(Duration::from_secs(90), doomed.ended()).await;
    let status = ended.unwrap_or_else(|_| panic!("the server never came to {point}")).unwrap();
    assert_eq!(status.signal(), Some(9), "the server ended at {point} in another way: {status}");
    let server = host.start_ready().await.unwrap();
    check().await;
    server.kill().await.unwrap();
    println!("fault: server killed | {point} | completed by itself, one version");
}

fn versions(status: &Value) -> BTreeSet<String> {
    let all = status["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(|version| Some(version["id"].as_str()?.to_owned())).collect()
}

fn bearer(status: &Value, stage: &str) -> Option<String> {
    let holds = |version: &&Value| {
        version["stages"].as_array().is_some_and(|stages| stages.iter().any(|found| found == stage))
    };
    status["versions"].as_array()?.iter().find(holds)?["id"].as_str().map(str::to_owned)
}

fn current(status: &Value) -> String {
    bearer(status, "AWSCURRENT").unwrap_or_default()
}
