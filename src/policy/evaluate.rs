//! What a policy says of one act. Must not stop at the first statement that allows: an explicit Deny wins, wherever it is.

use super::condition::{Condition, arn_matches};
use super::document::{Effect, Policy, ResourcePattern, Statement};
use super::keys::Context;
use super::principal::{Asker, Meaning};

/// Who asks for what.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub who: &'a Asker,
    /// Without the service: `GetSecretValue`.
    pub action: &'a str,
    /// The ARN of the secret.
    pub resource: &'a str,
    pub context: &'a Context,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Deny,
    Allow,
    /// No statement decides.
    Silent,
}

/// A decision, and the statement that it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict<'p> {
    pub decision: Decision,
    pub statement: Option<&'p str>,
}

/// Why a statement says nothing of an act.
#[derive(Debug, Clone, Copy)]
pub enum Misfit<'p> {
    Principal,
    /// It allows the account, which leaves the decision to the identity side.
    Delegated,
    Action,
    Resource,
    Condition(Unmet<'p>),
}

/// A condition that does not hold.
#[derive(Debug, Clone, Copy)]
pub struct Unmet<'p>(&'p Condition);

impl std::fmt::Display for Misfit<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Principal => f.write_str("its principals do not include this one"),
            Self::Delegated => {
                f.write_str("it names the account only, and so leaves the decision to RBAC and grants")
            }
            Self::Action => f.write_str("its actions do not include this one"),
            Self::Resource => f.write_str("its resources do not include this secret"),
            Self::Condition(Unmet(condition)) => write!(f, "its condition {condition} does not hold"),
        }
    }
}

impl Policy {
    pub fn decide(&self, question: &Question<'_>) -> Verdict<'_> {
        let mut verdict = Verdict { decision: Decision::Silent, statement: None };
        for statement in &self.statements {
            let decision = match (statement.effect, verdict.decision) {
                (Effect::Deny, _) => Decision::Deny,
                (Effect::Allow, Decision::Silent) => Decision::Allow,
                (Effect::Allow, _) => continue,
            };
            if statement.fit(question).is_err() {
                continue;
            }
            verdict = Verdict { decision, statement: Some(&statement.label) };
            if decision == Decision::Deny {
                break;
            }
        }
        verdict
    }

    /// Each statement by its label and effect, and why it does not apply, if so.
    pub fn explain<'p>(
        &'p self,
        question: &Question<'_>,
    ) -> impl Iterator<Item = (&'p str, Effect, Option<Misfit<'p>>)> {
        self.statements
            .iter()
            .map(|statement| (statement.label.as_str(), statement.effect, statement.fit(question).err()))
    }
}

impl Statement {
    /// Whether it decides, or by which of its elements it does not.
    fn fit(&self, question: &Question<'_>) -> Result<(), Misfit<'_>> {
        let Question { who, action, resource, context } = question;
        let meaning = self.meant.meaning(who).ok_or(Misfit::Principal)?;
        let action = format!("secretsmanager:{action}");
        if !self.actions.hold(|pattern| pattern.matches_folded(&action, context)) {
            return Err(Misfit::Action);
        }
        let of_resource = |pattern: &ResourcePattern| match pattern {
            ResourcePattern::Any => true,
            ResourcePattern::Arn(parts) => arn_matches(parts, resource, context),
        };
        if !self.resources.hold(of_resource) {
            return Err(Misfit::Resource);
        }
        if let Some(unmet) = self.conditions.iter().find(|condition| !condition.holds(context)) {
            return Err(Misfit::Condition(Unmet(unmet)));
        }
        match (self.effect, meaning) {
            (Effect::Allow, Meaning::OfAccount) => Err(Misfit::Delegated),
            _ => Ok(()),
        }
    }
}
