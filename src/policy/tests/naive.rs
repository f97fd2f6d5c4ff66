//! A second evaluation, straight from the document's JSON and slow on purpose. Must not use anything of the first, nor be
//! clever: it knows only the texts that `agreement` draws.

use std::collections::BTreeMap;

use serde_json::Value;

/// Who asks, as the account, the role and the session; the account's root user has the account only.
pub struct Asks<'a> {
    pub chain: &'a [&'a str],
    pub action: &'a str,
    pub resource: &'a str,
    pub context: &'a BTreeMap<String, Vec<String>>,
}

pub fn decide(document: &Value, asks: &Asks<'_>) -> &'static str {
    let statements = match &document["Statement"] {
        Value::Array(statements) => statements.clone(),
        one => vec![one.clone()],
    };
    let effects: Vec<&str> =
        statements.iter().filter(|s| applies(s, asks)).map(|s| s["Effect"].as_str().unwrap()).collect();
    if effects.contains(&"Deny") {
        "Deny"
    } else if effects.contains(&"Allow") {
        "Allow"
    } else {
        "Silent"
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    }
}

fn applies(statement: &Value, asks: &Asks<'_>) -> bool {
    let principal = |value: &Value| if value.is_string() { texts(value) } else { texts(&value["AWS"]) };
    let as_arn = |text: String| match text.as_str() {
        "000000000000" => "arn:aws:iam::000000000000:root".to_owned(),
        _ => text,
    };
    let is_meant = match statement.get("Principal") {
        Some(value) => {
            let named: Vec<_> = principal(value).into_iter().map(as_arn).collect();
            // Allowed as the account is not allowed, but for the account itself.
            let of_account = statement["Effect"] == "Deny" || asks.chain.len() == 1;
            let chain = if of_account { asks.chain } else { &asks.chain[1..] };
            named.iter().any(|one| one == "*" || chain.contains(&one.as_str()))
        }
        None => {
            let named: Vec<_> = principal(&statement["NotPrincipal"]).into_iter().map(as_arn).collect();
            let is_named = |known: &&&str| named.iter().any(|one| one == "*" || one == **known);
            asks.chain.iter().filter(is_named).count() < asks.chain.len()
        }
    };
    let action = format!("secretsmanager:{}", asks.action).to_lowercase();
    let of_action = |value: &Value| texts(value).iter().any(|text| like(&text.to_lowercase(), &action));
    let is_acted = match statement.get("Action") {
        Some(value) => of_action(value),
        None => !of_action(&statement["NotAction"]),
    };
    let of_resource =
        |value: &Value| texts(value).iter().any(|text| text == "*" || arn(text, asks.resource, asks));
    let is_there = match statement.get("Resource") {
        Some(value) => of_resource(value),
        None => !of_resource(&statement["NotResource"]),
    };
    let none = serde_json::Map::new();
    let conditions = statement.get("Condition").and_then(Value::as_object).unwrap_or(&none);
    let holds = conditions.iter().all(|(operator, keys)| {
        keys.as_object().unwrap().iter().all(|(key, values)| condition(operator, key, &texts(values), asks))
    });
    is_meant && is_acted && is_there && holds
}

fn condition(operator: &str, key: &str, wanted: &[String], asks: &Asks<'_>) -> bool {
    let given = asks.context.get(&key.to_lowercase()).cloned().unwrap_or_default();
    if operator == "Null" {
        return wanted.iter().any(|wanted| (wanted == "true") == given.is_empty());
    }
    let (set, operator) = operator.split_once(':').unwrap_or(("", operator));
    let plain = operator.trim_end_matches("IfExists");
    if plain != operator && given.is_empty() {
        return true;
    }
    let positive = plain.replace("Not", "");
    let is_negated = positive != plain;
    let one = |given: &String| {
        let found = wanted.iter().any(|wanted| matches(&positive, given, wanted, asks));
        if is_negated { !found } else { found }
    };
    match set {
        "ForAllValues" => given.iter().filter(|given| one(given)).count() == given.len(),
        "ForAnyValue" => given.iter().filter(|given| one(given)).count() > 0,
        _ if given.is_empty() => is_negated,
        _ if is_negated => given.iter().filter(|given| !one(given)).count() == 0,
        _ => given.iter().filter(|given| one(given)).count() > 0,
    }
}

fn matches(operator: &str, given: &str, wanted: &str, asks: &Asks<'_>) -> bool {
    let number = |text: &str| text.parse::<f64>().ok().filter(|_| !text.contains(['e', 'i', 'n']));
    match operator {
        "StringEquals" => filled(wanted, asks, true).is_some_and(|wanted| like(&wanted, given)),
        "StringEqualsIgnoreCase" => filled(wanted, asks, true)
            .is_some_and(|wanted| like(&wanted.to_lowercase(), &given.to_lowercase())),
        "StringLike" => filled(wanted, asks, false).is_some_and(|wanted| like(&wanted, given)),
        "ArnEquals" | "ArnLike" => arn(wanted, given, asks),
        "Bool" => given == wanted,
        "IpAddress" => address(given, wanted),
        "BinaryEquals" => (wanted == "b3JkZXJz") && given == "orders",
        "DateEquals" => seconds(given).zip(seconds(wanted)).is_some_and(|(given, wanted)| given == wanted),
        "DateLessThan" => seconds(given).zip(seconds(wanted)).is_some_and(|(given, wanted)| given < wanted),
        "DateGreaterThanEquals" => {
            seconds(given).zip(seconds(wanted)).is_some_and(|(given, wanted)| given >= wanted)
        }
        _ => {
            let Some((given, wanted)) = number(given).zip(number(wanted)) else { return false };
            match operator {
                "NumericEquals" => given == wanted,
                "NumericLessThan" => given < wanted,
                "NumericLessThanEquals" => given <= wanted,
                "NumericGreaterThan" => given > wanted,
                "NumericGreaterThanEquals" => given >= wanted,
                other => panic!("no operator {other} is drawn"),
            }
        }
    }
}

/// Stars and question marks that are to be taken as they are: no text that is drawn has these characters.
const STAR: &str = "\u{1}";
const MARK: &str = "\u{2}";

/// The text with its variables filled. `literal` says that its own wildcards are none.
fn filled(text: &str, asks: &Asks<'_>, literal: bool) -> Option<String> {
    let as_is = |text: &str| text.replace('*', STAR).replace('?', MARK);
    let own = |text: &str| if literal { as_is(text) } else { text.to_owned() };
    let Some((before, rest)) = text.split_once("${") else { return Some(own(text)) };
    let (inner, after) = rest.split_once('}').unwrap();
    let value = match inner {
        "*" | "?" | "$" => inner.to_owned(),
        _ => {
            let (key, default) = inner.split_once(", ").map_or((inner, None), |(key, d)| (key, Some(d)));
            let known = asks.context.get(&key.to_lowercase()).filter(|values| values.len() == 1);
            let known = known.map(|values| values[0].clone());
            known.or_else(|| default.map(|default| default.trim_matches('\'').to_owned()))?
        }
    };
    Some(own(before) + &as_is(&value) + &filled(after, asks, literal)?)
}

/// Tries everything that a star could stand for.
pub fn like(pattern: &str, text: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return text.is_empty() };
    let rest = &pattern[first.len_utf8()..];
    let tail = text.chars().next().map(|c| &text[c.len_utf8()..]);
    match first {
        '*' => like(rest, text) || tail.is_some_and(|tail| like(pattern, tail)),
        '?' => tail.is_some_and(|tail| like(rest, tail)),
        _ => {
            let wanted = match first.to_string().as_str() {
                STAR => '*',
                MARK => '?',
                _ => first,
            };
            text.starts_with(wanted) && tail.is_some_and(|tail| like(rest, tail))
        }
    }
}

