//! A policy, read. Must not hold anything that the evaluation passes over.

use super::condition::Condition;
use super::pattern::Pattern;
use super::principal::Meant;

#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub(super) statements: Vec<Statement>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Statement {
    /// Its Sid, or its place, for whoever asks why.
    pub(super) label: String,
    pub(super) effect: Effect,
    pub(super) meant: Meant,
    pub(super) actions: Patterns<Pattern>,
    pub(super) resources: Patterns<ResourcePattern>,
    pub(super) conditions: Vec<Condition>,
}

/// What is named, or everything but that.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Patterns<T> {
    pub(super) named: Vec<T>,
    pub(super) negated: bool,
}

impl<T> Patterns<T> {
    pub(super) fn hold(&self, matches: impl Fn(&T) -> bool) -> bool {
        self.named.iter().any(matches) != self.negated
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum ResourcePattern {
    Any,
    Arn(Box<[Pattern; 6]>),
}

impl Policy {
    /// The statement by which whoever comes may do something, if there is one.
    pub fn public_statement(&self) -> Option<&str> {
        let is_public = |statement: &&Statement| {
            statement.effect == Effect::Allow
                && statement.meant.is_everybody()
                && !statement.conditions.iter().any(Condition::narrows)
        };
        self.statements.iter().find(is_public).map(|statement| statement.label.as_str())
    }

    /// Whether its verdict can depend on the tags of whoever asks. They cost a question.
    pub fn asks_for_principal_tags(&self) -> bool {
        self.statements.iter().any(|statement| {
            let of_conditions = statement.conditions.iter().flat_map(Condition::keys);
            let of_resources = statement.resources.named.iter().flat_map(|resource| match resource {
                ResourcePattern::Any => &[],
                ResourcePattern::Arn(parts) => parts.as_slice(),
            });
            of_conditions.chain(of_resources.flat_map(Pattern::keys)).any(|key| key.is_principal_tag())
        })
    }
}
