//! The event of AWS's rotation contract, as a file. Must not hold a value: it names a secret and a version.

use std::path::Path;

use serde::Deserialize;

use super::RotatorError;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Event {
    /// The ARN.
    pub secret_id: String,
    /// The id of the version that this rotation makes.
    pub client_request_token: String,
}

pub async fn read(path: &Path) -> Result<Event, RotatorError> {
    let text = tokio::fs::read(path)
        .await
        .map_err(|source| RotatorError::EventFile { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|_| RotatorError::Event(path.to_owned()))
}
