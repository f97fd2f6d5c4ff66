//! One connection from its first byte to its last: handshake, protocol, deadlines, drain.
//! Must not outlive the abort token.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Version, header};
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

use super::activity::{Activity, Counted, Failed};
use super::{BoxError, LAST_CHANCE, Limits, Peer, Protocol, proxied};

const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// What a client may send before anybody reads it, per HTTP/2 connection.
const WINDOW_BYTES: u32 = 512 * 1024;
/// A node that died without a word is noticed within 20 s: after 30 s its consumers count as unknown.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What all connections behind one door share.
pub(super) struct Settings {
    pub(super) door: &'static str,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) protocol: Protocol,
    pub(super) limits: Limits,
    pub(super) proxies: Arc<[IpNet]>,
    pub(super) draining: CancellationToken,
    pub(super) abort: CancellationToken,
}

pub(super) async fn serve<S, B>(settings: Arc<Settings>, stream: Stream, peer: Peer, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let open = metrics::gauge!("tidelock_connections", "door" => settings.door);
    open.increment(1);
    let _closed = OnDrop(|| open.decrement(1));
    match (stream, &settings.tls) {
        (Stream::Unix(stream), _) => speak(&settings, stream, None, peer, service).await,
        (Stream::Tcp(stream), None) => speak(&settings, stream, None, peer, service).await,
        (Stream::Tcp(mut stream), Some(acceptor)) => {
            let handshake = async {
                let peer = proxied::peer(&mut stream, peer, &settings.proxies).await?;
                acceptor.accept(stream).await.map(|stream| (stream, peer))
            };
            let handshake = tokio::time::timeout(settings.limits.handshake_timeout, handshake);
            let Some(Ok(Ok((stream, peer)))) = settings.abort.run_until_cancelled(handshake).await else {
                tracing::debug!(door = settings.door, "handshake not completed");
                metrics::counter!("tidelock_handshakes_failed_total", "door" => settings.door).increment(1);
                return;
            };
            let session = stream.get_ref().1;
            let is_h2 = session.alpn_protocol() == Some(b"h2");
            let tls = session.protocol_version().and_then(|version| version.as_str());
            tracing::debug!(door = settings.door, tls, h2 = is_h2, "handshake completed");
            speak(&settings, stream, Some(is_h2), peer, service).await;
        }
    }
}

/// `h2` is what ALPN agreed on, where there was TLS.
async fn speak<I, S, B>(settings: &Settings, io: I, h2: Option<bool>, peer: Peer, service: S)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let activity = Arc::new(Activity::default());
    let (counting, draining) = (Arc::clone(&activity), settings.draining.clone());
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let under_way = counting.begin();
        request.extensions_mut().insert(peer);
        let is_http1 = request.version() < Version::HTTP_2;
        let (answer, draining) = (service.clone().oneshot(request), draining.clone());
        async move {
            match answer.await {
                Ok(mut response) => {
                    // HTTP/2 says it by a frame; hyper by this header only if it knew before the answer.
                    if is_http1 && draining.is_cancelled() {
                        let close = HeaderValue::from_static("close");
                        response.headers_mut().insert(header::CONNECTION, close);
                    }
                    Ok(response.map(|body| Counted::new(body, under_way)))
                }
                Err(error) => Err(Failed(error.into())),
            }
        }
    });
    let limits = &settings.limits;
    let io = TokioIo::new(io);
    if h2.unwrap_or(settings.protocol == Protocol::Grpc) {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams_max)
            .max_header_list_size(HEAD_BYTES_MAX)
            .initial_connection_window_size(WINDOW_BYTES)
            .initial_stream_window_size(WINDOW_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .serve_connection(io, service);
        drive(connection, &activity, settings).await;
    } else if settings.protocol == Protocol::Http {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(HEAD_BYTES_MAX as usize)
            .serve_connection(io, service);
        drive(connection, &activity, settings).await;
    }
}

/// Polls the connection until it ends, is of no more use, or has to go.
async fn drive<C: GracefulConnection>(connection: C, activity: &Activity, settings: &Settings) {
    let mut connection = pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = activity.quiet(&settings.limits) => {}
        () = settings.draining.cancelled() => {}
    }
    if settings.draining.is_cancelled() && !activity.any_request() {
        // Its first request may be on its way, or lie in the socket already.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = activity.first_request() => {}
            () = tokio::time::sleep(LAST_CHANCE) => {}
            () = settings.abort.cancelled() => return,
        }
    }
    // What has never sent a request will not read a farewell, nor will a peer that has stopped reading.
    let is_stalled = activity.is_busy() && !settings.draining.is_cancelled();
    if !activity.any_request() || is_stalled {
        return;
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = connection.as_mut() => {}
        () = tokio::time::sleep(settings.limits.drain_timeout), if !settings.draining.is_cancelled() => {}
        () = settings.abort.cancelled() => {}
    }
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
