//! Counts the requests under way on one connection, so that idle and stalled connections can be told from busy ones.
//! Must not close anything itself.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;

use super::{BoxError, Limits};

#[derive(Debug, Default)]
pub(super) struct Activity {
    under_way: AtomicUsize,
    any_request: AtomicBool,
    changed: Notify,
}

/// Why a connection has outlived its use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quiet {
    NoRequest,
    Idle,
    Stalled,
}

impl Activity {
    /// Counts one request until the guard, which goes with the response's body, is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.any_request.store(true, Ordering::SeqCst);
        self.under_way.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_one();
        UnderWay(Arc::clone(self))
    }

    pub(super) fn any_request(&self) -> bool {
        self.any_request.load(Ordering::SeqCst)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.under_way.load(Ordering::SeqCst) > 0
    }

    /// Returns when there is or was a request.
    pub(super) async fn first_request(&self) {
        while !self.any_request() {
            self.changed.notified().await;
        }
    }

    /// Returns when nothing has begun or ended for as long as the limits allow.
    /// `notify_one` keeps a permit, so a change between the look and the wait is not lost.
    pub(super) async fn quiet(&self, limits: &Limits) -> Quiet {
        loop {
            let (patience, then) = if self.is_busy() {
                (limits.stall_timeout, Quiet::Stalled)
            } else if self.any_request() {
                (Some(limits.idle_timeout), Quiet::Idle)
            } else {
                (Some(limits.first_request_timeout), Quiet::NoRequest)
            };
            let changed = self.changed.notified();
            match patience {
                None => changed.await,
                Some(patience) => {
                    if tokio::time::timeout(patience, changed).await.is_err() {
                        return then;
                    }
                }
            }
        }
    }
}

pub(super) struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_one();
    }
}

/// A service's or a body's error under a name of its own: a bare boxed error in hyper's bounds defeats the compiler's
/// proof that the connection can move between threads.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct Failed(pub(super) BoxError);

/// A response's body that keeps its request counted until it is sent or given up.
pub(super) struct Counted {
    body: UnsyncBoxBody<Bytes, Failed>,
    _under_way: UnderWay,
}

impl Counted {
    pub(super) fn new<B>(body: B, under_way: UnderWay) -> Counted
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Counted { body: body.map_err(|error| Failed(error.into())).boxed_unsync(), _under_way: under_way }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Failed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        Pin::new(&mut self.body).poll_frame(ctx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
