//! Our own accept loop: sockets and TLS in, HTTP requests for a tower service out, with a limit on everything a
//! stranger could hold on to: connections, handshakes, headers, bodies, idle time, shutdown.
//! Must not know what is served, nor log anything of a request.
//!
//! The protocol is picked by ALPN and not sniffed: `hyper_util::server::conn::auto` waits without a timeout for bytes
//! that may never come.

mod activity;
mod bounded;
mod connection;
mod places;
mod proxied;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use ipnet::IpNet;
use rustls::ServerConfig;
use rustls::server::ResolvesServerCert;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

pub use bounded::{BodyLimits, Bounded, Unread, Worded, bounded};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What has connected but sent nothing when the server stops gets so long for its first request.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// Waited after an accept that failed, for the usual reason is that file descriptors are used up.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// One port or socket and how it is served.
pub struct Door {
    /// Names the port in logs and metrics: `webhook`, `api`, `stream`, `csi`.
    pub name: &'static str,
    pub listener: Listener,
    /// From [`tls`]. Without it the bytes are in the clear: Unix sockets, loopback, health.
    pub tls: Option<Arc<ServerConfig>>,
    pub protocol: Protocol,
    pub limits: Limits,
}

pub enum Listener {
    Tcp(TcpListener),
    /// With load balancers that begin each connection with the PROXY protocol; nobody else is believed.
    Proxied(TcpListener, Arc<[IpNet]>),
    Unix(UnixListener),
}

/// Which HTTP is spoken behind a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 where the client's ALPN offers it, else HTTP/1.1.
    Http,
    /// HTTP/2 only, with prior knowledge where there is no TLS.
    Grpc,
}

/// What one client, or all of them together, can take at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub connections_max: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams_max: u32,
    pub handshake_timeout: Duration,
    /// For the head of an HTTP/1.1 request, also the next one of a kept connection.
    pub header_timeout: Duration,
    /// From the end of the handshake to the first complete request head.
    pub first_request_timeout: Duration,
    /// Without any request under way.
    pub idle_timeout: Duration,
    /// With requests under way and none of them beginning or ending; `None` where streams are long.
    pub stall_timeout: Option<Duration>,
    /// What requests under way get when the server stops.
    pub drain_timeout: Duration,
}

impl Limits {
    /// For requests that are answered at once.
    pub const fn http() -> Limits {
        Limits {
            connections_max: 512,
            streams_max: 128,
            handshake_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(30),
            first_request_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            stall_timeout: Some(Duration::from_secs(60)),
            drain_timeout: Duration::from_secs(10),
        }
    }

    /// For streams that live as long as both ends.
    pub const fn grpc() -> Limits {
        Limits { connections_max: 8192, stall_timeout: None, ..Limits::http() }
    }
}

/// Who is at the other end of a connection; in the extensions of every request.
#[derive(Debug, Clone, Copy)]
pub enum Peer {
    Tcp(SocketAddr),
    /// The credentials that the kernel recorded when the socket was connected.
    Unix {
        uid: u32,
        pid: Option<i32>,
    },
}

/// TLS for a [`Door`]: the certificate is asked for at each handshake, so a renewed one needs no restart.
pub fn tls(protocol: Protocol, certificates: Arc<dyn ResolvesServerCert>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(certificates);
    config.alpn_protocols = match protocol {
        Protocol::Http => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Protocol::Grpc => vec![b"h2".to_vec()],
    };
    Arc::new(config)
}

/// Serves `service` behind `door` until `shutdown`, then lets the requests under way end, for at most the drain
/// timeout. Any `tower::Service` will do: a generated gRPC server, or warp's routes within [`bounded()`].
pub async fn run<S, B>(door: Door, service: S, shutdown: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut places = places::Places::new(door.name, door.limits.connections_max);
    let tasks = TaskTracker::new();
    let abort = CancellationToken::new();
    let settings = Arc::new(connection::Settings {
        door: door.name,
        tls: door.tls.map(tokio_rustls::TlsAcceptor::from),
        protocol: door.protocol,
        limits: door.limits,
        proxies: door.listener.proxies(),
        draining: shutdown.clone(),
        abort: abort.clone(),
    });
    // A place is taken before the accept: above the limit clients wait in the kernel's queue.
    while let Some(place) = places.next(&shutdown).await {
        let accepted = shutdown.run_until_cancelled(door.listener.accept()).await;
        let (stream, peer) = match accepted {
            None => break,
            Some(Ok(accepted)) => accepted,
            Some(Err(error)) => {
                tracing::warn!(door = door.name, %error, "accepting a connection failed");
                shutdown.run_until_cancelled(tokio::time::sleep(ACCEPT_RETRY)).await;
                continue;
            }
        };
        let serving = connection::serve(Arc::clone(&settings), stream, peer, service.clone());
        tasks.spawn(async move {
            serving.await;
            drop(place);
        });
    }
    // Whoever is in the kernel's queue has connected, and may have sent a request.
    while let (Some(place), Some(Ok((stream, peer)))) = (places.free(), door.listener.accept().now_or_never())
    {
        let serving = connection::serve(Arc::clone(&settings), stream, peer, service.clone());
        tasks.spawn(async move {
            serving.await;
            drop(place);
        });
    }
    drop(door.listener);
    tasks.close();
    if tokio::time::timeout(door.limits.drain_timeout, tasks.wait()).await.is_err() {
        tracing::warn!(door = door.name, connections = tasks.len(), "requests cut off at shutdown");
        abort.cancel();
        tasks.wait().await;
    }
}

impl Listener {
    fn proxies(&self) -> Arc<[IpNet]> {
        match self {
            Listener::Proxied(_, proxies) => Arc::clone(proxies),
            Listener::Tcp(_) | Listener::Unix(_) => Arc::default(),
        }
    }

    async fn accept(&self) -> io::Result<(connection::Stream, Peer)> {
        match self {
            Listener::Tcp(listener) | Listener::Proxied(listener, _) => {
                let (stream, from) = listener.accept().await?;
                // Answers are small and waited for.
                stream.set_nodelay(true)?;
                Ok((connection::Stream::Tcp(stream), Peer::Tcp(from)))
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let credentials = stream.peer_cred()?;
                let peer = Peer::Unix { uid: credentials.uid(), pid: credentials.pid() };
                Ok((connection::Stream::Unix(stream), peer))
            }
        }
    }
}
