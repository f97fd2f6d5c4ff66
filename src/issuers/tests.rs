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
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{EncodingKey, Header};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::clock::ManualClock;

/// The audience of the cluster's own tokens.
const CLUSTER: &str = "tidelock.tidelock/api";

/// What the issuer answers, by path.
type Answers = Arc<Mutex<BTreeMap<String, (u16, String)>>>;

pub(crate) struct Key {
    id: &'static str,
    algorithm: Algorithm,
    private: EncodingKey,
    pair: KeyPair,
}

/// What stands before an RSA key of 2048 bits in PKCS#8.
const RSA_HEADER_BYTES: usize = 26;

impl Key {
    pub(crate) fn new(id: &'static str) -> Self {
        Self::of(id, Algorithm::ES256)
    }

    fn of(id: &'static str, algorithm: Algorithm) -> Self {
        let generate = |kind| KeyPair::generate_for(kind).unwrap();
        let (pair, read): (_, fn(&[u8]) -> EncodingKey) = match algorithm {
            Algorithm::ES256 => (generate(&rcgen::PKCS_ECDSA_P256_SHA256), EncodingKey::from_ec_der),
            Algorithm::ES384 => (generate(&rcgen::PKCS_ECDSA_P384_SHA384), EncodingKey::from_ec_der),
            Algorithm::EdDSA => (generate(&rcgen::PKCS_ED25519), EncodingKey::from_ed_der),
            _ => {
                let of_rsa = |der: &[u8]| EncodingKey::from_rsa_der(&der[RSA_HEADER_BYTES..]);
                (generate(&rcgen::PKCS_RSA_SHA256), of_rsa)
            }
        };
        let private = read(pair.serialized_der());
        Self { id, algorithm, private, pair }
    }

    /// As most issuers publish theirs: without the algorithm.
    pub(crate) fn jwk(&self) -> Value {
        let mut key = if self.algorithm == Algorithm::EdDSA {
            json!({"kty": "OKP", "crv": "Ed25519", "x": URL.encode(self.pair.public_key_raw())})
        } else {
            let mut key = Jwk::from_encoding_key(&self.private, self.algorithm).unwrap();
            key.common.key_algorithm = None;
            serde_json::to_value(key).unwrap()
        };
        (key["kid"], key["use"]) = (self.id.into(), "sig".into());
        key
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_by(Header::new(self.algorithm), claims)
    }

    fn sign_by(&self, header: Header, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.to_owned()), ..header };
        jsonwebtoken::encode(&header, claims, &self.private).unwrap()
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
        let trusted = self.trusted.named_by(token, CLUSTER).expect("it is of this issuer");
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
        let trusted = site.trusted.named_by(&token, CLUSTER).unwrap();
        assert_eq!(trusted.check(&trusted.signed(&token).await.unwrap()), Err(expected));
    }
    assert_eq!(site.said(&other.sign(&site.claims(json!({})))).await, Err(NotProved::Signature));

    let (message, signature) = good.rsplit_once('.').unwrap();
    let mut bytes = URL.decode(signature).unwrap();
    bytes[7] ^= 1;
    assert_eq!(site.said(&format!("{message}.{}", URL.encode(&bytes))).await, Err(NotProved::Signature));
    let payload = message.split_once('.').unwrap().1;
    let none = URL.encode(json!({"alg": "none", "kid": "one"}).to_string());
    for end in ["", signature] {
        assert_eq!(site.said(&format!("{none}.{payload}.{end}")).await, Err(NotProved::Form));
    }
    let header = Header { crit: Some(vec!["x".into()]), ..Header::new(Algorithm::ES256) };
    assert_eq!(site.said(&key.sign_by(header, &site.claims(json!({})))).await, Err(NotProved::Form));

    let stranger = key.sign(&site.claims(json!({"iss": "https://else"})));
    assert!(
        site.trusted.named_by(&stranger, CLUSTER).is_none() && site.trusted.named_by("x", CLUSTER).is_none()
    );
    let named =
        |aud: Value| site.trusted.named_by(&key.sign(&site.claims(json!({"aud": aud}))), CLUSTER).is_some();
    assert!(named(json!("else")) && named(json!(["tidelock", "else"])));
    assert!(!named(json!(CLUSTER)) && !named(json!(["tidelock", CLUSTER])), "those are the cluster's");
    assert_eq!(site.asked(), 2, "one question for all of them");
}

