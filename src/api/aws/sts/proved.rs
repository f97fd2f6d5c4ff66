//! Whose token is it, and may he have the role that he asks for? The cluster tells of its own tokens, an issuer of the
//! configuration of its own. Must not tell anything of a token to whoever did not send it.

use http::StatusCode;
use serde_json::Value;

use super::{StsError, Wanted};
use crate::access::{Outsider, Principal};
use crate::api::aws::AwsApi;
use crate::federation::{Claims, Rejected};
use crate::issuers::{NotProved, Trusted};

/// Somebody who may have the session that he asks for.
pub(super) struct Proved {
    pub who: Principal,
    pub subject: String,
    pub audience: String,
    /// Who he is at his issuer, when that is not the cluster.
    pub outsider: Option<Outsider>,
}

impl AwsApi {
    pub(super) async fn proved(&self, wanted: &Wanted<'_>) -> Result<Proved, StsError> {
        // Clients send the file as it is, with the newline at its end if it has one.
        let token = wanted.token.trim_ascii();
        match self.issuers.named_by(token, &self.audience) {
            Some(trusted) => self.proved_by_issuer(trusted, token, wanted).await,
            None => self.proved_by_cluster(token, wanted).await,
        }
    }

    async fn proved_by_cluster(&self, token: &str, wanted: &Wanted<'_>) -> Result<Proved, StsError> {
        let who = self.tokens.authenticate(token, &self.audience).await?;
        let account = who.account().ok_or_else(StsError::internal)?;
        let role = self.role_arn(account);
        if wanted.role != role {
            self.keeper.session_refused_to(&who, wanted.session, "AccessDenied").await;
            let text = format!(
                "Not authorized to perform sts:AssumeRoleWithWebIdentity: the role of this token's ServiceAccount is \
                 {role}"
            );
            return Err(StsError::new(StatusCode::FORBIDDEN, "AccessDenied", text));
        }
        let (subject, audience) = (account.user(), self.audience.clone());
        Ok(Proved { who, subject, audience, outsider: None })
    }

    async fn proved_by_issuer(
        &self,
        trusted: &Trusted,
        token: &str,
        wanted: &Wanted<'_>,
    ) -> Result<Proved, StsError> {
        let claims = trusted.signed(token).await?;
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned();
        let outsider = Outsider::new(&trusted.issuer.url, &subject);
        match self.role_for(trusted, &claims, wanted).await {
            Ok(who) => {
                let audience = trusted.issuer.audience.clone();
                Ok(Proved { who, subject, audience, outsider: Some(outsider) })
            }
            Err(refused) => {
                self.keeper.session_refused(&outsider, wanted.session, refused.code).await;
                Err(refused)
            }
        }
    }

    /// The ServiceAccount of the role that is asked for, when claims that the issuer did sign are good for it.
    async fn role_for(
        &self,
        trusted: &Trusted,
        claims: &Claims,
        wanted: &Wanted<'_>,
    ) -> Result<Principal, StsError> {
        trusted.check(claims)?;
        let issuer = &trusted.issuer;
        let account = issuer.account(|account| self.role_arn(account) == wanted.role, claims);
        // The same words for a role that is not there and for one that is for others.
        let unfit =
            || rejected("No rule of the token's issuer gives this role to a token with these claims.");
        let account = account.ok_or_else(unfit)?;
        let who = self.keeper.account_outside(account, wanted.session).await?;
        who.ok_or_else(|| rejected("The ServiceAccount of this role is not there."))
    }
}

fn rejected(text: impl Into<String>) -> StsError {
    StsError::new(StatusCode::FORBIDDEN, "IDPRejectedClaim", text)
}

impl From<NotProved> for StsError {
    fn from(refused: NotProved) -> Self {
        let answer = |code| Self::new(StatusCode::BAD_REQUEST, code, refused.to_string());
        match &refused {
            NotProved::Form | NotProved::UnknownKey | NotProved::Signature => answer("InvalidIdentityToken"),
            // Clients try this one again.
            NotProved::Unreached => answer("IDPCommunicationError"),
        }
    }
}

impl From<Rejected> for StsError {
    fn from(refused: Rejected) -> Self {
        let answer = |code| Self::new(StatusCode::BAD_REQUEST, code, refused.to_string());
        match &refused {
            Rejected::Expired => answer("ExpiredTokenException"),
            Rejected::Audience(_) => rejected(refused.to_string()),
            Rejected::Time(_) | Rejected::NotYet(_) | Rejected::Issuer => answer("InvalidIdentityToken"),
        }
    }
}
