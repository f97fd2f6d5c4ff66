//! Whose token is this? Asks the API server (TokenReview), which knows whether the pod behind it still exists.
//! Must not read a token itself, keep it, or put any part of it into an error or a log.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use kube::{Api, Client, api::PostParams};

use super::within;
use crate::access::{PodIdentity, Principal, ServiceAccount};

/// A ServiceAccount token is about 1 KiB; what is much longer is not worth a question.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// Why a token was not taken. None of them holds a part of the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    #[error(
        "the bearer token is empty, longer than {TOKEN_BYTES_MAX} bytes, or holds characters that no token has"
    )]
    Malformed,
    #[error(
        "the API server does not accept the token for audience {audience}: it is expired, foreign, for another audience, or its pod is gone"
    )]
    NotAuthenticated { audience: String },
    #[error("the token is not for audience {audience}: ask TokenRequest for that one")]
    WrongAudience { audience: String },
    #[error("the token belongs to {user}: a ServiceAccount's token is needed")]
    NotServiceAccount { user: String },
    #[error("the token could not be reviewed: {0}")]
    Unavailable(String),
}

impl TokenRefused {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed => "TokenMalformed",
            Self::NotAuthenticated { .. } => "TokenNotAccepted",
            Self::WrongAudience { .. } => "TokenForOtherAudience",
            Self::NotServiceAccount { .. } => "TokenOfNoServiceAccount",
            Self::Unavailable(_) => "TokenReviewUnavailable",
        }
    }
}

/// Reviews tokens. Nothing is cached: a token ends with its pod, at once.
#[derive(Clone)]
pub struct TokenReviewer {
    reviews: Api<TokenReview>,
}

impl TokenReviewer {
    pub fn new(client: Client) -> Self {
        Self { reviews: Api::all(client) }
    }

    /// Who holds this token, if it is meant for `audience`.
    pub async fn review(&self, token: &str, audience: &str) -> Result<Principal, TokenRefused> {
        let token = token.trim_ascii();
        if !plausible(token) {
            return Err(TokenRefused::Malformed);
        }
        let question = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![audience.to_owned()]),
            },
            ..TokenReview::default()
        };
        let answer = within(self.reviews.create(&PostParams::default(), &question))
            .await
            .map_err(|error| TokenRefused::Unavailable(error.to_string()))?;
        principal(answer.status.unwrap_or_default(), audience)
    }
}

fn plausible(token: &str) -> bool {
    let alphabet = |b: u8| b.is_ascii_alphanumeric() || b"-_.+/=~".contains(&b);
    (1..=TOKEN_BYTES_MAX).contains(&token.len()) && token.bytes().all(alphabet)
}

/// Reads the answer. An authenticator that does not know audiences answers without any: that is no yes.
fn principal(status: TokenReviewStatus, audience: &str) -> Result<Principal, TokenRefused> {
    if status.authenticated != Some(true) {
        return Err(TokenRefused::NotAuthenticated { audience: audience.to_owned() });
    }
    if !status.audiences.unwrap_or_default().iter().any(|a| a == audience) {
        return Err(TokenRefused::WrongAudience { audience: audience.to_owned() });
    }
    let user = status.user.unwrap_or_default();
    let name = user.username.clone().unwrap_or_default();
    let account = ServiceAccount::from_user(&name).ok_or(TokenRefused::NotServiceAccount { user: name })?;
    let pod = pod(&user);
    Ok(Principal::ServiceAccount {
        account,
        uid: user.uid.unwrap_or_default(),
        groups: user.groups.unwrap_or_default().into(),
        extra: Arc::new(user.extra.unwrap_or_default()),
        pod,
        via: Box::default(),
    })
}

fn pod(user: &UserInfo) -> Option<PodIdentity> {
    let extra = user.extra.as_ref()?;
    Some(PodIdentity {
        name: only(extra, POD_NAME)?,
        uid: only(extra, POD_UID)?,
        node: only(extra, NODE_NAME),
    })
}

/// The value of a claim that has exactly one: two would leave it to us which is true.
fn only(extra: &BTreeMap<String, Vec<String>>, key: &str) -> Option<String> {
    match extra.get(key)?.as_slice() {
        [one] if !one.is_empty() => Some(one.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> TokenReviewStatus {
        let claim = |key: &str, value: &str| (key.to_owned(), vec![value.to_owned()]);
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec!["tidelock.t/api".into()]),
            error: None,
            user: Some(UserInfo {
                username: Some("system:serviceaccount:shop:orders-api".into()),
                uid: Some("account-uid".into()),
                groups: Some(vec!["system:serviceaccounts".into()]),
                extra: Some(BTreeMap::from([
                    claim(POD_NAME, "orders-0"),
                    claim(POD_UID, "pod-uid"),
                    claim(NODE_NAME, "node-1"),
                ])),
            }),
        }
    }

    #[test]
    fn the_claims_of_a_reviewed_token_become_account_and_pod() {
        let who = principal(answer(), "tidelock.t/api").unwrap();
        assert_eq!(who.account().unwrap().to_string(), "shop/orders-api");
        let pod = who.pod().unwrap();
        assert_eq!((pod.name.as_str(), pod.uid.as_str()), ("orders-0", "pod-uid"));
        assert_eq!(pod.node.as_deref(), Some("node-1"));
    }

    #[test]
    fn a_yes_that_does_not_name_our_audience_is_a_no() {
        for audiences in [None, Some(vec![]), Some(vec!["https://kubernetes.default.svc".to_owned()])] {
            let status = TokenReviewStatus { audiences, ..answer() };
            let refused = principal(status, "tidelock.t/api").unwrap_err();
            assert_eq!(refused.reason(), "TokenForOtherAudience");
        }
    }

    #[test]
    fn whoever_is_not_authenticated_or_no_service_account_is_refused() {
        for authenticated in [None, Some(false)] {
            let status = TokenReviewStatus { authenticated, ..answer() };
            assert_eq!(principal(status, "tidelock.t/api").unwrap_err().reason(), "TokenNotAccepted");
        }
        let user = Some(UserInfo { username: Some("kubernetes-admin".into()), ..UserInfo::default() });
        let status = TokenReviewStatus { user, ..answer() };
        assert_eq!(principal(status, "tidelock.t/api").unwrap_err().reason(), "TokenOfNoServiceAccount");
    }

    #[test]
    fn a_claim_with_two_values_proves_no_pod() {
        let mut status = answer();
        let extra = status.user.as_mut().unwrap().extra.as_mut().unwrap();
        extra.get_mut(POD_UID).unwrap().push("other-uid".into());
        assert_eq!(principal(status, "tidelock.t/api").unwrap().pod(), None);
    }

    #[test]
    fn what_cannot_be_a_token_is_not_sent_anywhere() {
        assert!(
            plausible("eyJhbGciOi.J9-_.x") && !plausible("") && !plausible("a b") && !plausible("a\r\nX: y")
        );
        assert!(plausible(&"a".repeat(TOKEN_BYTES_MAX)) && !plausible(&"a".repeat(TOKEN_BYTES_MAX + 1)));
    }
}
