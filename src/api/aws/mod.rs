//! The AWS Secrets Manager API: JSON 1.1 over POST `/`, the operation in `X-Amz-Target`, the caller by bearer token.
//! Must not decide, nor log anything of a request but the operation's name and the outcome.

mod error;
mod model;
mod operation;
mod page;
mod reply;
mod shape;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tracing::Instrument as _;
use uuid::Uuid;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::path::FullPath;
use warp::reply::Response;
use zeroize::Zeroizing;

pub use error::ApiError;
use operation::Action;

use super::authenticate::{Authenticate, bearer};
use crate::access::Principal;
use crate::clock::Clock;
use crate::keeper::Keeper;
use crate::secret::password::PasswordError;
use crate::secret::{PasswordRules, Plaintext};

/// The largest value, written in JSON's longest way (six bytes for one), and room for everything else.
pub const BODY_BYTES_MAX: usize = 6 * Plaintext::BYTES_MAX + 64 * 1024;

/// Draws a password; chosen by the wiring, for this room has no randomness of its own.
pub type DrawPassword = fn(&PasswordRules) -> Result<Plaintext, PasswordError>;

/// What the API needs to answer.
pub struct AwsApi {
    pub keeper: Arc<Keeper>,
    pub tokens: Arc<dyn Authenticate>,
    pub clock: Arc<dyn Clock>,
    /// `<installation>/api`.
    pub audience: String,
    pub draw_password: DrawPassword,
}

/// The one route. To be served within limits on the body: it reads the whole of it.
pub fn routes(api: Arc<AwsApi>) -> BoxedFilter<(Response,)> {
    warp::method()
        .and(warp::path::full())
        .and(warp::header::headers_cloned())
        .and(warp::body::bytes())
        .then(move |method: Method, path: FullPath, headers: HeaderMap, body: Bytes| {
            let api = Arc::clone(&api);
            async move { api.answer(&method, path.as_str(), &headers, body).await }
        })
        // A rejection's own words would tell of the inside.
        .recover(|_| async { Ok::<_, Infallible>(refusal(&ApiError::internal(), Uuid::new_v4())) })
        .unify()
        .boxed()
}

impl AwsApi {
    async fn answer(&self, method: &Method, path: &str, headers: &HeaderMap, body: Bytes) -> Response {
        let id = Uuid::new_v4();
        let started = self.clock.monotonic();
        let action = if method == Method::POST && path == "/" { action(headers) } else { Err(unknown()) };
        let name = action.as_ref().map_or("unknown", |action| action.name());
        let span = tracing::info_span!("api", operation = name, request_id = %id);
        let outcome = self.serve(action, headers, body).instrument(span.clone()).await;
        let result = outcome.as_ref().err().map_or("ok", |error| error.kind);
        span.in_scope(|| tracing::debug!(result, "request answered"));
        self.measure(name, result, started);
        match outcome {
            Ok(body) => response(StatusCode::OK, body, id),
            Err(error) => refusal(&error, id),
        }
    }

    async fn serve(
        &self,
        action: Result<Action, ApiError>,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Bytes, ApiError> {
        let action = action?;
        let caller = self.caller(headers).await?;
        // The copy that we parse is wiped; so is, as far as it is ours, the one that arrived.
        let body = Zeroizing::new(Vec::from(body));
        let members = action.members(&body)?;
        drop(body);
        action.carry_out(self, &caller, members).await
    }

    async fn caller(&self, headers: &HeaderMap) -> Result<Principal, ApiError> {
        let missing = |message: &str| ApiError::new("MissingAuthenticationTokenException", message);
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let first = given.next().ok_or_else(|| missing("Missing Authentication Token"))?;
        let token = bearer(first.as_bytes()).filter(|_| given.next().is_none()).ok_or_else(|| {
            missing(
                "Missing Authentication Token: send one header Authorization with Bearer and a ServiceAccount's \
                 token; requests signed with access keys are not supported by this version of Tidelock",
            )
        })?;
        Ok(self.tokens.authenticate(token, &self.audience).await?)
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
    let name = target.and_then(|target| target.strip_prefix("secretsmanager.")).ok_or_else(unknown)?;
    match Action::named(name) {
        Some(action) => Ok(action),
        None if operation::in_the_model(name) => Err(ApiError::new(
            "UnknownOperationException",
            format!("The operation {name} is not supported by this version of Tidelock."),
        )),
        None => Err(unknown()),
    }
}

fn unknown() -> ApiError {
    ApiError::new(
        "UnknownOperationException",
        "There is no such operation: send POST / with the header X-Amz-Target: secretsmanager.<Operation>.",
    )
}

fn refusal(error: &ApiError, id: Uuid) -> Response {
    let body = serde_json::to_vec(&error.body()).unwrap_or_default();
    response(error.status(), Bytes::from(body), id)
}

fn response(status: StatusCode, body: Bytes, id: Uuid) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A UUID in hexadecimal is always a header's value.
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert("x-amzn-requestid", id);
    }
    response
}
