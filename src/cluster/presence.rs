//! Is the caller still there? A token that the API server reviews ends with its pod; a key that was issued for one does
//! not, so whoever brings such a key is looked up. Must not look up more often than it must.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::Client;

use super::together::Together;
use super::{PodReader, PodRefused};
use crate::access::{Principal, ServiceAccount};
use crate::clock::Clock;

/// How old an answer may be. With the time of a question it keeps the promise of 5 s.
const ANSWER_STANDS: Duration = Duration::from_secs(3);

/// How old the last yes may be while the API server does not answer. After that nobody is there.
const YES_STANDS_UNANSWERED: Duration = Duration::from_secs(30);

/// Beyond this many answers those that help nobody any more are dropped, then all.
const ANSWERS_MAX: usize = 8192;

/// Looks up pods and ServiceAccounts by name and UID, and remembers the answers for seconds.
pub struct Presences {
    pods: PodReader,
    clock: Arc<dyn Clock>,
    answers: Mutex<HashMap<Asked, Answer>>,
    asked: Together<Asked, (Result<(), PodRefused>, Instant)>,
}

/// The pod, if there is one, and the ServiceAccount, each by name and UID.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Asked {
    account: ServiceAccount,
    account_uid: String,
    pod: Option<(String, String)>,
}

struct Answer {
    at: Instant,
    said: Result<(), PodRefused>,
}

impl Presences {
    pub fn new(client: Client, clock: Arc<dyn Clock>) -> Self {
        Self { pods: PodReader::new(client), clock, answers: Mutex::default(), asked: Together::new() }
    }

    /// Whether the principal's ServiceAccount is there, and its pod, if it has one, is there and has not ended.
    pub async fn check(&self, who: &Principal) -> Result<(), PodRefused> {
        let Principal::ServiceAccount { account, uid, pod, .. } = who else { return Ok(()) };
        let pod = pod.as_ref().map(|pod| (pod.name.clone(), pod.uid.clone()));
        let asked = Asked { account: account.clone(), account_uid: uid.clone(), pod };
        if let Some(said) = self.remembered(&asked, self.clock.monotonic()) {
            return said;
        }
        let (said, at) = self.asked.ask(&asked, || self.ask(asked.clone())).await;
        match said {
            Err(PodRefused::Unavailable(why)) => {
                tracing::warn!(error = why, "whether the caller of an issued key is still there is unknown");
                let last = self.answers().get(&asked).map(|last| (last.at, last.said.clone()));
                stale(last, self.clock.monotonic()).unwrap_or(Err(PodRefused::Unavailable(why)))
            }
            said => {
                self.remember(asked, Answer { at, said: said.clone() });
                said
            }
        }
    }

    /// The answer, and when it was asked for.
    fn ask(&self, asked: Asked) -> impl Future<Output = (Result<(), PodRefused>, Instant)> + Send + 'static {
        let (pods, clock) = (self.pods.clone(), Arc::clone(&self.clock));
        async move {
            let at = clock.monotonic();
            (ask(&pods, &asked).await, at)
        }
    }

    fn remembered(&self, asked: &Asked, now: Instant) -> Option<Result<(), PodRefused>> {
        let answers = self.answers();
        let answer = answers.get(asked)?;
        // A UID never comes back: a no stands for ever.
        let stands = answer.said.is_err() || now.saturating_duration_since(answer.at) < ANSWER_STANDS;
        stands.then(|| answer.said.clone())
    }

    fn remember(&self, asked: Asked, answer: Answer) {
        let mut answers = self.answers();
        if answers.len() >= ANSWERS_MAX {
            let now = answer.at;
            answers.retain(|_, known| now.saturating_duration_since(known.at) < YES_STANDS_UNANSWERED);
            if answers.len() >= ANSWERS_MAX {
                answers.clear();
            }
        }
        answers.insert(asked, answer);
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<Asked, Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(pods: &PodReader, asked: &Asked) -> Result<(), PodRefused> {
    let Asked { account, account_uid, pod } = asked;
    let pod_is_there = async {
        let Some((name, uid)) = pod else { return Ok(()) };
        let found = pods.pod(&account.namespace, name).await?;
        let runs = found.is_some_and(|pod| pod.metadata.uid.as_ref() == Some(uid) && !has_ended(&pod));
        if runs { Ok(()) } else { Err(PodRefused::Gone(format!("{}/{name}", account.namespace))) }
    };
    let account_is_there = async {
        let found = pods.account_uid(account).await?;
        let same = found.as_ref() == Some(account_uid);
        if same { Ok(()) } else { Err(PodRefused::ServiceAccountGone(account.to_string())) }
    };
    let (pod, account) = tokio::join!(pod_is_there, account_is_there);
    pod.and(account)
}

/// What the last answer is worth when there is no newer one.
fn stale(last: Option<(Instant, Result<(), PodRefused>)>, now: Instant) -> Option<Result<(), PodRefused>> {
    let (at, said) = last?;
    (now.saturating_duration_since(at) < YES_STANDS_UNANSWERED).then_some(said)
}

/// A pod whose containers have all ended runs no program that could hold a key.
fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_whose_containers_have_ended_is_no_caller() {
        let pod = |phase: Option<&str>| {
            let mut pod = Pod::default();
            pod.status.get_or_insert_default().phase = phase.map(str::to_owned);
            pod
        };
        assert!(has_ended(&pod(Some("Succeeded"))) && has_ended(&pod(Some("Failed"))));
        assert!(!has_ended(&pod(Some("Running"))) && !has_ended(&pod(None)));
    }

    #[test]
    fn without_an_answer_a_yes_stands_for_half_a_minute() {
        let at = Instant::now();
        let after = |seconds| at + Duration::from_secs(seconds);
        assert_eq!(stale(Some((at, Ok(()))), after(29)), Some(Ok(())));
        assert_eq!(stale(Some((at, Ok(()))), after(30)), None);
        assert_eq!(stale(None, at), None);
    }
}
