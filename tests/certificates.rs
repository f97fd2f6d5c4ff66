//! Certificates that live for ten seconds, under traffic, with a real API server keeping the trust.
//! Must not reuse a connection: each call is a handshake of its own.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{Namespace, ObjectReference};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tidelock::api::health;
use tidelock::clock::SystemClock;
use tidelock::controller::trust::{Trust, TrustSettings};
use tidelock::inject::Endpoint;
use tidelock::pki::{Certificates, Lifetimes};
use tidelock::serve::{self, Door, Limits, Listener, Protocol};
use tidelock::telemetry::Readiness;
use tidelock::webhook::{self, MayProject, Question, Tell, Verdict, Webhook};
use tidelock_e2e::{Cluster, wait_for};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

const NS: &str = "tidelock";
const NAME: &str = "tidelock-server.tidelock.svc";
const CALLS: u32 = 1000;
const DURATION: Duration = Duration::from_secs(60);
const LEAF: Duration = Duration::from_secs(10);

struct Anybody;

#[async_trait]
impl MayProject for Anybody {
    async fn may_project(&self, _: &Question<'_>) -> Verdict {
        Verdict::Yes
    }
}

impl Tell for Anybody {
    fn tell(&self, _: ObjectReference, _: &'static str, _: String) {}
}

fn webhook() -> Webhook {
    Webhook {
        may_project: Arc::new(Anybody),
        tell: Arc::new(Anybody),
        endpoint: Endpoint {
            url: format!("https://{NAME}:8444"),
            region: "local-1".to_owned(),
            account: "000000000000".to_owned(),
            audience: "test/api".to_owned(),
        },
        clock: SystemClock::shared(),
    }
}

async fn listen() -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn door(name: &'static str, listener: TcpListener, certificates: &Arc<Certificates>) -> Door {
    Door {
        name,
        listener: Listener::Tcp(listener),
        tls: Some(serve::tls(Protocol::Http, certificates.clone())),
        protocol: Protocol::Http,
        limits: Limits::http(),
    }
}

/// One call over a connection of its own; the serving certificate that was shown.
async fn call(
    trusted: &TlsConnector,
    address: SocketAddr,
    path: &str,
    body: Bytes,
) -> Result<CertificateDer<'static>> {
    let name = ServerName::try_from(NAME)?;
    let stream = trusted.connect(name, TcpStream::connect(address).await?).await.context("TLS")?;
    let shown = stream.get_ref().1.peer_certificates().context("a certificate")?[0].clone().into_owned();
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let method = if body.is_empty() { http::Method::GET } else { http::Method::POST };
    let request =
        Request::builder().method(method).uri(format!("https://{NAME}{path}")).body(Full::new(body))?;
    let response = client.send_request(request).await?;
    ensure!(response.status() == StatusCode::OK, "{} for {path}", response.status());
    connection.abort();
    Ok(shown)
}

/// Calls evenly over the whole time; the different certificates that were shown.
fn keep_calling(
    trusted: TlsConnector,
    address: SocketAddr,
    path: &'static str,
    body: Bytes,
) -> JoinHandle<Result<usize>> {
    tokio::spawn(async move {
        let mut pace = tokio::time::interval(DURATION / CALLS);
        let mut shown = BTreeSet::new();
        for number in 0..CALLS {
            pace.tick().await;
            let certificate = call(&trusted, address, path, body.clone()).await;
            shown.insert(certificate.with_context(|| format!("call {number} to {path}"))?.to_vec());
        }
        Ok(shown.len())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_calls_to_each_port_see_no_tls_error_while_certificates_live_ten_seconds() -> Result<()> {
    let cluster = Cluster::api_only().await?;
    let metadata = ObjectMeta { name: Some(NS.to_owned()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    Api::all(cluster.client()).create(&PostParams::default(), &namespace).await?;
    let (certificates, readiness) = (Certificates::new(), Readiness::default());
    let settings = TrustSettings {
        namespace: NS.to_owned(),
        secret: "tidelock-ca-key".to_owned(),
        config_map: "tidelock-ca".to_owned(),
        more_namespaces: Vec::new(),
        webhook_configuration: "tidelock".to_owned(),
        installation: "test".to_owned(),
        server_names: vec![NAME.to_owned()],
        lifetimes: Lifetimes { leaf: LEAF, ..Lifetimes::default() },
    };
    let component = readiness.component("trust");
    let trust =
        Trust::new(cluster.client(), settings, SystemClock::shared(), certificates.clone(), component);
    let (bundle, shutdown) = (trust.bundle(), CancellationToken::new());
    let trust = tokio::spawn(trust.run(shutdown.clone()));

    let ((webhook_listener, webhook_address), (api_listener, api_address)) =
        (listen().await?, listen().await?);
    let webhook = serve::bounded(warp::service(webhook::routes(webhook())), webhook::BODY_LIMITS);
    let api =
        serve::bounded(warp::service(health::routes(readiness.clone(), String::new)), webhook::BODY_LIMITS);
    let servers = [
        tokio::spawn(serve::run(door("webhook", webhook_listener, &certificates), webhook, shutdown.clone())),
        tokio::spawn(serve::run(door("api", api_listener, &certificates), api, shutdown.clone())),
    ];
    wait_for("trust to be kept", DURATION, async || readiness.unready().is_empty().then_some(())).await?;

    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.borrow().as_bytes()) {
        roots.add(certificate?)?;
    }
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would not show a certificate.
    config.resumption = rustls::client::Resumption::disabled();
    let trusted = TlsConnector::from(Arc::new(config));
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "1", "operation": "CREATE", "namespace": "shop", "kind": {"group": "", "kind": "Pod"},
            "object": {
                "metadata": {"annotations": {"tidelock.dev/inject": "orders-db"}},
                "spec": {"containers": [{"name": "app"}]},
            },
        },
    });
    let calling = [
        keep_calling(trusted.clone(), webhook_address, "/inject", Bytes::from(review.to_string())),
        keep_calling(trusted, api_address, "/readyz", Bytes::new()),
    ];
    let least = usize::try_from(DURATION.as_secs() / LEAF.as_secs())?;
    for calls in calling {
        let shown = calls.await??;
        assert!(shown >= least, "only {shown} certificates in {DURATION:?}");
    }
    shutdown.cancel();
    for server in servers {
        server.await?;
    }
    Ok(trust.await?)
}
