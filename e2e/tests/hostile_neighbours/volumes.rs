//! Attacks on mounts: attributes that lie, writable volumes, and folders that kubelet makes inside a volume.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidelock_e2e::shop::{NAMESPACE, PATIENCE};

use super::{MALLORY, Stage, secret, tokens};

const MINE: &str = "/run/tidelock/mine";
/// What `docs/injection.md` promises of a grant that ends.
const PROMISED: Duration = Duration::from_secs(5);

/// Name of the pod, what its volume says, and the words of the refusal.
fn lies() -> Vec<(&'static str, Value, &'static str)> {
    let huge = "k,".repeat(9000);
    vec![
        ("dots", json!({"secret": "../../../../etc/shadow"}), "is not the name of a ManagedSecret"),
        ("absolute", json!({"secret": "/etc/shadow"}), "is not the name of a ManagedSecret"),
        ("control", json!({"secret": "mine\n\u{1b}[31m/../x\u{7f}"}), "is not the name of a ManagedSecret"),
        (
            "another-s",
            json!({"secret": "shop/orders-db"}),
            "mallory/mallory may not have the secret shop/orders-db",
        ),
        (
            "neighbour-s",
            json!({"secret": "neighbour"}),
            "mallory/mallory may not have the secret mallory/neighbour",
        ),
        (
            "unshared-s",
            json!({"secret": "unshared"}),
            "mallory/mallory may not have the secret mallory/unshared",
        ),
        (
            "file-dots",
            json!({"secret": "mine", "keys": "password=../../../../../etc/hostile-dots"}),
            "cannot be a file",
        ),
        (
            "file-absolute",
            json!({"secret": "mine", "keys": "password=/etc/hostile-absolute"}),
            "cannot be a file",
        ),
        ("file-ours", json!({"secret": "mine", "keys": "password=..data"}), "cannot be a file"),
        ("file-control", json!({"secret": "mine", "keys": "password=hostile-\u{1}\n"}), "cannot be a file"),
        ("key-dots", json!({"secret": "mine", "keys": "../../hostile-key"}), "cannot be a file"),
        ("mode-setuid", json!({"secret": "mine", "mode": "4755"}), "is not a mode"),
        ("owner", json!({"secret": "mine", "ownerUid": "4294967295"}), "is not a user id"),
        ("huge", json!({"secret": "mine", "keys": huge}), "longer than 16 KiB"),
        ("unknown", json!({"secret": "mine", "path": "/etc"}), "attribute `path` is not known"),
    ]
}

fn read_only(attributes: Value) -> Value {
    json!({"driver": "csi.tidelock.dev", "readOnly": true, "volumeAttributes": attributes})
}

