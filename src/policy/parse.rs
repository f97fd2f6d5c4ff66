//! From a document's text to a policy. Must not pass over anything that it does not know.

use super::condition::Condition;
use super::document::{Effect, Patterns, Policy, ResourcePattern, Statement};
use super::json::Json;
use super::keys::Context;
use super::pattern::{Pattern, Syntax};
use super::principal::{Meant, Named};

/// The actions that act on a secret. What acts on none is beyond a secret's policy.
pub const ACTIONS: &[&str] = &[
    "AssociateCrossAccountReplica",
    "CancelRotateSecret",
    "CreateSecret",
    "DeleteResourcePolicy",
    "DeleteSecret",
    "DescribeSecret",
    "DisassociateCrossAccountReplica",
    "GetResourcePolicy",
    "GetSecretValue",
    "ListResourcePolicies",
    "ListSecretVersionIds",
    "PutResourcePolicy",
    "PutSecretValue",
    "RemoveRegionsFromReplication",
    "ReplicateSecretToRegions",
    "RestoreSecret",
    "RotateSecret",
    "StopReplicationToReplica",
    "TagResource",
    "UntagResource",
    "UpdateSecret",
    "UpdateSecretVersionStage",
    "ValidateResourcePolicy",
];

/// Why a document was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("This resource policy is not valid: {0}.")]
pub struct Malformed(String);

type Members = Vec<(String, Json)>;

impl Policy {
    /// Reads a document of a secret in that account.
    pub fn parse(text: &str, account: &str) -> Result<Self, Malformed> {
        read(text, account).map_err(Malformed)
    }
}

fn read(text: &str, account: &str) -> Result<Policy, String> {
    let json: Json = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let mut document = object(json, "the policy")?;
    let variables = match take(&mut document, "Version") {
        // As with AWS: without a version it is the old one, in which nothing is a variable.
        None => false,
        Some(version) => match string(version, "Version")?.as_str() {
            "2012-10-17" => true,
            "2008-10-17" => false,
            other => return Err(format!("there is no Version {other}")),
        },
    };
    if let Some(id) = take(&mut document, "Id") {
        string(id, "Id")?;
    }
    let statements = match take(&mut document, "Statement") {
        Some(Json::List(statements)) if !statements.is_empty() => statements,
        Some(one @ Json::Object(_)) => vec![one],
        _ => return Err("it has no Statement".to_owned()),
    };
    nothing_left(&document, "the policy")?;
    let mut read = Vec::with_capacity(statements.len());
    let mut sids: Vec<String> = Vec::new();
    for (at, json) in statements.into_iter().enumerate() {
        let mut members = object(json, "a Statement")?;
        let sid = take(&mut members, "Sid").map(|sid| string(sid, "Sid")).transpose()?;
        let sid = sid.filter(|sid| !sid.is_empty());
        let label = sid.as_ref().map_or_else(|| format!("number {}", at + 1), |sid| format!("\"{sid}\""));
        if let Some(sid) = sid {
            if sids.contains(&sid) {
                return Err(format!("the Sid {sid} comes twice"));
            }
            sids.push(sid);
        }
        let statement = statement(members, label.clone(), variables, account);
        read.push(statement.map_err(|why| format!("statement {label}: {why}"))?);
    }
    Ok(Policy { statements: read })
}

fn statement(
    mut members: Members,
    label: String,
    variables: bool,
    account: &str,
) -> Result<Statement, String> {
    let effect = match take(&mut members, "Effect") {
        Some(Json::Text(text)) if text == "Allow" => Effect::Allow,
        Some(Json::Text(text)) if text == "Deny" => Effect::Deny,
        _ => return Err("its Effect is neither Allow nor Deny".to_owned()),
    };
    let meant = match one_of(&mut members, "Principal", "NotPrincipal")? {
        (json, false) => Meant::Named(principals(json, account)?),
        (_, true) if effect == Effect::Allow => {
            return Err("NotPrincipal goes with Deny only".to_owned());
        }
        (json, true) => Meant::AllBut(principals(json, account)?),
    };
    let (json, negated) = one_of(&mut members, "Action", "NotAction")?;
    let named = strings(json, "an action")?.iter().map(|text| action(text)).collect::<Result<_, _>>()?;
    let actions = Patterns { named, negated };
    let (json, negated) = one_of(&mut members, "Resource", "NotResource")?;
    let named = strings(json, "a resource")?;
    let named = named.iter().map(|text| resource(text, variables)).collect::<Result<_, _>>()?;
    let resources = Patterns { named, negated };
    let conditions = match take(&mut members, "Condition") {
        None => Vec::new(),
        Some(json) => conditions(json, variables)?,
    };
    nothing_left(&members, "a statement")?;
    Ok(Statement { label, effect, meant, actions, resources, conditions })
}

