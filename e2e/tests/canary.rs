//! A value that is mounted and rotated while everything logs at TRACE must be found nowhere but in the pod's files.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tidelock_e2e::canary::dresses;
use tidelock_e2e::shop::{self, NAMESPACE, Shop};
use tidelock_e2e::{Options, install};

const PASSWORD: &str = "/run/tidelock/orders-db/password";
const WHOLE: &str = "/run/tidelock/orders-db/value";

/// The files under `place` in which one of the patterns stands.
fn hunt(place: &Path, patterns: &Path) -> Vec<String> {
    let output = Command::new("grep").args(["-rlaF", "-f"]).args([patterns, place]).output().unwrap();
    // 2 says that a file went away or is a socket; what was found is printed all the same.
    assert!(matches!(output.status.code(), Some(0..=2)), "{output:?}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_is_nowhere_but_in_the_files_of_its_pod() {
    let shop = Shop::open_with(Options::nodes(1), &["log.level=trace"]).await.unwrap();
    shop.login("orders-db").await.unwrap();
    shop.schedule("orders-db").await.unwrap();
    shop.apply(&[shop.pod("app", "orders-db", "orders-db", json!({}))]).await.unwrap();
    shop.running("app").await.unwrap();
    let first = shop.file("app", PASSWORD).await.unwrap();
    shop.rotate("orders-db", "canary").await.unwrap();
    let second = shop.changed("app", PASSWORD, &first, shop::PATIENCE).await.unwrap();
    shop.status_is("orders-db", "a receipt", |s| s["consumers"]["current"] == 1).await.unwrap();
    let whole = shop.file("app", WHOLE).await.unwrap();

    let work = tempfile::tempdir().unwrap();
    let patterns = work.path().join("patterns");
    let all: Vec<String> = [&first, &second, &whole].iter().flat_map(|value| dresses(value)).collect();
    fs::write(&patterns, all.join("\n") + "\n").unwrap();

    // What is not a file of the cluster is written beside.
    let seen = work.path().join("seen");
    fs::create_dir(&seen).unwrap();
    for (name, arguments) in [
        (
            "objects",
            vec![
                "get",
                "pods,events,managedsecrets,rotationschedules,jobs,secrets,configmaps,leases",
                "-A",
                "-o",
                "json",
            ],
        ),
        ("server", vec!["logs", "-n", install::NAMESPACE, "statefulset/tidelock-server", "--tail=-1"]),
        (
            "agent",
            vec![
                "logs",
                "-n",
                install::NAMESPACE,
                "daemonset/tidelock-node",
                "--all-containers",
                "--tail=-1",
            ],
        ),
        (
            "metrics",
            vec![
                "get",
                "--raw",
                "/api/v1/namespaces/tidelock-system/pods/tidelock-server-0:8080/proxy/metrics",
            ],
        ),
    ] {
        let text = shop.cluster.kubectl(&arguments).await.unwrap();
        assert!(text.len() > 100, "{name} is empty: the hunt would prove nothing");
        fs::write(seen.join(name), text).unwrap();
    }
    // At `trace` our own lines of every level are there; those of libraries stay at `info`, for they print tokens.
    let server = fs::read_to_string(seen.join("server")).unwrap();
    assert!(server.contains("\"DEBUG\""), "the server logs no more than usual");
    assert_eq!(hunt(&seen, &patterns), Vec::<String>::new());

    // Disks of the node: etcd with its log, the store with its own, every container's log, what kubelet keeps.
    let disk = shop.cluster.folder();
    assert_eq!(hunt(disk, &patterns), Vec::<String>::new());

    // The hunter finds what is there to be found.
    fs::write(disk.join("planted"), format!("x{second}x")).unwrap();
    assert_eq!(hunt(disk, &patterns).len(), 1);
    let uid = format!("metadata.namespace={NAMESPACE}");
    assert!(
        !shop.cluster.kubectl(&["get", "events", "-A", "--field-selector", &uid]).await.unwrap().is_empty()
    );
}
