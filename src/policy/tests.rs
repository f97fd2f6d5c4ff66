//! What documents are taken, and what they say. Whether the evaluation is right on the whole is asked of a second one,
//! in `naive`, which shares no code with it.

use serde_json::{Value, json};

use super::*;

mod agreement;
mod naive;

pub const ACCOUNT: &str = "000000000000";
pub const SECRET: &str = "arn:aws:secretsmanager:local-1:000000000000:secret:shop/orders-db-AbCdEf";

fn asker() -> Asker {
    Asker::session(ACCOUNT, "shop", "orders-api", "pod-1")
}

fn context(pairs: &[(&str, &str)]) -> Context {
    let mut context = Context::default();
    pairs.iter().for_each(|(key, value)| context.put(key, *value));
    context
}

fn policy(document: &Value) -> Policy {
    Policy::parse(&document.to_string(), ACCOUNT).unwrap()
}

fn refusal(text: &str) -> String {
    Policy::parse(text, ACCOUNT).unwrap_err().to_string()
}

/// What one statement says that is like this but for some members.
fn with(changes: &Value) -> Value {
    let mut statement = json!({"Effect": "Allow", "Principal": "*", "Action": "secretsmanager:GetSecretValue", "Resource": "*"});
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => statement.as_object_mut().unwrap().remove(name),
            value => statement.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    json!({"Version": "2012-10-17", "Statement": statement})
}

fn decided(document: &Value, who: &Asker, context: &Context) -> Decision {
    let question = Question { who, action: "GetSecretValue", resource: SECRET, context };
    policy(document).decide(&question).decision
}

fn says(changes: &Value, context: &Context) -> Decision {
    decided(&with(changes), &asker(), context)
}

