//! What AWS says of members that are out of their bounds. Must not show sensitive ones.

use std::fmt::Write as _;

use super::{Given, Members, item_place, place};
use crate::api::aws::model::{self, Member, Shape};

/// A list without a limit of its own may be wrong in many thousand places.
const TOLD_MAX: usize = 50;

/// Everything that is wrong with the members of a structure, each in a sentence of its own.
pub(super) fn violations(members: &Members, shape: &'static [Member], within: &str, wrong: &mut Vec<String>) {
    for member in shape {
        if wrong.len() >= TOLD_MAX {
            return;
        }
        let place = place(within, member.name);
        match members.0.get(member.name) {
            Some(given) => of_one(&member.shape, given, &place, wrong),
            None if member.required => wrong.push(format!(
                "Value null at '{place}' failed to satisfy constraint: Member must not be null"
            )),
            None => {}
        }
    }
}

fn of_one(shape: &'static Shape, given: &Given, place: &str, wrong: &mut Vec<String>) {
    let found = match (shape, given) {
        (Shape::Text { sensitive, .. }, Given::Text(text)) => {
            let shown = (!sensitive).then(|| text.to_string());
            text_limit(shape, text).map(|limit| (shown, limit))
        }
        (Shape::Choice(choices), Given::Text(text)) if !choices.contains(&text.as_str()) => {
            let limit = format!("Member must satisfy enum value set: [{}]", choices.join(", "));
            Some((Some(text.to_string()), limit))
        }
        (Shape::SensitiveBlob { min, max }, Given::Blob(bytes)) => {
            length(bytes.len(), *min, *max).map(|limit| (None, limit))
        }
        (Shape::Whole { min, max }, Given::Whole(number)) => {
            extent(*number, *min, *max).map(|limit| (Some(number.to_string()), limit))
        }
        (Shape::List { min, max, of }, Given::List(items)) => {
            of_items(of, items, place, wrong);
            let limit = length(items.len(), *min, *max).or_else(|| item_limits(of, items));
            limit.map(|limit| (Some(shown_list(items)), limit))
        }
        (Shape::Structure(members), Given::Structure(given)) => {
            violations(given, members, place, wrong);
            None
        }
        _ => None,
    };
    if let Some((shown, limit)) = found {
        wrong.push(sentence(shown.as_deref(), place, &limit));
    }
}

/// Structures in a list are told of one by one, texts with their list.
fn of_items(of: &'static Shape, items: &[Given], place: &str, wrong: &mut Vec<String>) {
    if matches!(of, Shape::Structure(_)) {
        for (at, item) in items.iter().enumerate() {
            of_one(of, item, &item_place(place, at), wrong);
        }
    }
}

fn item_limits(of: &'static Shape, items: &[Given]) -> Option<String> {
    let Shape::Text { min, max, pattern, .. } = of else { return None };
    let outside = |item: &Given| matches!(item, Given::Text(text) if text_limit(of, text).is_some());
    if !items.iter().any(outside) {
        return None;
    }
    let mut all = format!(
        "Member must satisfy constraint: [Member must have length less than or equal to {max}, Member must have \
         length greater than or equal to {min}"
    );
    if let Some(pattern) = pattern {
        let _ = write!(all, ", Member must satisfy regular expression pattern: {pattern}");
    }
    Some(all + "]")
}

fn text_limit(shape: &Shape, text: &str) -> Option<String> {
    let Shape::Text { min, max, pattern, sensitive } = shape else { return None };
    // AWS counts a value's bytes, and the characters of everything else.
    let found = if *sensitive { text.len() } else { text.chars().count() };
    length(found, *min, *max).or_else(|| {
        let pattern = pattern.filter(|pattern| !model::fits(pattern, text))?;
        Some(format!("Member must satisfy regular expression pattern: {pattern}"))
    })
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

fn sentence(shown: Option<&str>, place: &str, limit: &str) -> String {
    let mut sentence = String::from("Value");
    if let Some(shown) = shown {
        let _ = write!(sentence, " '{}'", shortened(shown));
    }
    let _ = write!(sentence, " at '{place}' failed to satisfy constraint: {limit}");
    sentence
}

/// No list of the model holds what is sensitive.
fn shown_list(items: &[Given]) -> String {
    let shown = |item: &Given| match item {
        Given::Text(text) => text.to_string(),
        _ => "...".to_owned(),
    };
    format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", "))
}

/// What a caller sent too much of need not come back whole.
fn shortened(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 256;
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
