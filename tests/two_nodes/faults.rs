//! The death of agent, mounter and server while pods read. No reader ever misses a file.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidelock_e2e::shop::{PATIENCE, Shop};
use tidelock_e2e::{install, reading};

use super::{PASSWORD, PROMISED, VALUE, agent, delete, on_node, restart_container, servers};

/// Within this much of asking for a rotation the blow falls: about as long as a rotation takes.
const MOMENT_MAX_MS: u64 = 6000;

pub async fn files_outlive_agent_mounter_and_server(shop: &Shop) {
    let reader =
        reading::reads(shop.pod("reader", "orders-db", "orders-db", on_node(shop, 2, json!({}))), VALUE);
    let elsewhere = shop.pod("elsewhere", "orders-db", "orders-db", on_node(shop, 1, json!({})));
    shop.apply(&[reader, elsewhere]).await.unwrap();
    shop.running("reader").await.unwrap();
    shop.running("elsewhere").await.unwrap();

    for (round, victims) in [&["agent"][..], &["mounter"], &["agent", "mounter"]].into_iter().enumerate() {
        let old = shop.file("reader", PASSWORD).await.unwrap();
        let version = shop.status("orders-db").await.unwrap()["currentVersion"].clone();
        let restarts = restarts(shop, 2).await;
        shop.rotate("orders-db", &format!("deadly-{round}")).await.unwrap();
        // At a moment that is another in each run, or as soon as the files have changed.
        let moment = Duration::from_millis(RandomState::new().hash_one(round) % MOMENT_MAX_MS);
        let early = shop.changed("reader", PASSWORD, &old, moment).await.is_ok();
        for victim in victims {
            kill(shop, 2, victim).await;
        }
        more_restarts(shop, 2, &restarts, victims).await;
        ready_again(shop, 2).await;
        let rotated = |status: &Value| status["currentVersion"] != version;
        shop.status_is("orders-db", "the new version", rotated).await.unwrap();
        let back = Instant::now();
        shop.changed("reader", PASSWORD, &old, PROMISED).await.unwrap();
        println!(
            "fault: {} killed {moment:?} into a rotation | {} | the new version within {:.2} s of there being both",
            victims.join(" and "),
            if early { "after the swap" } else { "before the swap" },
            back.elapsed().as_secs_f32()
        );
        shop.changed("elsewhere", PASSWORD, &old, PATIENCE).await.unwrap();
    }
    missed_nothing(shop).await;

    servers(shop, 0).await;
    let value = shop.file("reader", VALUE).await.unwrap();
    restart_container(shop, "reader").await;
    assert_eq!(shop.file("reader", VALUE).await.unwrap(), value, "a container starts again without a server");
    servers(shop, 1).await;
    missed_nothing(shop).await;
    delete(shop, &["reader", "elsewhere"]).await;
}

async fn missed_nothing(shop: &Shop) {
    let count = reading::missed_nothing(shop, "reader").await.unwrap();
    println!("the reader has read {count} times, each time a whole value");
}

/// SIGKILL for the process of one of the two containers, from the node.
pub async fn kill(shop: &Shop, node: usize, container: &str) {
    // The bracket keeps the search from finding itself.
    let command = if container == "agent" { "nod[e]" } else { "mounte[r]" };
    let script = format!(
        "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q '^[^ ]*tidelock {command} --' \
         && kill -9 ${{p#/proc/}} && echo killed; done; true"
    );
    let killed = shop.cluster.node(node).run("sh", &["-c", &script]).await.unwrap();
    assert_eq!(killed.trim(), "killed", "one process is the {container}");
}

async fn restarts(shop: &Shop, node: usize) -> BTreeMap<String, i32> {
    let pod = agent(shop, node).await;
    let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
    statuses.into_iter().map(|container| (container.name, container.restart_count)).collect()
}

async fn more_restarts(shop: &Shop, node: usize, before: &BTreeMap<String, i32>, of: &[&str]) {
    let more = async || {
        let now = restarts(shop, node).await;
        of.iter().all(|name| now.get(*name) > before.get(*name)).then_some(())
    };
    shop.cluster.wait_for("kubelet to start again what was killed", PATIENCE, more).await.unwrap();
}

/// Waits until server and agents say that they are ready, with every container up.
pub async fn ready_again(shop: &Shop, node: usize) {
    let ready = async || {
        let pod = agent(shop, node).await;
        install::is_ready(&pod).then_some(())
    };
    shop.cluster.wait_for("the agent to be ready again", PATIENCE, ready).await.unwrap();
}

pub async fn nothing_is_left_on_the_nodes(shop: &Shop) {
    for node in shop.cluster.nodes() {
        let clean = async || {
            let mounts = node.run("cat", &["/proc/self/mountinfo"]).await.ok()?;
            let manifests = node.run("ls", &["-A", "/run/tidelock/manifests"]).await.ok()?;
            (!mounts.contains("kubernetes.io~csi") && manifests.trim().is_empty()).then_some(())
        };
        let what = format!("{} to hold neither a mount nor a manifest", node.name());
        shop.cluster.wait_for(&what, PATIENCE, clean).await.unwrap();
    }
}
