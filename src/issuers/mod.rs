//! PORT to OpenID Connect issuers: are these claims the issuer's own? Fetches and keeps the keys that they sign with.
//! Must not decide what a token is good for, nor tell anything of one.

mod fetch;
mod keys;
#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, Validation};

use crate::clock::Clock;
use crate::federation::{self, Claims, Issuer, Rejected};
use fetch::{Fetcher, Unreached};
use keys::Keys;

/// What signs for others to verify. Whoever can verify by a shared secret could sign as well.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Why a token proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotProved {
    #[error("the token is no JWT that is signed with an asymmetric algorithm")]
    Form,
    #[error("the issuer has no such key")]
    UnknownKey,
    #[error("the token's signature is not the issuer's")]
    Signature,
    #[error("the issuer's keys could not be had")]
    Unreached,
}

/// All issuers that are trusted.
#[derive(Default)]
pub struct Issuers {
    all: Vec<Trusted>,
}

/// One of them, with its keys.
pub struct Trusted {
    pub issuer: Issuer,
    keys: Keys,
    clock: Arc<dyn Clock>,
}

/// What of the configuration only shows when it is put to use.
#[derive(Debug, thiserror::Error)]
pub enum BadIssuer {
    #[error("oidcIssuers: {issuer}: caBundle: {wrong}; write certificates in PEM")]
    Bundle { issuer: String, wrong: String },
    #[error("oidcIssuers: {issuer}: caFile {}: {wrong}; put certificates in PEM there", path.display())]
    File { issuer: String, path: PathBuf, wrong: String },
    #[error(
        "oidcIssuers: {0}: jwks: no key of it is for signatures; write one of RSA (2048 bits or more), EC (P-256, P-384) or Ed25519"
    )]
    Keys(String),
}

impl Issuers {
    pub fn new(issuers: Vec<Issuer>, clock: &Arc<dyn Clock>) -> Result<Self, BadIssuer> {
        let trusted = |issuer: Issuer| {
            let keys = match &issuer.jwks {
                Some(jwks) => Keys::fixed(jwks).ok_or_else(|| BadIssuer::Keys(issuer.url.clone()))?,
                None => Keys::fetched(Fetcher::new(&issuer)?),
            };
            Ok(Trusted { issuer, keys, clock: Arc::clone(clock) })
        };
        let all = issuers.into_iter().map(trusted).collect::<Result<_, _>>()?;
        Ok(Self { all })
    }

    /// The issuer that a token says it is of. Nothing is proved by that. A token for the audience of the cluster's own is
    /// none, unless the configuration says so: the cluster, or one that names itself alike, may be an issuer as well.
    pub fn named_by(&self, token: &str, of_cluster: &str) -> Option<&Trusted> {
        if self.all.is_empty() {
            return None;
        }
        let claims: Claims = jsonwebtoken::dangerous::insecure_decode_claims(token).ok()?;
        let named = claims.get("iss")?.as_str()?;
        let is_for = |audience: &str| federation::is_for(&claims, audience);
        let of_issuer = |issuer: &Issuer| !is_for(of_cluster) || issuer.audience == of_cluster;
        self.all.iter().find(|trusted| trusted.issuer.url == named && of_issuer(&trusted.issuer))
    }
}

impl Trusted {
    /// The token's claims, when the issuer signed them. For whom and for when they are is to be compared yet.
    pub async fn signed(&self, token: &str) -> Result<Claims, NotProved> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| NotProved::Form)?;
        // Extensions that must be understood are not.
        if !ALGORITHMS.contains(&header.alg) || header.crit.is_some() {
            return Err(NotProved::Form);
        }
        let key = self.keys.find(&header, self.clock.monotonic()).await?;
        let mut validation = Validation::new(header.alg);
        // Only the signature is its business: claims are compared by our own clock.
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        let proved = jsonwebtoken::decode::<Claims>(token, &key, &validation);
        Ok(proved.map_err(|_| NotProved::Signature)?.claims)
    }

    /// Whether claims are for us and for now.
    pub fn check(&self, claims: &Claims) -> Result<(), Rejected> {
        federation::check(claims, &self.issuer, self.clock.now())
    }
}

impl From<Unreached> for NotProved {
    fn from(_: Unreached) -> Self {
        Self::Unreached
    }
}
