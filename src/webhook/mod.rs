//! SHELL. AdmissionReviews in and out, around `inject`.
//! Must not read secrets, nor log anything of an object but its names.

mod review;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use k8s_openapi::api::core::v1::ObjectReference;
use warp::filters::BoxedFilter;
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

use crate::clock::Clock;
use crate::cluster::{EventKind, EventSender};
use crate::inject::{self, Attributes, Endpoint, IDENTITY_PRESENT};
use crate::serve::BodyLimits;
use review::{Answer, Malformed, Request};

/// Where the API server posts to; the chart's webhook configuration names it.
pub const PATH: &str = "inject";

/// The API server gives up after five seconds (`timeoutSeconds`); a missing warning is better than a refused pod.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// An object in etcd has at most 1.5 MiB, and a review may carry it twice.
pub const BODY_LIMITS: BodyLimits =
    BodyLimits { bytes_max: 3 * 1024 * 1024, timeout: Duration::from_secs(4), large_max: 16 };

/// Whether a ServiceAccount may have a secret, asked only in order to warn: the decision falls at the mount.
#[async_trait]
pub trait MayProject: Send + Sync + 'static {
    async fn may_project(&self, question: &Question<'_>) -> Verdict;
}

/// `service_account` of `pod_namespace` wants `secret_name` of `secret_namespace`, in files for `keys` (none: whole).
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub pod_namespace: &'a str,
    pub service_account: &'a str,
    pub secret_namespace: &'a str,
    pub secret_name: &'a str,
    pub keys: &'a [&'a str],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Yes,
    /// No right, or no such secret: which of the two is not for everybody who may create a pod to know.
    No,
    /// Nobody could be asked; no reason to warn.
    Unknown,
}

/// Where the author of a pod looks that is not there yet: the events of what makes it.
pub trait Tell: Send + Sync + 'static {
    fn tell(&self, about: ObjectReference, reason: &'static str, note: String);
}

impl Tell for EventSender {
    fn tell(&self, about: ObjectReference, reason: &'static str, note: String) {
        self.send(about, EventKind::Warning, reason, "Inject", note);
    }
}

/// What reviews are answered from.
pub struct Webhook {
    pub may_project: Arc<dyn MayProject>,
    pub tell: Arc<dyn Tell>,
    /// What pods with an AWS SDK are given.
    pub endpoint: Endpoint,
    pub clock: Arc<dyn Clock>,
}

/// The webhook as a warp filter, for [`crate::serve::bounded`] with [`BODY_LIMITS`].
pub fn routes(webhook: Webhook) -> BoxedFilter<(Response,)> {
    let webhook = Arc::new(webhook);
    let review = warp::path(PATH).and(warp::path::end()).and(warp::post()).and(warp::body::bytes()).and_then(
        move |body: Bytes| {
            let webhook = Arc::clone(&webhook);
            async move { Ok::<_, Rejection>(answer(&body, &webhook).await) }
        },
    );
    // Warp's own rejections would show its internals.
    let elsewhere = warp::any().map(|| {
        warp::reply::with_status(format!("AdmissionReviews are posted to /{PATH}"), StatusCode::NOT_FOUND)
            .into_response()
    });
    review.or(elsewhere).unify().boxed()
}

async fn answer(body: &[u8], webhook: &Webhook) -> Response {
    let clock = &*webhook.clock;
    let mut measured = Measured { clock, begun: clock.monotonic(), outcome: "cut_off" };
    let request = match Request::parse(body) {
        Ok(request) => request,
        Err(malformed) => {
            measured.outcome = "malformed";
            return bad_request(malformed);
        }
    };
    let span = tracing::debug_span!("review", namespace = request.namespace());
    let (answer, outcome) = tracing::Instrument::instrument(decide(&request, webhook), span).await;
    measured.outcome = outcome;
    warp::reply::json(&answer.into_review(request.uid())).into_response()
}

fn bad_request(malformed: Malformed) -> Response {
    tracing::warn!(reason = malformed.reason(), "a request to the webhook is not an AdmissionReview");
    warp::reply::with_status(malformed.to_string(), StatusCode::BAD_REQUEST).into_response()
}

/// The answer and the word for it in metrics.
async fn decide(request: &Request, webhook: &Webhook) -> (Answer, &'static str) {
    if !request.is_creation_of_pod() {
        return (Answer::allow(), "untouched");
    }
    match inject::inject(request.object(), request.namespace(), &webhook.endpoint) {
        Err(refusal) => {
            tracing::debug!("pod refused");
            (Answer::refuse(refusal.to_string()), "refused")
        }
        Ok(injection) if injection.is_empty() => (Answer::allow(), "untouched"),
        Ok(injection) => {
            let mut warnings = warnings(request, &injection.asked, &*webhook.may_project).await;
            if let Some(own) = &injection.kept {
                let note = format!(
                    "{IDENTITY_PRESENT}: the pod has {own}, so annotation {} injects nothing; {REMEDY}",
                    inject::AWS_SDK
                );
                if !request.is_dry_run() {
                    webhook.tell.tell(request.maker(), IDENTITY_PRESENT, note.clone());
                }
                warnings.push(note);
            }
            tracing::debug!(secrets = injection.asked.len(), warnings = warnings.len(), "pod injected");
            (Answer::patch(&injection.operations, warnings), "injected")
        }
    }
}

const REMEDY: &str = "take that away, or write `profile` for a separate profile";

/// One sentence for each secret that the pod will wait for in vain.
async fn warnings(request: &Request, asked: &[Attributes], may_project: &dyn MayProject) -> Vec<String> {
    let mut warnings = Vec::new();
    let asking = async {
        for attributes in asked {
            let keys: Vec<&str> = attributes.keys.iter().map(|key| key.key()).collect();
            let question = Question {
                pod_namespace: request.namespace(),
                service_account: request.service_account(),
                secret_namespace: attributes.secret.namespace_or(request.namespace()),
                secret_name: attributes.secret.name(),
                keys: &keys,
            };
            if may_project.may_project(&question).await == Verdict::No {
                warnings.push(format!(
                    "ServiceAccount {} may not have secret {}, or there is none: the pod will wait for it; see spec.access of the ManagedSecret",
                    question.service_account, attributes.secret
                ));
            }
        }
    };
    // What was found before the time was up is said.
    let _ = tokio::time::timeout(QUESTION_TIMEOUT, asking).await;
    warnings
}

/// Writes down how long a review took, however it ended.
struct Measured<'a> {
    clock: &'a dyn Clock,
    begun: Instant,
    outcome: &'static str,
}

impl Drop for Measured<'_> {
    fn drop(&mut self) {
        let took = self.clock.monotonic().saturating_duration_since(self.begun);
        metrics::histogram!("tidelock_webhook_seconds", "outcome" => self.outcome).record(took);
    }
}
