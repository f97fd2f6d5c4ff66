//! The server away for longer than the trust window: who keeps his files, who starts, who waits and is told why, and
//! that all who waited start when it is back. Must not look into Tidelock: pods, events and logs tell.
//!
//! TIDELOCK_AWAY_SECONDS says for how long; half of it is the trust window.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use tidelock_e2e::shop::{NAMESPACE, PATIENCE, Shop, login};
use tidelock_e2e::{Options, install};
use tokio::time::{Instant, sleep_until};

const AWAY_SECONDS: u64 = 120;
const LATE: usize = 8;
/// kubelet looks at a pod that waits at least as often.
const WAITING_MAX: Duration = Duration::from_secs(130);
/// What half of them are promised; a busy machine may need more, so three times that much is asserted.
const HALF_WITHIN: Duration = Duration::from_secs(5);

fn fault(what: &str, moment: &str, outcome: &str) {
    // Not `println`: what a test that passes prints there is not shown.
    let _ = writeln!(std::io::stdout(), "\nfault: {what:<34} | {moment:<34} | {outcome}");
}

#[expect(clippy::disallowed_methods, reason = "how long the test lasts is chosen from outside")]
fn away() -> Duration {
    let said = std::env::var("TIDELOCK_AWAY_SECONDS").ok();
    Duration::from_secs(said.map_or(AWAY_SECONDS, |text| text.parse().unwrap()))
}

#[expect(clippy::disallowed_methods, reason = "compared with the times that the agent's log gives")]
fn now() -> Timestamp {
    Timestamp::now()
}

fn file(secret: &str) -> String {
    format!("/run/tidelock/{secret}/password")
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_run_on_start_or_wait_as_promised_while_the_server_is_away_and_all_start_when_it_is_back() {
    let away = away();
    let window = away / 2;
    let setting = format!("node.trustWindow={}s", window.as_secs());
    let settings = [setting.as_str(), "server.recheckEvery=10s"];
    let shop = Shop::open_with(Options::nodes(1), &settings).await.unwrap();
    for secret in ["orders-db", "payments-db", "reports-db"] {
        shop.login(secret).await.unwrap();
    }
    // These two have what the trust window gives. The others are admitted now, while there is a webhook, and started
    // later; nobody on the node has reports-db.
    shop.apply(&[
        shop.pod("runner", "orders-db", "orders-db", json!({})),
        shop.pod("payer", "payments-db", "payments-db", json!({})),
    ])
    .await
    .unwrap();
    let late: Vec<String> = (0..LATE).map(|n| format!("late-{n}")).collect();
    let gated = |pod: &str, secret: &str| {
        shop.pod(pod, secret, secret, json!({"schedulingGates": [{"name": "test.tidelock.dev/wait"}]}))
    };
    let mut pods = vec![
        gated("trusted", "orders-db"),
        gated("trusted-payer", "payments-db"),
        gated("stranger", "reports-db"),
    ];
    pods.extend(late.iter().map(|pod| gated(pod, "orders-db")));
    shop.apply(&pods).await.unwrap();
    for pod in ["runner", "payer"] {
        shop.running(pod).await.unwrap();
    }
    let value = shop.file("runner", &file("orders-db")).await.unwrap();

    scale_server(&shop, 0).await;
    let lost = Instant::now();
    within_the_window(&shop, &value).await;
    take_away_the_right(&shop).await;

    sleep_until(lost + window + Duration::from_secs(1)).await;
    for pod in &late {
        start(&shop, pod).await;
    }
    for pod in &late {
        event(&shop, pod, "TrustWindowOver").await;
    }
    fault("server away", "after the trust window", "a new pod waits, event TrustWindowOver");
    assert_eq!(shop.file("runner", &file("orders-db")).await.unwrap(), value);
    sleep_until(lost + away).await;

    scale_server(&shop, 1).await;
    let back = now();
    let waiting: Vec<&str> = late.iter().map(String::as_str).chain(["stranger"]).collect();
    all_start(&shop, &waiting, away, back).await;
    what_was_done_is_told_and_judged(&shop, &value).await;
}

async fn within_the_window(shop: &Shop, value: &str) {
    for pod in ["trusted", "trusted-payer", "stranger"] {
        start(shop, pod).await;
    }
    for pod in ["trusted", "trusted-payer"] {
        shop.running(pod).await.unwrap();
    }
    assert_eq!(shop.file("trusted", &file("orders-db")).await.unwrap(), value);
    fault("server away", "within the trust window", "a new pod of a held secret starts with the files");
    event(shop, "stranger", "NoTrustedCopy").await;
    fault("server away", "within the trust window", "a pod of another account waits, event NoTrustedCopy");
    for pod in ["runner", "trusted"] {
        restart_container(shop, pod).await;
        assert_eq!(shop.file(pod, &file("orders-db")).await.unwrap(), value);
    }
    fault("server away", "a container restarts", "it starts with its files");
}

/// The right to payments-db, while nobody is there to act upon that.
async fn take_away_the_right(shop: &Shop) {
    let mut changed = login("payments-db", "payments-db");
    changed["spec"]["access"] = json!([{"serviceAccount": "nobody"}]);
    shop.apply(&[changed]).await.unwrap();
    shop.file("trusted-payer", &file("payments-db")).await.unwrap();
}

async fn all_start(shop: &Shop, waiting: &[&str], away: Duration, back: Timestamp) {
    let running = waiting.iter().map(|pod| ready_within(shop, pod, WAITING_MAX));
    join_all(running).await;
    let published = published(shop).await;
    let mut took: Vec<f64> =
        waiting.iter().map(|pod| (published[*pod].duration_since(back).as_secs_f64()).max(0.0)).collect();
    took.sort_by(f64::total_cmp);
    let (half, last) = (took[took.len() / 2], took[took.len() - 1]);
    fault(
        &format!("server away for {} s", away.as_secs()),
        "it is back",
        &format!(
            "{} pods that waited have their files, half within {half:.1} s, all within {last:.1} s",
            took.len()
        ),
    );
    assert!(half <= 3.0 * HALF_WITHIN.as_secs_f64(), "{took:?}");
    assert!(last <= WAITING_MAX.as_secs_f64(), "{took:?}");
}

async fn what_was_done_is_told_and_judged(shop: &Shop, value: &str) {
    let trusted = ["trusted", "trusted-payer"];
    let recorded = async || {
        let log =
            shop.cluster.kubectl(&["-n", install::NAMESPACE, "logs", "tidelock-server-0"]).await.ok()?;
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("the audit has a mount")).collect();
        for pod in trusted {
            lines.iter().find(|line| line.contains(&format!("\"{NAMESPACE}/{pod}\"")))?;
        }
        Some(lines.len())
    };
    let count = shop.cluster.wait_for("the audit to have what was served", PATIENCE, recorded).await.unwrap();
    assert_eq!(count, trusted.len(), "each once");
    for pod in ["payer", "trusted-payer"] {
        let gone = async || shop.file(pod, &file("payments-db")).await.is_err().then_some(());
        shop.cluster.wait_for(&format!("the files of {pod} to go"), PATIENCE, gone).await.unwrap();
    }
    fault("server away", "a right ends, the server is back", "the files go, also those of the trust window");
    assert_eq!(shop.file("trusted", &file("orders-db")).await.unwrap(), value);
    let all = |status: &Value| status["consumers"]["current"] == 2 + LATE;
    shop.status_is("orders-db", "all its consumers", all).await.unwrap();
}