#[test]
fn what_is_not_understood_is_refused_by_its_name() {
    for (changes, named) in [
        (json!({"Efect": "Allow"}), "a statement has no element Efect"),
        (json!({"Effect": "allow"}), "neither Allow nor Deny"),
        (json!({"Principal": {"Service": "lambda.amazonaws.com"}}), "of the kind Service"),
        (json!({"Principal": {"AWS": "arn:aws:iam::000000000000:user/bob"}}), "user/bob"),
        (json!({"Principal": {"AWS": "arn:aws:iam::000000000000:role/shop/*"}}), "role/shop/*"),
        (json!({"Principal": {"AWS": "111111111111"}}), "111111111111"),
        (json!({"Principal": {"AWS": []}}), "a principal is not a text"),
        (json!({"Principal": null}), "neither Principal nor NotPrincipal"),
        (json!({"NotPrincipal": "*"}), "both Principal and NotPrincipal"),
        (json!({"Principal": null, "NotPrincipal": "*"}), "NotPrincipal goes with Deny only"),
        (json!({"Action": "s3:GetObject"}), "s3:GetObject"),
        (json!({"Action": "secretsmanager:GetSecretValu"}), "secretsmanager:GetSecretValu"),
        (json!({"Action": "secretsmanager:ListSecrets"}), "secretsmanager:ListSecrets"),
        (json!({"Action": [1]}), "an action is not a text"),
        (json!({"Resource": "shop/orders-db"}), "shop/orders-db"),
        (json!({"Resource": "arn:aws:s3:::x${aws:userid}"}), "nothing fills the variable ${aws:userid}"),
        (json!({"Resource": "arn:aws:s3:::x${aws:TagKeys}"}), "${aws:TagKeys}"),
        (json!({"Resource": "arn:aws:s3:::x${aws:SourceIp"}), "has no end"),
        (json!({"Resource": "arn:aws:s3:::${aws:SourceIp, x}"}), "not in single quotes"),
        (json!({"Condition": {"StringEqual": {"aws:SourceIp": "x"}}}), "no condition operator StringEqual"),
        (json!({"Condition": {"NullIfExists": {"aws:SourceIp": "true"}}}), "NullIfExists"),
        (json!({"Condition": {"ForEachValue:StringEquals": {"aws:TagKeys": "x"}}}), "ForEachValue"),
        (json!({"Condition": {"StringEquals": {"aws:SourceVpc": "x"}}}), "condition key aws:SourceVpc"),
        (json!({"Condition": {"StringEquals": {"aws:ResourceTag/": "x"}}}), "aws:ResourceTag/"),
        (json!({"Condition": {"StringEquals": {"aws:TagKeys": "x"}}}), "ForAnyValue"),
        (json!({"Condition": {"StringEquals": {"aws:SourceIp": []}}}), "has no value"),
        (json!({"Condition": {"NumericEquals": {"aws:EpochTime": "1e3"}}}), "1e3 is not a number"),
        (json!({"Condition": {"DateEquals": {"aws:CurrentTime": "soon"}}}), "soon is not a date"),
        (json!({"Condition": {"Bool": {"aws:SecureTransport": "yes"}}}), "yes is not true or false"),
        (json!({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}}}), "10.0.0.0/33"),
        (json!({"Condition": {"BinaryEquals": {"aws:SourceIp": "?"}}}), "? is not in Base64"),
        (json!({"Condition": {"ArnEquals": {"aws:PrincipalArn": "*"}}}), "* is not an ARN"),
    ] {
        let text = refusal(&with(&changes).to_string());
        assert!(text.starts_with("This resource policy is not valid: ") && text.contains(named), "{text}");
    }
    for (text, named) in [
        ("{", "it is not JSON"),
        ("[]", "the policy is not an object"),
        (r#"{"Version": "2012-10-17"}"#, "it has no Statement"),
        (r#"{"Statement": []}"#, "it has no Statement"),
        (r#"{"Version": "2020-01-01", "Statement": {}}"#, "there is no Version 2020-01-01"),
        (r#"{"Statement": {}, "Statment": {}}"#, "the policy has no element Statment"),
        (r#"{"Statement": {"Effect": "Deny", "Effect": "Allow"}}"#, "the member Effect comes twice"),
        (&json!({"Statement": [{"Sid": "a", "Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"},
            {"Sid": "a"}]})
        .to_string(), "the Sid a comes twice"),
    ] {
        let said = refusal(text);
        assert!(said.contains(named), "{text}: {said}");
    }
}

#[test]
fn who_is_meant_follows_the_rules_of_an_account() {
    use Decision::{Allow, Deny, Silent};
    let role = "arn:aws:iam::000000000000:role/shop/orders-api";
    let session = "arn:aws:sts::000000000000:assumed-role/shop/orders-api/pod-1";
    let other = "arn:aws:sts::000000000000:assumed-role/shop/orders-api/pod-2";
    let root = "arn:aws:iam::000000000000:root";
    for (principal, allow, deny, spared) in [
        (json!("*"), Allow, Deny, true),
        (json!({"AWS": "*"}), Allow, Deny, true),
        (json!({"AWS": role}), Allow, Deny, false),
        (json!({"AWS": session}), Allow, Deny, false),
        (json!({"AWS": other}), Silent, Silent, false),
        // The account only delegates where it allows, and is everybody where it denies.
        (json!({"AWS": root}), Silent, Deny, false),
        (json!({"AWS": ACCOUNT}), Silent, Deny, false),
        (json!({"AWS": [root, other, role]}), Allow, Deny, false),
        // Who is not to be denied must be named as session, role and account.
        (json!({"AWS": [session, role]}), Allow, Deny, false),
        (json!({"AWS": [session, role, root]}), Allow, Deny, true),
    ] {
        let none = Context::default();
        let said = |changes: Value| says(&changes, &none);
        assert_eq!(said(json!({"Principal": principal})), allow, "{principal}");
        assert_eq!(said(json!({"Principal": principal, "Effect": "Deny"})), deny, "{principal}");
        let but = json!({"Principal": null, "NotPrincipal": principal, "Effect": "Deny"});
        assert_eq!(said(but), if spared { Silent } else { Deny }, "{principal}");
    }
    let root_user = Asker::root(ACCOUNT);
    let none = Context::default();
    assert_eq!(decided(&with(&json!({"Principal": {"AWS": root}})), &root_user, &none), Allow);
    assert_eq!(decided(&with(&json!({"Principal": {"AWS": role}})), &root_user, &none), Silent);
}

#[test]
fn an_explicit_deny_wins_wherever_it_stands() {
    let one =
        |sid, effect| json!({"Sid": sid, "Effect": effect, "Principal": "*", "Action": "*", "Resource": "*"});
    let (who, none) = (asker(), Context::default());
    let question = Question { who: &who, action: "GetSecretValue", resource: SECRET, context: &none };
    for statements in [[one("no", "Deny"), one("yes", "Allow")], [one("yes", "Allow"), one("no", "Deny")]] {
        let read = policy(&json!({"Statement": statements}));
        let verdict = Verdict { decision: Decision::Deny, statement: Some("\"no\"") };
        assert_eq!(read.decide(&question), verdict);
    }
}

#[test]
fn each_operator_compares_in_its_own_way() {
    use Decision::{Allow, Silent};
    let given = context(&[
        ("secretsmanager:VersionStage", "AWSCURRENT"),
        ("secretsmanager:RecoveryWindowInDays", "7"),
        ("secretsmanager:Name", "shop/a*b"),
        ("aws:CurrentTime", "2030-01-01T00:00:00Z"),
        ("aws:EpochTime", "1893456000"),
        ("aws:SecureTransport", "true"),
        ("aws:SourceIp", "10.1.2.3"),
        ("aws:PrincipalArn", "arn:aws:iam::000000000000:role/shop/orders-api"),
        ("aws:ResourceTag/Team", "orders"),
        ("aws:PrincipalTag/team", "orders"),
        ("aws:TagKeys", "team"),
        ("aws:TagKeys", "cost"),
    ]);
    let check = |operator: &str, key: &str, value: Value, expected: Decision| {
        let condition = json!({"Condition": {operator: {key: value}}});
        assert_eq!(says(&condition, &given), expected, "{condition}");
    };
    let stage = "secretsmanager:VersionStage";
    check("StringEquals", stage, json!("AWSCURRENT"), Allow);
    check("StringEquals", "SecretsManager:versionstage", json!(["x", "AWSCURRENT"]), Allow);
    check("StringEquals", stage, json!("awscurrent"), Silent);
    check("StringEquals", stage, json!("AWS*"), Silent);
    check("StringEqualsIgnoreCase", stage, json!("awsCurrent"), Allow);
    check("StringNotEquals", stage, json!(["AWSPENDING", "AWSCURRENT"]), Silent);
    check("StringLike", stage, json!("AWS?URR*"), Allow);
    check("StringLike", "secretsmanager:Name", json!("shop/a${*}b"), Allow);
    check("StringLike", stage, json!("AWS${*}"), Silent);
    check("StringNotLike", stage, json!("AWSP*"), Allow);
    check("StringEquals", "aws:resourcetag/TEAM", json!("${aws:PrincipalTag/Team}"), Allow);
    check("StringEquals", "aws:ResourceTag/team", json!("${aws:RequestTag/x, 'orders'}"), Allow);
    check("StringEquals", "aws:ResourceTag/team", json!("${aws:RequestTag/x}"), Silent);
    check("StringNotEquals", "aws:ResourceTag/team", json!("${aws:RequestTag/x}"), Allow);
    check("NumericLessThan", "secretsmanager:RecoveryWindowInDays", json!(8), Allow);
    check("NumericLessThan", "secretsmanager:RecoveryWindowInDays", json!("7.0"), Silent);
    check("NumericLessThanEquals", "secretsmanager:RecoveryWindowInDays", json!("7.0"), Allow);
    check("NumericGreaterThan", stage, json!(0), Silent);
    check("NumericNotEquals", "aws:EpochTime", json!(1), Allow);
    check("DateGreaterThanEquals", "aws:CurrentTime", json!("2030-01-01"), Allow);
    check("DateLessThan", "aws:CurrentTime", json!("2030-01-01T01:00:00+01:00"), Silent);
    check("DateEquals", "aws:EpochTime", json!("2030-01-01T00:00:00Z"), Allow);
    check("DateEquals", "aws:CurrentTime", json!(1_893_456_000), Allow);
    check("Bool", "aws:SecureTransport", json!(true), Allow);
    check("Bool", "aws:SecureTransport", json!("False"), Silent);
    check("BinaryEquals", stage, json!("QVdTQ1VSUkVOVA=="), Allow);
    check("IpAddress", "aws:SourceIp", json!("10.0.0.0/8"), Allow);
    check("IpAddress", "aws:SourceIp", json!("::ffff:10.0.0.0/104"), Allow);
    check("IpAddress", "aws:SourceIp", json!("10.1.2.4"), Silent);
    check("IpAddress", "aws:SourceIp", json!("0.0.0.0/0"), Allow);
    check("NotIpAddress", "aws:SourceIp", json!("2001:db8::/32"), Allow);
    check("ArnLike", "aws:PrincipalArn", json!("arn:aws:iam::*:role/shop/*"), Allow);
    check("ArnEquals", "aws:PrincipalArn", json!("arn:*:role/shop/orders-api:x:y:z"), Silent);
    check("ArnNotEquals", "aws:PrincipalArn", json!("arn:aws:iam::000000000000:role/shop/x"), Allow);
    check("ArnNotLike", stage, json!("arn:aws:iam::000000000000:role/shop/x"), Allow);
    check("Null", "secretsmanager:VersionId", json!("true"), Allow);
    check("Null", stage, json!(true), Silent);
    check("StringEquals", "secretsmanager:VersionId", json!("x"), Silent);
    check("StringEqualsIfExists", "secretsmanager:VersionId", json!("x"), Allow);
    check("StringNotEquals", "secretsmanager:VersionId", json!("x"), Allow);
    check("ForAnyValue:StringEquals", "aws:TagKeys", json!("cost"), Allow);
    check("ForAllValues:StringEquals", "aws:TagKeys", json!("cost"), Silent);
    check("ForAllValues:StringEquals", "aws:TagKeys", json!(["cost", "team"]), Allow);
    check("ForAllValues:StringNotEquals", "aws:TagKeys", json!("other"), Allow);
    check("ForAnyValue:StringNotEquals", "aws:TagKeys", json!("cost"), Allow);
    check("ForAnyValue:StringEquals", "secretsmanager:VersionId", json!("x"), Silent);
    check("ForAllValues:StringEquals", "secretsmanager:VersionId", json!("x"), Allow);
}

#[test]
fn resources_are_compared_part_by_part_and_may_hold_variables() {
    use Decision::{Allow, Silent};
    let given = context(&[("aws:PrincipalTag/team", "orders*")]);
    for (resource, expected) in [
        (json!(SECRET), Allow),
        (json!("arn:aws:secretsmanager:*:*:secret:shop/*"), Allow),
        (json!("arn:aws:secretsmanager:*:000000000000:*"), Allow),
        (json!("arn:aws:secretsmanager:*:secret:shop/orders-db-??????:*"), Silent),
        (json!("arn:aws:secretsmanager:*:*:secret:shop/orders-db"), Silent),
        (json!("arn:aws:secretsmanager:*:*:secret:shop/${aws:PrincipalTag/team}"), Silent),
        (json!("arn:aws:secretsmanager:*:*:secret:shop/${aws:PrincipalTag/x, 'orders-db'}-??????"), Allow),
        (json!("arn:aws:secretsmanager:*:*:secret:shop/${aws:PrincipalTag/x}*"), Silent),
    ] {
        assert_eq!(says(&json!({"Resource": resource}), &given), expected, "{resource}");
        let but = json!({"Resource": null, "NotResource": resource});
        let turned = if expected == Allow { Silent } else { Allow };
        assert_eq!(says(&but, &given), turned, "{resource}");
    }
    let mut old = with(&json!({"Condition": {"StringEquals": {"aws:PrincipalTag/team": "${*}"}}}));
    old["Version"] = json!("2008-10-17");
    let literal = context(&[("aws:PrincipalTag/team", "${*}")]);
    assert_eq!(decided(&old, &asker(), &literal), Allow, "the old version has no variables");
}

#[test]
fn actions_have_no_case_and_may_be_all_but_some() {
    use Decision::{Allow, Silent};
    for (action, expected) in [
        (json!("SECRETSMANAGER:getsecretvalue"), Allow),
        (json!("*"), Allow),
        (json!("secretsmanager:Get*"), Allow),
        (json!(["secretsmanager:PutSecretValue", "secretsmanager:*Value"]), Allow),
        (json!("secretsmanager:Describe*"), Silent),
    ] {
        let none = Context::default();
        assert_eq!(says(&json!({"Action": action}), &none), expected, "{action}");
        let turned = if expected == Allow { Silent } else { Allow };
        assert_eq!(says(&json!({"Action": null, "NotAction": action}), &none), turned, "{action}");
    }
}

#[test]
fn a_policy_is_public_unless_a_condition_names_who_may() {
    let label = |changes: Value| policy(&with(&changes)).public_statement().map(str::to_owned);
    let public =
        |changes: Value| assert_eq!(label(changes.clone()).as_deref(), Some("number 1"), "{changes}");
    let narrow = |changes: Value| assert_eq!(label(changes.clone()), None, "{changes}");
    let role = "arn:aws:iam::000000000000:role/shop/orders-api";
    public(json!({}));
    narrow(json!({"Effect": "Deny"}));
    narrow(json!({"Principal": {"AWS": role}}));
    narrow(json!({"Principal": {"AWS": ACCOUNT}}));
    public(json!({"Principal": {"AWS": [role, "*"]}}));
    narrow(json!({"Condition": {"ArnEquals": {"aws:PrincipalArn": role}}}));
    narrow(json!({"Condition": {"StringEquals": {"aws:PrincipalArn": [role]}}}));
    public(json!({"Condition": {"ArnLike": {"aws:PrincipalArn": [role, "arn:aws:iam::*:role/*"]}}}));
    public(json!({"Condition": {"ArnEqualsIfExists": {"aws:PrincipalArn": role}}}));
    public(json!({"Condition": {"ForAllValues:StringEquals": {"aws:PrincipalArn": role}}}));
    public(json!({"Condition": {"ArnNotEquals": {"aws:PrincipalArn": role}}}));
    narrow(json!({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}));
    public(json!({"Condition": {"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "0.0.0.0/1"]}}}));
    public(json!({"Condition": {"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}));
    public(json!({"Condition": {"StringEquals": {"aws:ResourceTag/a": "b"}}}));
}

#[test]
fn each_statement_says_why_it_does_not_apply() {
    let one = |changes: Value| with(&changes)["Statement"].clone();
    let root = json!({"AWS": ACCOUNT});
    let read = policy(&json!({"Version": "2012-10-17", "Statement": [
        one(json!({"Principal": {"AWS": "arn:aws:iam::000000000000:role/shop/other"}})),
        one(json!({"Action": "secretsmanager:PutSecretValue"})),
        one(json!({"Resource": "arn:aws:secretsmanager:*:*:secret:bank/*"})),
        one(json!({"Condition": {"Bool": {"aws:SecureTransport": true}}})),
        one(json!({"Principal": root})),
        one(json!({"Sid": "Last", "Effect": "Deny", "Condition": {"StringEquals": {"aws:PrincipalTag/a": "b"}}})),
    ]}));
    let (who, none) = (asker(), Context::default());
    let question = Question { who: &who, action: "GetSecretValue", resource: SECRET, context: &none };
    let said: Vec<_> = read
        .explain(&question)
        .map(|(label, _, misfit)| format!("{label}: {}", misfit.map_or_else(String::new, |m| m.to_string())))
        .collect();
    assert_eq!(
        said,
        [
            "number 1: its principals do not include this one",
            "number 2: its actions do not include this one",
            "number 3: its resources do not include this secret",
            "number 4: its condition Bool on aws:SecureTransport does not hold",
            "number 5: it names the account only, and so leaves the decision to RBAC and grants",
            "\"Last\": its condition StringEquals on aws:PrincipalTag/a does not hold",
        ]
    );
    assert!(read.asks_for_principal_tags() && !policy(&with(&json!({}))).asks_for_principal_tags());
}
