//! What the product itself tells of when pods had their files: the log of a node's agent, the server's histogram.
//! Must not judge what is promised of a test's own clock, which a busy machine makes slow.

use jiff::Timestamp;
use serde_json::Value;
use tidelock_e2e::install;
use tidelock_e2e::shop::Shop;

use super::PATIENCE;

/// What is promised of a change, from the return of the node's stream to the files.
const PROMISED_SECONDS: f64 = 5.0;
/// A busy machine may need more, so three times that much is asserted.
const ASSERTED_SECONDS: f64 = 3.0 * PROMISED_SECONDS;

/// How long after the last return of its node's stream a mounted volume had other files.
pub async fn changed_after_return(shop: &Shop, node: usize, uid: &str) -> f64 {
    let log = agent_log(shop, node).await;
    let changed = last(&log, "the files of a volume were changed", uid);
    within_promise(seconds(connected_before(&log, changed), time(&log[changed])))
}

/// How long a pod waited for its first files once kubelet had asked and the node's stream was there.
pub async fn mounted_after_return(shop: &Shop, node: usize, uid: &str) -> f64 {
    let log = agent_log(shop, node).await;
    let published = last(&log, "volume is published", uid);
    let took = log[published]["took_ms"].as_f64().unwrap() / 1000.0;
    within_promise(took.min(seconds(connected_before(&log, published), time(&log[published]))))
}

/// How many of so many pods had a new version within the promise of its commit, since the server's process began. All of
/// them must have had it within twice as much.
pub async fn received_at_once(shop: &Shop, wanted: usize) -> usize {
    let mut page = String::new();
    let all = async || {
        page = server(shop, "metrics").await?;
        (receipts(&page, "count", "") == wanted).then_some(())
    };
    shop.cluster.wait_for("the receipts to be measured", PATIENCE, all).await.unwrap();
    let within = |seconds: f64| receipts(&page, "bucket", &format!("le=\"{seconds}\""));
    assert_eq!(within(2.0 * PROMISED_SECONDS), wanted, "{page}");
    within(PROMISED_SECONDS)
}

fn receipts(page: &str, part: &str, label: &str) -> usize {
    let name = format!("tidelock_projection_commit_to_receipt_seconds_{part}");
    let rows = page.lines().filter(|line| line.starts_with(&name) && line.contains(label));
    rows.filter_map(|row| row.rsplit_once(' ')?.1.parse::<usize>().ok()).sum()
}

/// What the server's health port answers; nothing while the server is away.
pub async fn server(shop: &Shop, page: &str) -> Option<String> {
    let path = format!("/api/v1/namespaces/{}/pods/tidelock-server-0:8080/proxy/{page}", install::NAMESPACE);
    shop.cluster.kubectl(&["get", "--raw", &path]).await.ok()
}

fn within_promise(waited: f64) -> f64 {
    assert!(waited <= ASSERTED_SECONDS, "{waited:.1} s, and {PROMISED_SECONDS} s are promised");
    waited
}

/// The log of the agent's container that runs now.
async fn agent_log(shop: &Shop, node: usize) -> Vec<Value> {
    let name = shop.cluster.node(node).name();
    let agents = shop.own_pods("node").await.unwrap();
    let here = |pod: &&k8s_openapi::api::core::v1::Pod| {
        pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some(&name))
    };
    let agent = agents.iter().find(here).unwrap().metadata.name.clone().unwrap();
    let words = ["-n", install::NAMESPACE, "logs", &agent, "-c", "agent"];
    let log = shop.cluster.kubectl(&words).await.unwrap();
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Where it was last said of a volume of this pod.
fn last(log: &[Value], message: &str, uid: &str) -> usize {
    let is_it = |line: &Value| {
        line["message"] == message && line["mount"].as_str().is_some_and(|mount| mount.starts_with(uid))
    };
    log.iter().rposition(is_it).unwrap_or_else(|| panic!("`{message}` is not said of {uid}"))
}

fn connected_before(log: &[Value], position: usize) -> Timestamp {
    let connected = log[..position].iter().rfind(|line| line["message"] == "connected to the server");
    time(connected.unwrap())
}

fn time(line: &Value) -> Timestamp {
    line["timestamp"].as_str().unwrap().parse().unwrap()
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}
