//! Who signed this request? AWS's Signature Version 4 from the side of the server: what a request says of its
//! signature, and whether it is the one that the key's owner would have made.
//! Must not know keys, callers or services: they come in as arguments, as the time does.

mod canonical;
mod read;
#[cfg(test)]
pub(crate) mod tests;

use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};

use crate::seal::{ScopedSecret, hex, hmac_sha256, same, sha256};

pub use canonical::decoded;

/// How far a client's clock may be off (AWS's 5 minutes).
const SKEW: SignedDuration = SignedDuration::from_mins(5);
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// The parts of a request that a signature can cover.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    /// As it was sent.
    pub path: &'a str,
    /// As it was sent, without the question mark.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    /// The header `Host`, or what HTTP/2 has instead.
    pub host: &'a str,
    pub body: &'a [u8],
}

/// What a request says of its signature, none of which is believed before `verify`.
pub struct Signed {
    pub access_key_id: String,
    pub session_token: Option<String>,
    scope: Scope,
    headers: Vec<String>,
    signature: String,
    /// The time of signing, as it was sent and as it was read.
    stamp: String,
    at: Timestamp,
    /// Of a presigned request: for how long it is good.
    lasts: Option<SignedDuration>,
}

struct Scope {
    date: String,
    region: String,
    service: String,
}

/// Whom a signature must be made for.
#[derive(Clone, Copy)]
pub struct Audience<'a> {
    pub region: &'a str,
    pub service: &'a str,
}

/// Why a signature is not taken; the texts are AWS's. None of them holds a signature or a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("{0}")]
    Incomplete(String),
    #[error("Credential should be scoped to a valid region, not '{given}'. This is {right}.")]
    OtherRegion { given: String, right: String },
    #[error("Credential should be scoped to correct service: '{right}'.")]
    OtherService { right: String },
    #[error(
        "Signature expired: {given} is now earlier than {earliest} ({now} - 5 min.)",
        given = stamp(*given), earliest = stamp(now.saturating_sub(SKEW).unwrap_or(*now)), now = stamp(*now)
    )]
    Expired { given: Timestamp, now: Timestamp },
    #[error(
        "Signature not yet current: {given} is still later than {latest} ({now} + 5 min.)",
        given = stamp(*given), latest = stamp(now.saturating_add(SKEW).unwrap_or(*now)), now = stamp(*now)
    )]
    NotYet { given: Timestamp, now: Timestamp },
    #[error("Signature expired: {ended} is now earlier than {now}", ended = stamp(*ended), now = stamp(*now))]
    PresignedExpired { ended: Timestamp, now: Timestamp },
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access \
         Key and signing method. Consult the service documentation for details."
    )]
    Mismatch,
}

impl Fault {
    fn incomplete(what: impl Into<String>) -> Self {
        Self::Incomplete(what.into())
    }
}

impl Signed {
    /// What the request says of its signature; `None` when it says nothing of one.
    pub fn read(request: Request<'_>) -> Result<Option<Self>, Fault> {
        read::read(request)
    }

    /// Whether it was made for this service, and now.
    pub fn is_meant_for(&self, audience: Audience<'_>, now: Timestamp) -> Result<(), Fault> {
        if self.scope.service != audience.service {
            return Err(Fault::OtherService { right: audience.service.to_owned() });
        }
        if self.scope.region != audience.region {
            let (given, right) = (self.scope.region.clone(), audience.region.to_owned());
            return Err(Fault::OtherRegion { given, right });
        }
        let given = self.at;
        if given > now.saturating_add(SKEW).unwrap_or(now) {
            return Err(Fault::NotYet { given, now });
        }
        match self.lasts {
            None if given < now.saturating_sub(SKEW).unwrap_or(now) => Err(Fault::Expired { given, now }),
            Some(lasts) => match given.saturating_add(lasts).unwrap_or(given) {
                ended if ended < now => Err(Fault::PresignedExpired { ended, now }),
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// Whether the owner of this secret key signed the request, over exactly the headers that he lists. The host must be
    /// among them, and, when they were sent, those that tell what is asked for.
    pub fn verify(&self, request: Request<'_>, telling: &[&str], secret: &ScopedSecret) -> Result<(), Fault> {
        let is_signed = |name: &str| self.headers.iter().any(|listed| listed == name);
        if !is_signed("host") {
            let text = "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.";
            return Err(Fault::incomplete(text));
        }
        if let Some(name) =
            telling.iter().find(|name| request.headers.contains_key(**name) && !is_signed(name))
        {
            return Err(Fault::incomplete(format!(
                "'{name}' must be a 'SignedHeader' in the AWS Authorization."
            )));
        }
        let right = hex(&self.sign(&self.string_to_sign(&self.canonical(request)), secret));
        if same(right.as_bytes(), self.signature.as_bytes()) { Ok(()) } else { Err(Fault::Mismatch) }
    }

    fn canonical(&self, request: Request<'_>) -> String {
        let payload = match request.headers.get("x-amz-content-sha256") {
            Some(given) if given == UNSIGNED_PAYLOAD => UNSIGNED_PAYLOAD.to_owned(),
            // Whatever hash the client names: what counts is that of the body that came.
            _ => hex(&sha256(request.body)),
        };
        canonical::request(request, &self.headers, &payload)
    }

    fn string_to_sign(&self, canonical: &str) -> String {
        let Scope { date, region, service } = &self.scope;
        let hash = hex(&sha256(canonical.as_bytes()));
        format!("{ALGORITHM}\n{}\n{date}/{region}/{service}/{TERMINATOR}\n{hash}", self.stamp)
    }

    fn sign(&self, string_to_sign: &str, secret: &ScopedSecret) -> [u8; 32] {
        let Scope { date, region, service } = &self.scope;
        let key = secret.key("AWS4", &[date, region, service, TERMINATOR]);
        hmac_sha256(key.as_slice(), string_to_sign.as_bytes())
    }
}

fn stamp(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}
