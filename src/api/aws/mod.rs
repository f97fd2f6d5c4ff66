//! The AWS Secrets Manager API: JSON 1.1 over POST `/`, the operation in `X-Amz-Target`; beside it AWS STS, for keys to
//! sign with. Must not decide, nor log anything of a request but the operation's name and the outcome.

mod caller;
mod error;
mod model;
mod operation;
mod page;
mod reply;
mod shape;
mod sts;
#[cfg(test)]
mod tests;
mod throttle;
mod xml;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tracing::Instrument as _;
use uuid::Uuid;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::path::FullPath;
use warp::reply::Response;
use zeroize::Zeroizing;

pub use caller::{LocalKey, StillThere};
pub use error::ApiError;
use operation::Action;
pub use throttle::{PER_CALLER, Throttle};

use super::authenticate::Authenticate;
use crate::clock::Clock;
use crate::issuers::Issuers;
use crate::keeper::Keeper;
use crate::secret::password::PasswordError;
use crate::secret::{PasswordRules, Plaintext};
use crate::serve::{Peer, Unread};
use crate::signature::Request;

/// The largest value, written in JSON's longest way (six bytes for one), and room for everything else.
pub const BODY_BYTES_MAX: usize = 6 * Plaintext::BYTES_MAX + 64 * 1024;

/// Draws a password; chosen by the wiring, for this room has no randomness of its own.
pub type DrawPassword = fn(&PasswordRules) -> Result<Plaintext, PasswordError>;

/// What the API needs to answer.
pub struct AwsApi {
    pub keeper: Arc<Keeper>,
    pub tokens: Arc<dyn Authenticate>,
    /// Whose tokens are good for a session, beside the cluster's.
    pub issuers: Arc<Issuers>,
    pub still_there: Arc<dyn StillThere>,
    /// The key of `tidelock dev`; in a cluster there is none.
    pub local: Option<LocalKey>,
    pub clock: Arc<dyn Clock>,
    pub throttle: Throttle,
    /// `<installation>/api`.
    pub audience: String,
    pub draw_password: DrawPassword,
}

/// The service that signatures of the JSON protocol must be made for.
const SERVICE: &str = "secretsmanager";

/// The one route. To be served within limits on the body: it reads the whole of it.
pub fn routes(api: Arc<AwsApi>) -> BoxedFilter<(Response,)> {
    warp::method()
        .and(warp::path::full())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::header::headers_cloned())
        // A host that is none signs nothing.
        .and(warp::host::optional().or(warp::any().map(|| None)).unify())
        .and(warp::ext::optional::<Peer>())
        .and(warp::body::bytes())
        .then(move |method, path: FullPath, query, headers, host: Option<Authority>, peer, body: Bytes| {
            let api = Arc::clone(&api);
            async move {
                let host = host.map_or_else(String::new, |host| host.to_string());
                // The copy that we parse is wiped; so is, as far as it is ours, the one that arrived.
                let body = Zeroizing::new(Vec::from(body));
                let from = match peer {
                    Some(Peer::Tcp(address)) => Some(address.ip()),
                    _ => None,
                };
                api.answer(&Incoming { method, path, query, headers, host, from, body }).await
            }
        })
        // A rejection's own words would tell of the inside.
        .recover(|_| async { Ok::<_, Infallible>(refusal(&ApiError::internal(), Uuid::new_v4())) })
        .unify()
        .boxed()
}

/// A request as it came.
struct Incoming {
    method: Method,
    path: FullPath,
    query: String,
    headers: HeaderMap,
    host: String,
    /// The other end of the connection.
    from: Option<IpAddr>,
    body: Zeroizing<Vec<u8>>,
}

impl Incoming {
    fn signed_parts(&self) -> Request<'_> {
        Request {
            method: self.method.as_str(),
            path: self.path.as_str(),
            query: &self.query,
            headers: &self.headers,
            host: &self.host,
            body: &self.body,
        }
    }
}

impl AwsApi {
    async fn answer(&self, incoming: &Incoming) -> Response {
        let id = Uuid::new_v4();
        let Incoming { method, headers, query, body, .. } = incoming;
        let is_root = incoming.path.as_str() == "/";
        match sts::Query::of(method, headers, query, body).filter(|_| is_root) {
            Some(query) => self.query_protocol(&query, incoming, id).await,
            None => self.json_protocol(incoming, id).await,
        }
    }

