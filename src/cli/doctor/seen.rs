//! What one look at the cluster came to: something, nothing, or no answer and why. Must not take a refusal for nothing.

/// The outcome of one look.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen<T> {
    There(T),
    Absent,
    Unseen(Unseen),
}

/// Why something was not seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unseen {
    /// The person may not look; the API server's words name the right.
    Forbidden(String),
    /// No answer that says anything.
    Failed(String),
}

impl Unseen {
    pub fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 403 => Self::Forbidden(status.message.clone()),
            kube::Error::Api(status) => Self::Failed(status.message.clone()),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl<T> Seen<T> {
    pub fn one(found: Result<Option<T>, kube::Error>) -> Self {
        match found {
            Ok(Some(found)) => Self::There(found),
            Ok(None) => Self::Absent,
            Err(error) => Self::Unseen(Unseen::of(&error)),
        }
    }

    /// Of a list, or of what answers whether it is there or not: a kind that the cluster does not know is absent.
    pub fn all(found: Result<T, kube::Error>) -> Self {
        match found {
            Err(kube::Error::Api(status)) if status.code == 404 => Self::Absent,
            found => Self::one(found.map(Some)),
        }
    }

    pub fn there(&self) -> Option<&T> {
        match self {
            Self::There(found) => Some(found),
            _ => None,
        }
    }
}
