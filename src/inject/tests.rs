//! Tables of pods and annotations, and properties of the grammar. Must not need a cluster.

mod sdk;

use json_patch::Patch;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::attributes::{DRIVER, KEYS, MODE, OWNER_UID, SECRET};
use super::*;

fn endpoint() -> Endpoint {
    Endpoint {
        url: "https://tidelock-server.tidelock.svc:8444".into(),
        region: "local-1".into(),
        account: "123456789012".into(),
        audience: "tidelock.tidelock/api".into(),
    }
}

/// A pod with one init container and one container, and the given annotations.
fn pod(annotations: &[(&str, &str)]) -> Value {
    let annotations: serde_json::Map<String, Value> =
        annotations.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "orders", "annotations": annotations},
        "spec": {
            "initContainers": [{"name": "migrate", "image": "m"}],
            "containers": [{"name": "app", "image": "a"}],
        },
    })
}

fn patched(pod: &Value) -> Value {
    let injection = inject(pod, "shop", &endpoint()).unwrap();
    let patch: Patch = serde_json::from_value(Value::Array(injection.operations)).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

#[track_caller]
fn refused(pod: &Value, expected: &str) {
    let message = inject(pod, "shop", &endpoint()).expect_err("the pod is refused").to_string();
    assert!(message.contains(expected), "`{message}` does not say `{expected}`");
}

fn volume(name: &str, attributes: Value) -> Value {
    json!({"name": name, "csi": {"driver": DRIVER, "readOnly": true, "volumeAttributes": attributes}})
}

fn mount(name: &str, path: &str) -> Value {
    json!({"name": name, "mountPath": path, "readOnly": true})
}

#[test]
fn a_pod_without_the_annotation_is_left_alone() {
    let plain = pod(&[("tidelock.dev/containers", "nonsense"), ("example.com/inject", "x")]);
    assert_eq!(inject(&plain, "shop", &endpoint()).unwrap(), Injection::default());
    let bare = json!({"spec": {"containers": []}});
    assert_eq!(inject(&bare, "shop", &endpoint()).unwrap(), Injection::default());
}

#[test]
fn one_secret_becomes_a_volume_and_a_mount_in_every_container() {
    let pod = patched(&pod(&[(INJECT, "orders-db")]));
    let spec = &pod["spec"];
    assert_eq!(spec["volumes"], json!([volume("tidelock-orders-db", json!({"secret": "orders-db"}))]));
    let expected = json!([mount("tidelock-orders-db", "/run/tidelock/orders-db")]);
    assert_eq!(spec["containers"][0]["volumeMounts"], expected);
    assert_eq!(spec["initContainers"][0]["volumeMounts"], expected);
}

#[test]
fn refinements_reach_the_secret_that_they_name() {
    let pod = patched(&pod(&[
        (INJECT, "orders-db, billing.key"),
        ("tidelock.dev/path.orders-db", "/etc/orders/"),
        ("tidelock.dev/keys.orders-db", "username, password=pass.txt"),
        ("tidelock.dev/mode.billing.key", "400"),
        ("tidelock.dev/owner-uid.billing.key", "1000"),
        ("tidelock.dev/containers", "app"),
    ]));
    let spec = &pod["spec"];
    let orders = json!({"secret": "orders-db", "keys": "username,password=pass.txt"});
    let billing = json!({"secret": "billing.key", "mode": "0400", "ownerUid": "1000"});
    assert_eq!(
        spec["volumes"],
        json!([volume("tidelock-orders-db", orders), volume("tidelock-billing-key", billing)])
    );
    assert_eq!(
        spec["containers"][0]["volumeMounts"],
        json!([
            mount("tidelock-orders-db", "/etc/orders"),
            mount("tidelock-billing-key", "/run/tidelock/billing.key")
        ])
    );
    assert!(spec["initContainers"][0].get("volumeMounts").is_none());
}

#[test]
fn a_secret_of_another_namespace_keeps_it_and_the_own_namespace_is_left_out() {
    let pod = patched(&pod(&[(INJECT, "shop/orders-db,platform/ca")]));
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    assert_eq!(volumes[0]["csi"]["volumeAttributes"][SECRET], "orders-db");
    assert_eq!(volumes[1]["csi"]["volumeAttributes"][SECRET], "platform/ca");
}

#[test]
fn two_secrets_of_one_name_need_a_path_which_may_name_the_namespace() {
    let two = [(INJECT, "db,platform/db")];
    refused(&pod(&two), "set another path with the annotation `tidelock.dev/path.platform_db`");
    let ambiguous = [two[0], ("tidelock.dev/path.db", "/a")];
    refused(&pod(&ambiguous), "more than one `db`; write `<namespace>_db`");
    let placed = patched(&pod(&[two[0], ("tidelock.dev/path.platform_db", "/etc/platform")]));
    let mounts = &placed["spec"]["containers"][0]["volumeMounts"];
    assert_eq!(
        *mounts,
        json!([mount("tidelock-db", "/run/tidelock/db"), mount("tidelock-db-2", "/etc/platform")])
    );
    // The own namespace has a name as well.
    patched(&pod(&[two[0], ("tidelock.dev/path.shop_db", "/etc/shop")]));
}

#[test]
fn what_a_pod_has_already_stays_and_is_added_to() {
    let mut had = pod(&[(INJECT, "orders-db")]);
    had["spec"]["volumes"] = json!([{"name": "tidelock-orders-db", "emptyDir": {}}]);
    had["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "tidelock-orders-db", "mountPath": "/run"}]);
    had["spec"]["initContainers"][0]["volumeMounts"] = Value::Null;
    had["spec"]["futureField"] = json!({"kept": true});
    let pod = patched(&had);
    let spec = &pod["spec"];
    assert_eq!(spec["volumes"][0], had["spec"]["volumes"][0]);
    assert_eq!(spec["volumes"][1]["name"], "tidelock-orders-db-2");
    assert_eq!(spec["containers"][0]["volumeMounts"][0]["mountPath"], "/run");
    assert_eq!(spec["containers"][0]["volumeMounts"][1]["name"], "tidelock-orders-db-2");
    assert_eq!(spec["initContainers"][0]["volumeMounts"].as_array().unwrap().len(), 1);
    assert_eq!(spec["futureField"], had["spec"]["futureField"]);
}

#[test]
fn a_second_invocation_adds_nothing_and_a_container_added_since_is_served() {
    let mut once = patched(&pod(&[(INJECT, "orders-db,platform/ca"), ("tidelock.dev/mode.ca", "0400")]));
    assert!(inject(&once, "shop", &endpoint()).unwrap().operations.is_empty());
    // The API server fills in fields of mounts.
    once["spec"]["containers"][0]["volumeMounts"][0]["recursiveReadOnly"] = json!("Disabled");
    let sidecar = json!({"name": "proxy", "image": "p", "volumeMounts": []});
    once["spec"]["containers"].as_array_mut().unwrap().push(sidecar);
    let twice = patched(&once);
    assert_eq!(twice["spec"]["volumes"], once["spec"]["volumes"]);
    assert_eq!(twice["spec"]["containers"][0], once["spec"]["containers"][0]);
    assert_eq!(twice["spec"]["containers"][1]["volumeMounts"].as_array().unwrap().len(), 2);
}

#[test]
fn what_is_asked_for_is_told_to_the_caller() {
    let asked =
        inject(&pod(&[(INJECT, "a,b/c"), ("tidelock.dev/keys.c", "k")]), "shop", &endpoint()).unwrap().asked;
    let names: Vec<String> = asked.iter().map(|attributes| attributes.secret.to_string()).collect();
    assert_eq!(names, ["a", "b/c"]);
    assert_eq!(asked[1].secret.namespace_or("shop"), "b");
    assert_eq!(asked[1].keys[0].key(), "k");
}

#[test]
fn a_wrong_list_is_refused_with_what_is_right() {
    for (list, expected) in [
        ("", "separated by commas, as in `orders-db,billing-key`"),
        ("a,,b", "separated by commas"),
        ("Orders", "in lower case letters, digits, `-` and `.`"),
        ("a/b/c", "write `name` or `namespace/name`"),
        ("shop.prod/a", "is not the name of a namespace"),
        ("a,a", "`a` is there twice"),
        ("a,shop/a", "`a` is there twice"),
        ("-a", "not the name of a ManagedSecret"),
    ] {
        refused(&pod(&[(INJECT, list)]), expected);
    }
    // White space around names is forgiven.
    patched(&pod(&[(INJECT, " a ,b\n")]));
    let many: Vec<String> = (0..65).map(|number| format!("s{number}")).collect();
    refused(&pod(&[(INJECT, &many.join(","))]), "65 secrets are more than 64");
}

#[test]
fn a_wrong_refinement_is_refused_with_what_is_right() {
    for (annotation, value, expected) in [
        ("tidelock.dev/path.db", "run/x", "write an absolute path"),
        ("tidelock.dev/path.db", "/run/../etc", "write an absolute path"),
        ("tidelock.dev/path.db", "/a//b", "write an absolute path"),
        ("tidelock.dev/path.db", "/a:b", "write an absolute path"),
        ("tidelock.dev/path.db", "/", "write an absolute path"),
        ("tidelock.dev/path.db", "/proc/self", "which a container needs"),
        ("tidelock.dev/path.db", "/dev", "which a container needs"),
        ("tidelock.dev/path.other", "/x", "does not ask for `other`; it asks for db"),
        ("tidelock.dev/path.platform_db", "/x", "does not ask for `platform_db`"),
        ("tidelock.dev/mode.db", "0888", "as in `0440`"),
        ("tidelock.dev/mode.db", "4755", "at most `0777`"),
        ("tidelock.dev/mode.db", "0000", "can be read"),
        ("tidelock.dev/mode.db", "+77", "as in `0440`"),
        ("tidelock.dev/owner-uid.db", "root", "as in `1000`"),
        ("tidelock.dev/owner-uid.db", "-1", "as in `1000`"),
        ("tidelock.dev/owner-uid.db", "4294967295", "as in `1000`"),
        ("tidelock.dev/keys.db", "", "write `key` or `key=file`"),
        ("tidelock.dev/keys.db", "a,", "write `key` or `key=file`"),
        ("tidelock.dev/keys.db", "value", "write `value=<another name>`"),
        ("tidelock.dev/keys.db", "a=../b", "one name without `/`"),
        ("tidelock.dev/keys.db", "a=..data", "does not begin with `..`"),
        ("tidelock.dev/keys.db", "a=x,b=x", "two keys become the file `x`"),
        ("tidelock.dev/containers", "app,other", "no container `other`; it has migrate, app"),
        ("tidelock.dev/containers", " ", "names of containers are expected"),
        ("tidelock.dev/patth.db", "/x", "is not known; there are tidelock.dev/inject"),
        ("tidelock.dev/injekt", "db", "is not known; there are tidelock.dev/inject"),
    ] {
        let pod = pod(&[(INJECT, "db"), (annotation, value)]);
        refused(&pod, expected);
        refused(&pod, annotation);
    }
}

#[test]
fn a_path_that_is_taken_is_refused_and_one_below_another_volume_is_not() {
    let with = |path: &str| {
        let mut pod = pod(&[(INJECT, "db")]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": path}]);
        pod
    };
    for taken in ["/run/tidelock/db", "/run/tidelock/db/", "/run/tidelock/db/sub"] {
        refused(&with(taken), "set another path with the annotation `tidelock.dev/path.db`");
    }
    for free in ["/run", "/run/tidelock", "/run/tidelock/db2", "/"] {
        patched(&with(free));
    }
    let mut writable = pod(&[(INJECT, "db")]);
    writable["spec"]["volumes"] = json!([volume("mine", json!({"secret": "db"}))]);
    writable["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "mine", "mountPath": "/run/tidelock/db", "subPath": "value", "readOnly": true}]);
    refused(&writable, "has something mounted at");
}

#[test]
fn two_secrets_whose_paths_are_inside_each_other_are_refused() {
    let nested = [(INJECT, "a,b"), ("tidelock.dev/path.b", "/run/tidelock/a/b")];
    refused(&pod(&nested), "`a` and `b` would both be at");
}

#[test]
fn pods_that_cannot_carry_a_volume_of_ours_are_refused() {
    let mut windows = pod(&[(INJECT, "db")]);
    windows["spec"]["os"] = json!({"name": "windows"});
    refused(&windows, "Linux pods only");
    refused(&pod(&[(INJECT, "db"), ("kubernetes.io/config.mirror", "x")]), "static pod");
    refused(&json!({"metadata": {"annotations": {INJECT: "db"}}}), "no list spec.containers");
}

#[test]
fn volume_names_are_labels_even_for_long_names() {
    let long = format!("{}.{}", "a".repeat(60), "b".repeat(60));
    let same_start = format!("{}.{}", "a".repeat(60), "c".repeat(60));
    let pod = patched(&pod(&[(INJECT, &format!("{long},{same_start}"))]));
    for volume in pod["spec"]["volumes"].as_array().unwrap() {
        let name = volume["name"].as_str().unwrap();
        assert!(name.len() <= 63 && !name.contains('.') && !name.ends_with('-'), "{name}");
    }
}

#[test]
fn attributes_that_are_not_ours_are_refused_and_what_kubelet_adds_is_not() {
    #[track_caller]
    fn check(pairs: &[(&str, &str)], expected: &str) {
        let message = Attributes::parse(pairs.iter().copied()).unwrap_err().to_string();
        assert!(message.contains(expected), "`{message}` does not say `{expected}`");
    }
    check(&[], "attribute `secret` is missing");
    check(&[(SECRET, "a"), ("path", "/x")], "`path` is not known; there are secret, keys, mode");
    check(&[(SECRET, "../a")], "attribute `secret`: `..` is not the name of a namespace");
    check(&[(SECRET, "a"), (MODE, "rw")], "attribute `mode`");
    check(&[(SECRET, "a"), (OWNER_UID, "0x0")], "attribute `ownerUid`");
    check(&[(SECRET, "a"), (KEYS, "a/b")], "attribute `keys`");
    let from_kubelet = [
        (SECRET, "shop/a"),
        ("csi.storage.k8s.io/pod.name", "orders"),
        ("csi.storage.k8s.io/serviceAccount.tokens", "{}"),
    ];
    let read = Attributes::parse(from_kubelet).unwrap();
    assert_eq!(read.secret.to_string(), "shop/a");
}

proptest! {
    #[test]
    fn attributes_are_read_as_they_were_written(
        name in "[a-z0-9]{1,8}(\\.[a-z0-9]{1,8})?",
        namespace in proptest::option::of("[a-z][a-z0-9]{0,8}"),
        keys in proptest::collection::btree_map("[A-Za-z_ .äß-]{0,8}[A-Za-z]", "[a-z][a-z._-]{0,6}x", 0..5),
        mode in proptest::option::of(0o400u32..=0o777),
        owner_uid in proptest::option::of(0u32..u32::MAX),
    ) {
        let secret = namespace.map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}"));
        let keys: Vec<String> = keys.iter().map(|(key, file)| format!("{}={file}", key.trim())).collect();
        let mut pairs = vec![(SECRET, secret)];
        if !keys.is_empty() { pairs.push((KEYS, keys.join(","))); }
        if let Some(mode) = mode { pairs.push((MODE, format!("{mode:o}"))); }
        if let Some(uid) = owner_uid { pairs.push((OWNER_UID, uid.to_string())); }
        // Two keys may meet in one file by chance; that is refused, and tested above.
        if let Ok(first) = Attributes::parse(pairs.iter().map(|(name, value)| (*name, value.as_str()))) {
            let rendered = first.render();
            let again = Attributes::parse(rendered.iter().map(|(name, value)| (*name, value.as_str())));
            prop_assert_eq!(again, Ok(first));
        }
    }

    #[test]
    fn whatever_the_annotations_say_a_pod_is_refused_or_injected_once_and_for_all(
        list in "([a-c]|shop/a|x/b|[,. /_-]|\\PC){0,12}",
        word in "(path|keys|mode|owner-uid|containers|\\PC{0,4})",
        target in "(\\.a|\\.b|\\.x_b|\\PC{0,6})",
        value in "(/[a-z/.]{0,12}|[0-7]{3,4}|[a-z=,]{0,12}|app|\\PC{0,12})",
    ) {
        let refined = format!("tidelock.dev/{word}{target}");
        let asked = pod(&[(INJECT, &list), (&refined, &value)]);
        match inject(&asked, "shop", &endpoint()) {
            Err(refusal) => prop_assert!(!refusal.to_string().contains(char::is_control)),
            Ok(_) => {
                let once = patched(&asked);
                prop_assert!(inject(&once, "shop", &endpoint()).unwrap().operations.is_empty());
                for volume in once["spec"]["volumes"].as_array().into_iter().flatten() {
                    let attributes = volume["csi"]["volumeAttributes"].as_object().unwrap();
                    let pairs = attributes.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
                    prop_assert!(Attributes::parse(pairs).is_ok());
                }
            }
        }
    }
}
