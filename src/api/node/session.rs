//! One stream, from its Hello to its end: what the agent says goes to the clerk, what the clerk answers goes to the
//! agent. Must not ask the keeper itself, and never waits for anybody but the agent's own reading.

mod greet;
mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::Instrument as _;

use super::MESSAGE_BYTES_MAX;
use super::admit;
use super::clerk::{self, Answer, Question};
use super::hub::Hub;
use super::outgoing::{Closed, Outgoing};
use super::payloads::Payloads;
use super::pending::Waiting;
use super::refusal::Refusal;
use crate::access::Principal;
use crate::keeper::{self, Changed, What};
use crate::secret::{Arn, VersionId};
use crate::wire::node::from_node::Message;
use crate::wire::node::refused::Reason;
use crate::wire::node::{Attach, FromNode, Mount, Receipt};

/// More volumes than a node can run pods.
const MOUNTS_MAX: usize = 4096;
/// The agent speaks first.
const HELLO_MAX: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_secs(1);
/// Identities that are asked for at once for one node.
const REVIEWS_MAX: usize = 16;

pub(super) struct Session {
    hub: Arc<Hub>,
    node: String,
    out: Outgoing,
    payloads: Payloads,
    /// Mounts that the keeper knows of this node, and the secret that each was last given.
    live: BTreeMap<String, Option<Arn>>,
    waiting: Waiting,
    /// What the server's record says of mounts whose manifests are lost; goes out with their first Place.
    lost: BTreeMap<String, Mount>,
    /// Mounts of which the agent knows that the first mount of another pod would be refused.
    closed: BTreeSet<String>,
    reviews: JoinSet<Reviewed>,
    questions: mpsc::Sender<Question>,
    dirty: BTreeSet<Arn>,
    all_dirty: bool,
    refreshing: bool,
    recheck_at: Instant,
    proved_at: Instant,
}

/// Whose mount it is, or why that could not be proved.
enum Reviewed {
    Token { request_id: u64, mount: Mount, outcome: Result<Principal, Refusal> },
    Object { mount: Mount, outcome: Result<Principal, crate::cluster::PodRefused> },
    Agent(Result<String, Status>),
}

/// Why a stream ends.
enum End {
    Closed,
    Said(Status),
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Said(status)
    }
}

/// Runs a stream until one side ends it.
pub(super) async fn run(
    hub: Arc<Hub>,
    node: String,
    out: Outgoing,
    inbound: Streaming<FromNode>,
    stop: CancellationToken,
) {
    let place = hub.take_place(&node).await;
    let span = tracing::info_span!("stream", node);
    hub.settings().keeper.node_connected(&node);
    let (answers, answered) = mpsc::unbounded_channel();
    let keeper = Arc::clone(&hub.settings().keeper);
    let (questions, clerk) = clerk::start(keeper, node.clone(), answers);
    let mut clerk = tokio::spawn(clerk.instrument(span.clone()));
    let mut session = Session::new(Arc::clone(&hub), node.clone(), out, questions);
    let end = tokio::select! {
        () = stop.cancelled() => End::Said(Status::unavailable("the server is stopping")),
        () = place.end.cancelled() => End::Said(Status::aborted("a newer stream of this node has begun")),
        end = session.converse(inbound, answered).instrument(span.clone()) => end,
    };
    if let End::Said(status) = end {
        span.in_scope(|| tracing::info!(status = %status.message(), "the stream of a node ends"));
        session.out.end(status);
    }
    // The clerk ends by itself once nobody can ask any more; what it has begun it finishes.
    drop(session.questions);
    if tokio::time::timeout(Duration::from_secs(4), &mut clerk).await.is_err() {
        clerk.abort();
    }
    hub.settings().keeper.node_lost(&node);
    hub.leave(&node, &place);
}

impl Session {
    fn new(hub: Arc<Hub>, node: String, out: Outgoing, questions: mpsc::Sender<Question>) -> Self {
        let now = hub.settings().clock.monotonic();
        Self {
            recheck_at: now + recheck_after(&node, hub.settings().recheck_every),
            hub,
            node,
            out,
            payloads: Payloads::default(),
            live: BTreeMap::new(),
            waiting: Waiting::default(),
            lost: BTreeMap::new(),
            closed: BTreeSet::new(),
            reviews: JoinSet::new(),
            questions,
            dirty: BTreeSet::new(),
            all_dirty: false,
            refreshing: false,
            proved_at: now,
        }
    }

