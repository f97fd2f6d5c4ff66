//! Who calls? By a bearer token, by keys that were issued for a session, by a lasting access key, or by the key of
//! `tidelock dev`.
//! Must not serve anybody whose pod or ServiceAccount is gone.

use std::net::IpAddr;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{ApiError, AwsApi};
use crate::access::Principal;
use crate::api::authenticate::bearer;
use crate::cluster::{PodRefused, Presences, TokenRefused};
use crate::keeper::{AccessKey, ScopedSecret};
use crate::signature::{Audience, Fault, Request, Signed};

/// What a request of the JSON protocol asks for.
const TELLING: &[&str] = &["x-amz-target"];

/// PORT. Whether the holder of an issued key is still there.
#[async_trait]
pub trait StillThere: Send + Sync {
    async fn check(&self, who: &Principal) -> Result<(), PodRefused>;
}

#[async_trait]
impl StillThere for Presences {
    async fn check(&self, who: &Principal) -> Result<(), PodRefused> {
        Presences::check(self, who).await
    }
}

/// The key of `tidelock dev`.
pub struct LocalKey {
    id: String,
    secret: ScopedSecret,
}

impl From<AccessKey> for LocalKey {
    fn from(key: AccessKey) -> Self {
        Self { id: key.id, secret: ScopedSecret::new(key.secret) }
    }
}

/// Somebody whose identity was proved.
pub(super) struct Caller {
    pub who: Principal,
}

/// Why nobody was recognised; each protocol has words of its own for it.
#[derive(Debug)]
pub(super) enum Unrecognized {
    Missing(&'static str),
    Token(TokenRefused),
    Signature(Fault),
    /// The key, or its token, was not issued here.
    UnknownKey,
    /// The key was issued, and whoever it was issued to is gone.
    Gone(PodRefused),
    Expired,
    Unavailable,
}

impl AwsApi {
    /// `from` is the other end of the connection.
    pub(super) async fn caller(
        &self,
        request: Request<'_>,
        from: Option<IpAddr>,
        service: &str,
    ) -> Result<Caller, Unrecognized> {
        let mut caller = match Signed::read(request).map_err(Unrecognized::Signature)? {
            Some(signed) => self.signer(&signed, request, service).await?,
            None => self.bearer(request).await?,
        };
        if let Principal::ServiceAccount { via, .. } = &mut caller.who {
            via.address = from;
        }
        Ok(caller)
    }

    async fn signer(
        &self,
        signed: &Signed,
        request: Request<'_>,
        service: &str,
    ) -> Result<Caller, Unrecognized> {
        let now = self.clock.now();
        let region = &self.keeper.settings().region;
        let audience = Audience { region, service };
        let wrong = Unrecognized::Signature;
        let Some(token) = signed.session_token.as_deref() else {
            let local = self.local.as_ref().filter(|key| key.id == signed.access_key_id);
            let Some(key) = local else { return self.holder(signed, request, audience, now).await };
            signed.is_meant_for(audience, now).map_err(wrong)?;
            signed.verify(request, TELLING, &key.secret).map_err(wrong)?;
            return Ok(Caller { who: Principal::Local });
        };
        let session = self.keeper.session(&signed.access_key_id, token).ok_or(Unrecognized::UnknownKey)?;
        signed.is_meant_for(audience, now).map_err(wrong)?;
        signed.verify(request, TELLING, &session.secret).map_err(wrong)?;
        if is_over(session.expires_at, now) {
            return Err(Unrecognized::Expired);
        }
        self.is_there(&session.who).await?;
        Ok(Caller { who: session.who.clone() })
    }

    /// Whoever signs with a lasting access key. One that is revoked is unknown, and so is one that is over.
    async fn holder(
        &self,
        signed: &Signed,
        request: Request<'_>,
        audience: Audience<'_>,
        now: Timestamp,
    ) -> Result<Caller, Unrecognized> {
        let key = self.keeper.access_key(&signed.access_key_id).await.map_err(|error| {
            tracing::error!(reason = error.reason(), %error, "an access key could not be looked up");
            Unrecognized::Unavailable
        })?;
        let key = key.ok_or(Unrecognized::UnknownKey)?;
        signed.is_meant_for(audience, now).map_err(Unrecognized::Signature)?;
        signed.verify(request, TELLING, &key.secret).map_err(Unrecognized::Signature)?;
        if is_over(key.expires_at, now) {
            return Err(Unrecognized::UnknownKey);
        }
        self.is_there(&key.who).await?;
        self.keeper.access_key_used(&key);
        Ok(Caller { who: key.who })
    }

    async fn is_there(&self, who: &Principal) -> Result<(), Unrecognized> {
        self.still_there.check(who).await.map_err(|refused| match refused {
            PodRefused::Unavailable(_) => Unrecognized::Unavailable,
            gone => Unrecognized::Gone(gone),
        })
    }

    async fn bearer(&self, request: Request<'_>) -> Result<Caller, Unrecognized> {
        let mut given = request.headers.get_all(http::header::AUTHORIZATION).iter();
        let first = given.next().ok_or(Unrecognized::Missing("Missing Authentication Token"))?;
        let token = bearer(first.as_bytes()).filter(|_| given.next().is_none()).ok_or({
            Unrecognized::Missing(
                "Missing Authentication Token: sign the request, or send one header Authorization with Bearer and a \
                 ServiceAccount's token",
            )
        })?;
        let who = self.tokens.authenticate(token, &self.audience).await.map_err(Unrecognized::Token)?;
        Ok(Caller { who })
    }
}

fn is_over(expires_at: Timestamp, now: Timestamp) -> bool {
    now >= expires_at
}

/// AWS's first sentence, which clients know; then what is wrong here.
pub(super) fn invalid_token(why: Option<&dyn std::fmt::Display>) -> String {
    let known = "The security token included in the request is invalid.";
    why.map_or_else(|| known.to_owned(), |why| format!("{known} ({why})"))
}

impl From<Unrecognized> for ApiError {
    fn from(unrecognized: Unrecognized) -> Self {
        let unknown = |text| Self::new("UnrecognizedClientException", text);
        match unrecognized {
            Unrecognized::Missing(text) => Self::new("MissingAuthenticationTokenException", text),
            Unrecognized::Token(refused) => refused.into(),
            Unrecognized::Signature(fault @ Fault::Incomplete(_)) => {
                Self::new("IncompleteSignatureException", fault.to_string())
            }
            Unrecognized::Signature(fault) => Self::new("InvalidSignatureException", fault.to_string()),
            Unrecognized::UnknownKey => unknown(invalid_token(None)),
            Unrecognized::Gone(gone) => unknown(invalid_token(Some(&gone))),
            Unrecognized::Expired => {
                Self::new("ExpiredTokenException", "The security token included in the request is expired")
            }
            Unrecognized::Unavailable => Self::internal(),
        }
    }
}
