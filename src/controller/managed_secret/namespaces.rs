//! The UIDs of namespaces, read anew for everybody who asks: an answer from before would give a namespace's next tenant
//! the values of the one before. Who come while another's question is on its way share the next one, for that is put
//! after all of them came. Must not keep an answer for whoever comes later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use tokio::sync::Mutex as Turn;

use crate::clock::Clock;

/// `None` when the API server shows none.
pub(super) type Answer = Result<Option<String>, Arc<kube::Error>>;

/// The last question and its answer, held by whoever asks.
type Last = Arc<Turn<Option<(Instant, Answer)>>>;

pub(super) struct Namespaces {
    api: Api<Namespace>,
    questions: Questions,
}

impl Namespaces {
    pub(super) fn new(client: Client, clock: Arc<dyn Clock>) -> Self {
        Self { api: Api::all(client), questions: Questions { clock, asked: Mutex::default() } }
    }

    /// As the API server says after this was called.
    pub(super) async fn uid(&self, name: &str) -> Answer {
        let read = async {
            let found = self.api.get_metadata(name).await.map_err(Arc::new)?;
            Ok(found.metadata.uid)
        };
        self.questions.shared(name, read).await
    }
}

struct Questions {
    clock: Arc<dyn Clock>,
    /// Of the namespaces that somebody asks about just now.
    asked: Mutex<HashMap<String, Last>>,
}

impl Questions {
    /// `read` puts the question when it is first polled.
    async fn shared(&self, name: &str, read: impl Future<Output = Answer>) -> Answer {
        let came = self.clock.monotonic();
        let last = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody waits for are over.
            asked.retain(|_, last| Arc::strong_count(last) > 1);
            Arc::clone(asked.entry(name.to_owned()).or_default())
        };
        let mut turn = last.lock().await;
        if let Some((put, answer)) = turn.as_ref()
            && *put > came
        {
            return answer.clone();
        }
        let put = self.clock.monotonic();
        let answer = read.await;
        *turn = Some((put, answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use tokio::sync::Notify;

    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test]
    async fn who_come_while_one_is_asked_share_the_next_question_and_nobody_gets_an_older_answer() {
        let questions = Questions { clock: SystemClock::shared(), asked: Mutex::default() };
        let (asked, answered) = (AtomicUsize::new(0), Notify::new());
        let ask = || {
            questions.shared("shop", async {
                let number = asked.fetch_add(1, Ordering::SeqCst);
                if number == 0 {
                    answered.notified().await;
                }
                Ok(Some(format!("uid-{number}")))
            })
        };
        let first = ask();
        let others = async {
            // They come while the first question is on its way.
            while asked.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
            let others = join_all((0..10).map(|_| ask()));
            answered.notify_one();
            others.await
        };
        let (first, others) = tokio::join!(first, others);
        assert_eq!(first.unwrap().as_deref(), Some("uid-0"));
        for other in others {
            assert_eq!(other.unwrap().as_deref(), Some("uid-1"), "one question, put after they came");
        }
        assert_eq!(ask().await.unwrap().as_deref(), Some("uid-2"), "who comes later asks again");
        assert_eq!(asked.load(Ordering::SeqCst), 3);
    }
}
