//! PORT. Whose bearer token is this? Answered by the cluster; both doors of this room ask it.
//! Must not look into a token.

use async_trait::async_trait;

use crate::access::Principal;
use crate::cluster::{TokenRefused, TokenReviewer};

/// Proves who holds a token.
#[async_trait]
pub trait Authenticate: Send + Sync {
    async fn authenticate(&self, token: &str, audience: &str) -> Result<Principal, TokenRefused>;
}

#[async_trait]
impl Authenticate for TokenReviewer {
    async fn authenticate(&self, token: &str, audience: &str) -> Result<Principal, TokenRefused> {
        self.review(token, audience).await
    }
}

/// The token of an `Authorization` header. The scheme's case is the sender's choice (RFC 9110).
pub(super) fn bearer(header: &[u8]) -> Option<&str> {
    let (scheme, token) = std::str::from_utf8(header).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_header_holds_a_token() {
        assert_eq!(bearer(b"Bearer abc"), Some("abc"));
        assert_eq!(bearer(b"bearer  abc "), Some("abc"));
        for other in [&b"Bearer"[..], b"Basic abc", b"AWS4-HMAC-SHA256 Credential=x", b"\xff abc", b""] {
            assert_eq!(bearer(other), None);
        }
    }
}
