//! Who may what, case by case.

use super::*;

const ARN: &str = "arn:aws:secretsmanager:local-1:000000000000:secret:shop/orders-db-AbCdEf";
const OTHER: &str = "arn:aws:secretsmanager:local-1:000000000000:secret:shop/billing-AbCdEf";
const TOKEN: &str = "11111111-1111-1111-1111-111111111111";

fn account(namespace: &str, name: &str) -> ServiceAccount {
    ServiceAccount { namespace: namespace.into(), name: name.into() }
}

fn principal(namespace: &str, name: &str) -> Principal {
    let account = account(namespace, name);
    Principal::ServiceAccount {
        account,
        uid: "u".into(),
        groups: [].into(),
        extra: Default::default(),
        pod: None,
        via: Box::default(),
    }
}

struct Case {
    principal: Principal,
    operation: Operation,
    name: &'static str,
    version: Option<&'static str>,
    stages: Vec<Stage>,
    rbac: RbacAnswer,
    grants: Vec<(ServiceAccount, Vec<Stage>, Option<Vec<String>>)>,
    policy: Decision,
    rotation: Option<(&'static str, &'static str)>,
    names: NamePolicy,
}

fn case(operation: Operation) -> Case {
    Case {
        principal: principal("shop", "api"),
        operation,
        name: "shop/orders-db",
        version: None,
        stages: vec![Stage::current()],
        rbac: RbacAnswer::Denied,
        grants: vec![],
        policy: Decision::Silent,
        rotation: None,
        names: NamePolicy::NamespacePrefix,
    }
}

fn run(case: &Case) -> Result<Authorized, Denied> {
    let name = Name::parse(case.name).unwrap();
    let version = case.version.map(|v| VersionId::parse(v).unwrap());
    let request = Request {
        principal: &case.principal,
        operation: case.operation,
        name: &name,
        account: "000000000000",
        sent_id: case.name,
        version: version.as_ref(),
        stages: &case.stages,
    };
    let grants: Vec<_> = case
        .grants
        .iter()
        .map(|(account, stages, keys)| Grant { account, stages, keys: keys.as_deref() })
        .collect();
    let rotation = case.rotation.map(|(arn, version)| RotationRight {
        arn: Arn::parse(arn).unwrap(),
        version: VersionId::parse(version).unwrap(),
        is_test: false,
    });
    let sides = Sides {
        rbac: &case.rbac,
        grants: &grants,
        policy: case.policy,
        rotation: rotation.as_ref(),
        names: case.names,
    };
    decide(request, &Arn::parse(ARN).unwrap(), sides)
}

const ALL: [Operation; 14] = [
    Operation::Reveal,
    Operation::Project,
    Operation::Put,
    Operation::MoveStage,
    Operation::Rotate,
    Operation::CancelRotation,
    Operation::ReadPolicy,
    Operation::WritePolicy,
    Operation::Restore,
    Operation::Describe,
    Operation::List,
    Operation::Create,
    Operation::Update,
    Operation::Delete,
];

#[test]
fn without_a_yes_from_either_side_nothing_is_allowed() {
    for operation in ALL {
        for rbac in [RbacAnswer::Denied, RbacAnswer::Forbidden, RbacAnswer::Unknown("timeout".into())] {
            assert!(run(&Case { rbac, ..case(operation) }).is_err(), "{operation:?}");
        }
    }
}

#[test]
fn a_yes_of_the_cluster_allows_every_operation_in_ones_own_namespace() {
    for operation in ALL {
        let authorized = run(&Case { rbac: RbacAnswer::Allowed, ..case(operation) }).unwrap();
        assert_eq!((authorized.operation(), authorized.arn().as_str()), (operation, ARN));
        assert!(authorized.keys().is_none());
    }
}

#[test]
fn a_whole_grant_reveals_projects_and_describes_and_does_nothing_else() {
    for operation in ALL {
        let grants = vec![(account("shop", "api"), vec![], None)];
        let allowed = run(&Case { grants, ..case(operation) }).is_ok();
        let expected = matches!(operation, Operation::Reveal | Operation::Project | Operation::Describe);
        assert_eq!(allowed, expected, "{operation:?}");
    }
}

#[test]
fn a_grant_to_another_account_or_namespace_gives_nothing() {
    for (namespace, name) in [("shop", "other"), ("billing", "api")] {
        let grants = vec![(account(namespace, name), vec![], None)];
        assert!(run(&Case { grants, ..case(Operation::Project) }).is_err());
    }
}

