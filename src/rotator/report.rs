//! The pod's main container, after the last step: a Job that ends well has rotated, or tested. Must not change anything.

use super::event::Event;
use super::{RotatorError, patiently};
use crate::secret::Stage;
use crate::wire::aws::Api;

pub async fn run(api: &Api, event: &Event, of_copy: bool) -> Result<(), RotatorError> {
    let description = patiently(|| api.describe_secret(&event.secret_id)).await;
    let description = description
        .map_err(|source| RotatorError::Call { doing: "the secret cannot be described", source })?;
    if of_copy {
        let version = event.client_request_token.as_str();
        if description.version_at(Stage::PENDING) != Some(version) {
            return Err(RotatorError::NotPending(version.to_owned()));
        }
        tracing::info!(version_id = version, "tested");
        return Ok(());
    }
    if description.version_at(Stage::CURRENT) == Some(event.client_request_token.as_str()) {
        tracing::info!(version_id = event.client_request_token, "rotated");
        return Ok(());
    }
    Err(RotatorError::NotPromoted(event.client_request_token.clone()))
}
