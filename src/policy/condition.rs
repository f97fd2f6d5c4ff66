//! One condition: an operator, a key, and the values to compare with. Must not hold when it cannot be judged.

use std::fmt;

use jiff::Timestamp;

use super::keys::{Context, Key};
use super::operand::{self, Network};
use super::pattern::{Pattern, Syntax};

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    /// As the policy writes it.
    written: String,
    operator: Operator,
    key: Key,
    values: Values,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Operator {
    quantifier: Option<Quantifier>,
    test: Test,
    negated: bool,
    if_exists: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantifier {
    AnyValue,
    AllValues,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Text { folded: bool, wildcards: bool },
    Number(Order),
    Date(Order),
    Bool,
    Binary,
    Ip,
    Arn,
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq)]
enum Values {
    Text(Vec<Pattern>),
    Number(Vec<f64>),
    Date(Vec<Timestamp>),
    Flag(Vec<bool>),
    Binary(Vec<Vec<u8>>),
    Network(Vec<Network>),
    Arn(Vec<[Pattern; 6]>),
}

impl Condition {
    pub(super) fn parse(
        operator: &str,
        key: &str,
        values: &[String],
        variables: bool,
    ) -> Result<Self, String> {
        let written = operator.to_owned();
        let operator =
            Operator::parse(operator).ok_or_else(|| format!("there is no condition operator {written}"))?;
        let key = Key::parse(key).ok_or_else(|| format!("nothing fills the condition key {key}"))?;
        if key.is_list() && operator.quantifier.is_none() && operator.test != Test::Null {
            return Err(format!(
                "the condition key {key} has many values: use ForAnyValue: or ForAllValues:"
            ));
        }
        let values = Values::parse(operator.test, values, variables)
            .map_err(|why| format!("the condition {written} on {key} is not valid: {why}"))?;
        Ok(Self { written, operator, key, values })
    }

    pub(super) fn holds(&self, context: &Context) -> bool {
        let given = context.values(&self.key);
        if let Values::Flag(wanted) = &self.values
            && self.operator.test == Test::Null
        {
            return wanted.contains(&given.is_empty());
        }
        let Operator { quantifier, negated, if_exists, .. } = self.operator;
        if given.is_empty() {
            return if_exists
                || match quantifier {
                    None => negated,
                    Some(quantifier) => quantifier == Quantifier::AllValues,
                };
        }
        let one = |value: &String| self.values.any_matches(self.operator.test, value, context) != negated;
        match (quantifier, negated) {
            (Some(Quantifier::AllValues), _) | (None, true) => given.iter().all(one),
            (Some(Quantifier::AnyValue), _) | (None, false) => given.iter().any(one),
        }
    }

    /// Whether it lets through only whom it names, so that a statement for everybody is not for everybody.
    pub(super) fn narrows(&self) -> bool {
        let Operator { quantifier, negated, if_exists, .. } = self.operator;
        if negated || if_exists || quantifier == Some(Quantifier::AllValues) {
            return false;
        }
        let by_principal = self.key.is("aws:PrincipalArn");
        match &self.values {
            Values::Text(patterns) => by_principal && patterns.iter().all(Pattern::is_fixed),
            Values::Arn(arns) => by_principal && arns.iter().flatten().all(Pattern::is_fixed),
            Values::Network(networks) => {
                self.key.is("aws:SourceIp") && networks.iter().all(|network| !network.is_broad())
            }
            _ => false,
        }
    }

    /// The keys that it asks for, in variables as well.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        let patterns: &[Pattern] = match &self.values {
            Values::Text(patterns) => patterns,
            Values::Arn(arns) => arns.as_flattened(),
            _ => &[],
        };
        [&self.key].into_iter().chain(patterns.iter().flat_map(Pattern::keys))
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.written, self.key)
    }
}

impl Operator {
    fn parse(text: &str) -> Option<Self> {
        let (quantifier, rest) = match text.split_once(':') {
            None => (None, text),
            Some(("ForAnyValue", rest)) => (Some(Quantifier::AnyValue), rest),
            Some(("ForAllValues", rest)) => (Some(Quantifier::AllValues), rest),
            Some(_) => return None,
        };
        let (rest, if_exists) = match rest.strip_suffix("IfExists") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let (test, negated) = test(rest)?;
        let plain = quantifier.is_none() && !if_exists;
        (test != Test::Null || plain).then_some(Self { quantifier, test, negated, if_exists })
    }
}

