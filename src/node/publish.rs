//! A first mount, from kubelet's call to its answer.
//! Must not answer with success before the files are complete, nor with an error once they are.
//!
//! kubelet's retries grow to two minutes apart and cannot be hurried, and each failed call becomes an event. So a
//! reason to wait is told once, at once; the next calls are held while that reason lasts:
//!
//! ```text
//!             no answer, server away                 the same reason as told before
//!   call --------------------------> waiting ------------------------------------------> held, at most 100 s
//!                                       |   a reason not told yet: error, event            |
//!                                       +--------------------------------------------> Err |
//!                                       |   Place                                          |  Place
//!                                       +-------------> files in place <-------------------+
//! ```
//!
//! In the trust window a call that has waited for the server as long as is told may be filled from the node's own copy.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::cause::Cause;
use super::config::Patience;
use super::manifest::Manifest;
use super::payload::Placement;
use super::request::{Asked, Publication};
use super::trust::Untrusted;
use super::uplink::{Link, LinkState, Up};
use super::volumes::{Answer, Entered, Volume, VolumeError, Volumes};
use crate::wire::node::{Attach, refused};

const TOLD_MAX: usize = 4096;
const TOLD_FOR: Duration = Duration::from_secs(600);

pub struct Publisher {
    volumes: Arc<Volumes>,
    link: Link,
    patience: Patience,
    /// The reason last told for a mount, until it is complete or long gone.
    told: Mutex<HashMap<String, (&'static str, Instant)>>,
}

impl Publisher {
    pub fn new(volumes: Arc<Volumes>, link: Link, patience: Patience) -> Publisher {
        Publisher { volumes, link, patience, told: Mutex::default() }
    }

    /// Goes on to its end when kubelet gives the call up in the middle of file work; only the waiting stops then.
    pub async fn publish(self: &Arc<Self>, publication: Publication) -> Result<(), Cause> {
        let given_up = CancellationToken::new();
        let _guard: DropGuard = given_up.clone().drop_guard();
        let publisher = Arc::clone(self);
        let run = tokio::spawn(async move { publisher.run(Arc::new(publication), given_up).await });
        run.await.unwrap_or_else(|_| Err(Cause::Volume("Bug", "the call failed inside the agent".into())))
    }

    async fn run(
        self: Arc<Self>,
        publication: Arc<Publication>,
        given_up: CancellationToken,
    ) -> Result<(), Cause> {
        let volume = loop {
            match self.volumes.enter(&publication.target) {
                Entered::Busy => return Err(Cause::Busy),
                Entered::First(volume) => break volume,
                Entered::Complete(volume) => {
                    let (volumes, publication) = (Arc::clone(&self.volumes), Arc::clone(&publication));
                    let confirmed = blocking(move || volumes.confirm(&volume, &publication)).await;
                    // Whatever went wrong in looking, the files were complete.
                    if confirmed.unwrap_or(true) {
                        return Ok(());
                    }
                }
            }
        };
        let told = self.told(&publication);
        let outcome = tokio::select! {
            outcome = self.complete(&volume, &publication, told) => outcome,
            () = given_up.cancelled() => Err(Cause::Gone),
        };
        let (volumes, left) = (Arc::clone(&self.volumes), Arc::clone(&volume));
        let _ = blocking(move || volumes.leave(&left)).await;
        self.remember(&publication, outcome.as_ref().err());
        outcome
    }

    async fn complete(
        &self,
        volume: &Arc<Volume>,
        publication: &Arc<Publication>,
        told: Option<&'static str>,
    ) -> Result<(), Cause> {
        match &publication.asked {
            Asked::Secret { token, .. } => self.first(volume, publication, token, told).await,
            Asked::CaBundle if matches!(*self.link.watch().borrow(), LinkState::Off) => Err(Cause::Draining),
            Asked::CaBundle => {
                let (volumes, volume) = (Arc::clone(&self.volumes), Arc::clone(volume));
                let publication = Arc::clone(publication);
                let placing = move || volumes.place_bundle(&volume, &publication);
                blocking(placing).await.unwrap_or(Err(VolumeError::Gone)).map_err(|error| Cause::from(&error))
            }
        }
    }

    async fn first(
        &self,
        volume: &Arc<Volume>,
        publication: &Arc<Publication>,
        token: &str,
        told: Option<&'static str>,
    ) -> Result<(), Cause> {
        let end = Instant::now() + self.patience.hold;
        loop {
            let placement = self.wait(volume, publication, token, told, end).await?;
            let (volumes, volume) = (Arc::clone(&self.volumes), Arc::clone(volume));
            let publication = Arc::clone(publication);
            let placing = move || volumes.place_first(&volume, &publication, &placement);
            match blocking(placing).await.unwrap_or(Err(VolumeError::Gone)) {
                Ok(()) => return Ok(()),
                // The next session is asked again.
                Err(VolumeError::Stale) => {}
                Err(error) => return Err(Cause::from(&error)),
            }
        }
    }

