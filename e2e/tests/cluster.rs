//! The cluster that every other suite stands on: it works as a cluster, its faults are real, and it leaves nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is what a test is for")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::core::v1::{Node as NodeObject, PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use tidelock_e2e::{Cluster, Options, Part, images};

const SOON: Duration = Duration::from_secs(90);

/// A pod of the busybox image, pinned to a node.
async fn pod(cluster: &Cluster, name: &str, node: usize, command: &[&str], more: serde_json::Value) {
    let image = images::busybox().await.unwrap().name();
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": cluster.node(node).name()},
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": image, "command": command}],
        },
    });
    for (key, value) in more.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
}

async fn running(cluster: &Cluster, name: &str) {
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let what = format!("pod {name} to run");
    let running = cluster.wait_for(&what, SOON, async || {
        let status = pods.get(name).await.ok()?.status?;
        let ready = status
            .conditions?
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        ready.then_some(())
    });
    running.await.unwrap();
}

async fn node_is(cluster: &Cluster, index: usize, ready: bool) {
    let nodes: Api<NodeObject> = Api::all(cluster.client());
    let name = cluster.node(index).name();
    let what = format!("{name} to be {}", if ready { "Ready" } else { "not Ready" });
    let seen = cluster.wait_for(&what, SOON, async || {
        let conditions = nodes.get(&name).await.ok()?.status?.conditions?;
        let is = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        (is == ready).then_some(())
    });
    seen.await.unwrap();
}

/// Asks from inside a pod, again and again, until a page says what it should.
async fn page_is(cluster: &Cluster, from: &str, url: &str, wanted: &str) {
    let what = format!("{from} to read {wanted:?} at {url}");
    let seen = cluster.wait_for(&what, SOON, async || {
        let output = cluster
            .exec("default", from, None, &["timeout", "3", "wget", "-q", "-O", "-", url])
            .await
            .ok()?;
        (output.success && output.stdout.trim() == wanted).then_some(())
    });
    seen.await.unwrap();
}

const SERVE: &[&str] =
    &["sh", "-c", "mkdir /tmp/www && hostname > /tmp/www/name && exec httpd -f -p 8080 -h /tmp/www"];
const SLEEP: &[&str] = &["sleep", "3600"];

#[tokio::test]
async fn two_nodes_run_pods_with_dns_services_volumes_and_user_namespaces() {
    let cluster = Cluster::start(Options::nodes(2)).await.unwrap();
    pod(&cluster, "server", 2, SERVE, json!({})).await;
    pod(&cluster, "near", 2, SLEEP, json!({})).await;
    pod(&cluster, "far", 1, SLEEP, json!({})).await;
    pod(&cluster, "mapped", 1, SLEEP, json!({"hostUsers": false})).await;
    let service: Service = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "server"},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }))
    .unwrap();
    let services: Api<Service> = Api::default_namespaced(cluster.client());
    let address =
        services.create(&PostParams::default(), &service).await.unwrap().spec.unwrap().cluster_ip.unwrap();
    for name in ["server", "near", "far", "mapped"] {
        running(&cluster, name).await;
    }

    // Nothing in a cluster ends a command that hangs.
    let endless = cluster.exec_within(Duration::from_secs(2), "default", "near", None, SLEEP).await;
    assert!(endless.unwrap_err().to_string().contains("is not over after 2s"));

    // By name and Service, from the pod's own node, from another, and from itself.
    for from in ["near", "far", "server"] {
        page_is(&cluster, from, "http://server.default.svc.cluster.local/name", "server").await;
    }
    // From this machine, as a test that calls a Service does.
    let host =
        Command::new("busybox").args(["wget", "-q", "-O", "-", &format!("http://{address}/name")]).output();
    assert_eq!(String::from_utf8_lossy(&host.unwrap().stdout).trim(), "server");
    // From a node itself, as the API server calls webhooks.
    let url = format!("http://{address}/name");
    assert_eq!(
        cluster.node(1).run("busybox", &["wget", "-q", "-O", "-", &url]).await.unwrap().trim(),
        "server"
    );

    let map = cluster.exec("default", "mapped", None, &["cat", "/proc/self/uid_map"]).await.unwrap();
    assert_ne!(
        map.stdout.split_whitespace().nth(1),
        Some("0"),
        "root in the pod is root outside: {}",
        map.stdout
    );

    a_claim_gets_its_volume(&cluster).await;
    output_and_failure_of_a_command_are_told(&cluster).await;
    assert!(cluster.helm(&["list", "--all-namespaces"]).await.unwrap().contains("NAMESPACE"));
}

