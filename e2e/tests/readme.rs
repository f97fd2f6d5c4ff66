//! The README's commands, typed as they stand there on a fresh cluster, and the samples that they apply.
//! A command that nothing here runs, and CI does not either, fails the test.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};
use tidelock_e2e::install::{self, NAMESPACE};
use tidelock_e2e::shop::{self, PATIENCE, Shop};
use tidelock_e2e::{Options, Part, Reader, images, registry};
use tokio::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_readme_does_what_the_readme_says() {
    let shop = Shop::without_tidelock(Options::nodes(1)).await.unwrap();
    shop.cluster.kubectl(&["delete", "namespace", shop::NAMESPACE]).await.unwrap();
    let mut reader = Reader::of("README.md", shop).await.unwrap();
    run_by_others(&mut reader);
    the_image_is_built_pushed_and_installed(&mut reader).await;
    the_samples_reach_their_state(&mut reader).await;
    a_rotation_and_the_terminal(&mut reader).await;
    an_uninstall_and_the_way_without_helm(&mut reader).await;
    a_pod_that_the_driver_left_behind_is_cured(&mut reader).await;
    assert_eq!(reader.left, Vec::<String>::new(), "nothing runs these commands of the README");
}

/// What CI runs before and after this test.
fn run_by_others(reader: &mut Reader) {
    let ci = fs::read_to_string(format!("{ROOT}/.ci/run")).unwrap();
    for command in ["make demo", "make demo-down", "make test", "make check"] {
        assert_eq!(reader.finds(command), command);
        assert!(ci.lines().any(|line| line == command), ".ci/run does not run `{command}`");
    }
    // `tests/dev.rs` types the first minute, with the program that was built for it.
    for begin in [
        "cargo build --release",
        "tidelock dev",
        "aws secretsmanager create-secret ",
        "aws secretsmanager get",
    ] {
        reader.finds(begin);
    }
}

async fn the_image_is_built_pushed_and_installed(reader: &mut Reader) {
    let build = reader.finds("make image");
    // On this machine, with the home that has cargo's.
    let output = Command::new("bash").current_dir(ROOT).args(["-c", &build]).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(Path::new(ROOT).join("target/tidelock-image.tar").exists());

    registry::serve(&reader.shop.cluster, 1, "registry.example").await.unwrap();
    let push = reader.finds("skopeo copy ");
    reader.shop.cluster.node(1).run("bash", &["-c", &format!("cd {ROOT} && {push}")]).await.unwrap();

    let notes = reader.does("helm install ").await.unwrap();
    assert!(notes.contains("is being installed in namespace tidelock-system"), "{notes}");
    install::ready(&reader.shop.cluster).await.unwrap();
    let pods = reader.shop.own_pods("server").await.unwrap();
    let image = pods[0].spec.as_ref().unwrap().containers[0].image.clone();
    assert_eq!(image.as_deref(), Some("registry.example/tidelock:0.1.0"), "pulled, not loaded");
}

