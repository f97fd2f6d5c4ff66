//! A real issuer in this process: HTTPS with a CA of its own, discovery, a key set, tokens signed with its keys.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL;
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jsonwebtoken::{EncodingKey, Header};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::clock::ManualClock;

/// What the issuer answers, by path.
type Answers = Arc<Mutex<BTreeMap<String, (u16, String)>>>;

pub(crate) struct Key {
    pub(crate) id: &'static str,
    pair: KeyPair,
}

impl Key {
    pub(crate) fn new(id: &'static str) -> Self {
        Self { id, pair: KeyPair::generate().unwrap() }
    }

    pub(crate) fn jwk(&self) -> Value {
        let point = self.pair.public_key_raw();
        let (x, y) = (URL.encode(&point[1..33]), URL.encode(&point[33..]));
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": self.id, "x": x, "y": y})
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.to_owned()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_der(self.pair.serialized_der());
        jsonwebtoken::encode(&header, claims, &key).unwrap()
    }
}

struct Site {
    url: String,
    answers: Answers,
    asked: Arc<Mutex<u32>>,
    clock: Arc<ManualClock>,
    trusted: Issuers,
}

impl Site {
    async fn new(keys: &[&Key]) -> Self {
        Self::trusting(keys, |ca| json!({"caBundle": ca})).await
    }

    /// `by` says what of the configuration tells of the issuer's certificate authority, which comes in PEM.
    async fn trusting(keys: &[&Key], by: impl FnOnce(&str) -> Value) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf =
            CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let tls = rustls::ServerConfig::builder().with_no_client_auth();
        let tls = tls.with_single_cert(vec![leaf.der().clone()], private).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let (answers, asked) = (Answers::default(), Arc::new(Mutex::new(0)));
        tokio::spawn(serve(
            listener,
            TlsAcceptor::from(Arc::new(tls)),
            Arc::clone(&answers),
            Arc::clone(&asked),
        ));
        let clock = ManualClock::at("2030-01-01T00:00:00Z".parse().unwrap());
        let rules = json!([{"serviceAccount": "shop/ci", "claims": {"sub": ["repo:acme/*"]}}]);
        let mut entry = json!({"issuer": url, "audience": "tidelock", "rules": rules});
        entry.as_object_mut().unwrap().extend(by(&ca.pem()).as_object().unwrap().clone());
        let issuers = federation::parse(&json!([entry]).to_string()).unwrap();
        let trusted = Issuers::new(issuers, &(clock.clone() as Arc<dyn Clock>)).unwrap();
        let site = Self { url, answers, asked, clock, trusted };
        site.publish(keys);
        site
    }

    fn publish(&self, keys: &[&Key]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        self.answer("/keys", 200, json!({"keys": keys}));
        let told = json!({"issuer": self.url, "jwks_uri": format!("{}/keys", self.url)});
        self.answer("/.well-known/openid-configuration", 200, told);
    }

    fn answer(&self, path: &str, status: u16, body: Value) {
        self.answers.lock().unwrap().insert(path.to_owned(), (status, body.to_string()));
    }

    fn claims(&self, change: Value) -> Value {
        let now = self.clock.now().as_second();
        let mut claims = json!({"iss": self.url, "aud": "tidelock", "sub": "repo:acme/x", "exp": now + 300});
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }

    async fn said(&self, token: &str) -> Result<(), NotProved> {
        let trusted = self.trusted.named_by(token).expect("it is of this issuer");
        trusted.signed(token).await.map(drop)
    }

    fn asked(&self) -> u32 {
        *self.asked.lock().unwrap()
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, answers: Answers, asked: Arc<Mutex<u32>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(stream) = tls.accept(stream).await else { continue };
        let (answers, asked) = (Arc::clone(&answers), Arc::clone(&asked));
        let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            *asked.lock().unwrap() += 1;
            let found = answers.lock().unwrap().get(request.uri().path()).cloned();
            let (status, body) = found.unwrap_or((404, String::new()));
            let answer = http::Response::builder().status(status).header("location", "/keys");
            async move { Ok::<_, Infallible>(answer.body(Full::new(Bytes::from(body))).unwrap()) }
        });
        let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        tokio::spawn(async move {
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

#[tokio::test]
async fn only_what_the_issuer_signed_for_us_and_for_now_is_proved() {
    let (key, other) = (Key::new("one"), Key::new("one"));
    let site = Site::new(&[&key]).await;
    let good = key.sign(&site.claims(json!({})));
    assert_eq!(site.said(&good).await, Ok(()));
    let now = site.clock.now().as_second();
    for (change, expected) in [
        (json!({"aud": "else"}), Rejected::Audience("tidelock".into())),
        (json!({"exp": now - 60}), Rejected::Expired),
        (json!({"exp": null}), Rejected::Time("exp")),
        (json!({"nbf": now + 61}), Rejected::NotYet("nbf")),
    ] {
        let token = key.sign(&site.claims(change));
        let trusted = site.trusted.named_by(&token).unwrap();
        assert_eq!(trusted.check(&trusted.signed(&token).await.unwrap()), Err(expected));
    }
    assert_eq!(site.said(&other.sign(&site.claims(json!({})))).await, Err(NotProved::Signature));

    let (message, signature) = good.rsplit_once('.').unwrap();
    let mut bytes = URL.decode(signature).unwrap();
    bytes[7] ^= 1;
    assert_eq!(site.said(&format!("{message}.{}", URL.encode(&bytes))).await, Err(NotProved::Signature));
    let payload = message.split_once('.').unwrap().1;
    let none = URL.encode(json!({"alg": "none", "kid": "one"}).to_string());
    assert_eq!(site.said(&format!("{none}.{payload}.")).await, Err(NotProved::Form));
    let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::HS256) };
    let secret = EncodingKey::from_secret(key.pair.public_key_raw());
    let forged = jsonwebtoken::encode(&header, &site.claims(json!({})), &secret).unwrap();
    assert_eq!(site.said(&forged).await, Err(NotProved::Form));
    let header =
        Header { crit: Some(vec!["x".into()]), kid: Some("one".into()), ..Header::new(Algorithm::ES256) };
    let signer = EncodingKey::from_ec_der(key.pair.serialized_der());
    let odd = jsonwebtoken::encode(&header, &site.claims(json!({})), &signer).unwrap();
    assert_eq!(site.said(&odd).await, Err(NotProved::Form));

    let stranger = key.sign(&site.claims(json!({"iss": "https://else"})));
    assert!(site.trusted.named_by(&stranger).is_none() && site.trusted.named_by("x").is_none());
    assert_eq!(site.asked(), 2, "one question for all of them");
}

