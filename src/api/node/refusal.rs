//! Why a first mount waits, in the words of the stream. Must not carry values.

use crate::access::Denied;
use crate::keeper::KeeperError;
use crate::wire::node::Refused;
use crate::wire::node::refused::Reason;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub reason: Reason,
    pub message: String,
}

impl Refusal {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    pub(super) fn message(&self, request_id: u64, mount_id: &str) -> Refused {
        Refused {
            request_id,
            mount_id: mount_id.to_owned(),
            reason: self.reason.into(),
            message: self.message.clone(),
        }
    }

    /// Whether asking again with the same identity can bring another answer.
    pub(super) fn may_change(&self) -> bool {
        self.reason != Reason::TokenRejected
    }
}

impl From<&KeeperError> for Refusal {
    fn from(error: &KeeperError) -> Self {
        let reason = match error {
            KeeperError::NotFound | KeeperError::NoSuchResource { .. } => Reason::UnknownSecret,
            KeeperError::NoValueForStage(_) | KeeperError::NoValueForVersion(_) => Reason::NoValue,
            KeeperError::MarkedForDeletion | KeeperError::NameMarkedForDeletion => {
                Reason::ScheduledForDeletion
            }
            KeeperError::Denied(Denied::No(_)) => Reason::NotAllowed,
            KeeperError::InvalidParameter(_) | KeeperError::InvalidRequest(_) => Reason::BadRequest,
            KeeperError::LimitExceeded(_) => Reason::TooLarge,
            _ => Reason::Unavailable,
        };
        // What failed inside is for the server's log; the pod's owner learns the word.
        let message = match reason {
            Reason::Unavailable => {
                tracing::error!(reason = error.reason(), %error, "a mount could not be served");
                format!("the server cannot serve the secret now ({})", error.reason())
            }
            _ => error.to_string(),
        };
        Self { reason, message }
    }
}
