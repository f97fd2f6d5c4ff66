//! Resource policies: what they allow and deny, who may put which, and what follows for files.

use serde_json::{Value, json};

use super::*;

const ROLE: &str = "arn:aws:iam::000000000000:role/shop/api";

/// Whoever writes policies here.
fn owner() -> Principal {
    pod_of("shop", "owner")
}

fn statement(effect: &str, principal: Value, actions: Value) -> Value {
    json!({"Effect": effect, "Principal": principal, "Action": actions, "Resource": "*"})
}

fn document(statements: &[Value]) -> String {
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

fn reveal_for(effect: &str, principal: &str) -> String {
    document(&[statement(effect, json!({"AWS": principal}), json!("secretsmanager:GetSecretValue"))])
}

impl Bench {
    /// A secret of the API, and an owner who may all that RBAC knows about it.
    async fn owned(&self) -> Arn {
        for operation in Operation::ALL {
            self.answers.allow(&owner(), operation);
        }
        self.keeper.create(&owner(), &by_api(NAME, 1, Some("first"))).await.unwrap().arn
    }

    async fn policy(&self, text: &str) {
        self.keeper.put_policy(&owner(), &id(), text, None).await.unwrap();
    }

    async fn read(&self, who: &Principal) -> &'static str {
        reason(self.keeper.value(who, &id(), None, None).await)
    }
}

#[tokio::test]
async fn a_policy_allows_by_itself_and_its_deny_wins_over_the_cluster() {
    let bench = bench().await;
    bench.owned().await;
    assert_eq!(bench.read(&app()).await, "AccessDenied");
    bench.policy(&reveal_for("Allow", ROLE)).await;
    assert_eq!(bench.read(&app()).await, "done");
    assert_eq!(reason(bench.keeper.describe(&app(), &id()).await), "AccessDenied");
    // Also while the cluster cannot be asked.
    bench.answers.go_away(true);
    assert_eq!(bench.read(&app()).await, "done");
    bench.answers.go_away(false);

    // The account's root delegates only.
    bench.policy(&reveal_for("Allow", "arn:aws:iam::000000000000:root")).await;
    assert_eq!(bench.read(&app()).await, "AccessDenied");
    bench.answers.allow(&app(), Operation::Reveal);
    assert_eq!(bench.read(&app()).await, "done");
    bench.policy(&reveal_for("Deny", ROLE)).await;
    let error = bench.keeper.value(&app(), &id(), None, None).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "User: arn:aws:sts::000000000000:assumed-role/shop/api/pod is not authorized to perform: \
         secretsmanager:GetSecretValue on resource: shop/orders-db with an explicit deny in a resource-based policy"
    );
    bench.keeper.delete_policy(&owner(), &id()).await.unwrap();
    assert_eq!(bench.read(&app()).await, "done");
}

#[tokio::test]
async fn a_policy_is_kept_told_and_written_down_and_goes_with_its_secret() {
    let bench = bench().await;
    let arn = bench.owned().await;
    let text = reveal_for("Deny", ROLE);
    let look = async || bench.keeper.policy(&owner(), &id(), PolicyLook::Read).await.unwrap().text;
    assert_eq!(look().await, None);
    let mut changes = bench.keeper.changes();
    bench.policy(&text).await;
    assert_eq!(changes.recv().await.unwrap(), Changed { arn: arn.clone(), what: What::Configuration });
    // The same again writes nothing.
    let revision = bench.record(NAME).await.revision;
    bench.policy(&text).await;
    assert_eq!((look().await, bench.record(NAME).await.revision), (Some(text.clone()), revision));
    bench.keeper.tag(&owner(), &id(), &Tagged::Set([("a".to_owned(), "b".to_owned())].into())).await.unwrap();
    bench.answers.allow(&app(), Operation::Reveal);
    let restarted = bench.restarted().await;
    assert_eq!(reason(restarted.value(&app(), &id(), None, None).await), "AccessDenied");

    let rows = bench.audit().await;
    let written = (owner().to_string(), "writepolicy".to_owned(), "done".to_owned());
    assert_eq!(rows.iter().filter(|row| **row == written).count(), 1, "{rows:?}");
    bench.keeper.schedule_deletion(&owner(), &id(), DeletionMode::Force).await.unwrap();
    assert_eq!(bench.keeper.ports.store.policy(&arn).await.unwrap(), None);
    bench.keeper.create(&owner(), &by_api(NAME, 2, Some("second"))).await.unwrap();
    assert_eq!((look().await, bench.read(&app()).await), (None, "done"));
}

