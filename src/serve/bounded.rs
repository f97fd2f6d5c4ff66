//! Reads the whole body of a request before a service sees it, within a size, a time and a share of memory.
//! Must not be put around streams.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body;
use tokio::sync::Semaphore;
use tower::{Service, ServiceExt};

use super::BoxError;

/// Bodies announced to be at most this long need no place among the large ones.
const SMALL_BYTES: u64 = 64 * 1024;

#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    pub bytes_max: usize,
    /// From the head of the request to the last byte of its body.
    pub timeout: Duration,
    /// Large bodies, or bodies of unknown size, held at once; more wait, within the timeout.
    pub large_max: usize,
}

/// Gives `service` requests whose body is there. A body that is too large is answered with 413, one that does not
/// arrive in time with 408, one that cannot get memory in time with 503; the service never hears of them.
pub fn bounded<S>(service: S, limits: BodyLimits) -> Bounded<S> {
    Bounded { service, limits, large: Arc::new(Semaphore::new(limits.large_max)), worded: plain }
}

#[derive(Clone)]
pub struct Bounded<S> {
    service: S,
    limits: BodyLimits,
    large: Arc<Semaphore>,
    worded: Worded,
}

/// How a service's protocol says that a body was not taken: content type and body, from what is wrong and why.
pub type Worded = fn(Unread, &str) -> (&'static str, Bytes);

fn plain(_: Unread, why: &str) -> (&'static str, Bytes) {
    ("text/plain; charset=utf-8", Bytes::copy_from_slice(why.as_bytes()))
}

impl<S> Bounded<S> {
    /// Clients of this service read errors in its own form only.
    pub fn worded(self, worded: Worded) -> Self {
        Self { worded, ..self }
    }
}

impl<S, B, R> Service<Request<B>> for Bounded<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<UnsyncBoxBody<Bytes, BoxError>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.service.clone();
        let (limits, worded) = (self.limits, self.worded);
        let large = Arc::clone(&self.large);
        Box::pin(async move {
            let version = request.version();
            let (head, body) = request.into_parts();
            let (_place, body) = match read(body, limits, &large).await {
                Ok(read) => read,
                Err(unread) => return Ok(unread.response(limits, version, worded)),
            };
            let response = service.oneshot(Request::from_parts(head, Full::new(body))).await?;
            Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
        })
    }
}

/// Why a body was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    TooLarge,
    TooSlow,
    /// Too many large ones at once.
    NoRoom,
    Broken,
}

/// The body, and the place it holds among the large ones.
async fn read<B>(
    body: B,
    limits: BodyLimits,
    large: &Semaphore,
) -> Result<(Option<tokio::sync::SemaphorePermit<'_>>, Bytes), Unread>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let announced = body.size_hint();
    if announced.lower() > limits.bytes_max as u64 {
        return Err(Unread::TooLarge);
    }
    let deadline = tokio::time::Instant::now() + limits.timeout;
    let is_small = announced.upper().is_some_and(|size| size <= SMALL_BYTES);
    let place = if is_small {
        None
    } else {
        let place = tokio::time::timeout_at(deadline, large.acquire());
        Some(place.await.ok().and_then(Result::ok).ok_or(Unread::NoRoom)?)
    };
    let whole = pin!(Limited::new(body, limits.bytes_max).collect());
    match tokio::time::timeout_at(deadline, whole).await {
        Ok(Ok(body)) => Ok((place, body.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Unread::TooLarge),
        Ok(Err(_)) => Err(Unread::Broken),
        Err(_) => Err(Unread::TooSlow),
    }
}

impl Unread {
    fn response(
        self,
        limits: BodyLimits,
        version: Version,
        worded: Worded,
    ) -> Response<UnsyncBoxBody<Bytes, BoxError>> {
        let (status, text) = match self {
            Unread::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {} bytes", limits.bytes_max))
            }
            Unread::TooSlow => {
                (StatusCode::REQUEST_TIMEOUT, format!("the body did not arrive within {:?}", limits.timeout))
            }
            Unread::NoRoom => {
                (StatusCode::SERVICE_UNAVAILABLE, "too many large requests at once; try again".to_owned())
            }
            Unread::Broken => (StatusCode::BAD_REQUEST, "the body ended early or is malformed".to_owned()),
        };
        let (content_type, body) = worded(self, &text);
        let body = Full::new(body).map_err(|never| match never {});
        let mut response = Response::new(body.boxed_unsync());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        // The rest of the body is not read, so an HTTP/1 connection cannot go on; HTTP/2 forbids the header.
        if version < Version::HTTP_2 {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
