//! Random documents and random askers: the evaluation and the naive one say the same of all of them. What is drawn is few
//! and alike, so that things match often enough.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use super::naive::{self, Asks};
use super::{ACCOUNT, SECRET};
use crate::policy::pattern::{Pattern, Syntax};
use crate::policy::{Asker, Context, Decision, Policy, Question};

const ROOT: &str = "arn:aws:iam::000000000000:root";
const ROLE: &str = "arn:aws:iam::000000000000:role/shop/api";
const OTHER_ROLE: &str = "arn:aws:iam::000000000000:role/shop/job";
const SESSION: &str = "arn:aws:sts::000000000000:assumed-role/shop/api/one";
const OTHER_SESSION: &str = "arn:aws:sts::000000000000:assumed-role/shop/api/two";

fn one_or_more(of: &'static [&'static str]) -> impl Strategy<Value = Value> {
    subsequence(of, 1..=of.len().min(3))
        .prop_map(|drawn| if drawn.len() == 1 { json!(drawn[0]) } else { json!(drawn) })
}

fn principals() -> impl Strategy<Value = Value> {
    let named: &'static [&str] = &["*", ROOT, ACCOUNT, ROLE, OTHER_ROLE, SESSION, OTHER_SESSION];
    prop_oneof![
        1 => Just(json!("*")),
        // All that one asker is called, so that NotPrincipal spares somebody now and then.
        2 => Just(json!({"AWS": [ROOT, ROLE, SESSION]})),
        5 => one_or_more(named).prop_map(|drawn| json!({"AWS": drawn})),
    ]
}

fn actions() -> impl Strategy<Value = Value> {
    one_or_more(&[
        "*",
        "secretsmanager:*",
        "secretsmanager:Get*",
        "SecretsManager:getsecretvalue",
        "secretsmanager:PutSecretValue",
        "secretsmanager:?escribeSecret",
        "secretsmanager:*Policy",
    ])
}

fn resources() -> impl Strategy<Value = Value> {
    one_or_more(&[
        "*",
        SECRET,
        "arn:aws:secretsmanager:*:*:secret:shop/*",
        "arn:aws:secretsmanager:local-?:000000000000:secret:*-??????",
        "arn:aws:secretsmanager:*:*:secret:bank/*",
        "arn:*:*:*:*:*orders*",
        "arn:aws:secretsmanager:*:*:secret:shop/${aws:PrincipalTag/team}-db-??????",
        "arn:aws:secretsmanager:*:*:secret:shop/${aws:PrincipalTag/team, 'orders'}*",
    ])
}

const TEXTS: &[&str] = &[
    "orders",
    "Orders",
    "ord*",
    "o?ders",
    "${*}",
    "${aws:PrincipalTag/team}",
    "${aws:PrincipalTag/team, 'orders'}",
    "${secretsmanager:Name}*",
    "AWSCURRENT",
    "7",
    "",
];
const TEXT_OPERATORS: &[&str] = &[
    "StringEquals",
    "StringNotEquals",
    "StringEqualsIgnoreCase",
    "StringNotEqualsIgnoreCase",
    "StringLike",
    "StringNotLike",
];
const ARNS: &[&str] =
    &[ROLE, OTHER_ROLE, "arn:aws:iam::*:role/shop/*", "arn:*:*:*:*:role/${aws:PrincipalTag/team}/api"];
const NUMBERS: &[&str] = &["7", "7.0", "30", "-1"];
const NUMBER_OPERATORS: &[&str] = &[
    "NumericEquals",
    "NumericNotEquals",
    "NumericLessThan",
    "NumericLessThanEquals",
    "NumericGreaterThan",
    "NumericGreaterThanEquals",
];
const DATES: &[&str] = &["2030-01-01", "2030-01-01T01:00:00+01:00", "2031-01-01", "1893456000"];
const NETWORKS: &[&str] = &["10.0.0.0/8", "10.1.2.3", "10.1.2.0/31", "0.0.0.0/0", "192.168.0.0/16"];

const KEYS: &[&str] = &[
    "aws:PrincipalTag/team",
    "AWS:PRINCIPALTAG/TEAM",
    "secretsmanager:Name",
    "secretsmanager:VersionStage",
    "secretsmanager:RecoveryWindowInDays",
    "aws:SourceIp",
    "aws:CurrentTime",
    "aws:EpochTime",
    "aws:PrincipalArn",
    "aws:SecureTransport",
];

fn comparison() -> impl Strategy<Value = (&'static str, Value)> {
    let of = |operators: &'static [&'static str], values: &'static [&'static str]| {
        (select(operators), one_or_more(values)).boxed()
    };
    prop_oneof![
        4 => of(TEXT_OPERATORS, TEXTS),
        2 => of(&["ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"], ARNS),
        2 => of(NUMBER_OPERATORS, NUMBERS),
        1 => of(&["DateEquals", "DateNotEquals", "DateLessThan", "DateGreaterThanEquals"], DATES),
        1 => of(&["IpAddress", "NotIpAddress"], NETWORKS),
        1 => of(&["Bool"], &["true", "false"]),
        1 => of(&["BinaryEquals"], &["b3JkZXJz", "eA=="]),
    ]
}