fn principals(json: Json, account: &str) -> Result<Vec<Named>, String> {
    let members = match json {
        Json::Text(text) if text == "*" => return Ok(vec![Named::Everybody]),
        Json::Object(members) if !members.is_empty() => members,
        _ => return Err("a principal is \"*\" or {\"AWS\": ...}".to_owned()),
    };
    let mut named = Vec::new();
    for (kind, json) in members {
        if kind != "AWS" {
            return Err(format!("nobody here is a principal of the kind {kind}"));
        }
        for text in strings(json, "a principal")? {
            named.push(Named::parse(&text, account)?);
        }
    }
    Ok(named)
}

fn action(text: &str) -> Result<Pattern, String> {
    let pattern = Pattern::parse(text, Syntax { wildcards: true, variables: false })?;
    let none = Context::default();
    let known = |name: &&str| pattern.matches_folded(&format!("secretsmanager:{name}"), &none);
    if !ACTIONS.iter().any(known) {
        return Err(format!("no action on a secret is {text}"));
    }
    Ok(pattern)
}

fn resource(text: &str, variables: bool) -> Result<ResourcePattern, String> {
    if text == "*" {
        return Ok(ResourcePattern::Any);
    }
    let parts = Pattern::parse(text, Syntax { wildcards: true, variables })?.arn_parts();
    let parts =
        parts.ok_or_else(|| format!("the resource {text} is neither \"*\" nor an ARN of six parts"))?;
    Ok(ResourcePattern::Arn(Box::new(parts)))
}

fn conditions(json: Json, variables: bool) -> Result<Vec<Condition>, String> {
    let mut conditions = Vec::new();
    for (operator, keys) in object(json, "a Condition")? {
        for (key, values) in object(keys, &format!("the condition {operator}"))? {
            let values = match values {
                Json::List(values) => values,
                one => vec![one],
            };
            let values = values.into_iter().map(scalar).collect::<Result<Vec<_>, _>>()?;
            if values.is_empty() {
                return Err(format!("the condition {operator} on {key} has no value"));
            }
            conditions.push(Condition::parse(&operator, &key, &values, variables)?);
        }
    }
    Ok(conditions)
}

fn scalar(json: Json) -> Result<String, String> {
    match json {
        Json::Text(text) | Json::Number(text) => Ok(text),
        Json::Bool(flag) => Ok(flag.to_string()),
        _ => Err("the value of a condition is a text, a number, true or false".to_owned()),
    }
}

fn object(json: Json, what: &str) -> Result<Members, String> {
    match json {
        Json::Object(members) => Ok(members),
        _ => Err(format!("{what} is not an object")),
    }
}

fn string(json: Json, what: &str) -> Result<String, String> {
    match json {
        Json::Text(text) => Ok(text),
        _ => Err(format!("{what} is not a text")),
    }
}

/// One text or several, but not none.
fn strings(json: Json, what: &str) -> Result<Vec<String>, String> {
    match json {
        Json::List(items) if !items.is_empty() => items.into_iter().map(|item| string(item, what)).collect(),
        one => Ok(vec![string(one, what)?]),
    }
}

fn take(members: &mut Members, name: &str) -> Option<Json> {
    let at = members.iter().position(|(known, _)| known == name)?;
    Some(members.remove(at).1)
}

/// The one of two members that is there, and whether it is the second.
fn one_of(members: &mut Members, plain: &str, negated: &str) -> Result<(Json, bool), String> {
    match (take(members, plain), take(members, negated)) {
        (Some(json), None) => Ok((json, false)),
        (None, Some(json)) => Ok((json, true)),
        (Some(_), Some(_)) => Err(format!("it has both {plain} and {negated}")),
        (None, None) => Err(format!("it has neither {plain} nor {negated}")),
    }
}

fn nothing_left(members: &Members, what: &str) -> Result<(), String> {
    match members.first() {
        None => Ok(()),
        Some((name, _)) => Err(format!("{what} has no element {name}")),
    }
}
