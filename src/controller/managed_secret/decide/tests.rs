//! Every case of a ManagedSecret and its secret, each with its plan.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::crd::ManagedSecret;
use crate::keeper::Deletion;
use crate::secret::Arn;

const ARN: &str = "arn:aws:secretsmanager:local-1:000000000000:secret:shop/orders-db-AbCdEf";

fn desired(spec: Value) -> Result<Desired, SpecError> {
    let object: ManagedSecret = serde_json::from_value(json!({
        "apiVersion": "tidelock.dev/v1alpha1", "kind": "ManagedSecret",
        "metadata": {"name": "orders-db", "namespace": "shop"}, "spec": spec,
    }))
    .unwrap();
    Desired::try_from(&object)
}

fn secret(origin: Origin) -> Description {
    Description {
        arn: Arn::parse(ARN).unwrap(),
        name: Name::parse("shop/orders-db").unwrap(),
        origin,
        description: None,
        created_at: Timestamp::UNIX_EPOCH,
        changed_at: Timestamp::UNIX_EPOCH,
        accessed_at: None,
        rotated_at: None,
        deletion: None,
        rotation_enabled: None,
        rotation: None,
        next_rotation: None,
        stages: BTreeMap::new(),
        versions: Vec::new(),
        grants: Vec::new(),
        recovery_window_days: 30,
        tags: None,
    }
}

fn of(name: &str, uid: &str, namespace_uid: &str) -> Origin {
    Origin::CustomResource {
        namespace: "shop".into(),
        name: name.into(),
        uid: uid.into(),
        namespace_uid: namespace_uid.into(),
    }
}

fn deleted(mut secret: Description) -> Description {
    secret.deletion = Some(Deletion { requested_at: Timestamp::UNIX_EPOCH, due_at: Timestamp::MAX });
    secret
}

struct Case<'a> {
    spec: Value,
    named: Option<Description>,
    elsewhere: Option<&'a str>,
    made_by: Option<&'a str>,
    approved: Option<&'a str>,
    guarded: bool,
}

impl Default for Case<'_> {
    fn default() -> Self {
        let spec = json!({"value": {"generate": {}}});
        Self { spec, named: None, elsewhere: None, made_by: None, approved: None, guarded: true }
    }
}

fn check(case: &Case<'_>, expected: &str) {
    let desired = desired(case.spec.clone());
    let elsewhere = case.elsewhere.map(|name| Name::parse(name).unwrap());
    let plan = decide(&Observed {
        resource: Identity { namespace: "shop", name: "orders-db", uid: "uid", namespace_uid: "ns" },
        desired: desired.as_ref(),
        named: case.named.as_ref(),
        elsewhere: elsewhere.as_ref(),
        made_by: case.made_by,
        approved_restore: case.approved,
        authors_are_asked: case.guarded,
    });
    let said = match &plan {
        Plan::Create => "create".to_owned(),
        Plan::Restore { approved: false } => "restore".to_owned(),
        Plan::Restore { approved: true } => "restore approved".to_owned(),
        Plan::Configure(_) => "configure".to_owned(),
        Plan::Keep => "keep".to_owned(),
        Plan::Refuse(refusal) => refusal.reason.word().to_owned(),
    };
    assert_eq!(said, expected, "{plan:?}");
}

#[test]
fn a_secret_is_made_once_and_then_kept_as_spec_says() {
    check(&Case::default(), "create");
    let named = Some(secret(of("orders-db", "uid", "ns")));
    check(&Case { named: named.clone(), ..Case::default() }, "keep");
    check(&Case { named: named.clone(), made_by: Some("generate"), ..Case::default() }, "keep");
    let spec = json!({"value": {"generate": {}}, "access": [{"serviceAccount": "a"}]});
    check(&Case { named: named.clone(), spec, ..Case::default() }, "configure");
    let spec = json!({"value": {"generate": {}}, "recoveryWindowDays": 7});
    check(&Case { named, spec, ..Case::default() }, "configure");
}

#[test]
fn what_cannot_be_applied_is_refused_whole() {
    let named = Some(secret(of("orders-db", "uid", "ns")));
    let spec = json!({"value": {"external": {}}, "access": [{"serviceAccount": "a"}]});
    check(&Case { named, spec, made_by: Some("generate"), ..Case::default() }, "SpecChangeRefused");
    let spec = json!({"name": "shop/other", "value": {"generate": {}}});
    check(&Case { spec, elsewhere: Some("shop/orders-db"), ..Case::default() }, "SpecChangeRefused");
    check(&Case { spec: json!({"value": {}}), ..Case::default() }, "SpecInvalid");
    let spec = json!({"name": "other/x", "value": {"generate": {}}});
    check(&Case { spec, ..Case::default() }, "NameOutsideNamespace");
}

#[test]
fn a_name_belongs_to_whoever_made_the_secret() {
    check(&Case { named: Some(secret(Origin::Api)), ..Case::default() }, "NameTaken");
    check(&Case { named: Some(secret(of("another", "u2", "ns"))), ..Case::default() }, "NameTaken");
    check(&Case { named: Some(deleted(secret(of("another", "u2", "ns")))), ..Case::default() }, "NameTaken");
}

#[test]
fn a_resource_applied_again_gets_its_secret_back_in_the_same_namespace_only() {
    let same = deleted(secret(of("orders-db", "uid", "ns")));
    check(&Case { named: Some(same), ..Case::default() }, "restore");
    let reapplied = deleted(secret(of("orders-db", "earlier", "ns")));
    check(&Case { named: Some(reapplied), ..Case::default() }, "restore");
    let replaced = secret(of("orders-db", "earlier", "ns"));
    check(&Case { named: Some(replaced), ..Case::default() }, "restore");
    for foreign in [
        deleted(secret(of("orders-db", "earlier", "other namespace"))),
        secret(of("orders-db", "earlier", "other namespace")),
    ] {
        let case =
            |approved, guarded| Case { named: Some(foreign.clone()), approved, guarded, ..Case::default() };
        check(&case(None, true), "RestoreNeedsApproval");
        check(&case(Some("arn:of:another"), true), "RestoreNeedsApproval");
        check(&case(Some(ARN), true), "restore approved");
        // Without the policy anybody who edits the object could have approved.
        check(&case(Some(ARN), false), "RestoreNeedsApproval");
    }
}

#[test]
fn a_source_is_read_only_while_its_author_is_asked_for_his_rights() {
    let spec = json!({"value": {"fromSecret": {"name": "old", "key": "value"}}});
    check(&Case { spec: spec.clone(), ..Case::default() }, "create");
    check(&Case { spec: spec.clone(), guarded: false, ..Case::default() }, "GuardMissing");
    let named = Some(secret(of("orders-db", "uid", "ns")));
    check(&Case { spec, named, guarded: false, ..Case::default() }, "keep");
}