/// Everything that the node has to look at.
pub async fn are_asked_for(stage: &Stage<'_>) {
    // A secret of his own whose members would be files elsewhere.
    let members = json!({"../../../../etc/hostile-member": "x", "/etc/hostile-member": "x", "..data": "x", "a\nb": "x"});
    let value = json!({"generate": {"template": members, "key": "password"}});
    stage
        .author
        .creates(&secret("traps", json!({"value": value, "access": [{"serviceAccount": MALLORY}]})))
        .await
        .unwrap();
    let mut pods: Vec<Value> =
        lies().into_iter().map(|(name, says, _)| stage.pod(name, MALLORY, read_only(says))).collect();
    pods.push(stage.pod("traps", MALLORY, read_only(json!({"secret": "traps"}))));
    let mut writable = read_only(json!({"secret": "mine"}));
    writable["readOnly"] = json!(false);
    pods.push(stage.pod("writable", MALLORY, writable));
    // Kubelet makes the missing folder of a subPath, as root.
    let planted =
        |name: &str, folders: &[&str]| {
            let mut pod = stage.pod(name, MALLORY, read_only(json!({"secret": "mine"})));
            let mut mounts = vec![json!({"name": "login", "mountPath": MINE})];
            let each = folders.iter().enumerate();
            mounts.extend(each.map(
                |(at, folder)| json!({"name": "login", "mountPath": format!("/p{at}"), "subPath": folder}),
            ));
            pod["spec"]["containers"][0]["volumeMounts"] = json!(mounts);
            pod
        };
    let folders =
        ["planted/deep", "..data/planted/deep", "..2099_01_01_00_00_00.000000000/deep", "..planted"];
    pods.push(planted("planter", &folders));
    pods.push(planted("freezer", &["..data_tmp/deep"]));
    let mut expands = planted("expands", &[]);
    expands["spec"]["containers"][0]["env"] = json!([{"name": "WAY", "value": "../../../../../etc"}]);
    expands["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "login", "mountPath": "/way", "subPathExpr": "$(WAY)/hostile-expanded"}]);
    pods.push(expands);
    pods.extend(tokens::pods(stage, &tokens::stolen(stage).await));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": pods});
    stage.mallory.creates(&list).await.unwrap();

    let out = stage.mallory.creates(&planted("out", &["../../../../etc"])).await;
    stage.refused("subPath ../../../../etc", &stage.mallory, out, "must not contain '..'");
    let mut annotated = stage.pod("annotated", MALLORY, json!({}));
    annotated["spec"]["volumes"] = json!([]);
    annotated["spec"]["containers"][0]["volumeMounts"] = json!([]);
    for (path, says) in [("/run/../etc", "without `..`"), ("/proc/self", "which a container needs")] {
        annotated["metadata"]["annotations"] =
            json!({"tidelock.dev/inject": "mine", "tidelock.dev/path.mine": path});
        let created = stage.mallory.creates(&annotated).await;
        stage.refused(&format!("annotation path {path}"), &stage.mallory, created, says);
    }
    let mut on_host = stage.pod("on-host", MALLORY, json!({}));
    on_host["spec"]["volumes"] = json!([{"name": "login", "hostPath": {"path": "/run/tidelock"}}]);
    stage.refused(
        "hostPath to the agent's sockets",
        &stage.mallory,
        stage.mallory.creates(&on_host).await,
        "violates PodSecurity",
    );
}

pub async fn that_lie_are_refused(stage: &Stage<'_>) {
    for (name, _, says) in lies() {
        let told = stage.event_says(name, says).await;
        stage.harmless(
            &format!("a volume's attributes: {name}"),
            &stage.mallory.user,
            &format!("refused: {says}"),
            told,
        );
    }
    let told = stage.event_says("writable", "readOnly: true").await;
    stage.harmless("a writable volume", &stage.mallory.user, "refused: readOnly: true", told);
    let told = stage.event_says("expands", "must not contain '..'").await;
    stage.harmless("subPathExpr that expands to ..", &stage.mallory.user, "refused by kubelet", told);
    stage.is_running("traps").await.unwrap();
    let names = stage.in_pod("traps", "ls /login").await.unwrap();
    let only = names.split_whitespace().eq(["password", "value"]);
    let proof = if only { Ok(()) } else { Err(anyhow::anyhow!("{names}")) };
    stage.harmless(
        "members that are paths",
        &stage.mallory.user,
        "no files of theirs, only in the whole value",
        proof,
    );
    let seen = stage.shop.cluster.events(NAMESPACE, "stranger").await.unwrap();
    assert!(seen.contains("shop/default may not have the secret shop/orders-db"), "{seen}");
}

/// By root in a container that has the volume.
pub async fn cannot_be_written_to(stage: &Stage<'_>) {
    for pod in ["planter", "freezer"] {
        stage.is_running(pod).await.unwrap();
    }
    for script in [
        format!("ln -s /etc/passwd {MINE}/hostile-link"),
        format!("mv {MINE}/..data {MINE}/aside"),
        format!("rm {MINE}/..data"),
        format!("echo x > {MINE}/password"),
        format!("chmod 777 {MINE}/..data/password"),
        format!("mkdir {MINE}/hostile-folder"),
        format!("rm -rf {MINE}/..data/password"),
    ] {
        let shown = script.replace(MINE, "<volume>");
        let output = stage.shop.cluster.exec(MALLORY, "planter", None, &["sh", "-c", &script]).await.unwrap();
        let read_only = !output.success && output.stderr.contains("Read-only file system");
        let proof =
            if read_only { Ok(()) } else { Err(anyhow::anyhow!("{}{}", output.stdout, output.stderr)) };
        stage.harmless(
            &format!("{shown}, as root in the pod"),
            &stage.mallory.user,
            "refused: Read-only file system",
            proof,
        );
    }
    let script = format!("mount -o remount,rw {MINE}; mount -t tmpfs none {MINE}");
    let output = stage.shop.cluster.exec(MALLORY, "planter", None, &["sh", "-c", &script]).await.unwrap();
    let proof = if output.success { Err(anyhow::anyhow!("{}", output.stdout)) } else { Ok(()) };
    stage.harmless("remount, as root in the pod", &stage.mallory.user, "refused by the kernel", proof);
}

/// Updates, and the end of a right, reach the pod, also with a folder in our very way.
pub async fn with_planted_folders_go_on(stage: &Stage<'_>) {
    let all = format!("cat {MINE}/password; echo; ls -aR {MINE}");
    let before = stage.in_pod("planter", &format!("cat {MINE}/password")).await.unwrap();
    let seen = stage.in_pod("planter", &all).await.unwrap();
    for planted in ["planted", "..2099_01_01_00_00_00.000000000", "..planted"] {
        assert!(seen.contains(planted), "kubelet has made {planted}: {seen}");
    }
    let rotate = ["-n", MALLORY, "annotate", "managedsecret", "mine", "tidelock.dev/rotate=planted"];
    stage.shop.cluster.kubectl(&rotate).await.unwrap();
    let changed = async || {
        let now = stage.in_pod("planter", &format!("cat {MINE}/password")).await.ok()?;
        (now != before).then_some(())
    };
    let updated = stage
        .shop
        .cluster
        .wait_for("a pod with planted folders to get the new version", PATIENCE, changed)
        .await;
    stage.harmless(
        "folders planted by subPath, and a rotation",
        &stage.mallory.user,
        "the pod gets the new version",
        updated,
    );
    // The former files stay for moments, for who is just opening them.
    let left = async || {
        let files = stage.in_pod("planter", &format!("find {MINE} -type f -exec cat {{}} +")).await.ok()?;
        (!files.contains(&before)).then_some(())
    };
    let left = stage.shop.cluster.wait_for("the former version to go", 2 * PROMISED, left).await;
    stage.harmless(
        "a folder planted in the version in force",
        &stage.mallory.user,
        "the former version is gone",
        left,
    );
    let thawed = async || {
        let now = stage.in_pod("freezer", &format!("cat {MINE}/password")).await.ok()?;
        (now != before).then_some(())
    };
    let thawed = stage
        .shop
        .cluster
        .wait_for("the pod with a folder in our way to get the new version", PATIENCE, thawed)
        .await;
    stage.harmless(
        "a folder planted as ..data_tmp",
        &stage.mallory.user,
        "the pod gets the new version",
        thawed,
    );

    a_right_that_ends_takes_the_files_all_the_same(stage).await;
}

async fn a_right_that_ends_takes_the_files_all_the_same(stage: &Stage<'_>) {
    let none = json!({"spec": {"access": []}}).to_string();
    let words = ["-n", MALLORY, "patch", "managedsecret", "mine", "--type=merge", "-p", &none];
    stage.shop.cluster.kubectl(&words).await.unwrap();
    let gone = async || {
        let output = stage
            .shop
            .cluster
            .exec(MALLORY, "planter", None, &["cat", &format!("{MINE}/password")])
            .await
            .ok()?;
        (!output.success).then_some(())
    };
    let gone = stage.shop.cluster.wait_for("the files to go", PROMISED, gone).await;
    stage.harmless(
        "folders planted by subPath, and a right that ends",
        &stage.mallory.user,
        "the files go in time",
        gone,
    );
    stage.harmless(
        "all volumes",
        &stage.mallory.user,
        "nothing was written outside of them",
        nothing_outside(stage).await,
    );
}

async fn nothing_outside(stage: &Stage<'_>) -> Result<()> {
    let script = "find /etc /run/tidelock /var/lib/kubelet -name 'hostile-*' 2>/dev/null; true";
    let found = stage.shop.cluster.node(1).run("sh", &["-c", script]).await?;
    ensure!(found.trim().is_empty(), "{found}");
    Ok(())
}
