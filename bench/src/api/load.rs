//! The load: so many connections, each of which sends its next request when the last one is answered, for so long.
//! Must not know what the requests say.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tidelock_e2e::bench::Samples;
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio_rustls::TlsConnector;

/// Before anything is counted.
const WARM_UP: Duration = Duration::from_secs(1);
const COUNTED: Duration = Duration::from_secs(5);
/// Many handshakes at once would measure the kernel's queue.
const HANDSHAKES_AT_ONCE: usize = 16;

/// Where the load goes.
#[derive(Clone)]
pub struct Target {
    pub port: u16,
    /// The trust that the server's certificate is checked against; without it no TLS.
    tls: Option<Arc<ClientConfig>>,
}

/// What came of it.
pub struct Measured {
    pub per_second: f64,
    pub samples: Samples,
    /// What the server's process worked meanwhile, for each request.
    pub cpu: Option<Duration>,
    /// Answered otherwise than asked for, and not counted.
    pub failed: u32,
}

/// What is asked, and what every right answer holds.
#[derive(Clone)]
pub struct Asked {
    pub make: Make,
    pub marker: &'static str,
    /// Whether a wrong answer ends the run.
    pub is_strict: bool,
}

/// Makes the request of a connection: which one, and how many it has sent.
pub type Make = Arc<dyn Fn(usize, usize) -> Result<Request<Full<Bytes>>> + Send + Sync>;

impl Target {
    pub fn plain(port: u16) -> Self {
        Self { port, tls: None }
    }

    pub fn trusting(port: u16, bundle: &[u8]) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(bundle) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { port, tls: Some(Arc::new(config)) })
    }

    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    pub async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.context("connect")?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => open(stream).await,
            Some(config) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let name = ServerName::try_from("localhost")?;
                open(connector.connect(name, stream).await.context("handshake")?).await
            }
        }
    }
}

async fn open<I>(io: I) -> Result<SendRequest<Full<Bytes>>>
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(io)).await?;
    // Its end is seen by whoever sends the next request.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// The whole body of an answer; anything but 200 is an error that quotes it.
pub async fn whole(response: Response<Incoming>) -> Result<Bytes> {
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    ensure!(status == http::StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&body));
    Ok(body)
}

/// Sends for a while over so many connections.
pub async fn run(target: &Target, connections: usize, asked: Asked, server: Option<u32>) -> Result<Measured> {
    let ready = Arc::new(Barrier::new(connections + 1));
    let places = Arc::new(tokio::sync::Semaphore::new(HANDSHAKES_AT_ONCE));
    let tasks: Vec<_> = (0..connections)
        .map(|which| {
            let (target, asked) = (target.clone(), asked.clone());
            let (ready, places) = (Arc::clone(&ready), Arc::clone(&places));
            tokio::spawn(async move {
                let place = places.acquire().await;
                let sender = target.connect().await;
                drop(place);
                ready.wait().await;
                send(&target, sender?, which, &asked).await
            })
        })
        .collect();
    ready.wait().await;
    tokio::time::sleep(WARM_UP).await;
    let before = server.map(worked).transpose()?;
    tokio::time::sleep(COUNTED).await;
    let after = server.map(worked).transpose()?;
    let mut samples = Samples::new()?;
    let (mut count, mut failed) = (0_u32, 0);
    for sent in try_join_all(tasks).await? {
        let sent = sent?;
        failed += sent.failed;
        for took in sent.took {
            samples.add(took)?;
            count += 1;
        }
    }
    ensure!(count > 0, "nothing was answered within {COUNTED:?}");
    let cpu = before.zip(after).map(|(before, after)| (after - before) / count);
    Ok(Measured { per_second: f64::from(count) / COUNTED.as_secs_f64(), samples, cpu, failed })
}

/// What one connection sent.
#[derive(Default)]
struct Sent {
    took: Vec<Duration>,
    failed: u32,
}

/// One connection's life. What ends after the warm-up and before the end is counted.
async fn send(
    target: &Target,
    mut sender: SendRequest<Full<Bytes>>,
    which: usize,
    asked: &Asked,
) -> Result<Sent> {
    let begun = Instant::now();
    let counted = begun + WARM_UP..begun + WARM_UP + COUNTED;
    let mut all = Sent::default();
    for number in 0.. {
        let request = (asked.make)(which, number)?;
        let sent = Instant::now();
        if sender.ready().await.is_err() {
            sender = target.connect().await?;
        }
        let answer = match sender.send_request(request).await {
            Ok(response) => whole(response).await,
            Err(error) => Err(error.into()),
        };
        let now = Instant::now();
        match answer.and_then(|body| holds(&body, asked.marker)) {
            Ok(()) if counted.contains(&now) => all.took.push(now - sent),
            Ok(()) => {}
            Err(error) if asked.is_strict => return Err(error),
            Err(_) => all.failed += 1,
        }
        if now >= counted.end {
            break;
        }
    }
    Ok(all)
}

fn holds(body: &[u8], marker: &str) -> Result<()> {
    let is_there = contains(body, marker.as_bytes());
    ensure!(is_there, "an answer without `{marker}`: {}", String::from_utf8_lossy(body));
    Ok(())
}

fn contains(body: &[u8], marker: &[u8]) -> bool {
    body.windows(marker.len()).any(|window| window == marker)
}

/// Processor time of a process so far, of all its threads.
fn worked(process: u32) -> Result<Duration> {
    /// Of what Linux shows in /proc, on every machine.
    const TICKS_PER_SECOND: u64 = 100;
    let stat = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("the name is in brackets")?;
    // utime and stime are fields 14 and 15, counted from 1; two are gone with the name.
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}
