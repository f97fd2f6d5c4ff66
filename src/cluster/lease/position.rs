//! Where the store stood when its leader last said so, as an annotation of the Lease. Must not decide what follows
//! from a store that is behind it.

use std::fmt;

use k8s_openapi::api::coordination::v1::Lease;

use super::LeaseTrouble;

pub(super) const ANNOTATION: &str = "tidelock.dev/store-position";

/// Epoch and commit sequence. Written as `<epoch>.<commit>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StorePosition {
    pub epoch: u64,
    pub commit: u64,
}

impl StorePosition {
    /// Whether a store that stands here was put back from an older copy, for its leader once noted that position.
    /// To be asked before the epoch is raised: raising it hides what an older copy looks like.
    pub fn is_behind(self, noted: Self) -> bool {
        self < noted
    }

    fn parse(text: &str) -> Option<Self> {
        let (epoch, commit) = text.split_once('.')?;
        Some(Self { epoch: epoch.parse().ok()?, commit: commit.parse().ok()? })
    }
}

impl fmt::Display for StorePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.commit)
    }
}

/// An annotation that cannot be read is an error: to take it for none would hide a store that was put back.
pub(super) fn of(lease: Option<&Lease>) -> Result<Option<StorePosition>, LeaseTrouble> {
    let annotations = lease.and_then(|lease| lease.metadata.annotations.as_ref());
    let Some(text) = annotations.and_then(|all| all.get(ANNOTATION)) else { return Ok(None) };
    match StorePosition::parse(text) {
        Some(position) => Ok(Some(position)),
        None => Err(LeaseTrouble::Position { found: text.chars().take(64).collect() }),
    }
}
