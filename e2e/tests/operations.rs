//! For whoever runs it, on one cluster: the doctor finds a fresh installation in order and names what is broken then,
//! the metrics are those that are listed, and the backup of `docs/operations.md` is taken and restored as it says.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "the faults that were tried are shown as a table")]

use std::fs;

use serde_json::{Value, json};
use tidelock_e2e::install::{self, NAMESPACE};
use tidelock_e2e::shop::{self, PATIENCE, Shop};
use tidelock_e2e::{Options, Person, Reader, images};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const PASSWORD: &str = "/run/tidelock/orders-db/password";
const TO_MEND: i32 = 3;
const NOT_ALL_SEEN: i32 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_what_is_broken_and_a_backup_brings_the_same_values_back() {
    let shop = Shop::open_with(Options::nodes(1), &[]).await.unwrap();
    let busybox = images::busybox().await.unwrap();
    shop.cluster.name_image(&busybox, "docker.io/library/busybox:1.37").await.unwrap();
    shop.login("orders-db").await.unwrap();
    shop.apply(&[shop.pod("app", "orders-db", "orders-db", json!({}))]).await.unwrap();
    shop.running("app").await.unwrap();
    let reader = Reader::of("docs/operations.md", shop).await.unwrap();
    let (shop, admin) = (&reader.shop, &reader.person);
    a_fresh_installation_is_in_order(shop, admin).await;
    who_may_not_look_learns_which_right_is_missing(shop).await;
    the_metrics_are_those_that_are_listed(shop).await;
    what_was_removed_is_named_and_helm_brings_it_back(shop, admin).await;
    a_node_without_an_agent_is_named(shop, admin).await;
    a_server_that_is_away_is_named_with_what_hangs_on_it(shop, admin).await;
    the_backup_of_the_document_brings_the_same_values_back(reader).await;
}

/// What the doctor finds, and with which code he ends.
async fn findings(person: &Person) -> (Option<i32>, Vec<Value>) {
    let said = person.types(&["doctor", "-n", shop::NAMESPACE, "-o", "json"]).await.unwrap();
    let found = serde_json::from_str::<Value>(&said.answer);
    let found = found.unwrap_or_else(|error| panic!("{error}: {}{}", said.answer, said.aside));
    (said.code, found.as_array().unwrap().clone())
}

/// Waits until the doctor names all of these, each to be mended, and ends accordingly.
async fn names(shop: &Shop, person: &Person, wanted: &[(&str, &str)]) {
    let mut last = Vec::new();
    let named = async || {
        let (code, found) = findings(person).await;
        let is_named = |(reason, words): &(&str, &str)| {
            found.iter().any(|one| {
                one["state"] == "mend"
                    && one["reason"] == *reason
                    && one["message"].as_str().unwrap().contains(words)
            })
        };
        let all = code == Some(TO_MEND) && wanted.iter().all(is_named);
        last = found;
        all.then_some(())
    };
    let waited = shop.cluster.wait_for(&format!("the doctor to name {wanted:?}"), PATIENCE, named).await;
    if waited.is_err() {
        panic!("{wanted:?} is not named, but {last:#?}");
    }
    for (reason, _) in wanted {
        println!("fault: {reason} | a running installation | named by tidelock doctor");
    }
}

async fn is_in_order(shop: &Shop, person: &Person) -> Vec<Value> {
    let mut last = (None, Vec::new());
    let well = async || {
        last = findings(person).await;
        (last.0 == Some(0)).then(|| last.1.clone())
    };
    let waited = shop.cluster.wait_for("the doctor to find all in order", PATIENCE, well).await;
    waited.unwrap_or_else(|_| panic!("not in order: {last:#?}"))
}

async fn a_fresh_installation_is_in_order(shop: &Shop, admin: &Person) {
    let found = is_in_order(shop, admin).await;
    let checks: Vec<&str> = found.iter().map(|one| one["check"].as_str().unwrap()).collect();
    for check in
        ["definitions", "server", "store", "root key", "certificates", "webhook", "node agents", "rights"]
    {
        assert!(checks.contains(&check), "{check} was not looked at: {checks:?}");
    }
    // Helm makes the namespace without a level of Pod Security.
    let others: Vec<_> =
        found.iter().filter(|one| one["state"] != "well").map(|one| &one["reason"]).collect();
    assert_eq!(others, ["NamespaceLevelNotSet"], "{found:#?}");
    let table = admin.types(&["doctor", "-n", shop::NAMESPACE]).await.unwrap().well();
    assert!(table.starts_with("CHECK") && table.contains("InOrder"), "{table}");
    assert!(table.contains("certificate until") && table.contains("and the store's"), "{table}");
}