#[test]
fn a_grant_of_keys_projects_those_keys_and_never_reveals() {
    let grants = || vec![(account("shop", "api"), vec![], Some(vec!["username".to_owned()]))];
    let authorized = run(&Case { grants: grants(), ..case(Operation::Project) }).unwrap();
    assert_eq!(authorized.keys(), Some(&BTreeSet::from(["username".to_owned()])));
    for operation in ALL.into_iter().filter(|o| *o != Operation::Project) {
        assert!(run(&Case { grants: grants(), ..case(operation) }).is_err(), "{operation:?}");
    }
}

#[test]
fn grants_of_keys_add_up_and_a_whole_grant_outweighs_them() {
    let keys = |key: &str| (account("shop", "api"), vec![], Some(vec![key.to_owned()]));
    let two = run(&Case { grants: vec![keys("a"), keys("b")], ..case(Operation::Project) }).unwrap();
    assert_eq!(two.keys().map(BTreeSet::len), Some(2));
    let whole = vec![keys("a"), (account("shop", "api"), vec![], None)];
    assert!(run(&Case { grants: whole, ..case(Operation::Project) }).unwrap().keys().is_none());
}

#[test]
fn a_grant_of_one_stage_does_not_open_another() {
    let grants = || vec![(account("shop", "api"), vec![Stage::current()], None)];
    let current = run(&Case { grants: grants(), ..case(Operation::Reveal) }).unwrap();
    assert!(current.permits_stages([Stage::current()].iter()));
    assert!(!current.permits_stages([Stage::pending()].iter()));
    let pending = Case { grants: grants(), stages: vec![Stage::pending()], ..case(Operation::Reveal) };
    assert!(run(&pending).is_err());
    let unlabelled = Case { grants: grants(), stages: vec![], ..case(Operation::Reveal) };
    assert!(run(&unlabelled).is_err());
}

#[test]
fn an_express_denial_beats_every_grant_and_a_rotation_s_right() {
    let grants = vec![(account("shop", "api"), vec![], None)];
    let rotation = Some((ARN, TOKEN));
    let denied =
        run(&Case { rbac: RbacAnswer::Forbidden, grants, rotation, ..case(Operation::Reveal) }).unwrap_err();
    assert!(denied.to_string().contains("with an explicit deny"), "{denied}");
}

#[test]
fn a_question_that_could_not_be_asked_is_neither_yes_nor_no() {
    let rbac = RbacAnswer::Unknown("the API server is away".into());
    let unknown = run(&Case { rbac: rbac.clone(), ..case(Operation::Project) }).unwrap_err();
    assert_eq!(unknown.reason(), "AccessUnknown");
    let grants = vec![(account("shop", "api"), vec![], None)];
    assert!(run(&Case { rbac, grants, ..case(Operation::Project) }).is_ok(), "a grant needs no cluster");
}

#[test]
fn a_rotation_s_pod_has_its_own_secret_and_version_and_four_verbs() {
    let put = |version, stages| Case {
        rotation: Some((ARN, TOKEN)),
        version: Some(version),
        stages,
        ..case(Operation::Put)
    };
    for operation in ALL {
        let allowed = run(&Case { operation, ..put(TOKEN, vec![Stage::pending()]) }).is_ok();
        let expected = matches!(
            operation,
            Operation::Describe | Operation::Reveal | Operation::Put | Operation::MoveStage
        );
        assert_eq!(allowed, expected, "{operation:?}");
    }
    let other = "22222222-2222-2222-2222-222222222222";
    assert!(run(&put(other, vec![Stage::pending()])).is_err(), "another version");
    assert!(run(&put(TOKEN, vec![Stage::current()])).is_err(), "straight to current");
    assert!(run(&put(TOKEN, vec![])).is_err(), "no stage named");
    let foreign = Case { rotation: Some((OTHER, TOKEN)), ..case(Operation::Reveal) };
    assert!(run(&foreign).is_err(), "another secret");
    let finish =
        |version| Case { rotation: Some((ARN, TOKEN)), version: Some(version), ..case(Operation::MoveStage) };
    assert!(run(&finish(TOKEN)).is_ok() && run(&finish(other)).is_err());
}

#[test]
fn the_controller_writes_and_never_sees() {
    for operation in ALL {
        let allowed = run(&Case { principal: Principal::Controller, ..case(operation) }).is_ok();
        let seeing = matches!(
            operation,
            Operation::Reveal | Operation::Project | Operation::ReadPolicy | Operation::WritePolicy
        );
        assert_eq!(allowed, !seeing, "{operation:?}");
    }
}

