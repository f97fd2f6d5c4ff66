//! A custom resource as the API server has it, whether or not this program can read all of it: one object that an
//! older schema let in, or whose status somebody has patched, must not keep the others from being seen.
//! Must not quote what stands in an object: a misplaced password would come back in a condition.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::PartialObjectMeta;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{ManagedSecret, RotationSchedule};

/// What came, as far as it could be read.
#[derive(Debug, Clone)]
pub struct Readable<K> {
    /// Without its spec (an empty one, which no rule accepts) where that could not be read.
    pub object: K,
    /// What of the spec cannot be read, and what would be right.
    pub unread: Option<String>,
    /// A status that is there and cannot be read. It is ours, and written anew.
    pub status_unread: bool,
}

/// A kind that can stand there without its spec.
pub trait Kind: Resource<DynamicType = ()> + DeserializeOwned {
    /// With an empty spec, which must be one that is refused, and the status if it can be read.
    fn without_spec(metadata: ObjectMeta, status: Option<Value>) -> Self;
}

impl Kind for ManagedSecret {
    fn without_spec(metadata: ObjectMeta, status: Option<Value>) -> Self {
        let status = status.and_then(|status| serde_json::from_value(status).ok());
        Self { metadata, status, ..Self::new("", super::ManagedSecretSpec::default()) }
    }
}

impl Kind for RotationSchedule {
    fn without_spec(metadata: ObjectMeta, status: Option<Value>) -> Self {
        let status = status.and_then(|status| serde_json::from_value(status).ok());
        Self { metadata, status, ..Self::new("", super::RotationScheduleSpec::default()) }
    }
}

impl<'de, K: Kind> Deserialize<'de> for Readable<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut whole = Value::deserialize(deserializer)?;
        leave_out_unread(&mut whole);
        let first = match read::<K>(&whole) {
            Ok(object) => return Ok(Self { object, unread: None, status_unread: false }),
            Err(first) => first,
        };
        let status = whole.as_object_mut().and_then(|whole| whole.remove("status"));
        if status.is_some()
            && let Ok(object) = read::<K>(&whole)
        {
            return Ok(Self { object, unread: None, status_unread: true });
        }
        let unread = read::<K>(&whole).err().unwrap_or(first);
        // Without its metadata nothing can be said of it, to nobody.
        let PartialObjectMeta::<K> { metadata, .. } =
            serde_json::from_value(whole).map_err(D::Error::custom)?;
        let object = K::without_spec(metadata, status);
        Ok(Self { object, unread: Some(unread), status_unread: false })
    }
}

/// Who wrote which field: nobody here asks for it, and it is most of an object.
fn leave_out_unread(whole: &mut Value) {
    if let Some(metadata) = whole.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

fn read<K: DeserializeOwned>(whole: &Value) -> Result<K, String> {
    serde_path_to_error::deserialize(whole).map_err(|error| {
        let (path, text) = (error.path().to_string(), error.inner().to_string());
        // Of what the parser says only what it would have expected: before that it quotes.
        match text.rsplit_once("expected ") {
            Some((_, expected)) => format!("{path}: cannot be read; write {}", shown(expected)),
            None if text.starts_with("missing field ") => format!("{path}: {}; write it", shown(&text)),
            None => format!("{path}: cannot be read"),
        }
    })
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

impl<K: Kind> Resource for Readable<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        self.object.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.object.meta_mut()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::crd::Desired;

    fn resource(spec: Value, status: Value) -> Readable<ManagedSecret> {
        let object = json!({
            "apiVersion": "tidelock.dev/v1alpha1", "kind": "ManagedSecret",
            "metadata": {"name": "orders-db", "namespace": "shop", "uid": "u", "generation": 3},
            "spec": spec, "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_can_be_read_is_there_as_it_is() {
        let read = resource(json!({"value": {"external": {}}}), json!({"arn": "arn:x"}));
        assert_eq!((read.unread, read.status_unread), (None, false));
        assert!(read.object.spec.value.external.is_some());
        assert_eq!(read.object.status.unwrap().arn.as_deref(), Some("arn:x"));
    }

    #[test]
    fn a_status_that_cannot_be_read_costs_the_status_and_not_the_spec() {
        for status in [
            json!({"lastRotation": "2026-01-01T00:00:00+99:99"}),
            json!({"consumers": {"total": 1e30, "current": 0, "stale": 0, "unknown": 0}}),
            json!({"conditions": "all is well"}),
            json!("ready"),
        ] {
            let read = resource(json!({"value": {"external": {}}}), status.clone());
            assert_eq!((read.unread, read.status_unread), (None, true), "{status}");
            assert!(read.object.spec.value.external.is_some() && read.object.status.is_none());
        }
    }

    #[test]
    fn a_spec_that_cannot_be_read_is_told_by_its_field_and_never_quoted() {
        for (spec, expected) in [
            (
                json!({"value": {"symmetricKey": {"encoding": "hunter2"}}}),
                "spec.value.symmetricKey.encoding: cannot be read; write one of",
            ),
            (
                json!({"value": {"generate": {"template": "hunter2"}}}),
                "spec.value.generate.template: cannot be read; write a map",
            ),
            (
                json!({"value": {"generate": {"template": {"user": ["hunter2"]}}}}),
                "spec.value.generate.template.user: cannot be read; write a string",
            ),
            (json!({"value": {"fromSecret": {"name": "old"}}}), "missing field `key`"),
            (
                json!({"value": {"external": {}}, "recoveryWindowDays": "hunter2, expected"}),
                "spec.recoveryWindowDays",
            ),
            (json!("hunter2"), "spec: cannot be read"),
            (Value::Null, "spec: cannot be read"),
        ] {
            let read = resource(spec, json!({"arn": "arn:x"}));
            let unread = read.unread.expect("it cannot be read");
            assert!(unread.contains(expected), "`{unread}` does not say `{expected}`");
            assert!(!unread.contains("hunter2"), "{unread}");
            assert!(Desired::try_from(&read.object).is_err(), "an empty spec is refused");
            assert_eq!(
                read.object.status.unwrap().arn.as_deref(),
                Some("arn:x"),
                "what is known stays known"
            );
            assert_eq!(read.object.metadata.generation, Some(3));
        }
    }

    #[test]
    fn a_schedule_that_cannot_be_read_is_one_that_is_refused() {
        let object = json!({
            "apiVersion": "tidelock.dev/v1alpha1", "kind": "RotationSchedule",
            "metadata": {"name": "orders-db", "namespace": "shop"}, "spec": {"schedule": 7},
        });
        let read: Readable<RotationSchedule> = serde_json::from_value(object).unwrap();
        assert_eq!(read.unread.as_deref(), Some("spec.schedule: cannot be read; write a string"));
        assert_eq!(read.object.spec.schedule, "");
    }

    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let names = prop_oneof![
                Just("value"),
                Just("name"),
                Just("generate"),
                Just("template"),
                Just("key"),
                Just("external"),
                Just("access"),
                Just("conditions"),
                Just("versions"),
                Just("type"),
                Just("consumers"),
            ];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(names.prop_map(str::to_owned), inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_spec_and_status_are_the_object_is_seen(spec in anything(), status in anything()) {
            let read = resource(spec, status);
            prop_assert_eq!(read.meta().name.as_deref(), Some("orders-db"));
            if read.unread.is_some() {
                prop_assert!(Desired::try_from(&read.object).is_err());
            }
        }
    }
}
