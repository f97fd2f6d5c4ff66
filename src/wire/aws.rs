//! Client of the AWS API: what relay, rotators and CLI ask the server with. Values are written into buffers of the
//! right size and zeroed after use; what hyper and rustls copy on the way is theirs.
//! Must not retry, cache, or show a body: callers decide, and a body may hold a value.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

mod message;

pub use message::{
    AccessKey, AccessKeys, CreateAccessKey, CreatedAccessKey, DescribeSecret, Empty, ExplainAccess,
    Explained, GetRandomPassword, GetSecretValue, ListAccessKeys, PutSecretValue, RandomPassword,
    RevokeAccessKey, RevokedAccessKey, SecretDescription, SecretText, SecretValue, UpdateSecretVersionStage,
};

pub const TARGET: &str = "x-amz-target";
pub const JSON: &str = "application/x-amz-json-1.1";
/// AWS's greatest value, 65,536 bytes, with every byte escaped as six characters, and room for the rest.
pub const BODY_BYTES_MAX: usize = 512 * 1024;
const CALL_TIME_MAX: Duration = Duration::from_secs(30);
const TARGET_PREFIX: &str = "secretsmanager.";

/// What the caller shows for itself. The file is read anew for each call: kubelet renews it.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Someone on the way adds one (the relay).
    None,
    TokenFile(PathBuf),
    /// A token that was made for this call.
    Token(Token),
}

/// A bearer token; has no way to be printed.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    pub fn new(token: String) -> Self {
        Self(Zeroizing::new(token))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error(
        "the server's address `{0}` is not right: write https://<host>:<port> with a CA file, or http://127.0.0.1:<port> without"
    )]
    Endpoint(String),
    #[error("the CA file {path} cannot be used: {why}")]
    Trust { path: String, why: String },
    #[error("the token file {path} cannot be read")]
    Token { path: String, source: std::io::Error },
    #[error("the Tidelock server cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the Tidelock server did not answer within {} s", CALL_TIME_MAX.as_secs())]
    Slow,
    #[error("the message is longer than {BODY_BYTES_MAX} bytes")]
    TooLong,
    #[error("{kind}: {message}")]
    Refused { status: StatusCode, kind: String, message: String },
    #[error("the answer to {operation} (HTTP {status}) is not one of the AWS API")]
    NotUnderstood { operation: &'static str, status: StatusCode },
}

impl CallError {
    /// Whether the secret or version that was named does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { kind, .. } if kind == "ResourceNotFoundException")
    }

    /// Whether the same call may succeed a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Slow => true,
            Self::Refused { status, kind, .. } => status.is_server_error() || kind == "ThrottlingException",
            _ => false,
        }
    }
}

/// One server to call.
#[derive(Clone)]
pub struct Api {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoint: Uri,
    credential: Credential,
}

/// An answer as it came, for those who pass it on.
pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub body: Zeroizing<Vec<u8>>,
}

impl Api {
    /// `ca_file` holds the PEM certificates that the server's must descend from; no others are trusted.
    pub fn new(endpoint: &str, ca_file: Option<&Path>, credential: Credential) -> Result<Self, CallError> {
        let roots = ca_file.map(trust).transpose()?;
        Self::with_roots(endpoint, roots, credential)
    }

    /// The same with the certificates at hand.
    pub fn trusting(endpoint: &str, ca: &str, credential: Credential) -> Result<Self, CallError> {
        let roots = roots(CertificateDer::pem_slice_iter(ca.as_bytes()), "the published certificates")?;
        Self::with_roots(endpoint, Some(roots), credential)
    }