async fn the_samples_reach_their_state(reader: &mut Reader) {
    let list = fs::read_to_string(format!("{ROOT}/config/samples/kustomization.yaml")).unwrap();
    for file in fs::read_dir(format!("{ROOT}/config/samples")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let listed = list.lines().any(|line| line == format!("- {name}"));
        assert!(listed || name == "kustomization.yaml", "config/samples/{name} is applied by nobody");
    }
    let busybox = images::busybox().await.unwrap();
    reader.shop.cluster.name_image(&busybox, "docker.io/library/busybox:1.37").await.unwrap();
    reader.does("kubectl apply -k config/samples").await.unwrap();

    let shop = &reader.shop;
    for secret in ["orders-db", "billing-key", "legacy-token", "reports-token"] {
        let ready = |s: &Value| shop::has_condition(s, "Ready", "True");
        shop.status_is(secret, "Ready", ready).await.unwrap();
    }
    let waits = |s: &Value| {
        s["conditions"].as_array().is_some_and(|all| all.iter().any(|c| c["reason"] == "WaitingForValue"))
    };
    let external = shop.status_is("partner-login", "that it waits for its value", waits).await.unwrap();
    assert!(!shop::has_condition(&external, "Ready", "True"), "{external}");
    for schedule in ["orders-db", "reports-token"] {
        let name = format!("rotationschedule/{schedule}");
        let wait = ["-n", shop::NAMESPACE, "wait", "--for=condition=Ready", &name, "--timeout=60s"];
        shop.cluster.kubectl(&wait).await.unwrap();
        let next = ["-n", shop::NAMESPACE, "get", &name, "-o", "jsonpath={.status.nextRotation}"];
        assert!(shop.cluster.kubectl(&next).await.unwrap().ends_with('Z'), "{schedule} says when it is due");
    }
    let rollout = ["-n", shop::NAMESPACE, "rollout", "status", "deployment/orders-api", "--timeout=120s"];
    shop.cluster.kubectl(&rollout).await.unwrap();
    let as_the_app = ["-n", shop::NAMESPACE, "--reveal", "--service-account", "shop/orders-api"];
    let value = async |secret: &str| {
        let words = [&["get", secret], &as_the_app[..]].concat();
        reader.person.types(&words).await.unwrap().well().trim_end().to_owned()
    };
    let login: Value = serde_json::from_str(&value("orders-db").await).unwrap();
    assert_eq!((&login["username"], &login["engine"]), (&json!("orders"), &json!("postgres")));
    let password = login["password"].as_str().unwrap();
    assert!(password.len() == 40 && !password.contains(['"', '\'', '@', '/', '\\']), "against its rules");
    assert_eq!(value("legacy-token").await, "replace-me");
    assert_eq!(value("billing-key").await.len(), 44, "32 bytes in Base64");
    let token = value("reports-token").await;
    assert!(token.len() == 40 && token.bytes().all(|b| b.is_ascii_alphanumeric()), "against its rules");
    // The paths that the README names.
    for file in ["username", "host", "password", "value"] {
        let path = format!("/run/tidelock/orders-db/{file}");
        let read = ["-n", shop::NAMESPACE, "exec", "deployment/orders-api", "--", "cat", &path];
        assert!(!shop.cluster.kubectl(&read).await.unwrap().is_empty(), "{path}");
    }
}

async fn a_rotation_and_the_terminal(reader: &mut Reader) {
    let current = async |reader: &Reader| {
        reader.shop.status("orders-db").await.unwrap()["currentVersion"].as_str().unwrap().to_owned()
    };
    let first = current(reader).await;
    reader.does("kubectl annotate managedsecret orders-db ").await.unwrap();
    let moved = |s: &Value| s["currentVersion"] != first.as_str();
    reader.shop.status_is("orders-db", "another current version", moved).await.unwrap();
    assert!(reader.does("tidelock list -A").await.unwrap().contains("partner-login"));
    assert!(
        reader
            .does("tidelock describe ")
            .await
            .unwrap()
            .contains("Rotation:    by RotationSchedule orders-db")
    );
    assert!(reader.does("tidelock versions ").await.unwrap().contains("AWSPREVIOUS"));
    let checked = reader.does("tidelock doctor").await.unwrap();
    assert!(checked.contains("InOrder") && !checked.contains(" mend "), "{checked}");
    let second = current(reader).await;
    assert!(reader.does("tidelock rotate ").await.unwrap().contains("is AWSCURRENT"));
    assert_ne!(current(reader).await, second);
    let value: Value = serde_json::from_str(&reader.does("tidelock get ").await.unwrap()).unwrap();
    assert_eq!(value["username"], "orders");
    for begin in ["kubectl create serviceaccount operator ", "kubectl create rolebinding operator "] {
        reader.does(begin).await.unwrap();
    }
    let explained = reader.does("tidelock explain ").await.unwrap();
    assert!(explained.contains("Allowed") && !explained.contains("refusal"), "{explained}");
    // The same program as a plugin of kubectl.
    let plugin = reader.person.kubeconfig().with_file_name("kubectl-tidelock");
    symlink(reader.person.program(), &plugin).unwrap();
    let path = plugin.parent().unwrap().display();
    let table = reader.types(&format!("PATH={path}:$PATH kubectl tidelock list -A")).await.unwrap();
    assert!(table.contains("orders-db"), "{table}");
}

