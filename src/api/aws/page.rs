//! Where a list goes on: the last thing shown and its place in the order, in the token itself, so that any replica can go
//! on. Must not hold what its bearer was not shown: whoever changes a token only begins elsewhere in what he may see.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::ApiError;

pub(super) struct Place {
    pub at: Option<Timestamp>,
    pub last: String,
}

/// Operation and order are in it, for a place in one order says nothing in another.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    operation: &'a str,
    order: &'a str,
    at: Option<Timestamp>,
    last: String,
}

impl Place {
    pub(super) fn invalid() -> ApiError {
        ApiError::new("InvalidNextTokenException", "The NextToken value is invalid.")
    }

    pub(super) fn token(self, operation: &str, order: &str) -> String {
        let written = Written { operation, order, at: self.at, last: self.last };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&written).unwrap_or_default())
    }

    pub(super) fn read(token: &str, operation: &str, order: &str) -> Result<Self, ApiError> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| Self::invalid())?;
        let written: Written<'_> = serde_json::from_slice(&bytes).map_err(|_| Self::invalid())?;
        if (written.operation, written.order) != (operation, order) {
            return Err(Self::invalid());
        }
        Ok(Self { at: written.at, last: written.last })
    }
}
