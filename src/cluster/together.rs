//! One question to the API server for all who have the same at the same time, and not too many at once: a flood of ours
//! would keep the API server from others, the renewal of our own Lease first of all. Must not remember answers.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, WeakShared};
use tokio::sync::Semaphore;

use super::ASK_MAX;

/// Questions of one kind that are on their way at once; more wait for their turn.
const AT_ONCE: usize = 32;

/// Questions on their way: whoever has the same one meanwhile waits for the same answer.
pub(super) struct Together<Q, A> {
    on_their_way: Mutex<HashMap<Q, WeakShared<BoxFuture<'static, A>>>>,
    places: Arc<Semaphore>,
}

impl<Q, A> Together<Q, A>
where
    Q: Clone + Eq + Hash,
    A: Clone + Send + Sync + 'static,
{
    pub(super) fn new() -> Self {
        Self { on_their_way: Mutex::default(), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Asks, or waits with those who have asked the same and have no answer yet. `ask` begins when there is a place.
    pub(super) async fn ask<F>(&self, question: &Q, ask: impl FnOnce() -> F) -> A
    where
        F: Future<Output = A> + Send + 'static,
    {
        let asked = {
            let mut on_their_way = self.on_their_way.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that are answered, or that nobody waits for any more, are over.
            on_their_way.retain(|_, asked| asked.upgrade().is_some_and(|asked| asked.peek().is_none()));
            match on_their_way.get(question).and_then(WeakShared::upgrade) {
                Some(asked) => asked,
                None => {
                    let (places, ask) = (Arc::clone(&self.places), ask());
                    let asked = async move {
                        // While the API server hangs, nobody waits longer for a place than for an answer.
                        let _place = tokio::time::timeout(ASK_MAX, places.acquire()).await;
                        ask.await
                    };
                    let asked = asked.boxed().shared();
                    on_their_way.extend(asked.downgrade().map(|weak| (question.clone(), weak)));
                    asked
                }
            }
        };
        asked.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn the_same_question_is_asked_once_at_a_time_and_others_as_many_as_there_are_places() {
        let together = Together::<usize, usize>::new();
        let (asked, now, most) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let ask = async |question: usize| {
            let (asked, now, most) = (Arc::clone(&asked), Arc::clone(&now), Arc::clone(&most));
            let answer = together.ask(&question, || async move {
                asked.fetch_add(1, Ordering::SeqCst);
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                question * 2
            });
            assert_eq!(answer.await, question * 2);
        };
        join_all((0..400).map(|number| ask(number % 100))).await;
        assert_eq!(asked.load(Ordering::SeqCst), 100, "a hundred questions, four times each");
        assert_eq!(most.load(Ordering::SeqCst), AT_ONCE);
        // An answer is not kept.
        ask(1).await;
        assert_eq!(asked.load(Ordering::SeqCst), 101);
    }

    #[tokio::test]
    async fn a_question_that_nobody_waits_for_any_more_leaves_nothing_behind() {
        let together = Together::<u8, u8>::new();
        let hangs = together.ask(&1, std::future::pending);
        assert!(tokio::time::timeout(Duration::from_millis(5), hangs).await.is_err());
        assert_eq!(together.ask(&1, || std::future::ready(7)).await, 7);
        assert_eq!(together.places.available_permits(), AT_ONCE);
    }
}