    /// Asks the server, again in each session, until it has sent the files or there is something to tell.
    async fn wait(
        &self,
        volume: &Volume,
        publication: &Arc<Publication>,
        token: &str,
        told: Option<&'static str>,
        end: Instant,
    ) -> Result<Placement, Cause> {
        let mut link = self.link.watch();
        let mut answers = volume.answers();
        let began = Instant::now();
        // The session that was asked last, and when.
        let mut asked: Option<(u64, Instant)> = None;
        let mut away_since: Option<Instant> = None;
        loop {
            let now = link.borrow_and_update().clone();
            let (cause, tell_at) = match &now {
                LinkState::Off => return Err(Cause::Draining),
                LinkState::Away(why) => {
                    asked = None;
                    let tell_at = *away_since.get_or_insert_with(Instant::now) + self.patience.away;
                    if Instant::now() < tell_at.min(end) {
                        // It may be about to return.
                        let _ = tokio::time::timeout_at(tell_at.min(end), link.changed()).await;
                        continue;
                    }
                    match self.trusted(publication).await {
                        Ok(placement) => return Ok(placement),
                        Err(Untrusted::Off) => (Cause::ServerAway(why.clone()), tell_at),
                        Err(Untrusted::Connecting) => (Cause::ServerAway(why.clone()), end),
                        Err(untrusted) => (Cause::Untrusted(untrusted, why.clone()), tell_at),
                    }
                }
                LinkState::Up(up) => {
                    away_since = None;
                    let asked_at = match asked {
                        Some((session, at)) if session == up.session => at,
                        _ => {
                            self.ask(up, volume, publication, token);
                            asked.insert((up.session, Instant::now())).1
                        }
                    };
                    match read(&mut answers)? {
                        Said::Place(placement) => return Ok(placement),
                        Said::Refused(cause) => (cause, began),
                        Said::Nothing => (Cause::NoAnswer, asked_at + self.patience.answer),
                    }
                }
            };
            let is_news = told != Some(cause.reason());
            let until = if is_news { tell_at.min(end) } else { end };
            if !cause.can_pass() || until <= Instant::now() {
                return Err(cause);
            }
            let mut timer = pin!(sleep_until(until));
            tokio::select! {
                _ = link.changed() => {}
                _ = answers.changed() => {}
                () = &mut timer => return Err(cause),
            }
        }
    }

    async fn trusted(&self, publication: &Arc<Publication>) -> Result<Placement, Untrusted> {
        let (volumes, publication) = (Arc::clone(&self.volumes), Arc::clone(publication));
        blocking(move || volumes.trusted(&publication)).await.unwrap_or(Err(Untrusted::Connecting))
    }

    fn ask(&self, up: &Up, volume: &Volume, publication: &Publication, token: &str) {
        let request_id = self.link.next_request_id();
        volume.expect_answer(request_id);
        let mount = Manifest {
            target: publication.target.clone(),
            pod: Some(publication.pod.clone()),
            attributes: publication.attributes.clone(),
            group: None,
            held: None,
            file_names: Vec::new(),
            bytes: 0,
        };
        let pod_token = token.to_owned();
        up.send(Attach { request_id, mount: Some(mount.mount()), pod_token });
    }

    fn told(&self, publication: &Publication) -> Option<&'static str> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(&publication.target.mount_id())
            .filter(|(_, at)| at.elapsed() < TOLD_FOR)
            .map(|(reason, _)| *reason)
    }

    /// kubelet does not say when it gives a pod up that was never mounted, so what was told is forgotten by age.
    fn remember(&self, publication: &Publication, cause: Option<&Cause>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mount_id = publication.target.mount_id();
        match cause {
            None | Some(Cause::Gone) => drop(told.remove(&mount_id)),
            Some(cause) => {
                if told.len() >= TOLD_MAX {
                    told.retain(|_, (_, at)| at.elapsed() < TOLD_FOR / 4);
                }
                if told.len() < TOLD_MAX {
                    told.insert(mount_id, (cause.reason(), Instant::now()));
                }
            }
        }
    }
}

enum Said {
    Nothing,
    Place(Placement),
    Refused(Cause),
}

fn read(answers: &mut watch::Receiver<Answer>) -> Result<Said, Cause> {
    match answers.borrow_and_update().clone() {
        Answer::Pending => Ok(Said::Nothing),
        Answer::Place(placement) => Ok(Said::Place(placement)),
        Answer::Refused { reason, message } => Ok(Said::Refused(Cause::Refused(reason, message))),
        Answer::Withdrawn { reason, .. } => {
            Ok(Said::Refused(Cause::Refused(refused::Reason::NotAllowed, reason)))
        }
        Answer::Gone => Err(Cause::Gone),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