#[tokio::test]
async fn nobody_puts_a_policy_that_locks_him_out_is_public_or_is_none() {
    let bench = bench().await;
    bench.owned().await;
    let put = async |who: &Principal, text: &str, block| {
        let put = bench.keeper.put_policy(who, &id(), text, block).await;
        put.map_err(|error| (error.aws_type(), error.to_string())).map(drop)
    };
    let everything = json!("secretsmanager:*");
    let locked = document(&[statement("Deny", json!("*"), everything.clone())]);
    let (kind, message) = put(&owner(), &locked, None).await.unwrap_err();
    assert_eq!(kind, "MalformedPolicyDocumentException");
    assert_eq!(
        message,
        "The new resource policy will not allow you to update the resource policy in the future."
    );
    let public = document(&[statement("Allow", json!("*"), everything.clone())]);
    assert_eq!(put(&owner(), &public, Some(true)).await.unwrap_err().0, "PublicPolicyException");
    assert_eq!(put(&owner(), "{}", None).await.unwrap_err().0, "MalformedPolicyDocumentException");
    assert_eq!(bench.record(NAME).await.policy, None);
    put(&owner(), &public, Some(false)).await.unwrap();

    // Who has the right by the policy alone keeps it, or does not take it away from himself.
    let writers = |role| document(&[statement("Allow", json!({"AWS": role}), everything.clone())]);
    put(&app(), &writers(ROLE), None).await.unwrap();
    let other = writers("arn:aws:iam::000000000000:role/shop/other");
    assert!(put(&app(), &other, None).await.unwrap_err().1.contains("will not allow you"));
    put(&owner(), &other, None).await.unwrap();
    assert_eq!(put(&app(), &writers(ROLE), None).await.unwrap_err().0, "AccessDeniedException");

    let validate =
        async |text: &str| bench.keeper.validate_policy(&owner(), Some(&id()), text).await.unwrap();
    assert_eq!(validate(&other).await, []);
    assert_eq!(validate(&locked).await, [Objection::LockOut]);
    assert_eq!(validate(&public).await, [Objection::Public("number 1".into())]);
    let nobody = bench.keeper.validate_policy(&pod_of("else", "x"), None, &public).await.unwrap();
    assert_eq!(nobody, [Objection::Public("number 1".into())]);
    let refused = bench.keeper.validate_policy(&pod_of("else", "x"), Some(&id()), &public).await;
    assert_eq!(reason(refused), "AccessDenied");
}

