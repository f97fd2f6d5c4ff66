//! From a request's bytes to members that keep to AWS's service model, or AWS's words for what does not.
//! Must not show the value of a sensitive member, in whatever is wrong with it. Members that the model does not have
//! are ignored, as AWS ignores them; those that it has and we have not built are refused by name.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::error::ApiError;
use super::model::{Member, Shape};
use violation::violations;

mod violation;

enum Given {
    Text(Zeroizing<String>),
    Blob(Zeroizing<Vec<u8>>),
    Flag(bool),
    Whole(i64),
    List(Vec<Given>),
    Structure(Members),
}

/// The members of one request or structure, each within its limits. No `Debug`: some are values.
#[derive(Default)]
pub(super) struct Members(BTreeMap<&'static str, Given>);

impl Members {
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.sensitive_text(name).map(|mut text| std::mem::take(&mut *text))
    }

    pub(super) fn sensitive_text(&mut self, name: &str) -> Option<Zeroizing<String>> {
        match self.0.remove(name) {
            Some(Given::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn blob(&mut self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        match self.0.remove(name) {
            Some(Given::Blob(bytes)) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        match self.0.remove(name) {
            Some(Given::Flag(flag)) => Some(flag),
            _ => None,
        }
    }

    pub(super) fn whole(&mut self, name: &str) -> Option<i64> {
        match self.0.remove(name) {
            Some(Given::Whole(number)) => Some(number),
            _ => None,
        }
    }

    pub(super) fn texts(&mut self, name: &str) -> Option<Vec<String>> {
        let text = |given| match given {
            Given::Text(mut text) => Some(std::mem::take(&mut *text)),
            _ => None,
        };
        self.list(name).map(|items| items.into_iter().filter_map(text).collect())
    }

    pub(super) fn structures(&mut self, name: &str) -> Option<Vec<Members>> {
        let members = |given| match given {
            Given::Structure(members) => Some(members),
            _ => None,
        };
        self.list(name).map(|items| items.into_iter().filter_map(members).collect())
    }

    pub(super) fn structure(&mut self, name: &str) -> Option<Members> {
        match self.0.remove(name) {
            Some(Given::Structure(members)) => Some(members),
            _ => None,
        }
    }

    fn list(&mut self, name: &str) -> Option<Vec<Given>> {
        match self.0.remove(name) {
            Some(Given::List(items)) => Some(items),
            _ => None,
        }
    }
}

/// Reads a request. Errors of form come first, then everything that is out of bounds at once, then what is not built.
pub(super) fn members(
    body: &[u8],
    shape: &'static [Member],
    not_built: &[&'static str],
) -> Result<Members, ApiError> {
    let raw: BTreeMap<String, &RawValue> = serde_json::from_slice(body)
        .map_err(|_| ApiError::serialization("The body of the request is not a JSON object."))?;
    let mut members = structure(&raw, shape, "")?;
    let mut wrong = Vec::new();
    violations(&members, shape, "", &mut wrong);
    if !wrong.is_empty() {
        return Err(ApiError::validation(format!(
            "{} validation error{} detected: {}",
            wrong.len(),
            if wrong.len() == 1 { "" } else { "s" },
            wrong.join("; ")
        )));
    }
    for name in not_built {
        if members.0.remove(name).is_some_and(|given| given.asks_for_something()) {
            return Err(ApiError::parameter(format!(
                "The parameter {name} is not supported by this version of Tidelock: leave it out."
            )));
        }
    }
    Ok(members)
}

impl Given {
    /// What says nothing asks for nothing: some clients send it always.
    fn asks_for_something(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Blob(bytes) => !bytes.is_empty(),
            Self::Flag(flag) => *flag,
            Self::Whole(_) => true,
            Self::List(items) => !items.is_empty(),
            Self::Structure(members) => !members.0.is_empty(),
        }
    }
}

fn structure(
    raw: &BTreeMap<String, &RawValue>,
    shape: &'static [Member],
    within: &str,
) -> Result<Members, ApiError> {
    let mut members = Members::default();
    for member in shape {
        let Some(value) = raw.get(member.name).map(|raw| raw.get()).filter(|raw| *raw != "null") else {
            continue;
        };
        let place = place(within, member.name);
        members.0.insert(member.name, read(&member.shape, value, &place)?);
    }
    Ok(members)
}

fn read(shape: &'static Shape, raw: &str, place: &str) -> Result<Given, ApiError> {
    let misfit = |wanted: &str| {
        ApiError::serialization(format!("{} can not be converted to {wanted} at '{place}'.", what(raw)))
    };
    Ok(match shape {
        Shape::Text { .. } | Shape::Choice(_) => {
            text(raw).map(Given::Text).ok_or_else(|| misfit("a String"))?
        }
        Shape::SensitiveBlob { .. } => {
            let encoded = text(raw).ok_or_else(|| misfit("a Blob"))?;
            let bytes = base64::engine::general_purpose::STANDARD.decode(encoded.as_bytes());
            Given::Blob(Zeroizing::new(bytes.map_err(|_| misfit("a Blob"))?))
        }
        Shape::Flag => Given::Flag(serde_json::from_str(raw).map_err(|_| misfit("a Boolean"))?),
        Shape::Whole { .. } => Given::Whole(serde_json::from_str(raw).map_err(|_| misfit("a Long"))?),
        Shape::List { of, .. } => {
            let wanted = match of {
                Shape::Structure(_) => "a List",
                _ => "a List of Strings",
            };
            let items: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| misfit(wanted))?;
            let items = items.into_iter().enumerate();
            let items = items.map(|(at, item)| read(of, item.get(), &item_place(place, at)));
            Given::List(items.collect::<Result<_, _>>()?)
        }
        Shape::Structure(members) => {
            let inner: BTreeMap<String, &RawValue> =
                serde_json::from_str(raw).map_err(|_| misfit("a Structure"))?;
            Given::Structure(structure(&inner, members, place)?)
        }
    })
}

fn text(raw: &str) -> Option<Zeroizing<String>> {
    serde_json::from_str::<String>(raw).ok().map(Zeroizing::new)
}

/// The kind of a JSON value by its first character; tells nothing of its content.
fn what(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'"') => "STRING_VALUE",
        Some(b't') => "TRUE_VALUE",
        Some(b'f') => "FALSE_VALUE",
        Some(b'[') => "START_ARRAY",
        Some(b'{') => "START_OBJECT",
        Some(b'n') => "NULL_VALUE",
        _ => "NUMBER_VALUE",
    }
}

/// How AWS writes where something is: `filters.1.member.key`.
fn place(within: &str, name: &str) -> String {
    let mut chars = name.chars();
    let name: String =
        chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect();
    if within.is_empty() { name } else { format!("{within}.{name}") }
}

fn item_place(list: &str, at: usize) -> String {
    format!("{list}.{}.member", at + 1)
}
