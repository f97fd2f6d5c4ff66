//! PORT to Kubernetes: token and access reviews, leases, informers, events, for several shells.
//! Must not decide: it asks and reports.

mod events;
mod lease;
mod pods;
mod presence;
mod rights;
mod rotation_pod;
mod together;
mod tokens;

pub use events::{EventKind, EventPublisher, EventSender};
pub use lease::{Elector, LeaseHold, LeaseSettings, LeaseTrouble, StorePosition};
pub use pods::{DRIVER, MountClaim, PodPresence, PodReader, PodRefused};
pub use presence::Presences;
pub use rights::AccessReviews;
pub use rotation_pod::{ATTEMPT_LABEL, ROTATION_LABEL};
pub use tokens::{TokenRefused, TokenReviewer};

use std::time::Duration;

/// How long one question to the API server may take. A caller of ours waits for the answer.
const ASK_MAX: Duration = Duration::from_secs(5);

/// Waits for an answer of the API server, but not for ever: a server that hangs must not hang its callers.
async fn within<T>(question: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Unanswered> {
    match tokio::time::timeout(ASK_MAX, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Unanswered::Failed(Box::new(error))),
        Err(_) => Err(Unanswered::TooSlow),
    }
}

/// Why the API server gave no answer.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("the API server did not answer within {} s", ASK_MAX.as_secs())]
    TooSlow,
    #[error("{0}")]
    Failed(Box<kube::Error>),
}

impl Unanswered {
    fn status(&self) -> Option<u16> {
        match self {
            Self::Failed(error) => match error.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::TooSlow => None,
        }
    }
}
