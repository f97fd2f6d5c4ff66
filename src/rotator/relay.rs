//! The AWS API on the pod's loopback: takes any credentials, drops them, and asks the server with the pod's own token.
//! The steps' containers never see that token. Must not look into bodies, nor decide who may what: the server does.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::{RelayArguments, RotatorError};
use crate::serve::{self, Door, Limits, Listener, Protocol};
use crate::wire::aws::{Answer, Api, CallError, Credential, JSON, TARGET, collect};

/// Asked by the relay's own startup probe.
const READY_PATH: &str = "/ready";
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
const READY_TIME_MAX: Duration = Duration::from_secs(10);
const LIMITS: Limits =
    Limits { connections_max: 64, drain_timeout: Duration::from_secs(5), ..Limits::http() };
/// What of the server's answer reaches the caller, besides the body.
const PASSED_ON: [HeaderName; 3] =
    [CONTENT_TYPE, HeaderName::from_static("x-amzn-requestid"), HeaderName::from_static("x-amzn-errortype")];

struct Relay {
    api: Api,
    secret_id: String,
}

pub async fn run(arguments: RelayArguments, shutdown: CancellationToken) -> Result<(), RotatorError> {
    let RelayArguments { listen, server, ca_file, token_file, secret_id } = arguments;
    if !listen.ip().is_loopback() {
        return Err(RotatorError::NotLoopback(listen));
    }
    let api = Api::new(&server, Some(&ca_file), Credential::TokenFile(token_file))
        .map_err(|source| RotatorError::Call { doing: "the server cannot be used", source })?;
    let listener =
        TcpListener::bind(listen).await.map_err(|source| RotatorError::Listen { address: listen, source })?;
    serve_on(listener, api, secret_id, shutdown).await;
    Ok(())
}

pub(super) async fn serve_on(
    listener: TcpListener,
    api: Api,
    secret_id: String,
    shutdown: CancellationToken,
) {
    let relay = Arc::new(Relay { api, secret_id });
    let service = tower::service_fn(move |request| {
        let relay = Arc::clone(&relay);
        async move { Ok::<_, Infallible>(relay.answer(request).await) }
    });
    let door = Door {
        name: "relay",
        listener: Listener::Tcp(listener),
        tls: None,
        protocol: Protocol::Http,
        limits: LIMITS,
    };
    serve::run(door, service, shutdown).await;
}

impl Relay {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() == Method::GET && request.uri().path() == READY_PATH {
            return self.readiness().await;
        }
        if request.method() != Method::POST || request.uri().path() != "/" {
            let says = "this is the AWS API of one rotation: send POST / with X-Amz-Target";
            return refusal(StatusCode::NOT_FOUND, "UnknownOperationException", says);
        }
        let Some(target) = request.headers().get(TARGET).cloned() else {
            return refusal(StatusCode::BAD_REQUEST, "UnknownOperationException", "X-Amz-Target is missing");
        };
        let body = match tokio::time::timeout(BODY_TIME_MAX, collect(request.into_body())).await {
            Ok(Ok(body)) => body,
            Ok(Err(CallError::TooLong)) => {
                return refusal(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "InvalidRequestException",
                    "the body is too long",
                );
            }
            Ok(Err(_)) | Err(_) => {
                return refusal(
                    StatusCode::REQUEST_TIMEOUT,
                    "InvalidRequestException",
                    "the body did not arrive",
                );
            }
        };
        match self.api.forward(target, body).await {
            Ok(answer) => passed_on(answer),
            Err(error) => {
                tracing::warn!(%error, "the server could not be asked");
                refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalServiceError", &error.to_string())
            }
        }
    }

    /// Ready once the server grants this pod its rotation: the pod may be running before the server has recorded that
    /// the Job is its own.
    async fn readiness(&self) -> Response<Full<Bytes>> {
        match self.api.describe_secret(&self.secret_id).await {
            Ok(_) => Response::new(Full::default()),
            Err(error) => {
                tracing::info!(%error, "not ready");
                refusal(StatusCode::SERVICE_UNAVAILABLE, "InternalServiceError", &error.to_string())
            }
        }
    }
}

/// Asks a relay on this machine whether it is ready.
pub async fn ready(relay: SocketAddr) -> Result<(), RotatorError> {
    let asked = tokio::time::timeout(READY_TIME_MAX, status_of_ready(relay)).await;
    match asked {
        Ok(Some(StatusCode::OK)) => Ok(()),
        _ => Err(RotatorError::NotReady),
    }
}

async fn status_of_ready(relay: SocketAddr) -> Option<StatusCode> {
    let stream = TcpStream::connect(relay).await.ok()?;
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
    let request = Request::get(READY_PATH).header("host", "relay").body(Full::<Bytes>::default()).ok()?;
    tokio::select! {
        response = sender.send_request(request) => response.ok().map(|response| response.status()),
        _ = connection => None,
    }
}

fn passed_on(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_owner(answer.body)));
    *response.status_mut() = answer.status;
    for name in PASSED_ON {
        if let Some(value) = answer.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

fn refusal(status: StatusCode, kind: &str, message: &str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({"__type": kind, "Message": message}).to_string();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}
