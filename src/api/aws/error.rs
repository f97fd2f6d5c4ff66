//! What a caller of the AWS API is told when something is not done: AWS's type, AWS's words, AWS's status.
//! Must not carry values, nor what only the operator of the server should read.

use http::StatusCode;
use serde::Serialize;

use crate::cluster::TokenRefused;
use crate::keeper::KeeperError;

/// One refusal or failure, as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    pub kind: &'static str,
    pub message: String,
}

/// The body of every error (recorded: `Message` with a capital letter).
#[derive(Serialize)]
pub(super) struct ErrorBody<'a> {
    #[serde(rename = "__type")]
    kind: &'a str,
    #[serde(rename = "Message")]
    message: &'a str,
}

const INTERNAL: &str = "InternalServiceError";

impl ApiError {
    pub(super) fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(super) fn internal() -> Self {
        Self::new(INTERNAL, "An error occurred on the server side.")
    }

    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    pub(super) fn parameter(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterException", message)
    }

    pub(super) fn request(message: impl Into<String>) -> Self {
        Self::new("InvalidRequestException", message)
    }

    pub(super) fn serialization(message: impl Into<String>) -> Self {
        Self::new("SerializationException", message)
    }

    /// AWS answers every fault of the caller's with 400, also what is not found and what is not allowed.
    pub(super) fn status(&self) -> StatusCode {
        if self.kind == INTERNAL { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::BAD_REQUEST }
    }

    pub(super) fn body(&self) -> ErrorBody<'_> {
        ErrorBody { kind: self.kind, message: &self.message }
    }
}

impl From<KeeperError> for ApiError {
    fn from(error: KeeperError) -> Self {
        let kind = error.aws_type();
        if kind == INTERNAL {
            // What went wrong inside is the operator's to read, and nobody's to probe for.
            tracing::error!(reason = error.reason(), %error, "a request could not be served");
            return Self::internal();
        }
        Self::new(kind, error.to_string())
    }
}

impl From<TokenRefused> for ApiError {
    fn from(refused: TokenRefused) -> Self {
        match refused {
            TokenRefused::Unavailable(_) => {
                tracing::error!(reason = refused.reason(), error = %refused, "a caller's token could not be reviewed");
                Self::internal()
            }
            // AWS's first sentence, which clients know; then what is wrong here.
            _ => Self::new(
                "UnrecognizedClientException",
                format!("The security token included in the request is invalid. ({refused})"),
            ),
        }
    }
}