#[test]
fn a_name_in_another_s_prefix_is_refused_with_the_words_of_aws_and_ours() {
    for name in ["billing/x", "plain"] {
        let foreign = Case { name, rbac: RbacAnswer::Allowed, ..case(Operation::Create) };
        assert_eq!(
            run(&foreign).unwrap_err().to_string(),
            format!(
                "User: arn:aws:sts::000000000000:assumed-role/shop/api/token is not authorized to perform: secretsmanager:CreateSecret on \
                 resource: {name} because no identity-based policy allows the secretsmanager:CreateSecret action: \
                 names here start with `shop/`"
            )
        );
        assert!(run(&Case { names: NamePolicy::Free, ..foreign }).is_ok());
    }
}

#[test]
fn a_resource_policy_allows_by_itself_and_its_deny_wins_over_every_yes() {
    let grants = || vec![(account("shop", "api"), vec![], None)];
    for operation in ALL {
        for rbac in [RbacAnswer::Denied, RbacAnswer::Unknown("timeout".into())] {
            let allowed = run(&Case { policy: Decision::Allow, rbac, ..case(operation) });
            assert_eq!(allowed.is_ok(), operation != Operation::Create, "{operation:?}");
        }
        let forbidden = Case { policy: Decision::Allow, rbac: RbacAnswer::Forbidden, ..case(operation) };
        assert!(run(&forbidden).is_err());
        let (policy, rbac, rotation) = (Decision::Deny, RbacAnswer::Allowed, Some((ARN, TOKEN)));
        let denied = Case { policy, rbac, rotation, grants: grants(), ..case(operation) };
        let text = run(&denied).unwrap_err().to_string();
        let said = text.ends_with("with an explicit deny in a resource-based policy");
        let of_pod =
            text == "the resource policy of the secret shop/orders-db denies it to ServiceAccount shop/api";
        assert!(if operation == Operation::Project { of_pod } else { said }, "{text}");
        let local = Case { principal: Principal::Local, policy, ..case(operation) };
        assert!(run(&local).is_err() && run(&Case { policy: Decision::Silent, ..local }).is_ok());
    }
    // What Git says stays done.
    let controller =
        Case { principal: Principal::Controller, policy: Decision::Deny, ..case(Operation::Put) };
    assert!(run(&controller).is_ok());
    // A policy that allows gives the whole value, whatever keys a grant is limited to.
    let keys = vec![(account("shop", "api"), vec![], Some(vec!["password".to_owned()]))];
    let both = Case { policy: Decision::Allow, grants: keys, ..case(Operation::Project) };
    assert!(run(&both).unwrap().keys().is_none());
}

#[test]
fn refusals_use_the_words_of_aws() {
    assert_eq!(
        run(&case(Operation::Reveal)).unwrap_err().to_string(),
        "User: arn:aws:sts::000000000000:assumed-role/shop/api/token is not authorized to perform: secretsmanager:GetSecretValue on resource: \
         shop/orders-db because no identity-based policy allows the secretsmanager:GetSecretValue action"
    );
    let list = run(&case(Operation::List)).unwrap_err().to_string();
    assert!(list.contains("secretsmanager:ListSecrets because") && !list.contains("on resource"), "{list}");
    let project = run(&case(Operation::Project)).unwrap_err().to_string();
    assert!(project.contains("shop/api may not have the secret shop/orders-db: name it under spec.access"));
}

#[test]
fn a_witness_opens_values_of_its_own_secret_only_and_only_for_acts_that_need_them() {
    for operation in ALL {
        let authorized = run(&Case { rbac: RbacAnswer::Allowed, ..case(operation) }).unwrap();
        let opening = matches!(
            operation,
            Operation::Reveal | Operation::Project | Operation::Put | Operation::Create | Operation::Rotate
        );
        assert_eq!(authorized.opens(&Arn::parse(ARN).unwrap()), opening, "{operation:?}");
        assert!(!authorized.opens(&Arn::parse(OTHER).unwrap()));
    }
}

#[test]
fn an_unknown_name_is_told_only_to_whoever_might_act_on_it() {
    let (who, name) = (principal("shop", "api"), Name::parse("shop/none").unwrap());
    let request = Request {
        principal: &who,
        operation: Operation::Reveal,
        name: &name,
        account: "000000000000",
        sent_id: "shop/none",
        version: None,
        stages: &[],
    };
    assert!(decide_unknown(request, &RbacAnswer::Allowed).is_ok());
    for no in [RbacAnswer::Denied, RbacAnswer::Forbidden, RbacAnswer::Unknown("x".into())] {
        assert!(decide_unknown(request, &no).is_err());
    }
    let controller = Request { principal: &Principal::Controller, operation: Operation::Update, ..request };
    assert!(decide_unknown(controller, &RbacAnswer::Denied).is_ok());
}