async fn a_claim_gets_its_volume(cluster: &Cluster) {
    cluster.static_volume(2, "disk", "1Gi").await.unwrap();
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }))
    .unwrap();
    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(cluster.client());
    claims.create(&PostParams::default(), &claim).await.unwrap();
    let write = ["sh", "-c", "echo kept > /data/file && exec sleep 3600"];
    let volumes = json!({
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        "containers": [{"name": "main", "image": images::busybox().await.unwrap().name(), "command": write,
            "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
    });
    pod(cluster, "writer", 2, SLEEP, volumes).await;
    running(cluster, "writer").await;
    // A pod runs from when its command is started, not from when that has written.
    let read = cluster.wait_for("what the pod wrote to be on the node's disk", SOON, async || {
        let read = cluster.node(2).run("cat", &["/var/lib/tidelock-volumes/disk/file"]).await.ok()?;
        (read.trim() == "kept").then_some(())
    });
    read.await.unwrap();
}

async fn output_and_failure_of_a_command_are_told(cluster: &Cluster) {
    let command = ["sh", "-c", "echo out; echo err >&2; exit 3"];
    let output = cluster.exec("default", "far", Some("main"), &command).await.unwrap();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str(), output.success), ("out\n", "err\n", false));
    assert!(output.message.contains("exit code 3"), "{}", output.message);
}

#[tokio::test]
async fn a_node_survives_power_cut_partition_pause_and_the_restart_of_its_parts() {
    let cluster = Cluster::start(Options::nodes(2)).await.unwrap();
    pod(&cluster, "server", 2, SERVE, json!({})).await;
    pod(&cluster, "client", 1, SLEEP, json!({})).await;
    running(&cluster, "server").await;
    running(&cluster, "client").await;
    let node = cluster.node(2);

    node.restart_part(Part::Kubelet).await.unwrap();
    node.restart_part(Part::Containerd).await.unwrap();
    page_is(&cluster, "client", &server_url(&cluster).await, "server").await;

    node.partition().unwrap();
    node_is(&cluster, 2, false).await;
    node.heal().unwrap();
    node_is(&cluster, 2, true).await;
    page_is(&cluster, "client", &server_url(&cluster).await, "server").await;

    node.stop().unwrap();
    node_is(&cluster, 2, false).await;
    node.cont().unwrap();
    node_is(&cluster, 2, true).await;

    node.kill().await.unwrap();
    assert!(!node.is_up());
    cluster.check().expect("a node that was told to go down is not a failure");
    cluster.start_node(2).await.unwrap();
    node_is(&cluster, 2, true).await;
    // kubelet needs a moment to see that the pod is not what it was; then the same pod runs again.
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let restarted = cluster.wait_for("the server's container to be started again", SOON, async || {
        let statuses = pods.get("server").await.ok()?.status?.container_statuses?;
        statuses.iter().any(|status| status.restart_count > 0 && status.ready).then_some(())
    });
    restarted.await.unwrap();
    page_is(&cluster, "client", &server_url(&cluster).await, "server").await;

    // The control plane's node too, with everything that was in etcd, and with a connection of ours to it.
    let endless = ["sleep", "3601"];
    let power_cut = async {
        let runs = async || cluster.node(1).process(&endless).ok().map(drop);
        cluster.wait_for("the command to run", SOON, runs).await.unwrap();
        cluster.node(1).kill().await.unwrap();
    };
    let command = cluster.exec_within(SOON, "default", "client", None, &endless);
    let (cut_off, ()) = tokio::join!(command, power_cut);
    let cut_off = format!("{:#}", cut_off.unwrap_err());
    assert!(!cut_off.contains("is not over"), "{cut_off}");
    cluster.start_node(1).await.unwrap();
    node_is(&cluster, 1, true).await;
    running(&cluster, "client").await;
}

async fn server_url(cluster: &Cluster) -> String {
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let address = pods.get("server").await.unwrap().status.unwrap().pod_ip.unwrap();
    format!("http://{address}:8080/name")
}

#[tokio::test]
async fn an_api_server_alone_admits_by_policy_and_runs_controllers_when_asked() {
    let (alone, controlled) =
        futures::future::join(Cluster::api_only(), Cluster::start(Options::api_only().with_controllers()))
            .await;
    let (alone, controlled) = (alone.unwrap(), controlled.unwrap());
    assert_ne!(alone.host_address(), controlled.host_address(), "two clusters at once");

    let policy = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "no-bad"},
            "spec": {
                "matchConstraints": {"resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]},
                "validations": [{"expression": "!has(object.data) || !('bad' in object.data)", "message": "not bad"}],
            }},
        {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "no-bad"},
            "spec": {"policyName": "no-bad", "validationActions": ["Deny"]}},
    ]});
    let file = alone.folder().join("policy.json");
    std::fs::write(&file, policy.to_string()).unwrap();
    alone.kubectl(&["apply", "-f", file.to_str().unwrap()]).await.unwrap();
    let refused = alone.wait_for("the policy to be in force", SOON, async || {
        let create = ["create", "configmap", "x", "--from-literal=bad=1", "--dry-run=server"];
        alone.kubectl(&create).await.err()
    });
    assert!(refused.await.unwrap().to_string().contains("not bad"));

    let namespaces: Api<Namespace> = Api::all(controlled.client());
    let name = "short-lived";
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    namespaces.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
    namespaces.delete(name, &DeleteParams::default()).await.unwrap();
    let gone = controlled.wait_for("the namespace controller to finish", SOON, async || {
        namespaces.get_opt(name).await.ok()?.is_none().then_some(())
    });
    gone.await.unwrap();
}

