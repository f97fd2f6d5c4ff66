//! Stages: the labels that say which version is current, pending, previous. How they move is `moves`' matter.

use std::fmt;

/// A label on a version, 1 to 256 characters. It sits on at most one version of a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stage(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a staging label has 1 to 256 characters, this one has {0}")]
pub struct StageError(usize);

impl Stage {
    pub const CURRENT: &'static str = "AWSCURRENT";
    pub const PENDING: &'static str = "AWSPENDING";
    pub const PREVIOUS: &'static str = "AWSPREVIOUS";

    pub fn parse(text: &str) -> Result<Self, StageError> {
        let count = text.chars().count();
        if (1..=256).contains(&count) { Ok(Self(text.to_owned())) } else { Err(StageError(count)) }
    }

    pub fn current() -> Self {
        Self(Self::CURRENT.to_owned())
    }

    pub fn pending() -> Self {
        Self(Self::PENDING.to_owned())
    }

    pub fn previous() -> Self {
        Self(Self::PREVIOUS.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