fn condition() -> impl Strategy<Value = (String, Value)> {
    let whole =
        (comparison(), select(&["", "", "ForAnyValue:", "ForAllValues:"][..]), any::<bool>(), select(KEYS));
    let compared = whole.prop_flat_map(|((operator, values), set, if_exists, key)| {
        let key = if set.is_empty() {
            Just(key).boxed()
        } else {
            prop_oneof![Just(key), Just("aws:TagKeys")].boxed()
        };
        key.prop_map(move |key| {
            let suffix = if if_exists { "IfExists" } else { "" };
            (format!("{set}{operator}{suffix}"), json!({key: values}))
        })
    });
    let null = (select(KEYS), one_or_more(&["true", "false"]));
    let null = null.prop_map(|(key, values)| ("Null".to_owned(), json!({key: values})));
    prop_oneof![6 => compared, 1 => null]
}

fn statement() -> impl Strategy<Value = Value> {
    let negations = (any::<bool>(), any::<bool>(), any::<bool>());
    let conditions = prop::collection::vec(condition(), 0..3);
    let whole = (any::<bool>(), principals(), actions(), resources(), negations, conditions);
    whole.prop_map(|(denies, principal, action, resource, negated, conditions)| {
        let name = |negated: bool, name: &str| if negated { format!("Not{name}") } else { name.to_owned() };
        let mut members = Map::new();
        members.insert("Effect".into(), json!(if denies { "Deny" } else { "Allow" }));
        members.insert(name(denies && negated.0, "Principal"), principal);
        members.insert(name(negated.1, "Action"), action);
        members.insert(name(negated.2, "Resource"), resource);
        if !conditions.is_empty() {
            members.insert("Condition".into(), conditions.into_iter().collect::<Map<_, _>>().into());
        }
        Value::Object(members)
    })
}

fn known() -> impl Strategy<Value = BTreeMap<String, Vec<String>>> {
    let of = |key: &str, values: &'static [&'static str]| {
        let key = key.to_lowercase();
        prop::option::of(select(values))
            .prop_map(move |value| (key.clone(), value.into_iter().map(str::to_owned).collect()))
    };
    let tag_keys = subsequence(&["orders", "AWSCURRENT", "7"][..], 0..=3);
    let tag_keys =
        tag_keys.prop_map(|keys| ("aws:tagkeys".to_owned(), keys.into_iter().map(str::to_owned).collect()));
    let keys: Vec<BoxedStrategy<(String, Vec<String>)>> = vec![
        of("aws:PrincipalTag/team", &["orders", "Orders", "ord*", "shop"]).boxed(),
        of("secretsmanager:Name", &["orders", "o"]).boxed(),
        of("secretsmanager:VersionStage", &["AWSCURRENT", "orders"]).boxed(),
        of("secretsmanager:RecoveryWindowInDays", &["7", "30", "orders"]).boxed(),
        of("aws:SourceIp", &["10.1.2.1", "10.1.2.3", "10.200.0.1", "192.168.1.1", "orders"]).boxed(),
        of("aws:CurrentTime", &["2030-01-01T00:00:00Z", "2031-01-01T00:00:00Z"]).boxed(),
        of("aws:EpochTime", &["1893456000", "7"]).boxed(),
        of("aws:PrincipalArn", &[ROLE, OTHER_ROLE, "orders"]).boxed(),
        of("aws:SecureTransport", &["true", "false"]).boxed(),
        tag_keys.boxed(),
    ];
    keys.prop_map(|pairs| {
        pairs.into_iter().filter(|(_, values): &(_, Vec<String>)| !values.is_empty()).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn both_evaluations_say_the_same(
        statements in prop::collection::vec(statement(), 1..4),
        who in select(&[0, 1, 2, 3][..]),
        action in select(&["GetSecretValue", "PutSecretValue", "DescribeSecret", "PutResourcePolicy"][..]),
        known in known(),
    ) {
        let document = json!({"Version": "2012-10-17", "Statement": statements});
        let (asker, chain): (Asker, &[&str]) = match who {
            0 => (Asker::root(ACCOUNT), &[ROOT]),
            1 => (Asker::session(ACCOUNT, "shop", "api", "one"), &[ROOT, ROLE, SESSION]),
            2 => (Asker::session(ACCOUNT, "shop", "api", "two"), &[ROOT, ROLE, OTHER_SESSION]),
            _ => (
                Asker::session(ACCOUNT, "shop", "job", "one"),
                &[ROOT, OTHER_ROLE, "arn:aws:sts::000000000000:assumed-role/shop/job/one"],
            ),
        };
        let mut context = Context::default();
        known.iter().for_each(|(key, values)| values.iter().for_each(|value| context.put(key, value)));
        let policy = Policy::parse(&document.to_string(), ACCOUNT).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let verdict = policy.decide(&Question { who: &asker, action, resource: SECRET, context: &context });
        let ours = match verdict.decision {
            Decision::Deny => "Deny",
            Decision::Allow => "Allow",
            Decision::Silent => "Silent",
        };
        let asks = Asks { chain, action, resource: SECRET, context: &known };
        prop_assert_eq!(ours, naive::decide(&document, &asks), "{}", document);
    }

    #[test]
    fn a_pattern_covers_what_trying_everything_finds(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
        let read = Pattern::parse(&pattern, Syntax { wildcards: true, variables: false }).unwrap();
        prop_assert_eq!(read.matches(&text, &Context::default()), naive::like(&pattern, &text));
    }

    #[test]
    fn no_document_brings_the_reader_down(text in "[\\[\\]{}\":,a-zA-Z0-9 $*?']{0,64}") {
        let _ = Policy::parse(&text, ACCOUNT);
    }
}

#[test]
fn a_pattern_of_many_stars_is_answered_at_once() {
    let pattern = Pattern::parse(&"*a".repeat(10_000), Syntax { wildcards: true, variables: false }).unwrap();
    assert!(!pattern.matches(&"b".repeat(2048), &Context::default()));
}
