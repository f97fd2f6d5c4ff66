//! What the doctor says: one line per finding, with the word that `docs/troubleshooting.md` explains.
//! Must not hold a value: names, words and numbers only.

use std::borrow::Cow;

use comfy_table::Table;
use serde::Serialize;

use crate::cli::output;

/// What was looked at, in the order in which an installation stands up.
pub type Check = &'static str;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Well,
    /// A person may want to know; nothing is broken.
    Notice,
    /// It could not be looked at.
    Unknown,
    /// A person must act.
    Mend,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Notice => "notice",
            Self::Unknown => "unknown",
            Self::Mend => "mend",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub check: Check,
    pub state: State,
    /// One of [`Word`], or a word of the server's own.
    pub reason: Cow<'static, str>,
    /// What was found, and what to do.
    pub message: String,
}

impl Finding {
    pub fn well(check: Check, message: impl Into<String>) -> Self {
        Self::new(check, State::Well, Word::InOrder, message)
    }

    pub fn mend(check: Check, word: Word, message: impl Into<String>) -> Self {
        Self::new(check, State::Mend, word, message)
    }

    pub fn notice(check: Check, word: Word, message: impl Into<String>) -> Self {
        Self::new(check, State::Notice, word, message)
    }

    pub fn unknown(check: Check, word: Word, message: impl Into<String>) -> Self {
        Self::new(check, State::Unknown, word, message)
    }

    fn new(check: Check, state: State, word: Word, message: impl Into<String>) -> Self {
        Self { check, state, reason: Cow::Borrowed(word.reason()), message: message.into() }
    }
}

/// The doctor's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    InOrder,
    NotAllowedToLook,
    NotAnswered,
    DefinitionMissing,
    DefinitionDiffers,
    NamespaceMissing,
    NamespaceNotPrivileged,
    NamespaceLevelNotSet,
    ServerMissing,
    ServerScaledDown,
    ServerNotRunning,
    VolumeClaimMissing,
    VolumeClaimNotBound,
    RootKeyMissing,
    RootKeyOfOtherStore,
    AuthorityMissing,
    AuthorityNearEnd,
    CertificateNotRenewed,
    CertificateNotTrusted,
    WebhookMissing,
    WebhookDiffers,
    CaBundleWrong,
    WebhookUnreachable,
    WebhookNotCalled,
    TrialRefused,
    PolicyMissing,
    PolicyNotInForce,
    DriverMissing,
    DriverNotRegistered,
    AgentMissing,
    AgentNotConnected,
    VersionSkew,
    RightMissing,
    RightTooWide,
    NotAllReady,
}

impl Word {
    pub fn reason(self) -> &'static str {
        match self {
            Self::InOrder => "InOrder",
            Self::NotAllowedToLook => "NotAllowedToLook",
            Self::NotAnswered => "NotAnswered",
            Self::DefinitionMissing => "DefinitionMissing",
            Self::DefinitionDiffers => "DefinitionDiffers",
            Self::NamespaceMissing => "NamespaceMissing",
            Self::NamespaceNotPrivileged => "NamespaceNotPrivileged",
            Self::NamespaceLevelNotSet => "NamespaceLevelNotSet",
            Self::ServerMissing => "ServerMissing",
            Self::ServerScaledDown => "ServerScaledDown",
            Self::ServerNotRunning => "ServerNotRunning",
            Self::VolumeClaimMissing => "VolumeClaimMissing",
            Self::VolumeClaimNotBound => "VolumeClaimNotBound",
            Self::RootKeyMissing => "RootKeyMissing",
            Self::RootKeyOfOtherStore => "RootKeyOfOtherStore",
            Self::AuthorityMissing => "AuthorityMissing",
            Self::AuthorityNearEnd => "AuthorityNearEnd",
            Self::CertificateNotRenewed => "CertificateNotRenewed",
            Self::CertificateNotTrusted => "CertificateNotTrusted",
            Self::WebhookMissing => "WebhookMissing",
            Self::WebhookDiffers => "WebhookDiffers",
            Self::CaBundleWrong => "CaBundleWrong",
            Self::WebhookUnreachable => "WebhookUnreachable",
            Self::WebhookNotCalled => "WebhookNotCalled",
            Self::TrialRefused => "TrialRefused",
            Self::PolicyMissing => "PolicyMissing",
            Self::PolicyNotInForce => "PolicyNotInForce",
            Self::DriverMissing => "DriverMissing",
            Self::DriverNotRegistered => "DriverNotRegistered",
            Self::AgentMissing => "AgentMissing",
            Self::AgentNotConnected => "AgentNotConnected",
            Self::VersionSkew => "VersionSkew",
            Self::RightMissing => "RightMissing",
            Self::RightTooWide => "RightTooWide",
            Self::NotAllReady => "NotAllReady",
        }
    }
}

pub fn rows(findings: &[Finding]) -> Table {
    let mut table = output::table(&["CHECK", "STATE", "REASON", "FOUND"]);
    for finding in findings {
        table.add_row([finding.check, finding.state.word(), &finding.reason, &finding.message]);
    }
    table
}