#[tokio::test]
async fn keys_are_asked_for_once_in_a_while_and_a_new_one_is_found_after_the_pause() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let site = Site::new(&[&old]).await;
    let claims = site.claims(json!({"exp": site.clock.now().as_second() + 200_000}));
    let (before, after) = (old.sign(&claims), new.sign(&claims));
    assert_eq!(site.said(&before).await, Ok(()));
    site.publish(&[&new]);
    assert_eq!(site.said(&after).await, Err(NotProved::UnknownKey));
    site.clock.advance(Duration::from_secs(29));
    assert_eq!(site.said(&after).await, Err(NotProved::UnknownKey));
    assert_eq!(site.asked(), 2);
    site.clock.advance(Duration::from_secs(1));
    assert_eq!(site.said(&after).await, Ok(()));
    assert_eq!(site.said(&before).await, Err(NotProved::UnknownKey), "a key that the issuer has no more");
    assert_eq!(site.asked(), 4);
    site.clock.advance(Duration::from_mins(10));
    assert_eq!(site.said(&after).await, Ok(()));
    assert_eq!(site.asked(), 6, "old keys are asked for again");
}

#[tokio::test]
async fn keys_that_cannot_be_had_are_no_proof_and_those_that_are_there_stand_for_a_day() {
    let key = Key::new("one");
    let site = Site::new(&[&key]).await;
    let token = key.sign(&site.claims(json!({"exp": site.clock.now().as_second() + 200_000})));
    let discovery = "/.well-known/openid-configuration";
    let keys = format!("{}/keys", site.url);
    let set = json!({"keys": [key.jwk()], "more": "x".repeat(256 * 1024)});
    for (path, status, body) in [
        (discovery, 503, json!({})),
        (discovery, 302, json!({"issuer": site.url, "jwks_uri": keys})),
        (discovery, 200, json!({"issuer": format!("{}/", site.url), "jwks_uri": keys})),
        (discovery, 200, json!({"issuer": site.url})),
        (discovery, 200, json!({"issuer": site.url, "jwks_uri": keys.replace("https", "http")})),
        ("/keys", 200, set),
        ("/keys", 200, json!([])),
    ] {
        site.publish(&[&key]);
        site.answer(path, status, body.clone());
        site.clock.advance(Duration::from_secs(5));
        let text: String = body.to_string().chars().take(100).collect();
        assert_eq!(site.said(&token).await, Err(NotProved::Unreached), "{path} {status} {text}");
    }
    site.publish(&[&key]);
    assert_eq!(site.said(&token).await, Err(NotProved::Unreached), "not asked at once");
    site.clock.advance(Duration::from_secs(5));
    assert_eq!(site.said(&token).await, Ok(()));
    site.answer("/keys", 503, json!({}));
    site.clock.advance(Duration::from_hours(24) - Duration::from_secs(1));
    assert_eq!(site.said(&token).await, Ok(()));
    site.clock.advance(Duration::from_secs(30));
    assert_eq!(site.said(&token).await, Err(NotProved::Unreached));
}

