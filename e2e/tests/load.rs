//! A hundred pods on one node that mount one secret, and a hundred other secrets in the same pods. Must not assert a
//! speed: what was measured is printed.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use tidelock_e2e::install;
use tidelock_e2e::shop::{self, NAMESPACE, Shop};

const PODS: usize = 100;
const SHARED: &str = "orders-db";
/// Generous: machines that run tests are busy.
const DEADLINE: Duration = Duration::from_secs(900);
/// A tenth of a mebibyte of memory for each volume would be less than half of it. What is aimed at is printed beside it.
const AGENT_MIB_MAX: u64 = 60;

fn say(what: &str, figure: &str) {
    // Not `println`: what a test that passes prints there is not shown.
    let _ = writeln!(std::io::stdout(), "measured: {what:<48} {figure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_pods_share_one_copy_and_all_of_them_change() {
    let shop = Shop::open(1).await.unwrap();
    say("memory of the agent without volumes", &agent_memory(&shop).await.to_string());
    shop.login(SHARED).await.unwrap();
    shop.schedule(SHARED).await.unwrap();
    let own = |number: usize| format!("db-{number}");
    let secrets: Vec<Value> = (0..PODS).map(|number| shop::login(&own(number), SHARED)).collect();
    shop.apply(&secrets).await.unwrap();

    let began = Instant::now();
    let pod = |number: usize| {
        let mut pod =
            shop.pod(&format!("app-{number}"), &format!("{SHARED},{}", own(number)), SHARED, json!({}));
        // One process in each that sleeps.
        pod["spec"]["containers"][0]["command"] = json!(["sleep", "100000"]);
        pod
    };
    let pods: Vec<Value> = (0..PODS).map(pod).collect();
    shop.apply(&pods).await.unwrap();
    let api: Api<Pod> = Api::namespaced(shop.cluster.client(), NAMESPACE);
    let ready = async || {
        let listed = api.list(&ListParams::default()).await.ok()?.items;
        let ready = |pod: &&Pod| {
            pod.metadata.name.as_ref().is_some_and(|n| n.starts_with("app-")) && install::is_ready(pod)
        };
        (listed.iter().filter(ready).count() == PODS).then_some(())
    };
    shop.cluster.wait_for("a hundred pods to be Ready", DEADLINE, ready).await.unwrap();
    say("100 pods with two volumes each Ready after", &format!("{:.1} s", began.elapsed().as_secs_f64()));
    assert_eq!(agent(&shop, "tidelock_node_volumes").await, 2 * PODS as u64);
    assert_eq!(
        agent(&shop, "tidelock_node_payloads").await,
        1 + PODS as u64,
        "one copy of each version on the node"
    );
    let current = |s: &Value| s["consumers"]["current"] == PODS && s["consumers"]["total"] == PODS;
    shop.status_is(SHARED, "a hundred current consumers", current).await.unwrap();
    all_change(&shop).await;
    shop.status_is(SHARED, "a hundred current consumers", current).await.unwrap();
    let memory = agent_memory(&shop).await;
    say("memory of the agent with 200 volumes", &format!("{memory} MiB (aimed at: 20 MiB at 100)"));
    assert!(memory <= AGENT_MIB_MAX, "{memory} MiB, at most {AGENT_MIB_MAX}");
}

/// After a rotation every pod has the new password, of which one copy went to the node, and each was told of by a receipt.
async fn all_change(shop: &Shop) {
    let before = (passwords(shop).await, server(shop).await);
    assert_eq!(
        (before.0.len(), before.0.iter().collect::<BTreeSet<_>>().len()),
        (PODS, 1),
        "one password for all"
    );
    let old = before.0[0].clone();
    shop.rotate(SHARED, "load").await.unwrap();
    let changed = async || {
        let now = passwords(shop).await;
        let all: BTreeSet<_> = now.iter().collect();
        (now.len() == PODS && all.len() == 1 && !all.contains(&old)).then_some(())
    };
    shop.cluster.wait_for("the files of all pods to change", DEADLINE, changed).await.unwrap();
    let measured = async || {
        let page = server(shop).await;
        (sum(&page, &of_node(shop, "count")) >= PODS as f64).then_some(page)
    };
    let after = shop.cluster.wait_for("all receipts to be measured", DEADLINE, measured).await.unwrap();
    let more = |name: &str| sum(&after, name) - sum(&before.1, name);
    assert_eq!(more("tidelock_stream_payloads_sent_total"), 1.0, "one copy on the wire");
    assert_eq!(more("tidelock_stream_places_sent_total"), PODS as f64);
    assert_eq!(more("tidelock_projection_receipts_total"), PODS as f64);
    assert_eq!(sum(&after, &of_node(shop, "count")), PODS as f64);
    let mean = sum(&after, &of_node(shop, "sum")) / PODS as f64;
    say("commit to receipt, mean of 100 pods", &format!("{:.0} ms", mean * 1000.0));
    let buckets: Vec<_> = after
        .lines()
        .filter_map(|line| line.strip_prefix("tidelock_projection_commit_to_receipt_seconds_bucket{"))
        .filter_map(|line| line.split_once("le=\"")?.1.split_once("\"} "))
        .map(|(le, count)| format!("{count} within {le} s"))
        .collect();
    say("commit to receipt, cumulated", &buckets.join(", "));
}

fn of_node(shop: &Shop, part: &str) -> String {
    format!(
        "tidelock_projection_commit_to_receipt_seconds_{part}{{node=\"{}\"}}",
        shop.cluster.node(1).name()
    )
}

/// What the password's file of the shared secret holds in each pod, as kubelet's own folders on the node show it.
async fn passwords(shop: &Shop) -> Vec<String> {
    let volumes = "/var/lib/kubelet/pods/*/volumes/kubernetes.io~csi/*/mount";
    // The whole value of a secret beside its password: only the shared one's is printed.
    let script = format!("for d in {volumes}; do cat $d/password 2>/dev/null | sha256sum; done");
    let text = shop.cluster.node(1).run("/bin/sh", &["-c", &script]).await.unwrap();
    let mut counted: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for line in text.lines() {
        *counted.entry(line).or_default() += 1;
    }
    // Each pod's own secret is found once; what is found more often is the shared one.
    counted.into_iter().filter(|(_, n)| *n > 1).flat_map(|(line, n)| vec![line.to_owned(); n]).collect()
}

async fn server(shop: &Shop) -> String {
    metrics(shop, "tidelock-server-0", 8080).await
}

async fn metrics(shop: &Shop, pod: &str, port: u16) -> String {
    let path = format!("/api/v1/namespaces/{}/pods/{pod}:{port}/proxy/metrics", install::NAMESPACE);
    shop.cluster.kubectl(&["get", "--raw", &path]).await.unwrap()
}

async fn agent(shop: &Shop, name: &str) -> u64 {
    let pod = shop.own_pods("node").await.unwrap().remove(0).metadata.name.unwrap();
    sum(&metrics(shop, &pod, 8081).await, name) as u64
}

/// Of all rows that begin so.
fn sum(page: &str, name: &str) -> f64 {
    let rows = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    rows.filter_map(|value| value.trim().parse::<f64>().ok()).sum()
}

/// What the agent's process has taken for itself, in MiB.
async fn agent_memory(shop: &Shop) -> u64 {
    let script = "for p in /proc/[0-9]*; do \
                    tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q 'tidelock node' && grep RssAnon $p/status; \
                  done; true";
    let text = shop.cluster.node(1).run("/bin/sh", &["-c", script]).await.unwrap();
    let kibibytes = text.split_whitespace().filter_map(|word| word.parse::<u64>().ok()).max();
    kibibytes.unwrap() / 1024
}
