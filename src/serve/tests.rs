//! The accept loop with real sockets and real TLS clients. Must not sleep: every wait is for something, with a deadline.

use std::convert::Infallible;
use std::future::Future;

use arc_swap::ArcSwap;
use http::StatusCode;
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

mod edges;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(300);
/// Long enough for a whole body on a machine with much else to do.
const BODY_TIMEOUT: Duration = Duration::from_secs(3);

/// Short once the handshake is done, which may take a while on a machine with much else to do.
fn limits() -> Limits {
    Limits { header_timeout: SOON, first_request_timeout: SOON, ..Limits::http() }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}

#[derive(Debug)]
struct Shown(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// A self-signed certificate and a client's trust in it.
fn identity() -> (CertifiedKey, rustls::RootCertStore) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let certificate = made.cert.der().clone();
    let builder = ServerConfig::builder();
    let key = builder.crypto_provider().key_provider.load_private_key(key);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    (CertifiedKey::new(vec![certificate], key.unwrap()), roots)
}

struct Running {
    address: SocketAddr,
    roots: rustls::RootCertStore,
    shown: Arc<Shown>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

/// What the service of these tests waits for when it is asked for `/hold`.
#[derive(Clone, Default)]
struct Hold {
    entered: Arc<Notify>,
    released: Arc<Notify>,
}

async fn answer(request: Request<Full<Bytes>>, hold: Hold) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_known = request.extensions().get::<Peer>().is_some();
    assert!(is_known, "every request says who is at the other end");
    if request.uri().path() == "/hold" {
        hold.entered.notify_one();
        hold.released.notified().await;
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    Ok(Response::new(Full::new(body)))
}

fn service(
    hold: Hold,
) -> Bounded<
    impl Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync,
> {
    let body_limits = BodyLimits { bytes_max: 1024 * 1024, timeout: BODY_TIMEOUT, large_max: 1 };
    bounded(tower::service_fn(move |request| answer(request, hold.clone())), body_limits)
}

async fn start(limits: Limits, hold: Hold) -> Running {
    let (key, roots) = identity();
    let shown = Arc::new(Shown(ArcSwap::from_pointee(key)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let certificates: Arc<dyn ResolvesServerCert> = shown.clone();
    let shutdown = CancellationToken::new();
    let door = Door {
        name: "test",
        listener: Listener::Tcp(listener),
        tls: Some(tls(Protocol::Http, certificates)),
        protocol: Protocol::Http,
        limits,
    };
    Running {
        address,
        roots,
        shown,
        shutdown: shutdown.clone(),
        task: tokio::spawn(run(door, service(hold), shutdown)),
    }
}

impl Running {
    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn tls(&self, alpn: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut config =
            ClientConfig::builder().with_root_certificates(self.roots.clone()).with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, self.tcp().await).await
    }

    async fn h1(&self) -> http1::SendRequest<Full<Bytes>> {
        let io = TokioIo::new(self.tls(b"http/1.1").await.unwrap());
        let (client, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        client
    }

    async fn h2(&self) -> (http2::SendRequest<Full<Bytes>>, JoinHandle<()>) {
        let io = TokioIo::new(self.tls(b"h2").await.unwrap());
        h2_client(io).await
    }

    async fn stop(self) {
        self.shutdown.cancel();
        within("the server ends", self.task).await.unwrap();
    }
}

async fn h2_client<I>(io: I) -> (http2::SendRequest<Full<Bytes>>, JoinHandle<()>)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let closed = tokio::spawn(async move {
        let _ = connection.await;
    });
    (client, closed)
}

fn post(path: &str, body: &'static [u8]) -> Request<Full<Bytes>> {
    Request::post(format!("https://localhost{path}"))
        .header(http::header::HOST, "localhost")
        .body(Full::new(Bytes::from_static(body)))
        .unwrap()
}

/// Reads until the server closes, and returns what it said before.
async fn until_closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut said = Vec::new();
    // A connection that is dropped may end in an error instead of an end of file.
    let _ = within("the server closes", stream.read_to_end(&mut said)).await;
    String::from_utf8_lossy(&said).into_owned()
}

fn assert_date_is_right(response: &Response<Incoming>) {
    use crate::clock::{Clock, SystemClock};
    let date = response.headers()[http::header::DATE].to_str().unwrap();
    let date = jiff::fmt::rfc2822::parse(date).unwrap().timestamp();
    let apart = SystemClock.now().as_second() - date.as_second();
    assert!(apart.abs() <= 5, "the Date is {apart} s off");
}

#[tokio::test]
async fn answers_http1_and_http2_with_a_right_date() {
    let server = start(Limits::http(), Hold::default()).await;
    let mut h1 = server.h1().await;
    let (mut h2, _) = server.h2().await;
    let over_h1 = h1.send_request(post("/", b"one")).await.unwrap();
    assert_eq!(over_h1.version(), http::Version::HTTP_11);
    assert_date_is_right(&over_h1);
    let body = over_h1.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&body[..], b"one");
    let over_h2 = h2.send_request(post("/", b"two")).await.unwrap();
    assert_eq!(over_h2.version(), http::Version::HTTP_2);
    assert_date_is_right(&over_h2);
    let body = over_h2.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&body[..], b"two");
    server.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_dropping_what_is_connected() {
    let mut server = start(Limits::http(), Hold::default()).await;
    let (mut before, _) = server.h2().await;
    assert!(before.send_request(post("/", b"a")).await.is_ok());
    let (renewed, roots) = identity();
    server.shown.0.store(Arc::new(renewed));
    let refused = server.tls(b"h2").await;
    assert!(refused.is_err(), "a client that trusts only the old one");
    server.roots = roots;
    let (mut after, _) = server.h2().await;
    assert!(after.send_request(post("/", b"b")).await.is_ok());
    assert!(before.send_request(post("/", b"c")).await.is_ok());
    server.stop().await;
}