async fn who_may_not_look_learns_which_right_is_missing(shop: &Shop) {
    let stranger = Person::named(&shop.cluster, "nobody").await.unwrap();
    let (code, found) = findings(&stranger).await;
    assert_eq!(code, Some(NOT_ALL_SEEN), "{found:#?}");
    assert!(found.iter().all(|one| one["state"] != "mend"), "what is not seen is not broken: {found:#?}");
    let says = |words: &str| found.iter().any(|one| one["message"].as_str().unwrap().contains(words));
    for words in
        ["cannot get resource \"statefulsets\"", "cannot create resource \"pods\"", "subjectaccessreviews"]
    {
        assert!(says(words), "{words} is missing in {found:#?}");
    }
}

async fn the_metrics_are_those_that_are_listed(shop: &Shop) {
    let page = fs::read_to_string(format!("{ROOT}/docs/metrics.md")).unwrap();
    let agent = shop.own_pods("node").await.unwrap().remove(0).metadata.name.unwrap();
    for (pod, must) in [
        ("tidelock-server-0:8080".to_owned(), ["tidelock_store_info", "tidelock_node_streams"]),
        (format!("{agent}:8081"), ["tidelock_node_stream_connected", "tidelock_node_publishes_total"]),
    ] {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/proxy/metrics");
        let shown = shop.cluster.kubectl(&["get", "--raw", &path]).await.unwrap();
        let kinds: Vec<(&str, &str)> =
            shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
        for (name, kind) in &kinds {
            assert!(
                page.contains(&format!("| `{name}` | {kind} |")),
                "docs/metrics.md does not list {name}, a {kind}"
            );
        }
        for name in must {
            assert!(kinds.iter().any(|(shown, _)| *shown == name), "{pod} does not show {name}");
        }
    }
}

async fn what_was_removed_is_named_and_helm_brings_it_back(shop: &Shop, admin: &Person) {
    let level = "pod-security.kubernetes.io/enforce";
    for words in [
        &["delete", "validatingadmissionpolicybinding", "tidelock-secret-authors"][..],
        &["delete", "crd", "rotationschedules.tidelock.dev"],
        &["-n", "tidelock-rotations", "delete", "rolebinding", "tidelock-server"],
        &["label", "namespace", NAMESPACE, &format!("{level}=restricted")],
    ] {
        shop.cluster.kubectl(words).await.unwrap();
    }
    let wanted = [
        ("PolicyMissing", "the binding of policy tidelock-secret-authors"),
        ("DefinitionMissing", "rotationschedules.tidelock.dev"),
        ("RightMissing", "create jobs.batch in namespace tidelock-rotations"),
        ("NamespaceNotPrivileged", "enforces restricted"),
    ];
    names(shop, admin, &wanted).await;
    shop.cluster
        .kubectl(&["label", "namespace", NAMESPACE, &format!("{level}=privileged"), "--overwrite"])
        .await
        .unwrap();
    install::install(&shop.cluster, &shop.image, &[]).await.unwrap();
    let found = is_in_order(shop, admin).await;
    assert!(found.iter().all(|one| one["state"] == "well"), "{found:#?}");
}

async fn a_node_without_an_agent_is_named(shop: &Shop, admin: &Person) {
    let node = shop.cluster.node(1).name();
    let nowhere = json!([{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["nowhere"]}]}]);
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": nowhere}}});
    let patch = json!({"spec": {"template": {"spec": {"affinity": affinity}}}}).to_string();
    shop.cluster
        .kubectl(&["-n", NAMESPACE, "patch", "daemonset", "tidelock-node", "-p", &patch])
        .await
        .unwrap();
    names(shop, admin, &[("AgentMissing", &format!("no agent is ready on {node}"))]).await;
    shop.cluster.kubectl(&["-n", NAMESPACE, "rollout", "undo", "daemonset/tidelock-node"]).await.unwrap();
    install::rolled_out(&shop.cluster).await.unwrap();
    is_in_order(shop, admin).await;
}