    async fn converse(
        &mut self,
        mut inbound: Streaming<FromNode>,
        mut answers: mpsc::UnboundedReceiver<Answer>,
    ) -> End {
        // From before Hello on: no change is missed between what it is answered with and what follows.
        let mut changes = self.hub.settings().keeper.changes();
        if let Err(end) = self.greet(&mut inbound).await {
            return end;
        }
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let outcome = tokio::select! {
                message = inbound.next() => self.hear(message).await,
                Some(answer) = answers.recv() => self.answered(answer).await,
                Some(reviewed) = self.reviews.join_next(), if !self.reviews.is_empty() => match reviewed {
                    Ok(reviewed) => self.reviewed(reviewed).await,
                    // Only at our own end are reviews cut off.
                    Err(_) => Ok(()),
                },
                changed = changes.recv() => self.changed(changed, &mut changes).await,
                _ = tick.tick() => self.tick().await,
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    async fn hear(&mut self, message: Option<Result<FromNode, Status>>) -> Result<(), End> {
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(wrong)) => return Err(unreadable(&wrong)),
            None => return Err(End::Closed),
        };
        match message.message {
            Some(Message::Attach(attach)) => self.attach(attach).await,
            Some(Message::Receipt(receipt)) => self.receipt(&receipt).await,
            Some(Message::Detach(detach)) => self.detach(detach.mount_id).await,
            Some(Message::Trouble(trouble)) => {
                let known = self.live.contains_key(&trouble.mount_id);
                let say = |text: &str| text.chars().take(256).collect::<String>();
                if known {
                    let (reason, message) = (say(&trouble.reason), say(&trouble.message));
                    tracing::warn!(mount_id = trouble.mount_id, reason, message, "files could not be placed");
                }
                Ok(())
            }
            Some(Message::Reauthenticate(mut renewed)) => {
                let hub = Arc::clone(&self.hub);
                let token = zeroize::Zeroizing::new(std::mem::take(&mut renewed.token));
                self.reviews
                    .spawn(async move { Reviewed::Agent(admit::agent_token(hub.settings(), &token).await) });
                Ok(())
            }
            Some(Message::Hello(_)) => Err(Status::invalid_argument("a stream begins with one Hello").into()),
            // A newer agent may say what this server does not know yet.
            None => Ok(()),
        }
    }

    async fn attach(&mut self, mut attach: Attach) -> Result<(), End> {
        let token = zeroize::Zeroizing::new(std::mem::take(&mut attach.pod_token));
        let (request_id, mount) = (attach.request_id, attach.mount.take().unwrap_or_default());
        let formed = match admit::well_formed(&mount) {
            Ok(()) if mount.manifest_lost => Err("an Attach tells of the whole mount".to_owned()),
            Ok(()) if self.live.len() + self.waiting.len() >= MOUNTS_MAX => {
                Err(format!("a node has at most {MOUNTS_MAX} mounts"))
            }
            formed => formed,
        };
        if let Err(wrong) = formed {
            let refusal = Refusal::new(Reason::BadRequest, wrong);
            return Ok(self.out.send(refusal.message(request_id, &mount.mount_id)).await?);
        }
        self.waiting.begin(mount.clone(), request_id, self.now());
        let (hub, node) = (Arc::clone(&self.hub), self.node.clone());
        self.review(async move {
            let outcome = admit::pod(hub.settings(), &node, &mount, &token).await;
            Reviewed::Token { request_id, mount, outcome }
        })
        .await
    }

    async fn reviewed(&mut self, reviewed: Reviewed) -> Result<(), End> {
        match reviewed {
            Reviewed::Token { request_id, mount, outcome: Ok(pod) } => {
                self.ask(Question::Attach { request_id, mount, pod }).await
            }
            Reviewed::Token { request_id, mount, outcome: Err(refusal) } => {
                self.refuse(request_id, &mount, None, &refusal).await
            }
            Reviewed::Object { mount, outcome } => self.vouched(mount, outcome).await,
            Reviewed::Agent(Ok(node)) if node == self.node => {
                self.proved_at = self.now();
                Ok(())
            }
            Reviewed::Agent(Ok(_)) => {
                Err(Status::permission_denied("the new token is another node's than the stream").into())
            }
            // Nobody could be asked: the former proof stands as long as it stands.
            Reviewed::Agent(Err(status)) if status.code() == tonic::Code::Unavailable => Ok(()),
            Reviewed::Agent(Err(status)) => Err(status.into()),
        }
    }

    async fn receipt(&mut self, receipt: &Receipt) -> Result<(), End> {
        let arn = Arn::parse(&receipt.secret_arn);
        let version = VersionId::parse(&receipt.version_id).ok();
        match (arn, version) {
            (Some(arn), Some(version)) if self.live.contains_key(&receipt.mount_id) => {
                let (mount_id, came_at) = (receipt.mount_id.clone(), self.now());
                self.ask(Question::Receipt(keeper::Receipt { mount_id, arn, version, came_at })).await
            }
            _ => {
                tracing::debug!(mount_id = receipt.mount_id, "a receipt for nothing that was placed");
                Ok(())
            }
        }
    }

