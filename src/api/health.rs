//! Whether the process lives, whether it is ready and if not why, and its metrics: for kubelet and Prometheus.
//! Must not need a token, so must not say anything that is not for everybody.

use std::sync::Arc;

use http::StatusCode;
use http::header::CONTENT_TYPE;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::{Reply, Response};

use crate::telemetry::{Readiness, Unready};

/// `/livez`, `/readyz` and `/metrics`; `metrics` renders the page.
pub fn routes(
    readiness: Readiness,
    metrics: impl Fn() -> String + Send + Sync + 'static,
) -> BoxedFilter<(Response,)> {
    let metrics = Arc::new(metrics);
    let live = live();
    let ready = warp::path!("readyz").map(move || ready(&readiness.unready()));
    let page = warp::path!("metrics").map(move || {
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        warp::reply::with_header(metrics(), CONTENT_TYPE, kind).into_response()
    });
    let elsewhere = warp::any()
        .map(|| text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n".to_owned()));
    let known = warp::get().and(live.or(ready).unify().or(page).unify());
    known.or(elsewhere).unify().boxed()
}

/// `/livez` alone, for a load balancer that looks at the port which it sends clients to.
pub fn live() -> BoxedFilter<(Response,)> {
    warp::path!("livez").and(warp::get()).map(|| text(StatusCode::OK, "ok\n".to_owned())).boxed()
}

fn ready(unready: &[Unready]) -> Response {
    if unready.is_empty() {
        return text(StatusCode::OK, "ok\n".to_owned());
    }
    let reasons: String = unready.iter().map(|unready| format!("{unready}\n")).collect();
    text(StatusCode::SERVICE_UNAVAILABLE, reasons)
}

fn text(status: StatusCode, body: String) -> Response {
    warp::reply::with_status(body, status).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(readiness: &Readiness, path: &str) -> (StatusCode, String) {
        let routes = routes(readiness.clone(), || "tidelock_ready 1\n".to_owned());
        let response = warp::test::request().path(path).reply(&routes).await;
        (response.status(), String::from_utf8(response.body().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_says_why_not() {
        let readiness = Readiness::default();
        let store = readiness.component("store");
        store.not_ready("StoreLost", "the volume is empty but there are ManagedSecrets; restore it");
        let (status, body) = get(&readiness, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body, "store: StoreLost: the volume is empty but there are ManagedSecrets; restore it\n");
        assert_eq!(get(&readiness, "/livez").await.0, StatusCode::OK);
        store.ready();
        assert_eq!(get(&readiness, "/readyz").await, (StatusCode::OK, "ok\n".to_owned()));
    }

    #[tokio::test]
    async fn metrics_are_shown_and_other_paths_are_not() {
        let readiness = Readiness::default();
        assert_eq!(get(&readiness, "/metrics").await.1, "tidelock_ready 1\n");
        assert_eq!(get(&readiness, "/debug").await.0, StatusCode::NOT_FOUND);
    }
}
