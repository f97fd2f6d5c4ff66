//! From a pod's token to keys, from keys to its secret, and who is sent away on that road.

use crate::clock::Clock as _;
use crate::cluster::PodRefused;
use crate::signature::tests::authorization;
use crate::signature::{Audience, Request};

use super::*;

const ROLE: &str = "arn:aws:iam::000000000000:role/shop/orders-api";
pub(super) const STS: Audience<'_> = Audience { region: "local-1", service: "sts" };
pub(super) const SECRETS: Audience<'_> = Audience { region: "local-1", service: "secretsmanager" };

pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: String,
    pub(super) expiration: String,
}

/// The text of the first element of that name.
pub(super) fn text(xml: &str, name: &str) -> String {
    let (_, rest) = xml.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("no {name} in {xml}"));
    rest.split_once('<').unwrap().0.to_owned()
}

pub(super) fn sts_error(answer: &Answer) -> (u16, String, String) {
    let (code, message) = (text(&answer.text, "Code"), text(&answer.text, "Message"));
    (answer.status.as_u16(), code, message)
}

impl Api {
    async fn form(&self, body: &str) -> Answer {
        let kind = "application/x-www-form-urlencoded; charset=utf-8";
        self.send(http::Request::post("/").header("Content-Type", kind), body.to_owned()).await
    }

    pub(super) async fn assume(&self, role: &str, token: &str, more: &str) -> Answer {
        let role = role.replace(':', "%3A").replace('/', "%2F");
        let begin = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=orders";
        self.form(&format!("{begin}&RoleArn={role}&WebIdentityToken={token}{more}")).await
    }

    pub(super) async fn keys(&self) -> Keys {
        let answer = self.assume(ROLE, "owner", "").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let [id, secret, token, expiration] =
            ["AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"]
                .map(|name| text(&answer.text, name));
        Keys { id, secret, token, expiration }
    }

    /// A request signed as AWS's clients sign; `change` is what happens to it on its way.
    pub(super) async fn signed(
        &self,
        keys: &Keys,
        audience: Audience<'_>,
        (kind, target, body): (&str, Option<&str>, &str),
        change: impl FnOnce(&mut HeaderMap, &mut String),
    ) -> Answer {
        let (at, host) = (self.bench.clock.now(), self.open.address.to_string());
        let mut headers = HeaderMap::new();
        let mut names = vec!["content-type", "host", "x-amz-date"];
        headers.insert("content-type", kind.parse().unwrap());
        headers.insert("x-amz-date", at.strftime("%Y%m%dT%H%M%SZ").to_string().parse().unwrap());
        if !keys.token.is_empty() {
            headers.insert("x-amz-security-token", keys.token.parse().unwrap());
            names.push("x-amz-security-token");
        }
        if let Some(target) = target {
            headers.insert("x-amz-target", target.parse().unwrap());
            names.push("x-amz-target");
        }
        let request = Request {
            method: "POST",
            path: "/",
            query: "",
            headers: &headers,
            host: &host,
            body: body.as_bytes(),
        };
        let header = authorization(request, &names, at, (&keys.id, &keys.secret), audience);
        headers.insert("authorization", header.parse().unwrap());
        let mut body = body.to_owned();
        change(&mut headers, &mut body);
        let mut request = http::Request::post("/");
        request.headers_mut().unwrap().extend(headers);
        self.send(request, body).await
    }

    pub(super) async fn read(&self, keys: &Keys, change: impl FnOnce(&mut HeaderMap, &mut String)) -> Answer {
        let target = Some("secretsmanager.GetSecretValue");
        let call = ("application/x-amz-json-1.1", target, "{\"SecretId\": \"shop/db\"}");
        self.signed(keys, SECRETS, call, change).await
    }

    async fn refused(
        &self,
        keys: &Keys,
        change: impl FnOnce(&mut HeaderMap, &mut String),
    ) -> (String, String) {
        let answer = self.read(keys, change).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
        assert!(!answer.text.contains(CANARY) && !answer.text.contains(&keys.secret), "{}", answer.text);
        answer.error()
    }

    pub(super) async fn identity(&self, keys: &Keys) -> Answer {
        let call = "Action=GetCallerIdentity&Version=2011-06-15";
        self.signed(keys, STS, ("application/x-www-form-urlencoded", None, call), |_, _| ()).await
    }
}