async fn an_uninstall_and_the_way_without_helm(reader: &mut Reader) {
    let uninstall = reader.finds("helm uninstall ");
    let refused = format!("{:#}", reader.types(&uninstall).await.unwrap_err());
    assert!(refused.contains("pre-delete"), "refused while pods have our volumes: {refused}");
    assert!(reader.does("helm history ").await.unwrap().contains("uninstalling"));
    let rollback = reader.finds("helm rollback tidelock REVISION ");
    reader.types(&rollback.replace("REVISION", "1")).await.unwrap();
    install::ready(&reader.shop.cluster).await.unwrap();
    reader
        .shop
        .cluster
        .kubectl(&["-n", shop::NAMESPACE, "delete", "deployment", "orders-api"])
        .await
        .unwrap();
    let gone = async || {
        let words = ["-n", shop::NAMESPACE, "get", "pods", "-l", "app=orders-api", "-o", "name"];
        reader.shop.cluster.kubectl(&words).await.ok()?.trim().is_empty().then_some(())
    };
    reader.shop.cluster.wait_for("the samples' pods to end", PATIENCE, gone).await.unwrap();
    let said = reader.types(&uninstall).await.unwrap();
    for kept in ["secret/tidelock-root-key", "persistentvolumeclaim/store-tidelock-server-0"] {
        reader.shop.cluster.kubectl(&["get", kept, "-n", NAMESPACE]).await.unwrap();
    }
    for left in ["store-tidelock-server-0", "tidelock-root-key", "CustomResourceDefinitions"] {
        assert!(said.contains(left), "the uninstall does not say that it leaves {left}: {said}");
    }
    reader.shop.cluster.kubectl(&["get", "crd", "managedsecrets.tidelock.dev"]).await.unwrap();

    let away = async || {
        let words = ["get", "namespace", "tidelock-rotations", "--ignore-not-found", "-o", "name"];
        reader.shop.cluster.kubectl(&words).await.ok()?.trim().is_empty().then_some(())
    };
    reader.shop.cluster.wait_for("the namespace of rotations to be gone", PATIENCE, away).await.unwrap();
    // The manifests name an image that is the reader's to provide.
    let image = reader.shop.image.clone();
    reader.shop.cluster.name_image(&image, "docker.io/library/tidelock:0.1.0").await.unwrap();
    reader.does("kubectl apply -k config").await.unwrap();
    install::ready(&reader.shop.cluster).await.unwrap();
    let ready = |s: &Value| shop::has_condition(s, "Ready", "True");
    reader.shop.status_is("orders-db", "the same secret of the same store", ready).await.unwrap();
}

/// Both ways out that need no install.
async fn a_pod_that_the_driver_left_behind_is_cured(reader: &mut Reader) {
    let drain = reader.finds("helm template ");
    strand_a_pod(&reader.shop).await;
    reader.types(&drain).await.unwrap();
    the_pod_goes(&reader.shop, "the agents that only unmount").await;
    take_the_agents_away(&reader.shop).await;

    reader.types("kubectl apply -k config").await.unwrap();
    install::ready(&reader.shop.cluster).await.unwrap();
    let by_hand = reader.finds("findmnt ");
    strand_a_pod(&reader.shop).await;
    reader.shop.cluster.node(1).run("bash", &["-c", &by_hand]).await.unwrap();
    reader.shop.cluster.node(1).restart_part(Part::Kubelet).await.unwrap();
    the_pod_goes(&reader.shop, "the cure by hand").await;
}

/// A pod that cannot end, for the driver went before it.
async fn strand_a_pod(shop: &Shop) {
    shop.apply(&[shop.pod("app", "orders-db", "orders-api", json!({}))]).await.unwrap();
    shop.running("app").await.unwrap();
    take_the_agents_away(shop).await;
    shop.cluster.kubectl(&["-n", shop::NAMESPACE, "delete", "pod", "app", "--wait=false"]).await.unwrap();
    let state = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}";
    let ended = async || {
        let words = ["-n", shop::NAMESPACE, "get", "pod", "app", "-o", state];
        (!shop.cluster.kubectl(&words).await.ok()?.is_empty()).then_some(())
    };
    shop.cluster.wait_for("the pod to hang with its container ended", PATIENCE, ended).await.unwrap();
}

async fn take_the_agents_away(shop: &Shop) {
    shop.cluster.kubectl(&["-n", NAMESPACE, "delete", "daemonset", "tidelock-node"]).await.unwrap();
    let none = async || shop.own_pods("node").await.ok().filter(Vec::is_empty).map(drop);
    shop.cluster.wait_for("the node agent to be gone", PATIENCE, none).await.unwrap();
}

async fn the_pod_goes(shop: &Shop, cured_by: &str) {
    let gone = async || {
        let words = ["-n", shop::NAMESPACE, "get", "pod", "app", "--ignore-not-found", "-o", "name"];
        shop.cluster.kubectl(&words).await.ok()?.trim().is_empty().then_some(())
    };
    // kubelet asks again with growing pauses, up to two minutes.
    shop.cluster.wait_for(&format!("the pod to go by {cured_by}"), PATIENCE * 2, gone).await.unwrap();
}