#[tokio::test]
async fn a_part_that_dies_is_named_with_the_end_of_its_log() {
    let flag = "--no-such-flag";
    let error = Cluster::start(Options::api_only().api_server_flag(flag)).await.err().expect("a wrong flag");
    let text = format!("{error:#}");
    assert!(text.contains("kube-apiserver on node1 died") && text.contains(flag), "{text}");

    let cluster = Cluster::api_only().await.unwrap();
    cluster.check().unwrap();
    cluster
        .node(1)
        .run("sh", &["-c", "kill -KILL $(cat $0/parts/etcd.pid)", &node_folder(&cluster)])
        .await
        .unwrap();
    let error = cluster.wait_for("something that never comes", SOON, async || None::<()>).await.unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("etcd on node1 died of signal 9"), "{text}");
}

fn node_folder(cluster: &Cluster) -> String {
    cluster.folder().join("node1").display().to_string()
}

/// What the machine has of a cluster, by the traces that any of its parts would leave.
fn traces(folder: &Path, bridge: &str, cgroups: &[PathBuf]) -> Vec<String> {
    let folder_text = folder.display().to_string();
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        if [command, environment].iter().any(|bytes| String::from_utf8_lossy(bytes).contains(&folder_text)) {
            found.push(format!("process {}", process.path().display()));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(
        mounts.lines().filter(|line| line.contains(&folder_text)).map(|line| format!("mount {line}")),
    );
    let links = Command::new("ip").args(["-brief", "link"]).output().unwrap();
    let links = String::from_utf8_lossy(&links.stdout).into_owned();
    found.extend(links.lines().filter(|line| line.contains(bridge)).map(|line| format!("link {line}")));
    found.extend(
        cgroups.iter().filter(|cgroup| cgroup.exists()).map(|cgroup| format!("cgroup {}", cgroup.display())),
    );
    if folder.exists() {
        found.push(format!("folder {folder_text}"));
    }
    found
}

#[tokio::test]
async fn a_dropped_cluster_leaves_no_process_no_bridge_no_mount_and_no_cgroup() {
    let cluster = Cluster::start(Options::nodes(1)).await.unwrap();
    pod(&cluster, "some", 1, SLEEP, json!({})).await;
    running(&cluster, "some").await;
    let folder = cluster.folder().to_path_buf();
    let bridge = format!("tlbr{}", folder.file_name().unwrap().to_str().unwrap());
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let statuses = pods.get("some").await.unwrap().status.unwrap().container_statuses.unwrap();
    let container = statuses[0].container_id.clone().unwrap().replace("containerd://", "");
    let cgroups = ["memory", "pids", "."]
        .map(|kind| Path::new("/sys/fs/cgroup").join(kind).join("k8s.io").join(&container));
    assert!(cgroups.iter().any(|cgroup| cgroup.exists()), "the test looks in the wrong place for cgroups");
    assert!(traces(&folder, &bridge, &cgroups).len() > 5, "the test looks in the wrong places");
    drop(cluster);
    assert_eq!(traces(&folder, &bridge, &cgroups), Vec::<String>::new());
}

#[tokio::test]
async fn a_killed_test_process_takes_its_cluster_along() {
    const ROLE: &str = "TIDELOCK_E2E_DIES_WITH_A_CLUSTER";
    #[expect(clippy::disallowed_methods, reason = "how this test speaks to its other half")]
    if let Ok(report) = std::env::var(ROLE) {
        let cluster = Cluster::api_only().await.unwrap();
        std::fs::write(&report, cluster.folder().to_str().unwrap()).unwrap();
        return std::future::pending().await;
    }
    let place = tempfile::tempdir().unwrap();
    let report = place.path().join("report");
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_test_process_takes_its_cluster_along"])
        .env(ROLE, &report)
        .spawn()
        .unwrap();
    let started = tidelock_e2e::wait_for("the other process to start its cluster", SOON, async || {
        std::fs::read_to_string(&report).ok().filter(|text| !text.is_empty())
    });
    let folder = PathBuf::from(started.await.unwrap());
    let processes =
        || traces(&folder, "no bridge", &[]).into_iter().filter(|trace| trace.starts_with("process")).count();
    assert!(processes() > 2, "etcd, the API server and the node's first process");
    other.kill().unwrap();
    other.wait().unwrap();
    let ended = tidelock_e2e::wait_for("its processes to end", Duration::from_secs(10), async || {
        (processes() == 0).then_some(())
    });
    ended.await.unwrap();
    // Bridge and folder go when the next cluster starts.
    let next = Cluster::api_only().await.unwrap();
    assert!(next.folder() == folder || !folder.exists());
}
