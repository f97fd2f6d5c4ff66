//! What the schemas and their rules admit and refuse, without a cluster; drift of the generated files.

use kube::core::CustomResourceExt;
use serde_json::{Value, json};

use super::*;

fn managed(spec: Value) -> ManagedSecret {
    serde_json::from_value(json!({
        "apiVersion": "tidelock.dev/v1alpha1", "kind": "ManagedSecret",
        "metadata": {"name": "orders-db", "namespace": "shop"}, "spec": spec,
    }))
    .unwrap()
}

fn schedule(spec: Value) -> RotationSchedule {
    serde_json::from_value(json!({
        "apiVersion": "tidelock.dev/v1alpha1", "kind": "RotationSchedule",
        "metadata": {"name": "orders-db", "namespace": "shop"}, "spec": spec,
    }))
    .unwrap()
}

/// The refusal must hold the words; no words means that it is admitted.
fn check(verdict: Result<(), kube::core::cel::ValidationErrors>, words: &str, spec: &Value) {
    match verdict {
        Ok(()) => assert!(words.is_empty(), "admitted, but expected `{words}`: {spec}"),
        Err(errors) => {
            let text = errors.to_string();
            assert!(!words.is_empty() && text.contains(words), "`{text}` instead of `{words}`: {spec}");
        }
    }
}

#[test]
fn exactly_one_kind_of_value_is_admitted() {
    for (value, words) in [
        (json!({"generate": {}}), ""),
        (json!({"fromSecret": {"name": "old", "key": "value"}}), ""),
        (json!({"symmetricKey": {"bytes": 32, "encoding": "Base64"}}), ""),
        (json!({"external": {}}), ""),
        (json!({}), "write exactly one of generate, fromSecret, symmetricKey or external"),
        (json!({"generate": {}, "external": {}}), "write exactly one of generate"),
        (json!({"generate": {"key": "password"}}), "write template and key together"),
        (json!({"generate": {"template": {"a": "b"}}}), "write template and key together"),
        (json!({"generate": {"template": {"a": "b"}, "key": "password"}}), ""),
        (
            json!({"generate": {"template": {"password": "b"}, "key": "password"}}),
            "remove the key that is generated",
        ),
        (json!({"generate": {"password": {"length": 4}}}), ""),
        (json!({"generate": {"password": {"length": 3}}}), "length is below the number of required kinds"),
        (json!({"generate": {"password": {"length": 4, "includeSpace": true}}}), "length is below"),
        (json!({"generate": {"password": {"length": 1, "requireEachIncludedType": false}}}), ""),
        (
            json!({"generate": {"password": {"length": 2, "excludeNumbers": true, "excludePunctuation": true}}}),
            "",
        ),
        (
            json!({"generate": {"password": {"excludeNumbers": true, "excludePunctuation": true,
                   "excludeLowercase": true, "excludeUppercase": true}}}),
            "every kind of character is excluded",
        ),
    ] {
        let spec = json!({"value": value});
        check(managed(spec.clone()).validate_cel(), words, &spec);
    }
}

#[test]
fn a_grant_names_a_service_account() {
    for (access, words) in [
        (json!([{"serviceAccount": "orders-api"}]), ""),
        (json!([{"serviceAccount": "a", "namespace": "b", "stages": ["AWSCURRENT"], "keys": ["k"]}]), ""),
        (json!([{"namespace": "b"}]), "name the ServiceAccount of the pods"),
        (json!([{"serviceAccount": ""}]), "name the ServiceAccount of the pods"),
    ] {
        let spec = json!({"value": {"external": {}}, "access": access});
        check(managed(spec.clone()).validate_cel(), words, &spec);
    }
}

#[test]
fn the_name_is_fixed_once_the_secret_is_made() {
    let spec = |name: Option<&str>| {
        let mut spec = json!({"value": {"external": {}}});
        if let Some(name) = name {
            spec["name"] = json!(name);
        }
        spec
    };
    for (old, new, words) in [
        (None, None, ""),
        (Some("shop/a"), Some("shop/a"), ""),
        (Some("shop/a"), Some("shop/b"), "name cannot be changed"),
        (Some("shop/a"), None, "name cannot be changed"),
        (None, Some("shop/b"), "name cannot be changed"),
    ] {
        let verdict = managed(spec(new)).validate_cel_update(&managed(spec(old)));
        check(verdict, words, &json!([old, new]));
    }
}

