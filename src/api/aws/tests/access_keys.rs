//! Access keys over the wire: made once with a token, good for signing, and refused when they are over.

use crate::access::KeyOperation;
use crate::cluster::PodRefused;

use super::sessions::{Keys, SECRETS, STS, sts_error, text};
use super::*;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/x-amz-json-1.1";
const READ: (&str, Option<&str>, &str) =
    (JSON, Some("secretsmanager.GetSecretValue"), r#"{"SecretId": "shop/orders-db"}"#);

impl Api {
    async fn our_own(&self, operation: &str, body: Value) -> Answer {
        let request = http::Request::post("/")
            .header("X-Amz-Target", format!("tidelock.{operation}"))
            .header("Authorization", "Bearer owner");
        self.send(request, body.to_string()).await
    }

    async fn lasting(&self) -> Keys {
        let made = self.our_own("CreateAccessKey", json!({"ServiceAccount": "shop/orders-api"})).await;
        assert_eq!(made.status, StatusCode::OK, "{}", made.text);
        let made = made.json();
        let [id, secret, expiration] =
            ["AccessKeyId", "SecretAccessKey", "Expires"].map(|name| made[name].as_str().unwrap().to_owned());
        Keys { id, secret, token: String::new(), expiration }
    }
}

async fn with_keys() -> (Api, Keys) {
    let api = api().await;
    api.bench.resource("orders-db", Some(CANARY)).await;
    let owner = account("shop", "orders-api", None);
    KeyOperation::ALL.into_iter().for_each(|operation| api.bench.rights.allow_keys(&owner, operation));
    let keys = api.lasting().await;
    (api, keys)
}

fn invalid(answer: &Answer) {
    let (kind, message) = answer.error();
    assert_eq!(kind, "UnrecognizedClientException");
    assert!(message.starts_with("The security token included in the request is invalid."), "{message}");
}

#[tokio::test]
async fn a_lasting_key_reads_as_its_account_and_is_refused_once_it_is_over() {
    let (api, keys) = with_keys().await;
    assert_eq!(keys.expiration, "2030-04-01T00:00:00Z");
    let read = async || api.signed(&keys, SECRETS, READ, |_, _| {}).await;
    assert_eq!(read().await.json()["SecretString"], CANARY);
    let row = api.bench.audit("reveal").await.pop().unwrap();
    assert_eq!(
        (row.0.as_str(), row.1),
        ("system:serviceaccount:shop:orders-api", format!("session/{}", keys.id))
    );
    let identity =
        api.signed(&keys, STS, (FORM, None, "Action=GetCallerIdentity&Version=2011-06-15"), |_, _| {}).await;
    let arn = format!("arn:aws:sts::000000000000:assumed-role/shop/orders-api/{}", keys.id);
    assert_eq!(text(&identity.text, "Arn"), arn);

    // Its account is gone, or is unknown.
    let gone = PodRefused::ServiceAccountGone("shop/orders-api".into());
    api.bench.tokens.say_of_holders(Some(gone));
    invalid(&read().await);
    api.bench.tokens.say_of_holders(Some(PodRefused::Unavailable("away".into())));
    assert_eq!(read().await.error().0, "InternalServiceError");
    api.bench.tokens.say_of_holders(None);
    assert_eq!(read().await.status, StatusCode::OK);

    api.bench.clock.advance(Duration::from_secs(90 * 86_400));
    invalid(&read().await);
}

#[tokio::test]
async fn a_key_is_good_for_as_long_as_it_was_asked_for() {
    let (api, _) = with_keys().await;
    let make = async |seconds: i64| {
        let body = json!({"ServiceAccount": "shop/orders-api", "ExpiresInSeconds": seconds});
        api.our_own("CreateAccessKey", body).await
    };
    assert_eq!(make(899).await.error().0, "InvalidParameterException");
    let made = make(900).await.json();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let (id, secret, expiration) = (text("AccessKeyId"), text("SecretAccessKey"), text("Expires"));
    assert_eq!(expiration, "2030-01-01T00:15:00Z");
    let listed = api.our_own("ListAccessKeys", json!({"Namespace": "shop"})).await.json();
    let own = listed["AccessKeys"].as_array().unwrap().iter().find(|key| key["AccessKeyId"] == id).unwrap();
    assert_eq!(own["Expires"], expiration);
    let keys = Keys { id, secret, token: String::new(), expiration };
    let read = async || api.signed(&keys, SECRETS, READ, |_, _| {}).await;
    api.bench.clock.advance(Duration::from_secs(899));
    assert_eq!(read().await.json()["SecretString"], CANARY);
    api.bench.clock.advance(Duration::from_secs(1));
    invalid(&read().await);
}

#[tokio::test]
async fn a_revoked_key_is_as_unknown_as_one_that_never_was() {
    let (api, keys) = with_keys().await;
    let read = async |keys: &Keys| api.signed(keys, SECRETS, READ, |_, _| {}).await;
    let listed = api.our_own("ListAccessKeys", json!({"Namespace": "shop"})).await;
    assert!(!listed.text.contains(&keys.secret));
    let listed = listed.json();
    assert_eq!(
        (&listed["AccessKeys"][0]["AccessKeyId"], listed["AccessKeys"][1].is_null()),
        (&json!(keys.id), true)
    );
    let revoked = api.our_own("RevokeAccessKey", json!({"AccessKeyId": keys.id})).await;
    assert_eq!(revoked.json()["ServiceAccount"], "shop/orders-api");
    let never =
        Keys { id: "AKIAABCDEFGH234567ZZ".into(), secret: keys.secret.clone(), ..api.lasting().await };
    let (revoked, never) = (read(&keys).await, read(&never).await);
    invalid(&revoked);
    assert_eq!((revoked.status, &revoked.text), (never.status, &never.text));
    let identity = (FORM, None, "Action=GetCallerIdentity&Version=2011-06-15");
    let (status, code, _) = sts_error(&api.signed(&keys, STS, identity, |_, _| {}).await);
    assert_eq!((status, code.as_str()), (403, "InvalidClientTokenId"));
}

#[tokio::test]
async fn a_lasting_key_signs_with_its_own_secret_only_and_makes_no_keys() {
    let (api, keys) = with_keys().await;
    let other = api.lasting().await;
    let mixed = Keys { id: keys.id.clone(), ..other };
    let refused = api.signed(&mixed, SECRETS, READ, |_, _| {}).await.error();
    assert_eq!(refused.0, "InvalidSignatureException");
    let with_token = Keys { token: "AQAA".into(), secret: keys.secret.clone(), ..mixed };
    invalid(&api.signed(&with_token, SECRETS, READ, |_, _| {}).await);
    let changed = api.signed(&keys, SECRETS, READ, |_, body| body.push(' ')).await.error();
    assert_eq!(changed.0, "InvalidSignatureException");

    api.our_own("RevokeAccessKey", json!({"AccessKeyId": keys.id})).await;
    let keys = api.lasting().await;
    let make = (JSON, Some("tidelock.CreateAccessKey"), r#"{"ServiceAccount": "shop/orders-api"}"#);
    let refused = api.signed(&keys, SECRETS, make, |_, _| {}).await.error();
    assert_eq!(refused.0, "AccessDeniedException");
    assert!(refused.1.ends_with("keys make no keys: send a ServiceAccount's token"), "{}", refused.1);
    // Nor does a session of a token's: only the token itself does.
    let session = api.keys().await;
    assert_eq!(api.signed(&session, SECRETS, make, |_, _| {}).await.error().0, "AccessDeniedException");
    let third = api.our_own("CreateAccessKey", json!({"ServiceAccount": "shop/orders-api"})).await.error();
    assert_eq!(third.0, "LimitExceededException");
    for body in [json!({}), json!({"ServiceAccount": "shop"}), json!({"ServiceAccount": "shop/nobody"})] {
        assert!(!api.our_own("CreateAccessKey", body).await.status.is_success());
    }
}
