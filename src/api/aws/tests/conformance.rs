//! Every operation of the service model by raw HTTP, each member missing, too short, too long, of another type: nothing
//! but what the model declares and what stands before every operation may come back.

use super::*;
use crate::api::aws::model::tests::declared::DECLARED;
use crate::api::aws::model::{Member, OPERATIONS, Shape};

/// What any operation may answer before it is one: access, form, limits, load.
const BEFORE_ALL: [&str; 4] =
    ["AccessDeniedException", "SerializationException", "ThrottlingException", "ValidationException"];

fn declared(operation: &str) -> &'static crate::api::aws::model::tests::Declared {
    DECLARED.iter().find(|declared| declared.name == operation).unwrap()
}

/// The answer is one that the model knows; gives its error, or `None` after a success.
fn judged(operation: &str, body: &Value, answer: &Answer) -> Option<(String, String)> {
    let declared = declared(operation);
    let shown = body.to_string();
    let shown = &shown[..shown.len().min(300)];
    if answer.status == StatusCode::OK {
        for member in answer.json().as_object().unwrap().keys() {
            assert!(declared.answer.contains(&member.as_str()), "{operation} {shown}: it answers {member}");
        }
        return None;
    }
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{operation} {shown}: {}", answer.text);
    let (kind, message) = answer.error();
    let known = declared.errors.contains(&kind.as_str()) || BEFORE_ALL.contains(&kind.as_str());
    assert!(known, "{operation} {shown}: {kind} is not declared ({message})");
    Some((kind, message))
}

/// A request that keeps to the model; about a secret that is there.
fn good(members: &'static [Member]) -> Value {
    let body = members.iter().map(|member| (member.name.to_owned(), good_value(member)));
    Value::Object(body.collect())
}

fn good_value(member: &'static Member) -> Value {
    match (member.name, &member.shape) {
        ("SecretId", _) => json!("shop/db"),
        ("Name", _) => json!("shop/new"),
        ("Region", _) => json!("eu-west-1"),
        (_, shape) => good_shape(shape),
    }
}

fn good_shape(shape: &'static Shape) -> Value {
    match shape {
        Shape::Text { min, pattern, .. } if *pattern == Some("[0-9]+h") => json!("0".repeat(min - 1) + "h"),
        Shape::Text { pattern: Some(pattern), .. } if pattern.contains("\\d") => json!("eu-west-1"),
        Shape::Text { min, .. } => json!("a".repeat((*min).max(1))),
        Shape::Choice(choices) => json!(choices[0]),
        Shape::SensitiveBlob { .. } => json!("AAEC"),
        Shape::Flag => json!(false),
        Shape::Whole { min, max } => json!((*min).max(7).min(*max)),
        Shape::List { of, .. } => json!([good_shape(of)]),
        Shape::Structure(members) => good(members),
    }
}