#[test]
fn schedules_windows_and_waits_are_refused_with_what_to_write() {
    let base = |field: &str, value: Value| {
        let mut spec =
            json!({"secret": "orders-db", "schedule": "rate(30 days)", "rotator": {"generate": {}}});
        spec[field] = value;
        spec
    };
    for (field, value, words) in [
        ("schedule", json!("cron(0 4 ? * SUN *)"), ""),
        ("schedule", json!("rate(1 day)"), ""),
        ("schedule", json!("rate(0 days)"), "write rate(<n> hours)"),
        ("schedule", json!("0 4 * * *"), "write rate(<n> hours)"),
        ("schedule", json!("cron(0 4 ? * SUN)"), "with six fields"),
        ("window", json!("2h"), ""),
        ("window", json!("24h"), ""),
        ("window", json!("25h"), "write whole hours from 1h to 24h"),
        ("window", json!("30m"), "write whole hours from 1h to 24h"),
        ("retries", json!({"limit": 3, "backoff": {"min": "30s", "max": "1h"}}), ""),
        ("retries", json!({"backoff": {"min": "2h", "max": "1h"}}), "min is longer than max"),
        ("retries", json!({"backoff": {"min": "soon"}}), "write a length of time"),
        ("rotator", json!({}), "write exactly one of generate or job"),
        ("rotator", json!({"generate": {}, "job": {"image": "a"}}), "write exactly one of generate or job"),
        (
            "rotator",
            json!({"job": {"image": "a", "env": [{"name": "AWS_REGION", "value": "x"}]}}),
            "are set by Tidelock",
        ),
        (
            "rotator",
            json!({"job": {"image": "a", "env": [{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}}),
            "not both",
        ),
        (
            "rotator",
            json!({"job": {"image": "a", "volumes": [{"name": "v", "mountPath": "/a"}]}}),
            "exactly one of secret, configMap or emptyDir",
        ),
        (
            "rotator",
            json!({"job": {"image": "a", "volumes": [{"name": "v", "mountPath": "/a", "emptyDir": {}}],
            "resources": {"limits": {"cpu": "1"}}, "nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}]}}),
            "",
        ),
    ] {
        let spec = base(field, value);
        check(schedule(spec.clone()).validate_cel(), words, &spec);
    }
}

#[test]
fn the_secret_of_a_schedule_is_fixed() {
    let spec =
        |secret: &str| json!({"secret": secret, "schedule": "rate(1 day)", "rotator": {"generate": {}}});
    check(
        schedule(spec("b")).validate_cel_update(&schedule(spec("a"))),
        "secret cannot be changed",
        &json!("b"),
    );
    check(schedule(spec("a")).validate_cel_update(&schedule(spec("a"))), "", &json!("a"));
}

#[test]
fn the_generated_files_are_those_of_these_types() {
    let files = [
        include_str!("../../crds/managedsecrets.tidelock.dev.yaml"),
        include_str!("../../crds/rotationschedules.tidelock.dev.yaml"),
    ];
    for (definition, file) in definitions().iter().zip(files) {
        assert!(yaml(definition).unwrap() == file, "run `make generate`: crds/ is not what src/crd says");
    }
    let chart = include_str!("../../charts/tidelock/templates/crds.yaml");
    assert!(
        chart_template().unwrap() == chart,
        "run `make generate`: the chart's crds.yaml is not what src/crd says"
    );
}

#[test]
fn definitions_are_small_have_no_defaults_and_explain_every_field() {
    for definition in definitions() {
        let name = definition.metadata.name.clone().unwrap();
        let text = yaml(&definition).unwrap();
        assert!(text.len() < 100_000, "{name} has {} bytes", text.len());
        let schema = serde_json::to_value(
            definition.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap(),
        )
        .unwrap();
        assert_eq!(definition.spec.names.categories.as_deref(), Some(&["tidelock".to_owned()][..]));
        walk(&schema, &name);
    }
    assert_eq!(ManagedSecret::shortnames(), ["ms"]);
    assert_eq!(RotationSchedule::shortnames(), ["rot"]);
}

fn walk(schema: &Value, path: &str) {
    assert!(schema.get("default").is_none(), "{path} has a default");
    assert!(schema.get("nullable").is_none(), "{path} is nullable");
    let format = schema.get("format").and_then(Value::as_str);
    assert!(
        matches!(format, None | Some("int32" | "int64" | "date-time")),
        "{path} has the format {format:?}, which the API server warns of"
    );
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = format!("{path}.{name}");
        assert!(
            property.get("description").is_some() || path.matches('.').count() < 4,
            "{path} has no explanation"
        );
        walk(property, &path);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(inner) {
            walk(inner, &format!("{path}[]"));
        }
    }
}

#[test]
fn a_spec_becomes_what_the_domain_knows_with_every_default() {
    let desired = Desired::try_from(&managed(json!({
        "value": {"generate": {"template": {"username": "orders"}, "key": "password"}},
        "access": [{"serviceAccount": "orders-api", "keys": ["password"]}, {"serviceAccount": "x", "namespace": "other"}],
    })))
    .unwrap();
    assert_eq!(desired.name.as_str(), "shop/orders-db");
    assert_eq!(desired.recovery_window_days, 30);
    assert_eq!(desired.grants[0].account.to_string(), "shop/orders-api");
    assert_eq!(desired.grants[0].stages[0].as_str(), "AWSCURRENT");
    assert_eq!(desired.grants[0].keys.as_deref(), Some(&["password".to_owned()][..]));
    assert_eq!(desired.grants[1].account.to_string(), "other/x");
    assert_eq!(desired.effective(desired.value.describe()).value, "generate");
}

#[test]
fn what_an_older_schema_let_in_is_refused_with_the_field() {
    let external = json!({"external": {}});
    for (spec, words) in [
        (json!({"value": {}}), "spec.value: write exactly one"),
        (json!({"value": external, "name": "other/db"}), "begin it with the namespace, such as `shop/db`"),
        (json!({"value": external, "name": "shop/"}), "begin it with the namespace"),
        (json!({"value": external, "name": "a b"}), "spec.name: Invalid name"),
        (json!({"value": external, "recoveryWindowDays": 3}), "spec.recoveryWindowDays is 3: write 7 to 30"),
        (
            json!({"value": external, "access": [{"serviceAccount": "a"}, {}]}),
            "spec.access[1]: name the ServiceAccount",
        ),
        (json!({"value": {"symmetricKey": {"bytes": 8}}}), "spec.value.symmetricKey.bytes is 8"),
        (
            json!({"value": {"fromSecret": {"name": "../up", "key": "k"}}}),
            "spec.value.fromSecret.name is not the name",
        ),
    ] {
        let error = Desired::try_from(&managed(spec.clone())).unwrap_err().to_string();
        assert!(error.contains(words), "`{error}` instead of `{words}`: {spec}");
    }
}

/// Whoever installed the first release upgrades with objects like these.
#[test]
fn objects_of_the_first_release_are_read_whole() {
    let file = include_str!("fixtures/first_release.yaml");
    let mut kinds = Vec::new();
    for document in file.split("\n---\n") {
        let there: Value = serde_yaml::from_str(document).unwrap();
        let (kind, name) = (there["kind"].as_str().unwrap(), &there["metadata"]["name"]);
        let (unread, lost, back) = if kind == "ManagedSecret" {
            let read: Readable<ManagedSecret> = serde_json::from_value(there.clone()).unwrap();
            read.object.clone().validate_cel().unwrap();
            Desired::try_from(&read.object).unwrap();
            (read.unread, read.status_unread, serde_json::to_value(read.object).unwrap())
        } else {
            let read: Readable<RotationSchedule> = serde_json::from_value(there.clone()).unwrap();
            read.object.clone().validate_cel().unwrap();
            (read.unread, read.status_unread, serde_json::to_value(read.object).unwrap())
        };
        assert_eq!((unread, lost), (None, false), "{kind} {name}");
        assert_eq!(back, there, "{kind} {name} does not come back as it was");
        kinds.push(kind.to_owned());
    }
    assert_eq!(kinds.iter().filter(|kind| *kind == "ManagedSecret").count(), 5);
    assert_eq!(kinds.len(), 7);
}