#[tokio::test]
async fn every_asymmetric_algorithm_that_is_named_proves_and_only_by_a_key_of_its_kind() {
    let keys = ALGORITHMS.map(|algorithm| Key::of("one", algorithm));
    let of_another_kind = |key: &Key| match key.algorithm {
        Algorithm::ES256 => Algorithm::RS256,
        Algorithm::ES384 | Algorithm::EdDSA => Algorithm::ES256,
        Algorithm::PS256 => Algorithm::RS256,
        _ => Algorithm::PS256,
    };
    for key in &keys {
        let site = Site::new(&[key]).await;
        let good = key.sign(&site.claims(json!({})));
        assert_eq!(site.said(&good).await, Ok(()), "{:?}", key.algorithm);
        let (message, signature) = good.rsplit_once('.').unwrap();
        let mut bytes = URL.decode(signature).unwrap();
        bytes[9] ^= 1;
        let bent = format!("{message}.{}", URL.encode(&bytes));
        assert_eq!(site.said(&bent).await, Err(NotProved::Signature), "{:?}", key.algorithm);
        // The header says another algorithm than the signature is of.
        let payload = message.split_once('.').unwrap().1;
        let header = json!({"alg": of_another_kind(key), "kid": "one"}).to_string();
        let renamed = format!("{}.{payload}.{signature}", URL.encode(header));
        assert_eq!(site.said(&renamed).await, Err(NotProved::Signature), "{:?}", key.algorithm);
        // A key that says its algorithm is good for no other.
        let mut named = key.jwk();
        named["alg"] = json!(of_another_kind(key));
        site.answer("/keys", 200, json!({"keys": [named]}));
        site.clock.advance(Duration::from_mins(10));
        let late = key.sign(&site.claims(json!({})));
        assert_eq!(site.said(&late).await, Err(NotProved::UnknownKey), "{:?}", key.algorithm);
    }
}

#[tokio::test]
async fn what_is_public_of_a_key_signs_nothing() {
    for key in [Key::of("one", Algorithm::RS256), Key::new("one")] {
        let site = Site::new(&[&key]).await;
        let claims = site.claims(json!({}));
        let public = key.pair.public_key_pem();
        let shown = key.jwk().to_string();
        let known = [key.pair.public_key_raw(), public.as_bytes(), shown.as_bytes()];
        for secret in known {
            for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                let header = Header { kid: Some("one".to_owned()), ..Header::new(algorithm) };
                let secret = EncodingKey::from_secret(secret);
                let forged = jsonwebtoken::encode(&header, &claims, &secret).unwrap();
                assert_eq!(site.said(&forged).await, Err(NotProved::Form), "{algorithm:?}");
            }
        }
    }
}

/// Made with OpenSSL: an RSA key of 1024 bits, and what it did sign.
#[tokio::test]
async fn a_signature_by_a_key_of_too_few_bits_is_none() {
    const N: &str = "wIMulVOBH1YmHAtOZ0YM8Iq6-G_w6ND5xRm2KGpIl0Cg8Z-CqKlVKaHhiDd7p1RQLFn-vGAA0DFtxrV6xzyj367QL0VIYgT-\
        BEXjvGGjR9MS6iw0kJrWfX57xZZNeHfnpBjLIgbU4_5x3nQXyNzvPI10At8TiGZl10U8zKvbzj8";
    const SIGNATURE: &str = "L5MhxfJeWG2SICT4Rdwhn2XBY-omCZBYJV-nGGCnmjVcBEuer-ZTiFBYzl8vUMcL95b2GfBINHOsCSntqKpBCU_9\
        JNfm3mlBSWTylq233X3bDLgn8VVY9bsUxZLX-Kh9wo4NBlMNwnSEfm5TZNAeHBsBPNIp6Wxhx95XRtzu6Fw";
    let short = json!({"kty": "RSA", "use": "sig", "kid": "short", "n": N, "e": "AQAB"});
    let good = Key::of("good", Algorithm::RS256);
    let rules = json!([{"serviceAccount": "shop/ci", "claims": {"sub": ["repo:acme/*"]}}]);
    let trusting = |keys: Value| {
        let file = json!([{"issuer": "https://ci.example", "audience": "a", "jwks": {"keys": keys}, "rules": rules}]);
        let clock = ManualClock::at("2030-01-01T00:00:00Z".parse().unwrap());
        Issuers::new(federation::parse(&file.to_string()).unwrap(), &(clock as Arc<dyn Clock>))
    };
    let (header, claims) = (r#"{"alg":"RS256","kid":"short"}"#, r#"{"iss":"https://ci.example"}"#);
    let token = format!("{}.{}.{SIGNATURE}", URL.encode(header), URL.encode(claims));
    let issuers = trusting(json!([good.jwk(), short])).unwrap();
    let said = issuers.named_by(&token, CLUSTER).unwrap().signed(&token).await;
    assert_eq!(said.unwrap_err(), NotProved::UnknownKey);
    assert!(trusting(json!([short])).is_err(), "a configuration with no other key");
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