/// When the agent answered kubelet, by pod.
async fn published(shop: &Shop) -> BTreeMap<String, Timestamp> {
    let agent = shop.own_pods("node").await.unwrap().remove(0).metadata.name.unwrap();
    let words = ["-n", install::NAMESPACE, "logs", &agent, "-c", "agent"];
    let log = shop.cluster.kubectl(&words).await.unwrap();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let published = lines.filter(|line| line["message"] == "volume is published");
    let read = |line: Value| {
        let (pod, at) = (line["pod"].as_str()?, line["timestamp"].as_str()?);
        Some((pod.to_owned(), at.parse().ok()?))
    };
    published.filter_map(read).collect()
}

/// Lets a pod go that was admitted before.
async fn start(shop: &Shop, pod: &str) {
    let patch = r#"[{"op":"remove","path":"/spec/schedulingGates"}]"#;
    shop.cluster.kubectl(&["-n", NAMESPACE, "patch", "pod", pod, "--type=json", "-p", patch]).await.unwrap();
}

async fn ready_within(shop: &Shop, pod: &str, within: Duration) {
    let words = ["-n", NAMESPACE, "get", "pod", pod, "-o", "jsonpath={.status.phase}"];
    let so = async || shop.cluster.kubectl(&words).await.ok().filter(|phase| phase == "Running").map(drop);
    // Some more for the container, which is not ours to answer for.
    shop.cluster.wait_for(&format!("pod {pod} to run"), within + PATIENCE, so).await.unwrap();
}

async fn restart_container(shop: &Shop, pod: &str) {
    let count = async || {
        let path = "jsonpath={.status.containerStatuses[0].restartCount}";
        let count = shop.cluster.kubectl(&["-n", NAMESPACE, "get", "pod", pod, "-o", path]).await.ok()?;
        count.parse::<u32>().ok()
    };
    let before = count().await.unwrap();
    // Its own process may be the first to end.
    let _ = shop.cluster.exec(NAMESPACE, pod, None, &["kill", "1"]).await;
    let again = async || count().await.filter(|now| *now > before);
    shop.cluster.wait_for(&format!("the container of {pod} to start again"), PATIENCE, again).await.unwrap();
    shop.running(pod).await.unwrap();
}

async fn event(shop: &Shop, pod: &str, words: &str) {
    let what = format!("an event on pod {pod} that says {words}");
    let said = async || shop.cluster.events(NAMESPACE, pod).await.ok()?.contains(words).then_some(());
    shop.cluster.wait_for(&what, PATIENCE, said).await.unwrap();
}

async fn scale_server(shop: &Shop, replicas: usize) {
    let replicas_are = format!("--replicas={replicas}");
    let words = ["-n", install::NAMESPACE, "scale", "statefulset/tidelock-server", &replicas_are];
    shop.cluster.kubectl(&words).await.unwrap();
    let so = async || {
        let pods = shop.own_pods("server").await.ok()?;
        (pods.len() == replicas && pods.iter().all(install::is_ready)).then_some(())
    };
    shop.cluster.wait_for("the server to be scaled", PATIENCE, so).await.unwrap();
}
