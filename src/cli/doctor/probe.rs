//! What the server says of itself, asked through a port-forward: its readiness, some of its metrics, the certificate
//! that it shows. Must not send anything that a stranger could not send: no token.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::Place;
use super::seen::{Seen, Unseen};
use crate::pki::{self, Validity};

const HEALTH_PORT: u16 = 8080;
const API_PORT: u16 = 8444;
const PATIENCE: Duration = Duration::from_secs(10);
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What was asked of the running server. Absent: there is none to ask, or it is not far enough.
pub struct Probed {
    pub health: Seen<Health>,
    pub certificate: Seen<Handshake>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    pub is_ready: bool,
    /// `component: Reason: message`, a line for each that is not ready.
    pub said: String,
    /// The installation of the store that it serves from.
    pub installation: Option<String>,
    /// How many node agents have a stream.
    pub streams: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handshake {
    Shown(Validity),
    /// The published authority does not vouch for what the server shows.
    Refused(String),
}

pub async fn probe(client: &Client, place: &Place, pods: Option<&Vec<Pod>>, bundle: Option<&str>) -> Probed {
    let running = pods.into_iter().flatten().find(|pod| is_running_server(pod));
    let Some(pod) = running.map(ResourceExt::name_any) else {
        return Probed { health: Seen::Absent, certificate: Seen::Absent };
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), &place.namespace);
    let health = within(health(&pods, &pod)).await;
    let certificate = match (&health, bundle) {
        // Nothing is shown before the store is open.
        (Seen::There(health), Some(bundle)) if health.is_ready => {
            within(handshake(&pods, &pod, bundle)).await
        }
        _ => Seen::Absent,
    };
    Probed { health, certificate }
}

pub fn is_running_server(pod: &Pod) -> bool {
    let component = pod.labels().get("app.kubernetes.io/component").map(String::as_str);
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    component == Some("server") && phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
}

async fn within<T>(asking: impl Future<Output = Result<T, Unseen>>) -> Seen<T> {
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(Ok(found)) => Seen::There(found),
        Ok(Err(why)) => Seen::Unseen(why),
        Err(_) => Seen::Unseen(Unseen::Failed(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

async fn health(pods: &Api<Pod>, pod: &str) -> Result<Health, Unseen> {
    let (is_ready, said) = get(pods, pod, "/readyz").await?;
    let (_, metrics) = get(pods, pod, "/metrics").await?;
    Ok(Health { is_ready, said, installation: installation(&metrics), streams: streams(&metrics) })
}

fn installation(metrics: &str) -> Option<String> {
    let rest = metrics.split("tidelock_store_info{").nth(1)?;
    Some(rest.split("installation=\"").nth(1)?.split('"').next()?.to_owned())
}

fn streams(metrics: &str) -> Option<usize> {
    let line = metrics.lines().find_map(|line| line.strip_prefix("tidelock_node_streams "))?;
    line.trim().parse().ok()
}

/// Whether the answer was a success, and its text.
async fn get(pods: &Api<Pod>, pod: &str, path: &str) -> Result<(bool, String), Unseen> {
    let failed = |error: String| Unseen::Failed(format!("{path} of pod {pod}: {error}"));
    let stream = TokioIo::new(forwarded(pods, pod, HEALTH_PORT).await?);
    let opened = hyper::client::conn::http1::handshake(stream).await;
    let (mut sender, connection) = opened.map_err(|error| failed(error.to_string()))?;
    tokio::spawn(connection);
    let request = hyper::Request::get(path).header("host", "localhost").body(Empty::<bytes::Bytes>::new());
    let request = request.map_err(|error| failed(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
    let is_success = answer.status().is_success();
    let body = Limited::new(answer.into_body(), PAGE_BYTES_MAX).collect().await;
    let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
    Ok((is_success, String::from_utf8_lossy(&body).into_owned()))
}

async fn handshake(pods: &Api<Pod>, pod: &str, bundle: &str) -> Result<Handshake, Unseen> {
    let failed = |error: String| Unseen::Failed(format!("the certificate of pod {pod}: {error}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()).flatten() {
        // One that is no certificate vouches for nobody; the others may.
        let _ = roots.add(certificate);
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").map_err(|error| failed(error.to_string()))?;
    let stream = forwarded(pods, pod, API_PORT).await?;
    let shaken = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let tls = match shaken {
        Ok(tls) => tls,
        Err(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            return Ok(Handshake::Refused(error.to_string()));
        }
        Err(error) => return Err(failed(error.to_string())),
    };
    let shown = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let validity = shown.and_then(|leaf| pki::validity_of_der(leaf));
    validity.map(Handshake::Shown).ok_or_else(|| failed("it cannot be read".to_owned()))
}

async fn forwarded(
    pods: &Api<Pod>,
    pod: &str,
    port: u16,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static, Unseen> {
    let mut forwarder = pods.portforward(pod, &[port]).await.map_err(|error| match &error {
        // Of a refused upgrade kube tells the number alone.
        kube::Error::UpgradeConnection(upgrade) if upgrade.to_string().contains("403") => {
            Unseen::Forbidden("you may not create pods/portforward in the server's namespace".to_owned())
        }
        error => Unseen::of(error),
    })?;
    forwarder.take_stream(port).ok_or_else(|| Unseen::Failed(format!("port {port} of pod {pod} is not open")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installation_and_the_streams_are_read_from_the_metrics() {
        let page =
            "# TYPE x gauge\ntidelock_store_info{installation=\"0190-ab\"} 1\ntidelock_node_streams 3\n";
        assert_eq!(installation(page).as_deref(), Some("0190-ab"));
        assert_eq!(streams(page), Some(3));
        assert_eq!((installation(""), streams("")), (None, None));
    }
}
