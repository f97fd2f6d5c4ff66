//! The members of each operation and what AWS's model says of them; from a request's bytes to checked members.
//! Must not show the value of a sensitive member, in whatever is wrong with it. Members that the model does not have
//! are ignored, as AWS ignores them; those that it has and we have not built are refused by name.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::error::ApiError;

/// One member of a request.
pub(super) struct Member {
    pub name: &'static str,
    pub required: bool,
    pub kind: Kind,
}

/// What a member may be. Lengths are in characters, of sensitive members in bytes.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text {
        min: usize,
        max: usize,
    },
    SensitiveText {
        max: usize,
    },
    SensitiveBlob {
        max: usize,
    },
    Flag,
    Whole {
        min: i64,
        max: i64,
    },
    Texts {
        items_max: usize,
        chars_max: usize,
    },
    /// In AWS's model, and not in this program.
    NotBuilt,
}

impl Member {
    pub(super) const fn required(name: &'static str, kind: Kind) -> Self {
        Self { name, required: true, kind }
    }

    pub(super) const fn optional(name: &'static str, kind: Kind) -> Self {
        Self { name, required: false, kind }
    }
}

enum Given {
    Text(Zeroizing<String>),
    Blob(Zeroizing<Vec<u8>>),
    Flag(bool),
    Whole(i64),
    Texts(Vec<String>),
}

/// The members of one request, each within its constraints. No `Debug`: some are values.
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
        match self.0.remove(name) {
            Some(Given::Texts(texts)) => Some(texts),
            _ => None,
        }
    }
}

/// Reads a request. Errors of form come first, then everything that is out of bounds at once, then what is not built.
pub(super) fn members(body: &[u8], shape: &[Member]) -> Result<Members, ApiError> {
    let raw: BTreeMap<String, &RawValue> = serde_json::from_slice(body)
        .map_err(|_| ApiError::serialization("The body of the request is not a JSON object."))?;
    let (mut members, mut wrong, mut not_built) = (Members::default(), Vec::new(), None);
    for member in shape {
        let Some(value) = raw.get(member.name).map(|raw| raw.get()).filter(|raw| *raw != "null") else {
            if member.required {
                let place = lower_camel(member.name);
                wrong.push(format!(
                    "Value null at '{place}' failed to satisfy constraint: Member must not be null"
                ));
            }
            continue;
        };
        if matches!(member.kind, Kind::NotBuilt) {
            // What says nothing asks for nothing: some clients send it always.
            if !matches!(value, "false" | "\"\"" | "[]" | "{}") {
                not_built.get_or_insert(member.name);
            }
            continue;
        }
        let given = read(member, value)?;
        match violation(member, &given) {
            Some(violation) => wrong.push(violation),
            None => drop(members.0.insert(member.name, given)),
        }
    }
    match (wrong.as_slice(), not_built) {
        ([], None) => Ok(members),
        ([], Some(name)) => Err(ApiError::parameter(format!(
            "The parameter {name} is not supported by this version of Tidelock: leave it out."
        ))),
        (wrong, _) => Err(ApiError::validation(format!(
            "{} validation error{} detected: {}",
            wrong.len(),
            if wrong.len() == 1 { "" } else { "s" },
            wrong.join("; ")
        ))),
    }
}

fn read(member: &Member, raw: &str) -> Result<Given, ApiError> {
    let misfit = |wanted: &str| {
        let place = lower_camel(member.name);
        ApiError::serialization(format!("{} can not be converted to {wanted} at '{place}'.", what(raw)))
    };
    match member.kind {
        Kind::Text { .. } | Kind::SensitiveText { .. } => {
            text(raw).map(Given::Text).ok_or_else(|| misfit("a String"))
        }
        Kind::SensitiveBlob { .. } => {
            let encoded = text(raw).ok_or_else(|| misfit("a Blob"))?;
            let bytes = base64::engine::general_purpose::STANDARD.decode(encoded.as_bytes());
            bytes.map(|bytes| Given::Blob(Zeroizing::new(bytes))).map_err(|_| misfit("a Blob"))
        }
        Kind::Flag => serde_json::from_str(raw).map(Given::Flag).map_err(|_| misfit("a Boolean")),
        Kind::Whole { .. } => serde_json::from_str(raw).map(Given::Whole).map_err(|_| misfit("a Long")),
        Kind::Texts { .. } => {
            serde_json::from_str(raw).map(Given::Texts).map_err(|_| misfit("a List of Strings"))
        }
        // Never read: refused before.
        Kind::NotBuilt => Err(misfit("anything")),
    }
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
        _ => "NUMBER_VALUE",
    }
}

fn violation(member: &Member, given: &Given) -> Option<String> {
    let place = lower_camel(member.name);
    let (shown, constraint) = match (member.kind, given) {
        (Kind::Text { min, max }, Given::Text(text)) => {
            (Some(text.to_string()), length(text.chars().count(), min, max)?)
        }
        (Kind::SensitiveText { max }, Given::Text(text)) => (None, length(text.len(), 1, max)?),
        (Kind::SensitiveBlob { max }, Given::Blob(bytes)) => (None, length(bytes.len(), 1, max)?),
        (Kind::Whole { min, max }, Given::Whole(number)) => {
            (Some(number.to_string()), extent(*number, min, max)?)
        }
        (Kind::Texts { items_max, chars_max }, Given::Texts(texts)) => {
            (Some(format!("[{}]", texts.join(", "))), items(texts, items_max, chars_max)?)
        }
        _ => return None,
    };
    let mut sentence = String::from("Value");
    if let Some(shown) = shown {
        let _ = write!(sentence, " '{}'", shortened(&shown));
    }
    let _ = write!(sentence, " at '{place}' failed to satisfy constraint: {constraint}");
    Some(sentence)
}

fn length(found: usize, min: usize, max: usize) -> Option<String> {
    if found > max {
        Some(format!("Member must have length less than or equal to {max}"))
    } else if found < min {
        Some(format!("Member must have length greater than or equal to {min}"))
    } else {
        None
    }
}

fn extent(found: i64, min: i64, max: i64) -> Option<String> {
    if found > max {
        Some(format!("Member must have value less than or equal to {max}"))
    } else if found < min {
        Some(format!("Member must have value greater than or equal to {min}"))
    } else {
        None
    }
}

fn items(found: &[String], items_max: usize, chars_max: usize) -> Option<String> {
    length(found.len(), 1, items_max).or_else(|| {
        let outside = found.iter().any(|text| length(text.chars().count(), 1, chars_max).is_some());
        outside.then(|| {
            format!(
                "Member must satisfy constraint: [Member must have length less than or equal to {chars_max}, Member \
                 must have length greater than or equal to 1]"
            )
        })
    })
}

/// What a caller sent too much of need not come back whole.
fn shortened(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 256;
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn lower_camel(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}