    async fn json_protocol(&self, incoming: &Incoming, id: Uuid) -> Response {
        let started = self.clock.monotonic();
        let is_call = incoming.method == Method::POST && incoming.path.as_str() == "/";
        let action = if is_call { action(&incoming.headers) } else { Err(unknown()) };
        let name = action.as_ref().map_or("unknown", |action| action.name());
        let span = tracing::info_span!("api", operation = name, request_id = %id);
        let outcome = self.serve(action, incoming).instrument(span.clone()).await;
        let result = outcome.as_ref().err().map_or("ok", |error| error.kind);
        span.in_scope(|| tracing::debug!(result, "request answered"));
        self.measure(name, result, started);
        match outcome {
            Ok(body) => response(StatusCode::OK, JSON, body, id),
            Err(error) => refusal(&error, id),
        }
    }

    async fn serve(&self, action: Result<Action, ApiError>, incoming: &Incoming) -> Result<Bytes, ApiError> {
        let action = action?;
        let caller = self.caller(incoming.signed_parts(), incoming.from, SERVICE).await?;
        self.throttle.admit(&caller.who)?;
        let members = action.members(&incoming.body)?;
        action.carry_out(self, &caller.who, members).await
    }

    async fn query_protocol(&self, query: &sts::Query, incoming: &Incoming, id: Uuid) -> Response {
        let started = self.clock.monotonic();
        let (name, request_id) = (query.operation(), id.to_string());
        let span = tracing::info_span!("sts", operation = name, request_id);
        let answered = self.answer_sts(query, incoming.signed_parts(), &request_id);
        let outcome = answered.instrument(span.clone()).await;
        let result = outcome.as_ref().err().map_or("ok", |error| error.code);
        span.in_scope(|| tracing::debug!(result, "request answered"));
        self.measure(name, result, started);
        match outcome {
            Ok(body) => response(StatusCode::OK, XML, body, id),
            Err(error) => response(error.status, XML, error.document(&request_id), id),
        }
    }

    fn measure(&self, operation: &'static str, result: &'static str, started: Instant) {
        let took = self.clock.monotonic().saturating_duration_since(started);
        metrics::counter!("tidelock_api_requests_total", "operation" => operation, "result" => result)
            .increment(1);
        metrics::histogram!("tidelock_api_request_seconds", "operation" => operation).record(took);
    }
}

fn action(headers: &HeaderMap) -> Result<Action, ApiError> {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    if let Some(action) = target.and_then(Action::of_our_own) {
        return Ok(action);
    }
    let name = target.and_then(|target| target.strip_prefix("secretsmanager.")).ok_or_else(unknown)?;
    Action::named(name).ok_or_else(unknown)
}

fn unknown() -> ApiError {
    ApiError::new(
        "UnknownOperationException",
        "There is no such operation: send POST / with the header X-Amz-Target: secretsmanager.<Operation>.",
    )
}

/// What a client hears whose body was not read: SDKs take no error without a JSON body.
pub fn unread(wrong: Unread, why: &str) -> (&'static str, Bytes) {
    let kind = match wrong {
        Unread::TooLarge | Unread::Broken => "SerializationException",
        // What SDKs try again by themselves.
        Unread::TooSlow => "RequestTimeoutException",
        Unread::NoRoom => throttle::KIND,
    };
    let error = ApiError::new(kind, why);
    (JSON, Bytes::from(serde_json::to_vec(&error.body()).unwrap_or_default()))
}

const JSON: &str = "application/x-amz-json-1.1";
const XML: &str = "text/xml";

fn refusal(error: &ApiError, id: Uuid) -> Response {
    let body = serde_json::to_vec(&error.body()).unwrap_or_default();
    response(error.status(), JSON, Bytes::from(body), id)
}

fn response(status: StatusCode, kind: &'static str, body: Bytes, id: Uuid) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A UUID in hexadecimal is always a header's value.
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert("x-amzn-requestid", id);
    }
    response
}
