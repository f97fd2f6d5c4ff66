//! What AWS's service model says of each operation: its members, their types and limits. The table is generated from the
//! published model. Must not hold what the model does not say: such rules stand with the operations.

mod table;
#[cfg(test)]
pub(super) mod tests;

use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};

pub(super) use table::OPERATIONS;

pub(super) struct Operation {
    pub name: &'static str,
    pub members: &'static [Member],
}

/// One member of a request.
pub(super) struct Member {
    pub name: &'static str,
    pub required: bool,
    pub shape: Shape,
}

/// What a member may be. Lengths are in characters, of sensitive members in bytes.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    Text { min: usize, max: usize, pattern: Option<&'static str>, sensitive: bool },
    Choice(&'static [&'static str]),
    SensitiveBlob { min: usize, max: usize },
    Flag,
    Whole { min: i64, max: i64 },
    List { min: usize, max: usize, of: &'static Shape },
    Structure(&'static [Member]),
}

impl Member {
    const fn required(name: &'static str, shape: Shape) -> Self {
        Self { name, required: true, shape }
    }

    const fn optional(name: &'static str, shape: Shape) -> Self {
        Self { name, required: false, shape }
    }
}

/// Operations of our own, which no model of AWS's has.
pub(super) const EXPLAIN_ACCESS: &[Member] = &[
    Member::required("Operation", Shape::Text { min: 1, max: 64, pattern: None, sensitive: false }),
    Member::required("Principal", Shape::Text { min: 1, max: 512, pattern: None, sensitive: false }),
    Member::required("SecretId", Shape::Text { min: 1, max: 2048, pattern: None, sensitive: false }),
];

pub(super) const CREATE_ACCESS_KEY: &[Member] = &[
    Member::optional("ExpiresInSeconds", Shape::Whole { min: 1, max: i64::MAX }),
    Member::required("ServiceAccount", Shape::Text { min: 1, max: 512, pattern: None, sensitive: false }),
];

pub(super) const LIST_ACCESS_KEYS: &[Member] =
    &[Member::required("Namespace", Shape::Text { min: 1, max: 63, pattern: None, sensitive: false })];

pub(super) const REVOKE_ACCESS_KEY: &[Member] =
    &[Member::required("AccessKeyId", Shape::Text { min: 16, max: 128, pattern: None, sensitive: false })];

/// The members that the model gives an operation; of a name that is none, nothing.
pub(super) fn members_of(operation: &str) -> &'static [Member] {
    OPERATIONS.iter().find(|known| known.name == operation).map_or(&[], |known| known.members)
}

/// Whether the whole of a text is as a pattern of the model says.
pub(super) fn fits(pattern: &'static str, text: &str) -> bool {
    static COMPILED: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
        let mut patterns = Vec::new();
        OPERATIONS.iter().for_each(|operation| collect(operation.members, &mut patterns));
        patterns.into_iter().filter_map(|pattern| Some((pattern, compiled(pattern)?))).collect()
    });
    // A pattern that could not be read lets nothing through; a test sees to it that there is none.
    COMPILED.iter().any(|(known, regex)| *known == pattern && regex.is_match(text))
}

fn compiled(pattern: &str) -> Option<Regex> {
    RegexBuilder::new(&format!("^(?:{pattern})$")).unicode(false).build().ok()
}

fn collect(members: &[Member], patterns: &mut Vec<&'static str>) {
    members.iter().for_each(|member| collect_of(&member.shape, patterns));
}

fn collect_of(shape: &Shape, patterns: &mut Vec<&'static str>) {
    match shape {
        Shape::Text { pattern: Some(pattern), .. } if !patterns.contains(pattern) => patterns.push(pattern),
        Shape::List { of, .. } => collect_of(of, patterns),
        Shape::Structure(members) => collect(members, patterns),
        _ => {}
    }
}
