//! One connection to the server: TCP, TLS, HTTP/2.
//! Must not connect without TLS, nor trust anything but the configured authorities.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use zeroize::Zeroizing;

use crate::node::config::ServerConfig;

const PATIENCE: Duration = Duration::from_secs(5);
/// A server that is gone without a farewell is noticed after both.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
const HTTPS_PORT: u16 = 443;

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("the server's address {0} must be https://host:port")]
    Address(Uri),
    #[error("reading {path:?} failed: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{0:?} holds no certificate authority")]
    NoAuthority(PathBuf),
    #[error("connecting to {host} port {port} failed: {source}")]
    Tcp { host: String, port: u16, source: io::Error },
    #[error("TLS with {host} failed: {source}")]
    Tls { host: String, source: io::Error },
    #[error("HTTP/2 with {host} failed: {source}")]
    Http { host: String, source: hyper::Error },
    #[error("connecting to {host} port {port} took longer than 5 s")]
    Timeout { host: String, port: u16 },
}

/// A connection as the generated client wants it. It ends when the last clone is dropped.
#[derive(Clone)]
pub(in crate::node) struct Channel {
    requests: SendRequest<Body>,
    _driver: Arc<AbortOnDropHandle<()>>,
}

impl Channel {
    /// HTTP/2 over what is connected already.
    pub(in crate::node) async fn over<I>(io: I) -> Result<Channel, hyper::Error>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (requests, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(io))
            .await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection has failed");
            }
        });
        Ok(Channel { requests, _driver: Arc::new(AbortOnDropHandle::new(driver)) })
    }
}

impl tower::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, ctx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.requests.poll_ready(ctx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.requests.send_request(request))
    }
}

pub(super) async fn connect(server: &ServerConfig) -> Result<Channel, ConnectError> {
    let (Some("https"), Some(host)) = (server.url.scheme_str(), server.url.host()) else {
        return Err(ConnectError::Address(server.url.clone()));
    };
    let port = server.url.port_u16().unwrap_or(HTTPS_PORT);
    let tls = trust(&server.ca_file)?;
    let connected = tokio::time::timeout(PATIENCE, handshakes(host, port, tls)).await;
    connected.unwrap_or_else(|_| Err(ConnectError::Timeout { host: host.to_owned(), port }))
}

async fn handshakes(host: &str, port: u16, tls: ClientConfig) -> Result<Channel, ConnectError> {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let tcp = TcpStream::connect((name, port))
        .await
        .and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp))
        .map_err(|source| ConnectError::Tcp { host: host.to_owned(), port, source })?;
    let tls_failed = |source| ConnectError::Tls { host: host.to_owned(), source };
    let server_name =
        ServerName::try_from(name.to_owned()).map_err(|error| tls_failed(io::Error::other(error)))?;
    let stream = TlsConnector::from(Arc::new(tls)).connect(server_name, tcp).await.map_err(tls_failed)?;
    Channel::over(stream).await.map_err(|source| ConnectError::Http { host: host.to_owned(), source })
}

fn trust(ca_file: &Path) -> Result<ClientConfig, ConnectError> {
    let text = read(ca_file)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text).flatten() {
        if let Err(error) = roots.add(certificate) {
            tracing::warn!(file = %ca_file.display(), %error, "a certificate authority is left out");
        }
    }
    if roots.is_empty() {
        return Err(ConnectError::NoAuthority(ca_file.to_owned()));
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// The agent's own token, as it stands in its file now.
pub(super) fn read_token(file: &Path) -> Result<Zeroizing<String>, ConnectError> {
    let bytes = Zeroizing::new(read(file)?);
    let text = std::str::from_utf8(&bytes).map_err(|_| ConnectError::File {
        path: file.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, "it is not a token"),
    })?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

fn read(file: &Path) -> Result<Vec<u8>, ConnectError> {
    std::fs::read(file).map_err(|source| ConnectError::File { path: file.to_owned(), source })
}