/// Values of a member that the model does not allow, each with the words that its refusal has to hold.
fn bad_values(shape: &'static Shape) -> Vec<(Value, &'static str)> {
    let long = |max: usize| json!("a".repeat(max + 1));
    let mut bad = vec![(json!({"x": {"y": [1]}}), "can not be converted")];
    match shape {
        Shape::Text { min, max, pattern, .. } => {
            bad.push((json!(7), "can not be converted"));
            bad.push((json!(["a"]), "can not be converted"));
            if *max < usize::MAX {
                bad.push((long(*max), "less than or equal to"));
            }
            if *min > 0 {
                bad.push((json!("a".repeat(min - 1)), "greater than or equal to"));
            }
            if pattern.is_some() {
                bad.push((json!("\u{1f511}".repeat((*min).max(1))), ""));
            }
        }
        Shape::Choice(_) => {
            bad.extend([(json!(true), "can not be converted"), (json!("none of them"), "enum value set")])
        }
        Shape::SensitiveBlob { max, .. } => {
            bad.push((json!("not base64!"), "can not be converted"));
            bad.push((json!("AAAA".repeat(max / 3 + 1)), "less than or equal to"));
            bad.push((json!(""), "greater than or equal to"));
        }
        Shape::Flag => {
            bad.extend([(json!("true"), "can not be converted"), (json!(1), "can not be converted")])
        }
        Shape::Whole { min, max } => {
            bad.extend([(json!("7"), "can not be converted"), (json!(7.5), "can not be converted")]);
            if *max < i64::MAX {
                bad.push((json!(max + 1), "less than or equal to"));
            }
            if *min > i64::MIN {
                bad.push((json!(min - 1), "greater than or equal to"));
            }
        }
        Shape::List { min, max, of } => {
            bad.push((json!("a"), "can not be converted"));
            bad.push((json!([null]), "can not be converted"));
            if *max < usize::MAX {
                bad.push((json!(vec![good_shape(of); max + 1]), "less than or equal to"));
            }
            if *min > 0 {
                bad.push((json!([]), "greater than or equal to"));
            }
            bad.extend(bad_values(of).into_iter().map(|(value, _)| (json!([value]), "")));
        }
        Shape::Structure(members) => {
            bad.clear();
            bad.extend([(json!("a"), "can not be converted"), (json!([7]), "can not be converted")]);
            for member in *members {
                bad.extend(bad_values(&member.shape).into_iter().map(|(value, words)| {
                    let mut body = good(members);
                    body[member.name] = value;
                    (body, words)
                }));
            }
        }
    }
    bad
}

#[tokio::test]
async fn whatever_a_member_is_only_errors_of_the_model_come_back() {
    let api = api().await;
    api.create("shop/db", CANARY).await;
    let mut tried = 0;
    for operation in OPERATIONS.iter().filter(|operation| Action::named(operation.name).is_some()) {
        for member in operation.members {
            for (value, words) in bad_values(&member.shape) {
                let mut body = good(operation.members);
                body[member.name] = value;
                let answer = api.call(operation.name, body.clone()).await;
                let refused = judged(operation.name, &body, &answer);
                let (kind, message) =
                    refused.unwrap_or_else(|| panic!("{}.{} was taken: {body}", operation.name, member.name));
                assert!(
                    ["SerializationException", "ValidationException"].contains(&kind.as_str()),
                    "{message}"
                );
                assert!(message.contains(words), "{}.{}: {message}", operation.name, member.name);
                assert!(!message.contains(CANARY));
                tried += 1;
            }
            let mut body = good(operation.members);
            body.as_object_mut().unwrap().remove(member.name);
            let answer = api.call(operation.name, body.clone()).await;
            let refused = judged(operation.name, &body, &answer);
            if member.required {
                let (kind, message) = refused.unwrap();
                assert_eq!(kind, "ValidationException", "{message}");
                assert!(message.contains("Member must not be null"), "{message}");
            }
            tried += 1;
        }
    }
    assert!(tried > 400, "{tried}");
}

#[tokio::test]
async fn a_member_that_is_alone_or_unknown_is_no_surprise() {
    let api = api().await;
    for operation in OPERATIONS.iter().filter(|operation| Action::named(operation.name).is_some()) {
        api.create("shop/db", "x").await;
        // Each optional member beside the required ones only: so the rules that the model does not have are met.
        let needed: Vec<_> = operation.members.iter().filter(|member| member.required).collect();
        let token = operation.members.iter().filter(|member| member.name == "ClientRequestToken");
        for alone in operation.members {
            let mut body = json!({"NobodyKnowsThis": {"at": ["all"]}});
            for member in needed.iter().copied().chain(token.clone()).chain([alone]) {
                body[member.name] = good_value(member);
            }
            let answer = api.call(operation.name, body.clone()).await;
            judged(operation.name, &body, &answer);
        }
        let force = json!({"SecretId": "shop/db", "ForceDeleteWithoutRecovery": true});
        api.ok("DeleteSecret", force).await;
    }
}