fn arn(pattern: &str, given: &str, asks: &Asks<'_>) -> bool {
    // No variable that is drawn into an ARN stands before its sixth part, nor holds a colon in its name's place.
    let parts = |text: &str| text.splitn(6, ':').map(str::to_owned).collect::<Vec<_>>();
    let (pattern, given) = (parts(pattern), parts(given));
    given.len() == 6
        && pattern
            .iter()
            .zip(&given)
            .all(|(pattern, given)| filled(pattern, asks, false).is_some_and(|pattern| like(&pattern, given)))
}

fn bits(address: &str) -> Option<String> {
    let bytes: Vec<u8> = address.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    (bytes.len() == 4).then(|| bytes.iter().map(|byte| format!("{byte:08b}")).collect())
}

fn address(given: &str, wanted: &str) -> bool {
    let (network, length) = wanted.split_once('/').unwrap_or((wanted, "32"));
    let length: usize = length.parse().unwrap();
    let (Some(given), Some(network)) = (bits(given), bits(network)) else { return false };
    given[..length] == network[..length]
}

fn seconds(text: &str) -> Option<i64> {
    match text {
        "2030-01-01" | "2030-01-01T00:00:00Z" | "2030-01-01T01:00:00+01:00" | "1893456000" => {
            Some(1_893_456_000)
        }
        "2031-01-01" | "2031-01-01T00:00:00Z" => Some(1_924_992_000),
        "7" => Some(7),
        "30" => Some(30),
        _ => None,
    }
}
