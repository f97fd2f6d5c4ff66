//! Tokens of an issuer outside of the cluster: whose role they are good for, and in which words they are refused.

use super::sessions::{Keys, sts_error, text};
use super::*;
use crate::federation;
use crate::issuers::tests::Key;

const ISSUER: &str = "https://ci.example";
/// Nobody listens there.
const AWAY: &str = "https://127.0.0.1:1";
const ROLE: &str = "arn:aws:iam::000000000000:role/shop/orders-api";

async fn trusting(key: &Key) -> Api {
    let rule = |account: &str| json!({"serviceAccount": account, "claims": {"sub": ["repo:acme/orders:*"]}});
    let rules = json!([rule("shop/orders-api"), rule("shop/nobody")]);
    let file = json!([
        {"issuer": ISSUER, "audience": "tidelock", "jwks": {"keys": [key.jwk()]}, "rules": rules},
        {"issuer": AWAY, "audience": "tidelock", "rules": rules},
    ]);
    let issuers = federation::parse(&file.to_string()).unwrap();
    let trust =
        |bench: &Bench| Arc::new(Issuers::new(issuers, &(bench.clock.clone() as Arc<dyn Clock>)).unwrap());
    api_trusting(|_| None, PER_CALLER, BODY_BYTES_MAX, trust).await
}

fn claims(api: &Api, change: Value) -> Value {
    let now = api.bench.clock.now().as_second();
    let mut claims =
        json!({"iss": ISSUER, "aud": "tidelock", "sub": "repo:acme/orders:main", "exp": now + 300});
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[tokio::test]
async fn a_token_of_a_trusted_issuer_becomes_keys_of_the_role_that_its_rule_gives() {
    let key = Key::new("one");
    let api = trusting(&key).await;
    api.create("shop/db", CANARY).await;
    let answer = api.assume(ROLE, &key.sign(&claims(&api, json!({}))), "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(text(&answer.text, "SubjectFromWebIdentityToken"), "repo:acme/orders:main");
    assert_eq!(
        (text(&answer.text, "Provider"), text(&answer.text, "Audience")),
        (ISSUER.into(), "tidelock".into())
    );
    let [id, secret, token, expiration] =
        ["AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"].map(|name| text(&answer.text, name));
    let keys = Keys { id, secret, token, expiration };
    let read = api.read(&keys, |_, _| ()).await;
    assert_eq!(read.json()["SecretString"], CANARY, "{}", read.text);
    let arn = text(&api.identity(&keys).await.text, "Arn");
    assert_eq!(arn, "arn:aws:sts::000000000000:assumed-role/shop/orders-api/orders");
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_said_in_the_codes_of_sts() {
    let (key, other) = (Key::new("one"), Key::new("one"));
    let api = trusting(&key).await;
    let now = api.bench.clock.now().as_second();
    let nobody = ROLE.replace("orders-api", "nobody");
    let else_ = ROLE.replace("orders-api", "else");
    for (role, token, status, code) in [
        (ROLE, key.sign(&claims(&api, json!({"aud": "x"}))), 403, "IDPRejectedClaim"),
        (ROLE, key.sign(&claims(&api, json!({"sub": "repo:acme/stock:main"}))), 403, "IDPRejectedClaim"),
        (&else_, key.sign(&claims(&api, json!({}))), 403, "IDPRejectedClaim"),
        (&nobody, key.sign(&claims(&api, json!({}))), 403, "IDPRejectedClaim"),
        (ROLE, key.sign(&claims(&api, json!({"exp": now - 60}))), 400, "ExpiredTokenException"),
        (ROLE, key.sign(&claims(&api, json!({"nbf": now + 61}))), 400, "InvalidIdentityToken"),
        (ROLE, other.sign(&claims(&api, json!({}))), 400, "InvalidIdentityToken"),
        (ROLE, key.sign(&claims(&api, json!({"iss": AWAY}))), 400, "IDPCommunicationError"),
        // Of no issuer that is trusted: the cluster does not know it either.
        (ROLE, key.sign(&claims(&api, json!({"iss": "https://else"}))), 400, "InvalidIdentityToken"),
    ] {
        let answer = api.assume(role, &token, "").await;
        let (got, said, message) = sts_error(&answer);
        assert_eq!((got, said.as_str()), (status, code), "{message}");
        assert!(!answer.text.contains(&token) && !answer.text.contains("repo:acme"), "{}", answer.text);
    }
}