async fn scale(shop: &Shop, replicas: usize) {
    let words = ["-n", NAMESPACE, "scale", "statefulset/tidelock-server", &format!("--replicas={replicas}")];
    shop.cluster.kubectl(&words).await.unwrap();
    if replicas == 0 {
        let none = async || shop.own_pods("server").await.ok().filter(Vec::is_empty).map(drop);
        shop.cluster.wait_for("no server to be left", PATIENCE, none).await.unwrap();
    }
}

async fn a_server_that_is_away_is_named_with_what_hangs_on_it(shop: &Shop, admin: &Person) {
    scale(shop, 0).await;
    let wrong =
        json!([{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": other_authority()}]);
    let patch =
        ["patch", "mutatingwebhookconfiguration", "tidelock", "--type=json", "-p", &wrong.to_string()];
    shop.cluster.kubectl(&patch).await.unwrap();
    let wanted = [
        ("ServerScaledDown", "--replicas=1"),
        ("CaBundleWrong", "the published authority"),
        ("WebhookUnreachable", "annotated-pods-need-tidelock-server-running"),
    ];
    names(shop, admin, &wanted).await;
    scale(shop, 1).await;
    is_in_order(shop, admin).await;
}

/// The certificate of an authority that is not ours, as a caBundle holds it.
fn other_authority() -> String {
    let pem = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap().cert.pem();
    // An object's bytes are written in Base64.
    json!(k8s_openapi::ByteString(pem.into_bytes())).as_str().unwrap().to_owned()
}

async fn revealed(person: &Person) -> String {
    let words =
        ["get", "orders-db", "-n", shop::NAMESPACE, "--reveal", "--service-account", "shop/orders-db"];
    person.types(&words).await.unwrap().well()
}

/// The document's commands in its order. Between backup and restore everything is lost.
async fn the_backup_of_the_document_brings_the_same_values_back(mut reader: Reader) {
    reader.finds("tidelock doctor");
    reader.finds("tidelock get NAME --reveal");
    let commands = std::mem::take(&mut reader.left);
    let (shop, admin) = (&reader.shop, &reader.person);
    let (value, file) = (revealed(admin).await, shop.file("app", PASSWORD).await.unwrap());
    let mut accepted = false;
    for command in commands {
        if command.contains("create secret generic tidelock-root-key") {
            key_and_store_are_lost(shop, admin).await;
        }
        if command.starts_with("tidelock init --accept-loss=") {
            names(shop, admin, &[("StoreRolledBack", "tidelock init --accept-loss=")]).await;
            accepted = true;
        }
        if command == "tidelock doctor" {
            is_in_order(shop, admin).await;
        }
        reader.types(&command).await.unwrap();
    }
    assert!(accepted, "the document does not say how an older copy is accepted");
    assert!(revealed(admin).await == value, "another value than before");
    assert!(shop.file("app", PASSWORD).await.unwrap() == file, "the pod has another value than before");
    shop.schedule("orders-db").await.unwrap();
    shop.rotate("orders-db", "after-the-restore").await.unwrap();
    shop.changed("app", PASSWORD, &file, PATIENCE).await.unwrap();
    println!(
        "fault: store and root key lost | between two backups | restored, older copy accepted, same values"
    );
}

async fn key_and_store_are_lost(shop: &Shop, admin: &Person) {
    shop.cluster.kubectl(&["-n", NAMESPACE, "delete", "secret", "tidelock-root-key"]).await.unwrap();
    names(shop, admin, &[("RootKeyMissing", "restore it from its backup")]).await;
    scale(shop, 0).await;
    let volume = shop.cluster.node(1).inside("/var/lib/tidelock-volumes/tidelock-store").unwrap();
    let mut emptied = 0;
    for entry in fs::read_dir(&volume).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::remove_file(path).unwrap();
            emptied += 1;
        }
    }
    assert!(emptied > 0, "the store was not where it was looked for");
}