#[tokio::test]
async fn a_token_becomes_keys_and_keys_read_the_secret() {
    let api = api().await;
    api.create("shop/db", CANARY).await;
    let keys = api.keys().await;
    assert_eq!(keys.expiration, "2030-01-01T01:00:00Z");
    let answer = api.read(&keys, |_, _| ()).await;
    assert_eq!(answer.json()["SecretString"], CANARY, "{}", answer.text);
    assert!(answer.headers.contains_key("date") && !answer.headers.contains_key("age"));

    let identity = api.identity(&keys).await;
    let arn = "arn:aws:sts::000000000000:assumed-role/shop/orders-api/orders";
    assert_eq!(text(&identity.text, "Arn"), arn);
    assert_eq!(text(&identity.text, "Account"), "000000000000");
    assert_eq!(text(&identity.text, "UserId"), "AROAUIDOFORDERSAPI:orders");
    assert_eq!(identity.headers["content-type"], "text/xml");
    // The token itself is a caller's proof as well.
    let bearer = http::Request::get("/?Action=GetCallerIdentity&Version=2011-06-15");
    let uri = format!("http://{}/?Action=GetCallerIdentity&Version=2011-06-15", api.open.address);
    let request = bearer.uri(uri).header("Authorization", "Bearer owner").body(Full::default()).unwrap();
    assert_eq!(api.client.request(request).await.unwrap().status(), StatusCode::OK);
    // The hour may lie on both sides of a change of the day's keys.
    api.bench.clock.set("2030-01-01T23:30:00Z".parse().unwrap());
    let keys = api.keys().await;
    api.bench.clock.set("2030-01-02T00:29:59Z".parse().unwrap());
    assert_eq!(api.read(&keys, |_, _| ()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_session_is_no_more_than_its_account() {
    let api = api().await;
    api.create("shop/db", CANARY).await;
    let stranger = account("else", "stranger", None);
    api.bench.tokens.add("stranger", AUDIENCE, &stranger);
    let role = "arn:aws:iam::000000000000:role/else/stranger";
    let answer = api.assume(role, "stranger", "").await;
    let [id, secret, token] =
        ["AccessKeyId", "SecretAccessKey", "SessionToken"].map(|name| text(&answer.text, name));
    let keys = Keys { id, secret, token, expiration: String::new() };
    let why = "User: arn:aws:sts::000000000000:assumed-role/else/stranger/orders is not authorized to perform: \
               secretsmanager:GetSecretValue on resource: shop/db because no identity-based policy allows the \
               secretsmanager:GetSecretValue action";
    assert_eq!(api.refused(&keys, |_, _| ()).await, told("AccessDeniedException", why));
    // One account's role is not given to another.
    let (status, code, message) = sts_error(&api.assume(ROLE, "stranger", "").await);
    assert_eq!((status, code.as_str()), (403, "AccessDenied"));
    assert!(message.starts_with("Not authorized to perform sts:AssumeRoleWithWebIdentity"), "{message}");
    let (who, by) = ("system:serviceaccount:else:stranger".to_owned(), "session/orders".to_owned());
    assert_eq!(api.bench.audit("assume").await.pop(), Some((who, by, "AccessDenied".into())));
}

#[tokio::test]
async fn what_is_wrong_with_a_signature_is_told_in_the_words_that_clients_act_on() {
    let api = api().await;
    api.create("shop/db", CANARY).await;
    let keys = api.keys().await;
    let mismatch = "InvalidSignatureException";
    let kind = async |change: fn(&mut HeaderMap, &mut String)| api.refused(&keys, change).await.0;
    assert_eq!(kind(|_, body| body.push(' ')).await, mismatch);
    assert_eq!(
        kind(|headers, _| drop(headers.insert("content-type", "text/plain".parse().unwrap()))).await,
        mismatch
    );
    let no_token = kind(|headers, _| drop(headers.remove("x-amz-security-token"))).await;
    assert_eq!(no_token, "UnrecognizedClientException");
    let other =
        Keys { secret: "x".repeat(40), id: keys.id.clone(), token: keys.token.clone(), ..api.keys().await };
    assert_eq!(api.refused(&other, |_, _| ()).await.0, mismatch);
    let of_another = Keys { id: api.keys().await.id, secret: keys.secret.clone(), ..other };
    let (unknown, message) = api.refused(&of_another, |_, _| ()).await;
    assert_eq!(unknown, "UnrecognizedClientException");
    assert_eq!(message, "The security token included in the request is invalid.");
    let for_sts = ("application/x-amz-json-1.1", Some("secretsmanager.GetSecretValue"), "{}");
    let answer = api.signed(&keys, STS, for_sts, |_, _| ()).await;
    let text = "Credential should be scoped to correct service: 'secretsmanager'.";
    assert_eq!(answer.error(), told(mismatch, text));
    // Signed before, sent later.
    let clock = api.bench.clock.clone();
    let late = api.refused(&keys, move |_, _| clock.advance(Duration::from_secs(301))).await;
    assert_eq!(late.0, mismatch);
    assert!(late.1.starts_with("Signature expired: 20300101T000000Z is now earlier than"), "{}", late.1);
}

#[tokio::test]
async fn keys_end_with_their_hour_and_with_their_pod() {
    let api = api().await;
    api.create("shop/db", CANARY).await;
    let keys = api.keys().await;
    let say = |said| api.bench.tokens.say_of_holders(said);
    say(Some(PodRefused::Gone("shop/orders-0".into())));
    let (kind, message) = api.refused(&keys, |_, _| ()).await;
    assert_eq!(kind, "UnrecognizedClientException");
    assert!(message.starts_with("The security token included in the request is invalid."), "{message}");
    assert_eq!(sts_error(&api.identity(&keys).await).1, "InvalidClientTokenId");
    say(Some(PodRefused::Unavailable("the API server is away".into())));
    assert_eq!(api.read(&keys, |_, _| ()).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    say(None);
    assert_eq!(api.read(&keys, |_, _| ()).await.status, StatusCode::OK);
    api.bench.clock.advance(Duration::from_secs(3600));
    let text = "The security token included in the request is expired";
    assert_eq!(api.refused(&keys, |_, _| ()).await, told("ExpiredTokenException", text));
    assert_eq!(sts_error(&api.identity(&keys).await).1, "ExpiredToken");
}

fn wrong(words: &str) -> (u16, &'static str, &str) {
    (400, "ValidationError", words)
}

#[tokio::test]
async fn a_session_is_asked_for_in_the_words_of_sts() {
    let api = api().await;
    let check = async |role: &str, token: &str, more: &str, right: (u16, &str, &str)| {
        let (status, code, message) = sts_error(&api.assume(role, token, more).await);
        assert_eq!((status, code.as_str()), (right.0, right.1), "{message}");
        assert!(message.contains(right.2), "{message}");
    };
    let at = "at 'durationSeconds' failed to satisfy constraint: Member must have value";
    check(ROLE, "owner", "&DurationSeconds=899", wrong(&format!("'899' {at} greater than or equal to 900")))
        .await;
    check(ROLE, "owner", "&DurationSeconds=43201", wrong(&format!("{at} less than or equal to 43200"))).await;
    let too_long = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";
    check(ROLE, "owner", "&DurationSeconds=3601", wrong(too_long)).await;
    check("arn:x", "owner", "", wrong("at 'roleArn' failed")).await;
    check(ROLE, "abc", "", wrong("Value at 'webIdentityToken' failed")).await;
    check(ROLE, "owner", "&Policy=%7B%7D", wrong("The parameter Policy is not supported")).await;
    check(ROLE, "owner", "&PolicyArns.member.1.arn=x", wrong("The parameter PolicyArns is not supported"))
        .await;
    check(ROLE, "unknown", "", (400, "InvalidIdentityToken", AUDIENCE)).await;
    check(ROLE, "cluster-away", "", (400, "IDPCommunicationError", "")).await;

    let answer = api.assume(ROLE, "owner", "&DurationSeconds=900").await;
    assert_eq!(text(&answer.text, "Expiration"), "2030-01-01T00:15:00Z");
    let answer = api.assume(ROLE, "owner%0A", "").await;
    assert_eq!(answer.status, StatusCode::OK, "a newline at the end of the file is no part of the token");

    let unknown = api.form("Action=GetSessionToken&Version=2011-06-15").await;
    let text = "Could not find operation GetSessionToken for version 2011-06-15";
    assert_eq!(sts_error(&unknown), (400, "InvalidAction".into(), text.into()));
    let missing = api.form("Action=GetCallerIdentity&Version=2011-06-15").await;
    let text = "Request is missing Authentication Token";
    assert_eq!(sts_error(&missing), (403, "MissingAuthenticationToken".into(), text.into()));
}

#[tokio::test]
async fn the_key_of_a_laptop_needs_no_token_and_a_cluster_has_no_such_key() {
    let keys = |api: &Api| {
        let key = api.bench.keeper.local_key();
        Keys { id: key.id, secret: key.secret.to_string(), token: String::new(), expiration: String::new() }
    };
    let in_a_cluster = api().await;
    let (kind, _) = in_a_cluster.refused(&keys(&in_a_cluster), |_, _| ()).await;
    assert_eq!(kind, "UnrecognizedClientException");

    let laptop = api_with(|keeper| Some(keeper.local_key())).await;
    let keys = keys(&laptop);
    assert_eq!(text(&laptop.identity(&keys).await.text, "Arn"), "arn:aws:iam::000000000000:root");
    let create = json!({"Name": "db", "SecretString": CANARY, "ClientRequestToken": TOKEN}).to_string();
    let call = ("application/x-amz-json-1.1", Some("secretsmanager.CreateSecret"), create.as_str());
    let answer = laptop.signed(&keys, SECRETS, call, |_, _| ()).await;
    assert_eq!(answer.json()["Name"], "db", "{}", answer.text);
    let other = Keys { secret: "x".repeat(40), ..keys };
    assert_eq!(laptop.refused(&other, |_, _| ()).await.0, "InvalidSignatureException");
}