    async fn detach(&mut self, mount_id: String) -> Result<(), End> {
        self.waiting.forget(&mount_id);
        self.live.remove(&mount_id);
        self.lost.remove(&mount_id);
        self.closed.remove(&mount_id);
        self.release(&mount_id).await?;
        self.ask(Question::Detach { mount_id }).await
    }

    async fn changed(
        &mut self,
        changed: Result<Changed, RecvError>,
        more: &mut broadcast::Receiver<Changed>,
    ) -> Result<(), End> {
        let mut retry = false;
        let mut next = Some(changed);
        while let Some(changed) = next {
            match changed {
                Ok(Changed { what: What::Consumers | What::Rotation, .. }) => {}
                Ok(Changed { arn, what }) => {
                    retry = true;
                    let concerns = |given: &Option<Arn>| given.as_ref().is_none_or(|given| *given == arn);
                    if matches!(what, What::Created | What::Restored) || self.live.values().any(concerns) {
                        self.dirty.insert(arn);
                    }
                }
                Err(RecvError::Lagged(_)) => {
                    retry = true;
                    self.all_dirty = true;
                }
                Err(RecvError::Closed) => return Err(Status::unavailable("the keeper has ended").into()),
            }
            next = more.try_recv().ok().map(Ok);
        }
        if retry {
            self.ask_again(true).await?;
        }
        self.refresh().await
    }

    async fn tick(&mut self) -> Result<(), End> {
        let now = self.now();
        if now.saturating_duration_since(self.proved_at) >= self.hub.settings().token_lasts {
            return Err(Status::unauthenticated("the agent has not renewed its token").into());
        }
        if now >= self.recheck_at {
            self.recheck_at = now + recheck_after(&self.node, self.hub.settings().recheck_every);
            self.all_dirty = true;
        }
        self.ask_again(false).await?;
        self.refresh().await
    }

    /// One refresh at a time; what becomes dirty meanwhile comes with the next one.
    async fn refresh(&mut self) -> Result<(), End> {
        if self.refreshing || (self.dirty.is_empty() && !self.all_dirty) {
            return Ok(());
        }
        self.refreshing = true;
        let arns = std::mem::take(&mut self.dirty);
        let all = std::mem::take(&mut self.all_dirty);
        self.ask(if all { Question::RefreshAll } else { Question::Refresh(arns) }).await
    }

    /// Asks again for what waits: with the identity that was proved, or by asking for the identity once more.
    async fn ask_again(&mut self, after_change: bool) -> Result<(), End> {
        let now = self.now();
        let due: Vec<_> = self
            .waiting
            .due(now, after_change)
            .into_iter()
            .map(|due| (due.request_id, due.mount.clone(), due.pod.clone()))
            .collect();
        for (request_id, mount, pod) in due {
            match pod {
                Some(pod) if request_id > 0 => self.ask(Question::Attach { request_id, mount, pod }).await?,
                _ if request_id == 0 => self.vouch(mount).await?,
                // Its token is not kept, and its identity could not be proved: the agent will attach again.
                _ => self.waiting.forget(&mount.mount_id),
            }
        }
        Ok(())
    }

    async fn review(&mut self, review: impl Future<Output = Reviewed> + Send + 'static) -> Result<(), End> {
        while self.reviews.len() >= REVIEWS_MAX {
            if let Some(Ok(reviewed)) = self.reviews.join_next().await {
                Box::pin(self.reviewed(reviewed)).await?;
            }
        }
        self.reviews.spawn(review);
        Ok(())
    }

    async fn ask(&mut self, question: Question) -> Result<(), End> {
        self.questions.send(question).await.map_err(|_| End::Closed)
    }

    fn now(&self) -> Instant {
        self.hub.settings().clock.monotonic()
    }
}

/// Why a stream ends on what came: a message that is none is answered in words, a connection that broke is not.
fn unreadable(wrong: &Status) -> End {
    match wrong.code() {
        tonic::Code::OutOfRange => {
            let says = format!("a message of a stream has at most {MESSAGE_BYTES_MAX} bytes");
            End::Said(Status::resource_exhausted(says))
        }
        tonic::Code::Internal => {
            let says = "a message cannot be read: the stream carries FromNode of node.proto";
            End::Said(Status::invalid_argument(says))
        }
        _ => End::Closed,
    }
}

/// Spread by the node's name, so that not all nodes ask at the same second.
fn recheck_after(node: &str, every: Duration) -> Duration {
    let spread =
        node.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte))) % 256;
    every - (every / 1024) * spread
}