#[tokio::test]
async fn a_deny_withdraws_files_and_its_end_brings_them_back() {
    let bench = bench().await;
    for operation in [Operation::WritePolicy, Operation::DeletePolicy] {
        bench.answers.allow(&owner(), operation);
    }
    let arn = bench.resource(Some("value"), vec![grant_of(None)]).await.arn;
    let mount = MountRequest {
        mount_id: "m".into(),
        pod_namespace: "shop".into(),
        pod_name: "pod".into(),
        pod_uid: "pod-1".into(),
        attributes: [("secret".to_owned(), "orders-db".to_owned())].into(),
    };
    bench.keeper.attach(&app(), "node-1", mount.clone()).await.unwrap();
    let refreshed = async || match bench.keeper.refresh("node-1", &arn).await.remove(0).1 {
        Refreshed::Withdraw { reason, message } => format!("{reason}: {message}"),
        Refreshed::Place(_) => "place".to_owned(),
        Refreshed::Keep(_) => "keep".to_owned(),
        Refreshed::Unknown => "unknown".to_owned(),
        Refreshed::Copy(_) => "copy".to_owned(),
    };
    assert_eq!(refreshed().await, "keep");
    // A projection reads AWSCURRENT and says so: a policy that demands it does not touch the files.
    let mut stage = statement("Deny", json!("*"), json!("secretsmanager:GetSecretValue"));
    stage["Condition"] = json!({"StringNotEquals": {"secretsmanager:VersionStage": "AWSCURRENT"}});
    bench.policy(&document(&[stage.clone()])).await;
    assert_eq!((refreshed().await.as_str(), bench.read(&app()).await), ("keep", "AccessDenied"));

    bench.policy(&document(&[statement("Deny", json!({"AWS": ROLE}), json!("*"))])).await;
    assert_eq!(
        refreshed().await,
        "AccessDenied: the resource policy of the secret shop/orders-db denies it to ServiceAccount shop/api"
    );
    let other = MountRequest { mount_id: "other".into(), ..mount };
    assert_eq!(reason(bench.keeper.attach(&app(), "node-1", other).await), "AccessDenied");
    bench.keeper.delete_policy(&owner(), &id()).await.unwrap();
    assert_eq!(refreshed().await, "place");

    // What is not known takes nothing away.
    stage["Condition"] = json!({"StringNotEquals": {"aws:PrincipalTag/team": "orders"}});
    let know = |tags| *bench.answers.tags.lock().unwrap() = Some(tags);
    know(Ok([("team".to_owned(), "orders".to_owned())].into()));
    bench.policy(&document(&[stage])).await;
    assert_eq!((refreshed().await.as_str(), bench.read(&app()).await), ("keep", "done"));
    know(Err("the API server is away".into()));
    assert_eq!((refreshed().await.as_str(), bench.read(&app()).await), ("unknown", "AccessUnknown"));
    know(Ok(BTreeMap::new()));
    assert!(refreshed().await.starts_with("AccessDenied"));
}