    fn with_roots(
        endpoint: &str,
        roots: Option<RootCertStore>,
        credential: Credential,
    ) -> Result<Self, CallError> {
        let bad = || CallError::Endpoint(endpoint.to_owned());
        let endpoint: Uri = endpoint.parse().map_err(|_| bad())?;
        let local = matches!(endpoint.host(), Some("127.0.0.1" | "localhost" | "[::1]"));
        let roots = match (endpoint.scheme_str(), roots) {
            (Some("https"), Some(roots)) => roots,
            // A token or value never crosses a network in the open.
            (Some("http"), None) if local => RootCertStore::empty(),
            _ => return Err(bad()),
        };
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, endpoint, credential })
    }

    pub async fn describe_secret(&self, secret_id: &str) -> Result<SecretDescription, CallError> {
        self.call("DescribeSecret", &DescribeSecret { secret_id }).await
    }

    pub async fn secret_value(&self, request: &GetSecretValue<'_>) -> Result<SecretValue, CallError> {
        self.call("GetSecretValue", request).await
    }

    pub async fn put_secret_value(&self, request: &PutSecretValue<'_>) -> Result<(), CallError> {
        self.call::<_, Empty>("PutSecretValue", request).await.map(drop)
    }

    pub async fn update_stage(&self, request: &UpdateSecretVersionStage<'_>) -> Result<(), CallError> {
        self.call::<_, Empty>("UpdateSecretVersionStage", request).await.map(drop)
    }

    pub async fn random_password(&self, request: &GetRandomPassword) -> Result<RandomPassword, CallError> {
        self.call("GetRandomPassword", request).await
    }

    /// Our own operation, which AWS has not.
    pub async fn explain(&self, request: &ExplainAccess<'_>) -> Result<Explained, CallError> {
        self.call_target("tidelock.", "ExplainAccess", request).await
    }

    /// The secret in the answer is told this once.
    pub async fn create_access_key(
        &self,
        request: &CreateAccessKey<'_>,
    ) -> Result<CreatedAccessKey, CallError> {
        self.call_target("tidelock.", "CreateAccessKey", request).await
    }

    pub async fn list_access_keys(&self, namespace: &str) -> Result<AccessKeys, CallError> {
        self.call_target("tidelock.", "ListAccessKeys", &ListAccessKeys { namespace }).await
    }

    pub async fn revoke_access_key(&self, access_key_id: &str) -> Result<RevokedAccessKey, CallError> {
        self.call_target("tidelock.", "RevokeAccessKey", &RevokeAccessKey { access_key_id }).await
    }

    /// Calls an operation by its AWS name and reads the answer.
    pub async fn call<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        operation: &'static str,
        request: &Q,
    ) -> Result<A, CallError> {
        self.call_target(TARGET_PREFIX, operation, request).await
    }

    async fn call_target<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        service: &'static str,
        operation: &'static str,
        request: &Q,
    ) -> Result<A, CallError> {
        let body = written(request).ok_or(CallError::TooLong)?;
        let target = HeaderValue::from_str(&format!("{service}{operation}"))
            .map_err(|_| CallError::NotUnderstood { operation, status: StatusCode::BAD_REQUEST })?;
        let answer = self.forward(target, body).await?;
        let not_understood = || CallError::NotUnderstood { operation, status: answer.status };
        if answer.status.is_success() {
            return serde_json::from_slice(&answer.body).map_err(|_| not_understood());
        }
        let refusal: RefusalBody = serde_json::from_slice(&answer.body).map_err(|_| not_understood())?;
        let kind = refusal.kind.rsplit('#').next().unwrap_or_default().to_owned();
        Err(CallError::Refused { status: answer.status, kind, message: refusal.message })
    }

    /// Sends a body that somebody else wrote, with this caller's credential.
    pub async fn forward(&self, target: HeaderValue, body: Zeroizing<Vec<u8>>) -> Result<Answer, CallError> {
        let mut request = Request::new(Full::new(Bytes::from_owner(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        request.headers_mut().insert(TARGET, target);
        if let Some(authorization) = self.authorization().await? {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        tokio::time::timeout(CALL_TIME_MAX, self.exchange(request)).await.map_err(|_| CallError::Slow)?
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, CallError> {
        let response =
            self.client.request(request).await.map_err(|error| CallError::Unreachable(Box::new(error)))?;
        let (parts, body) = response.into_parts();
        let body = collect(body).await?;
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>, CallError> {
        let (token, path) = match &self.credential {
            Credential::None => return Ok(None),
            Credential::Token(token) => (token.0.clone(), String::new()),
            Credential::TokenFile(path) => {
                let shown = || path.display().to_string();
                let token = tokio::fs::read_to_string(path)
                    .await
                    .map_err(|source| CallError::Token { path: shown(), source })?;
                (Zeroizing::new(token), shown())
            }
        };
        let bearer = Zeroizing::new(format!("Bearer {}", token.trim_end()));
        let mut value = HeaderValue::from_str(&bearer).map_err(|_| CallError::Token {
            path,
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, "not one line of ASCII"),
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// Reads a body of bounded length into memory that is zeroed afterwards.
pub async fn collect<B>(body: B) -> Result<Zeroizing<Vec<u8>>, CallError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let announced = usize::try_from(body.size_hint().exact().unwrap_or(0)).unwrap_or(usize::MAX);
    if announced > BODY_BYTES_MAX {
        return Err(CallError::TooLong);
    }
    let mut whole = Zeroizing::new(Vec::with_capacity(announced));
    let mut body = body;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| CallError::Unreachable(error.into()))?;
        let Some(data) = frame.data_ref() else { continue };
        let length = whole.len() + data.len();
        if length > BODY_BYTES_MAX {
            return Err(CallError::TooLong);
        }
        if length > whole.capacity() {
            // A vector that grows by itself leaves the old bytes behind.
            let mut larger = Zeroizing::new(Vec::with_capacity((length * 2).min(BODY_BYTES_MAX)));
            larger.extend_from_slice(&whole);
            whole = larger;
        }
        whole.extend_from_slice(data);
    }
    Ok(whole)
}

#[derive(Deserialize)]
struct RefusalBody {
    #[serde(rename = "__type")]
    kind: String,
    #[serde(rename = "Message", alias = "message", default)]
    message: String,
}

/// JSON in a buffer of exactly its length, which a first pass measured: a buffer that grows leaves copies behind.
pub fn written<T: Serialize>(message: &T) -> Option<Zeroizing<Vec<u8>>> {
    struct Measure(usize);
    impl std::io::Write for Measure {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut measure = Measure(0);
    serde_json::to_writer(&mut measure, message).ok()?;
    if measure.0 > BODY_BYTES_MAX {
        return None;
    }
    let mut buffer = Zeroizing::new(Vec::with_capacity(measure.0));
    serde_json::to_writer(&mut *buffer, message).ok()?;
    Some(buffer)
}

fn trust(path: &Path) -> Result<RootCertStore, CallError> {
    let place = path.display().to_string();
    let bad = |why: String| CallError::Trust { path: place.clone(), why };
    roots(CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))?, &place)
}

fn roots(
    certificates: impl Iterator<Item = Result<CertificateDer<'static>, rustls::pki_types::pem::Error>>,
    place: &str,
) -> Result<RootCertStore, CallError> {
    let bad = |why: String| CallError::Trust { path: place.to_owned(), why };
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("it holds no certificate".to_owned()));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests;