fn test(name: &str) -> Option<(Test, bool)> {
    let text = |folded, wildcards| Test::Text { folded, wildcards };
    Some(match name {
        "StringEquals" => (text(false, false), false),
        "StringNotEquals" => (text(false, false), true),
        "StringEqualsIgnoreCase" => (text(true, false), false),
        "StringNotEqualsIgnoreCase" => (text(true, false), true),
        "StringLike" => (text(false, true), false),
        "StringNotLike" => (text(false, true), true),
        "NumericEquals" => (Test::Number(Order::Equal), false),
        "NumericNotEquals" => (Test::Number(Order::Equal), true),
        "NumericLessThan" => (Test::Number(Order::Less), false),
        "NumericLessThanEquals" => (Test::Number(Order::LessOrEqual), false),
        "NumericGreaterThan" => (Test::Number(Order::Greater), false),
        "NumericGreaterThanEquals" => (Test::Number(Order::GreaterOrEqual), false),
        "DateEquals" => (Test::Date(Order::Equal), false),
        "DateNotEquals" => (Test::Date(Order::Equal), true),
        "DateLessThan" => (Test::Date(Order::Less), false),
        "DateLessThanEquals" => (Test::Date(Order::LessOrEqual), false),
        "DateGreaterThan" => (Test::Date(Order::Greater), false),
        "DateGreaterThanEquals" => (Test::Date(Order::GreaterOrEqual), false),
        "Bool" => (Test::Bool, false),
        "BinaryEquals" => (Test::Binary, false),
        "IpAddress" => (Test::Ip, false),
        "NotIpAddress" => (Test::Ip, true),
        "ArnEquals" | "ArnLike" => (Test::Arn, false),
        "ArnNotEquals" | "ArnNotLike" => (Test::Arn, true),
        "Null" => (Test::Null, false),
        _ => return None,
    })
}

impl Order {
    fn holds<T: PartialOrd>(self, given: T, wanted: T) -> bool {
        match self {
            Self::Equal => given == wanted,
            Self::Less => given < wanted,
            Self::LessOrEqual => given <= wanted,
            Self::Greater => given > wanted,
            Self::GreaterOrEqual => given >= wanted,
        }
    }
}

impl Values {
    fn parse(test: Test, texts: &[String], variables: bool) -> Result<Self, String> {
        fn all<T>(texts: &[String], what: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
            let one = |text: &String| read(text).ok_or_else(|| format!("{text} is not {what}"));
            texts.iter().map(one).collect()
        }
        let pattern = |text: &String, wildcards| Pattern::parse(text, Syntax { wildcards, variables });
        Ok(match test {
            Test::Text { wildcards, .. } => {
                Self::Text(texts.iter().map(|text| pattern(text, wildcards)).collect::<Result<_, _>>()?)
            }
            Test::Arn => {
                let arn = |text: &String| {
                    pattern(text, true)?
                        .arn_parts()
                        .ok_or_else(|| format!("{text} is not an ARN of six parts"))
                };
                Self::Arn(texts.iter().map(arn).collect::<Result<_, _>>()?)
            }
            Test::Number(_) => Self::Number(all(texts, "a number", operand::number)?),
            Test::Date(_) => Self::Date(all(texts, "a date", operand::date)?),
            Test::Bool | Test::Null => Self::Flag(all(texts, "true or false", operand::flag)?),
            Test::Binary => Self::Binary(all(texts, "in Base64", operand::bytes)?),
            Test::Ip => Self::Network(all(texts, "an address or a network", Network::parse)?),
        })
    }

    /// Whether any of these matches a value of the request, before a negation.
    fn any_matches(&self, test: Test, given: &str, context: &Context) -> bool {
        match self {
            Self::Text(patterns) => {
                let folded = matches!(test, Test::Text { folded: true, .. });
                patterns.iter().any(|pattern| match folded {
                    true => pattern.matches_folded(given, context),
                    false => pattern.matches(given, context),
                })
            }
            Self::Arn(arns) => arns.iter().any(|parts| arn_matches(parts, given, context)),
            Self::Number(wanted) => ordered(test, operand::number(given), wanted),
            Self::Date(wanted) => ordered(test, operand::date(given), wanted),
            Self::Flag(wanted) => operand::flag(given).is_some_and(|given| wanted.contains(&given)),
            Self::Binary(wanted) => wanted.iter().any(|wanted| wanted == given.as_bytes()),
            Self::Network(wanted) => wanted.iter().any(|network| network.holds(given)),
        }
    }
}

fn ordered<T: PartialOrd + Copy>(test: Test, given: Option<T>, wanted: &[T]) -> bool {
    let (Test::Number(order) | Test::Date(order), Some(given)) = (test, given) else { return false };
    wanted.iter().any(|wanted| order.holds(given, *wanted))
}

/// Each of the six parts by itself: a wildcard does not reach over a colon before the last part.
pub(super) fn arn_matches(parts: &[Pattern; 6], arn: &str, context: &Context) -> bool {
    let given: Vec<&str> = arn.splitn(6, ':').collect();
    given.len() == 6 && parts.iter().zip(given).all(|(part, given)| part.matches(given, context))
}
