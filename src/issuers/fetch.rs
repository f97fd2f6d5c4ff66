//! Asks an issuer for its keys: the discovery document, then the set that it names. HTTPS only, no redirects, little
//! and soon. Must not keep anything.

use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;

use super::BadIssuer;
use crate::federation::{Authority, Issuer};

/// For both documents together.
const PATIENCE: Duration = Duration::from_secs(5);
const BYTES_MAX: usize = 256 * 1024;

type Https = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

pub(super) struct Fetcher {
    issuer: String,
    authority: Authority,
}

/// Why is in the log.
pub(super) struct Unreached;

impl Fetcher {
    pub(super) fn new(issuer: &Issuer) -> Result<Self, BadIssuer> {
        let fetcher = Self { issuer: issuer.url.clone(), authority: issuer.authority.clone() };
        let issuer = fetcher.issuer.clone();
        match fetcher.client() {
            Ok(_) => Ok(fetcher),
            Err(wrong) => Err(match fetcher.authority {
                Authority::File(path) => BadIssuer::File { issuer, path, wrong },
                Authority::Bundle(_) | Authority::PublicRoots => BadIssuer::Bundle { issuer, wrong },
            }),
        }
    }

    /// Made for each fetch: certificates of a file may be others by then, and no connection outlives a fetch.
    fn client(&self) -> Result<Https, String> {
        let mut roots = RootCertStore::empty();
        match &self.authority {
            Authority::PublicRoots => {
                roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
            }
            Authority::Bundle(pem) => add(&mut roots, pem.as_bytes())?,
            Authority::File(path) => {
                let pem = std::fs::read(path).map_err(|error| error.to_string())?;
                add(&mut roots, &pem)?;
            }
        }
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
        Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
    }

    /// The issuer's key set.
    pub(super) async fn fetch(&self) -> Result<Value, Unreached> {
        let answer = tokio::time::timeout(PATIENCE, self.ask()).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
        let result = if answer.is_ok() { "ok" } else { "failed" };
        metrics::counter!("tidelock_oidc_fetches_total", "issuer" => self.issuer.clone(), "result" => result)
            .increment(1);
        answer.map_err(|error| {
            let reason = "IssuerUnreachable";
            tracing::warn!(
                reason,
                issuer = self.issuer,
                error,
                "the keys of an OIDC issuer could not be had"
            );
            Unreached
        })
    }

    async fn ask(&self) -> Result<Value, String> {
        let client = self.client().map_err(|wrong| match &self.authority {
            Authority::File(path) => format!("caFile {}: {wrong}", path.display()),
            Authority::Bundle(_) | Authority::PublicRoots => wrong,
        })?;
        let place = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let told = get(&client, &place).await?;
        if told.get("issuer").and_then(Value::as_str) != Some(self.issuer.as_str()) {
            return Err(format!("{place} names another issuer"));
        }
        let named = told.get("jwks_uri").and_then(Value::as_str);
        let place = named.ok_or_else(|| format!("{place} names no jwks_uri"))?;
        let keys = get(&client, place).await?;
        let has_keys = keys.get("keys").is_some_and(Value::is_array);
        if has_keys { Ok(keys) } else { Err(format!("{place} has no keys")) }
    }
}

fn add(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), String> {
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("there is no certificate".to_owned()) } else { Ok(()) }
}

async fn get(client: &Https, place: &str) -> Result<Value, String> {
    let failed = |error: &dyn std::error::Error| format!("{place}: {}", causes(error));
    let uri: Uri = place.parse().map_err(|error| failed(&error))?;
    let answer = client.get(uri).await.map_err(|error| failed(&error))?;
    if answer.status() != http::StatusCode::OK {
        return Err(format!("{place}: {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), BYTES_MAX).collect().await;
    let body = body.map_err(|error| failed(error.as_ref()))?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| failed(&error))
}

/// The error with what lies beneath it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        said = format!("{said}: {cause}");
        next = cause.source();
    }
    said
}