#[tokio::test]
async fn certificates_of_a_file_are_read_anew_for_each_fetch() {
    let folder = tempfile::tempdir().unwrap();
    let (file, kept) = (folder.path().join("ca.crt"), folder.path().join("kept"));
    let key = Key::new("one");
    let site = Site::trusting(&[&key], |ca| {
        std::fs::write(&file, ca).unwrap();
        std::fs::write(&kept, ca).unwrap();
        json!({"caFile": file})
    })
    .await;
    let token = key.sign(&site.claims(json!({})));
    let another = CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    for (pem, expected) in [
        (another.as_str(), Err(NotProved::Unreached)),
        ("", Err(NotProved::Unreached)),
        (&std::fs::read_to_string(&kept).unwrap(), Ok(())),
    ] {
        std::fs::write(&file, pem).unwrap();
        site.clock.advance(Duration::from_secs(5));
        assert_eq!(site.said(&token).await, expected);
    }
    std::fs::remove_file(&file).unwrap();
    site.clock.advance(Duration::from_mins(11));
    assert_eq!(site.said(&token).await, Ok(()), "the last keys stay good");
    assert_eq!(site.asked(), 2);
}

#[test]
fn what_cannot_be_used_is_refused_before_anything_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let (away, empty) = (folder.path().join("away"), folder.path().join("empty"));
    std::fs::write(&empty, "nothing").unwrap();
    let rules = json!([{"serviceAccount": "shop/ci", "claims": {"sub": ["repo:acme/*"]}}]);
    for (more, words) in [
        (json!({"caFile": away}), "No such file or directory (os error 2); put certificates in PEM there"),
        (json!({"caFile": empty}), "there is no certificate; put"),
        (json!({"caBundle": "-----BEGIN CERTIFICATE-----"}), "; write certificates in PEM"),
        (json!({"jwks": {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}}), "no key of it is for signatures"),
    ] {
        let mut entry = json!({"issuer": "https://ci.example", "audience": "tidelock", "rules": rules});
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let issuers = federation::parse(&json!([entry]).to_string()).unwrap();
        let clock = ManualClock::at("2030-01-01T00:00:00Z".parse().unwrap());
        let wrong = Issuers::new(issuers, &(clock as Arc<dyn Clock>)).err().unwrap().to_string();
        assert!(wrong.starts_with("oidcIssuers: https://ci.example: ") && wrong.contains(words), "{wrong}");
    }
}