#[tokio::test]
async fn conditions_see_what_a_request_says() {
    let bench = bench().await;
    bench.owned().await;
    let denied_when = async |action: &str, condition: Value| {
        let mut statement = statement("Deny", json!("*"), json!(format!("secretsmanager:{action}")));
        statement["Condition"] = condition;
        bench.policy(&document(&[statement])).await;
    };
    let equals = |key: &str, value: &str| json!({"StringEquals": {key: value}});
    let keeper = &bench.keeper;
    let tags = |key: &str| Tagged::Set([(key.to_owned(), "orders".to_owned())].into());
    let no = "AccessDenied";

    denied_when("GetSecretValue", equals("secretsmanager:VersionStage", "AWSCURRENT")).await;
    let current = Stage::current();
    assert_eq!(reason(keeper.value(&owner(), &id(), None, Some(&current)).await), no);
    assert_eq!(reason(keeper.value(&owner(), &id(), None, None).await), "done");
    denied_when("GetSecretValue", equals("secretsmanager:VersionId", v(1).as_str())).await;
    assert_eq!(reason(keeper.value(&owner(), &id(), Some(&v(1)), None).await), no);
    denied_when("UpdateSecretVersionStage", equals("secretsmanager:VersionStage", "mine")).await;
    let mine = Stage::parse("mine").unwrap();
    assert_eq!(reason(keeper.move_stage(&owner(), &id(), &mine, Some(&v(1)), None).await), no);
    // An update is an update, whatever it changes, and no put.
    denied_when("UpdateSecret", json!({})).await;
    let update = |description: Option<&str>, value: Option<&str>| Update {
        description: description.map(str::to_owned),
        token: v(3),
        value: value.map(text),
    };
    assert_eq!(reason(keeper.update(&owner(), &id(), &update(None, Some("x"))).await), no);
    assert_eq!(reason(keeper.put(&owner(), &id(), &v(2), &text("second"), None).await), "done");
    denied_when("UpdateSecret", equals("secretsmanager:Description", "mine")).await;
    assert_eq!(reason(keeper.update(&owner(), &id(), &update(Some("mine"), None)).await), no);
    assert_eq!(reason(keeper.update(&owner(), &id(), &update(Some("yours"), None)).await), "done");
    denied_when("TagResource", json!({"ForAnyValue:StringEquals": {"aws:TagKeys": "team"}})).await;
    assert_eq!(reason(keeper.tag(&owner(), &id(), &tags("team")).await), no);
    assert_eq!(reason(keeper.tag(&owner(), &id(), &tags("cost")).await), "done");
    // Nobody takes his own right away by a tag.
    denied_when("*Resource", equals("aws:ResourceTag/team", "orders")).await;
    assert_eq!(reason(keeper.tag(&owner(), &id(), &tags("team")).await), no);
    denied_when("GetSecretValue", equals("secretsmanager:ResourceTag/cost", "orders")).await;
    assert_eq!(bench.read(&owner()).await, no);
    denied_when("GetSecretValue", json!({"DateGreaterThan": {"aws:CurrentTime": "2030-01-01T01:00:00Z"}}))
        .await;
    assert_eq!(bench.read(&owner()).await, "done");
    bench.clock.advance(Duration::from_secs(7200));
    assert_eq!(bench.read(&owner()).await, no);
    denied_when("GetSecretValue", json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})).await;
    assert_eq!(bench.read(&owner()).await, "done");
    let mut there = owner();
    if let Principal::ServiceAccount { via, .. } = &mut there {
        via.address = Some("::ffff:10.1.2.3".parse().unwrap());
    }
    assert_eq!(bench.read(&there).await, no);
    denied_when("DeleteSecret", json!({"Bool": {"secretsmanager:ForceDeleteWithoutRecovery": true}})).await;
    assert_eq!(reason(keeper.schedule_deletion(&owner(), &id(), DeletionMode::Force).await), no);
    denied_when("DeleteSecret", json!({"NumericLessThan": {"secretsmanager:RecoveryWindowInDays": 30}}))
        .await;
    assert_eq!(reason(keeper.schedule_deletion(&owner(), &id(), DeletionMode::Days(7)).await), no);
    assert_eq!(reason(keeper.schedule_deletion(&owner(), &id(), DeletionMode::Days(30)).await), "done");
}

#[tokio::test]
async fn every_side_says_why_to_whoever_may_read_the_policy() {
    let bench = bench().await;
    bench.owned().await;
    bench.answers.allow(&app(), Operation::Reveal);
    let mut named = statement("Deny", json!({"AWS": ROLE}), json!("secretsmanager:GetSecretValue"));
    named["Sid"] = json!("NotTheApi");
    bench
        .policy(&document(&[statement("Allow", json!("*"), json!("secretsmanager:DescribeSecret")), named]))
        .await;
    let account = app().account().unwrap().clone();
    let about = |operation| Explain { account: account.clone(), operation };
    let explained = bench.keeper.explain(&owner(), &id(), &about(Operation::Reveal)).await.unwrap();
    assert_eq!(explained.allowed, Some(false));
    assert!(explained.refusal.ends_with("with an explicit deny in a resource-based policy"));
    let sides: Vec<_> = explained.sides.iter().map(|(side, says)| format!("{side}: {says}")).collect();
    assert_eq!(
        sides,
        [
            "rbac: the cluster allows reveal on managedsecrets/value",
            "grants: no entry of spec.access grants it",
            "policy: statement number 1 does not apply: its actions do not include this one",
            "policy: statement \"NotTheApi\" denies it",
        ]
    );
    let described = bench.keeper.explain(&owner(), &id(), &about(Operation::Describe)).await.unwrap();
    assert_eq!((described.allowed, described.refusal.as_str()), (Some(true), ""));
    let refused = bench.keeper.explain(&app(), &id(), &about(Operation::Reveal)).await;
    assert_eq!(reason(refused), "AccessDenied");
    let rows = bench.audit().await;
    let asked = rows.iter().filter(|(who, verb, _)| *who == owner().to_string() && verb == "explain");
    assert_eq!(asked.count(), 2);
}