#[tokio::test]
async fn a_handshake_that_stalls_is_closed() {
    let server = start(Limits { handshake_timeout: SOON, ..Limits::http() }, Hold::default()).await;
    let mut silent = server.tcp().await;
    assert_eq!(until_closed(&mut silent).await, "");
    server.stop().await;
}

#[tokio::test]
async fn a_request_head_that_stalls_is_closed() {
    let server = start(limits(), Hold::default()).await;
    let mut client = server.tls(b"http/1.1").await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    let said = until_closed(&mut client).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    server.stop().await;
}

#[tokio::test]
async fn a_connection_without_a_first_request_is_closed_over_both_protocols() {
    let server = start(limits(), Hold::default()).await;
    for alpn in [&b"h2"[..], b"http/1.1"] {
        let mut silent = server.tls(alpn).await.unwrap();
        let said = until_closed(&mut silent).await;
        assert!(!said.contains("200"), "{said}");
    }
    // With the preface but no request either.
    let (_client, closed) = server.h2().await;
    within("an idle newcomer is closed", closed).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let idle = Limits { idle_timeout: SOON, ..Limits::http() };
    let server = start(idle, Hold::default()).await;
    let (mut client, closed) = server.h2().await;
    let response = client.send_request(post("/", b"")).await.unwrap();
    response.into_body().collect().await.unwrap();
    within("an idle connection is closed", closed).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_takes_for_ever_loses_its_connection() {
    let stalling = Limits { stall_timeout: Some(SOON), ..Limits::http() };
    let server = start(stalling, Hold::default()).await;
    let (mut client, _) = server.h2().await;
    let cut = within("the request is cut off", client.send_request(post("/hold", b"")));
    assert!(cut.await.is_err());
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_answered_with_413() {
    static LARGE: [u8; 1024 * 1024 + 1] = [b'x'; 1024 * 1024 + 1];
    let server = start(Limits::http(), Hold::default()).await;
    let (mut h2, _) = server.h2().await;
    let announced = h2.send_request(post("/", &LARGE)).await.unwrap();
    assert_eq!(announced.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let mut chunked = server.tls(b"http/1.1").await.unwrap();
    chunked
        .write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    let (mut reader, mut writer) = tokio::io::split(chunked);
    let sending = tokio::spawn(async move {
        // The server closes in the middle; that it does is the point.
        while writer.write_all(b"10000\r\n").await.is_ok()
            && writer.write_all(&LARGE[..0x10000]).await.is_ok()
            && writer.write_all(b"\r\n").await.is_ok()
        {}
    });
    let mut status = [0; 12];
    within("an answer", reader.read_exact(&mut status)).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
    drop(reader);
    sending.abort();
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_stalls_is_answered_with_408() {
    let server = start(Limits::http(), Hold::default()).await;
    let mut client = server.tls(b"http/1.1").await.unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc").await.unwrap();
    let said = until_closed(&mut client).await;
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    server.stop().await;
}

#[tokio::test]
async fn a_large_body_that_gets_no_room_is_answered_with_503() {
    static LARGE: [u8; 128 * 1024] = [b'x'; 128 * 1024];
    let hold = Hold::default();
    let server = start(Limits::http(), hold.clone()).await;
    let (mut client, _) = server.h2().await;
    let first = tokio::spawn(client.send_request(post("/hold", &LARGE)));
    within("the first is being served", hold.entered.notified()).await;
    let second = client.send_request(post("/", &LARGE)).await.unwrap();
    assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
    let small = client.send_request(post("/", b"small")).await.unwrap();
    assert_eq!(small.status(), StatusCode::OK);
    hold.released.notify_one();
    let first = within("the first is answered", first).await.unwrap();
    assert_eq!(first.unwrap().status(), StatusCode::OK);
    server.stop().await;
}

#[tokio::test]
async fn requests_under_way_are_answered_after_shutdown_and_newcomers_are_not_let_in() {
    let hold = Hold::default();
    let server = start(Limits::http(), hold.clone()).await;
    let (mut client, closed) = server.h2().await;
    let under_way = tokio::spawn(client.send_request(post("/hold", b"kept")));
    within("the request is being served", hold.entered.notified()).await;
    server.shutdown.cancel();
    within("the port is closed", async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!server.task.is_finished());
    hold.released.notify_one();
    let response = within("the answer", under_way).await.unwrap().unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&body[..], b"kept");
    within("the connection ends", closed).await.unwrap();
    within("the server ends", server.task).await.unwrap();
}

#[tokio::test]
async fn shutdown_does_not_wait_longer_than_the_drain_timeout() {
    let hold = Hold::default();
    let impatient = Limits { drain_timeout: SOON, ..Limits::http() };
    let server = start(impatient, hold.clone()).await;
    let (mut client, _) = server.h2().await;
    let never = tokio::spawn(client.send_request(post("/hold", b"")));
    within("the request is being served", hold.entered.notified()).await;
    server.stop().await;
    assert!(within("the request ends", never).await.unwrap().is_err());
}

#[tokio::test]
async fn above_the_limit_of_connections_a_client_waits_until_another_is_gone() {
    let one = Limits { connections_max: 1, ..Limits::http() };
    let server = start(one, Hold::default()).await;
    let (mut first, first_closed) = server.h2().await;
    assert!(first.send_request(post("/", b"")).await.is_ok());
    {
        let mut second = std::pin::pin!(server.tls(b"h2"));
        let early = tokio::time::timeout(SOON, second.as_mut()).await;
        assert!(early.is_err(), "the second had to wait");
        drop(first);
        first_closed.abort();
        assert!(within("the second gets in", second).await.is_ok());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_unix_socket_speaks_http2_with_prior_knowledge_and_knows_its_peer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("csi.sock");
    let shutdown = CancellationToken::new();
    let door = Door {
        name: "csi",
        listener: Listener::Unix(UnixListener::bind(&path).unwrap()),
        tls: None,
        protocol: Protocol::Grpc,
        limits: Limits::grpc(),
    };
    let who = tower::service_fn(|request: Request<Incoming>| async move {
        let Some(Peer::Unix { uid, .. }) = request.extensions().get::<Peer>().copied() else {
            return Ok(Response::new(Full::new(Bytes::from_static(b"nobody"))));
        };
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(uid.to_string()))))
    });
    let task = tokio::spawn(run(door, who, shutdown.clone()));
    let io = TokioIo::new(UnixStream::connect(&path).await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://localhost/").body(Empty::<Bytes>::new());
    let response = client.send_request(request.unwrap()).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let uid = rustix::process::getuid().as_raw().to_string();
    assert_eq!(&body[..], uid.as_bytes());
    shutdown.cancel();
    within("the server ends", task).await.unwrap();
}
