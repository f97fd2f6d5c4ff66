//! Pods that come and go: nothing of theirs stays on the node, and the agent's memory does not grow.

use std::collections::BTreeMap;

use serde_json::json;
use tidelock_e2e::shop::{NAMESPACE, PATIENCE, Shop};

use super::on_node;

const CYCLES: usize = 200;
/// Pods that live at one time.
const BATCH: usize = 20;
/// What the agent may have grown by since the first batch.
const GROWTH_KIB_MAX: i64 = 2048;
const NODE: usize = 2;

pub async fn pods_that_come_and_go_leave_nothing(shop: &Shop) {
    let cycles = cycles();
    let mut first = None;
    let mut last = 0;
    for batch in 0..cycles.div_ceil(BATCH) {
        let names: Vec<String> = (0..BATCH).map(|number| format!("cycle-{batch}-{number}")).collect();
        let pods = names.iter().map(|name| {
            let mut pod = on_node(shop, name, NODE);
            pod["spec"]["automountServiceAccountToken"] = json!(false);
            pod["metadata"]["labels"] = json!({"batch": batch.to_string()});
            pod
        });
        shop.apply(&pods.collect::<Vec<_>>()).await.unwrap();
        let label = format!("batch={batch}");
        let words = ["-n", NAMESPACE, "wait", "--for=condition=Ready", "pod", "-l", &label, "--timeout=240s"];
        shop.cluster.kubectl(&words).await.unwrap();
        shop.cluster.kubectl(&["-n", NAMESPACE, "delete", "pod", "-l", &label]).await.unwrap();
        nothing_is_left(shop).await;
        let (own, program) = resident_kib(shop).await;
        println!(
            "{} pod cycles: the agent holds {own} KiB, and {program} KiB of its program",
            (batch + 1) * BATCH
        );
        last = own;
        first.get_or_insert(last);
    }
    let grown = last - first.unwrap_or_default();
    assert!(grown <= GROWTH_KIB_MAX, "the agent grew by {grown} KiB");
    let none = |status: &serde_json::Value| status["consumers"]["total"] == 0;
    shop.status_is("orders-db", "no consumer", none).await.unwrap();
    println!(
        "fault: {cycles} pods come and go | {BATCH} at a time on one node | no mount, no manifest, agent {grown:+} KiB \
         since cycle {BATCH}"
    );
}

#[expect(clippy::disallowed_methods, reason = "a longer run is somebody's choice for this one time")]
fn cycles() -> usize {
    std::env::var("TIDELOCK_POD_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(CYCLES)
}

/// On the node, in both containers' own namespaces, and in the agent's notes.
async fn nothing_is_left(shop: &Shop) {
    let node = shop.cluster.node(NODE);
    let mut left = String::new();
    let clean = async || {
        let script = "cat /proc/self/mountinfo; for p in $(pidof tidelock); do cat /proc/$p/mountinfo; done";
        let mounts = node.run("sh", &["-c", script]).await.ok()?;
        let manifests = node.run("ls", &["-A", "/run/tidelock/manifests"]).await.ok()?;
        let folders = node
            .run("sh", &["-c", "ls -d /var/lib/kubelet/pods/*/volumes/kubernetes.io~csi/* || true"])
            .await
            .ok()?;
        left = mounts
            .lines()
            .filter(|line| line.contains("kubernetes.io~csi"))
            .chain(manifests.lines())
            .chain(folders.lines())
            .collect::<Vec<_>>()
            .join("\n");
        left.is_empty().then_some(())
    };
    if let Err(late) = shop.cluster.wait_for("nothing to be left on the node", PATIENCE, clean).await {
        panic!("{late}\nleft: {left}");
    }
}

/// The agent's resident memory without tmpfs pages: its own, and what of its program the kernel has mapped just now, which
/// comes and goes as the kernel likes and cannot leak.
async fn resident_kib(shop: &Shop) -> (i64, i64) {
    let script = "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q '^[^ ]*tidelock nod[e] --' \
                  && grep -E '^Rss(Anon|File|Shmem)' $p/status; done; true";
    let text = shop.cluster.node(NODE).run("sh", &["-c", script]).await.unwrap();
    let of = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        Some((name.to_owned(), rest.trim().strip_suffix(" kB")?.trim().parse::<i64>().ok()?))
    };
    let found: BTreeMap<String, i64> = text.lines().filter_map(of).collect();
    (found["RssAnon"], found["RssFile"])
}
