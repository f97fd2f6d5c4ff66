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
    let (who, by) = (format!("{ISSUER}#repo:acme/orders:main"), format!("session/orders/{}", keys.id));
    assert_eq!(api.bench.audit("assume").await, [(who, by.clone(), "done (shop/orders-api)".into())]);
    let account = "system:serviceaccount:shop:orders-api";
    assert_eq!(api.bench.audit("reveal").await.pop(), Some((account.into(), by, "done".into())));
}

#[tokio::test]
async fn whoever_an_issuer_vouches_for_and_no_rule_admits_is_in_the_audit_and_nobody_else() {
    let (key, other) = (Key::new("one"), Key::new("one"));
    let api = trusting(&key).await;
    let now = api.bench.clock.now().as_second();
    let forged = other.sign(&claims(&api, json!({})));
    assert_eq!(sts_error(&api.assume(ROLE, &forged, "").await).1, "InvalidIdentityToken");
    assert_eq!(api.bench.audit("assume").await, []);
    let nobody = ROLE.replace("orders-api", "nobody");
    for (role, change, code) in [
        (ROLE, json!({"aud": "x"}), "IDPRejectedClaim"),
        (ROLE, json!({"exp": now - 60}), "ExpiredTokenException"),
        (ROLE, json!({"sub": "repo:evil/x:main"}), "IDPRejectedClaim"),
        (&nobody, json!({"sub": "repo:acme/orders:b"}), "IDPRejectedClaim"),
        (ROLE, json!({"sub": 7}), "IDPRejectedClaim"),
    ] {
        let sub = change.get("sub").map(|sub| sub.as_str().unwrap_or_default().to_owned());
        let who = format!("{ISSUER}#{}", sub.unwrap_or("repo:acme/orders:main".into()));
        let token = key.sign(&claims(&api, change));
        for _ in 0..3 {
            assert_eq!(sts_error(&api.assume(role, &token, "").await).1, code);
        }
        let rows = api.bench.audit("assume").await;
        let row = (who, "session/orders".to_owned(), code.to_owned());
        assert_eq!(rows.iter().filter(|other| **other == row).count(), 1, "{rows:?}");
        let signature = token.rsplit('.').next().unwrap();
        assert!(!format!("{rows:?}").contains(signature));
    }
    assert_eq!(api.bench.audit("assume").await.len(), 5);
    for n in 0..100 {
        let token = key.sign(&claims(&api, json!({"sub": format!("repo:evil/{n}:main")})));
        api.assume(ROLE, &token, "").await;
    }
    assert_eq!(api.bench.audit("assume").await.len(), 64, "whoever makes up subjects fills no disk");
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
