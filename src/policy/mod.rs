//! PURE. The language of AWS's resource policies: a document goes in; whether it allows or denies an act, and by which of
//! its statements, comes out.
//! Must not weigh that against RBAC and grants, which is `access`'s, nor take a document of which it would ignore a part.
//!
//! Decisions where AWS's documents are silent, or where AWS would take what can never have an effect here:
//! - What is not understood is refused when a document is read: elements, operators, keys that nothing here fills, kinds
//!   of principals that nobody is, actions that act on no secret, and the same member twice.
//! - A pattern with a variable that has no value matches nothing. So a negated operator over it holds.
//! - Of a key with several values an operator without a set's quantifier holds when it holds of any of them; a negated
//!   one when it holds of all. That can only be tags that differ in case alone: `aws:TagKeys` demands a quantifier.

mod condition;
mod document;
mod evaluate;
mod json;
mod keys;
mod operand;
mod parse;
mod pattern;
mod principal;
#[cfg(test)]
mod tests;

pub use document::{Effect, Policy};
pub use evaluate::{Decision, Misfit, Question, Verdict};
pub use keys::Context;
pub use parse::{ACTIONS, Malformed};
pub use principal::{Asker, role_arn, root_arn, session_arn};
