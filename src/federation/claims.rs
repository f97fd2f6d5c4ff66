//! What the claims of every token must say, whoever issued it. Must not read the time itself.

use jiff::Timestamp;
use serde_json::Value;

use super::{Claims, Issuer};

/// How far the issuer's clock may be from ours.
pub const LEEWAY_SECONDS: i64 = 60;

/// Why claims are not accepted. Names what is wrong, and nothing of the token but its audience.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    #[error("the token has no {0}, or none that is a number of seconds")]
    Time(&'static str),
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet (its {0} lies ahead)")]
    NotYet(&'static str),
    #[error("the token is of another issuer")]
    Issuer,
    #[error("the token is not for the audience {0}")]
    Audience(String),
}

/// Compares issuer, audience and times.
pub fn check(claims: &Claims, issuer: &Issuer, now: Timestamp) -> Result<(), Rejected> {
    if claims.get("iss").and_then(Value::as_str) != Some(issuer.url.as_str()) {
        return Err(Rejected::Issuer);
    }
    let now = now.as_second();
    let expires = seconds(claims, "exp")?.ok_or(Rejected::Time("exp"))?;
    if now >= expires.saturating_add(LEEWAY_SECONDS) {
        return Err(Rejected::Expired);
    }
    for name in ["nbf", "iat"] {
        if seconds(claims, name)?.is_some_and(|from| from > now.saturating_add(LEEWAY_SECONDS)) {
            return Err(Rejected::NotYet(name));
        }
    }
    if is_for(claims, &issuer.audience) { Ok(()) } else { Err(Rejected::Audience(issuer.audience.clone())) }
}

/// Whether `aud` is this audience, or has it.
pub fn is_for(claims: &Claims, audience: &str) -> bool {
    let is_it = |value: &Value| value.as_str() == Some(audience);
    match claims.get("aud") {
        Some(Value::Array(all)) => all.iter().any(is_it),
        Some(one) => is_it(one),
        None => false,
    }
}

/// A fraction of a second is left aside (RFC 7519 allows one).
fn seconds(claims: &Claims, name: &'static str) -> Result<Option<i64>, Rejected> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let whole = value
        .as_i64()
        .or_else(|| Timestamp::from_second(value.as_f64()?.floor() as i64).ok()?.as_second().into());
    whole.map(Some).ok_or(Rejected::Time(name))
}
