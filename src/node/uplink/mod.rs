//! The stream to the server: connects, comes back after every end, and keeps the agent's own token fresh.
//! Must not decide about volumes: it hands on what the server says.

mod backoff;
mod connect;
mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use backoff::Backoff;
#[cfg(test)]
pub(super) use connect::Channel;
use session::SessionError;

use super::config::ServerConfig;
use super::volumes::Volumes;
use crate::wire::node::{FromNode, Hello};

/// Whether there is a stream, for those who wait for one.
#[derive(Clone)]
pub struct Link {
    state: watch::Sender<LinkState>,
    request_ids: Arc<AtomicU64>,
}

#[derive(Clone)]
pub enum LinkState {
    /// There will be none.
    Off,
    /// And why.
    Away(String),
    Up(Up),
}

/// The stream of one session.
#[derive(Clone)]
pub struct Up {
    pub session: u64,
    outbox: mpsc::UnboundedSender<FromNode>,
}

impl Up {
    /// A failed send means that the session is ending; who waits for an answer sees that.
    pub fn send(&self, message: impl Into<FromNode>) {
        let _ = self.outbox.send(message.into());
    }
}

impl Link {
    pub fn off() -> Link {
        Link::starting_as(LinkState::Off)
    }

    pub fn away() -> Link {
        Link::starting_as(LinkState::Away("the agent has just started".to_owned()))
    }

    fn starting_as(state: LinkState) -> Link {
        Link { state: watch::Sender::new(state), request_ids: Arc::default() }
    }

    pub fn watch(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    pub fn next_request_id(&self) -> u64 {
        self.request_ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn set(&self, state: LinkState) {
        let is_up = matches!(state, LinkState::Up(_));
        metrics::gauge!("tidelock_node_stream_connected").set(if is_up { 1.0 } else { 0.0 });
        self.state.send_replace(state);
    }
}

/// Keeps a session with the server until `shutdown`.
pub async fn run(
    link: Link,
    volumes: Arc<Volumes>,
    server: ServerConfig,
    hello: Hello,
    shutdown: CancellationToken,
) {
    let mut backoff = Backoff::new();
    while !shutdown.is_cancelled() {
        let session = session::run(&link, &volumes, &server, hello.clone());
        let Some(ended) = shutdown.run_until_cancelled(session).await else { break };
        metrics::counter!("tidelock_node_sessions_total", "end" => ended.reason()).increment(1);
        let was_up = matches!(*link.watch().borrow(), LinkState::Up(_));
        if was_up {
            backoff = Backoff::new();
            tracing::warn!(reason = ended.reason(), error = %ended, "the stream to the server has ended");
        } else {
            tracing::debug!(reason = ended.reason(), error = %ended, "the server was not reached");
        }
        end(&link, &volumes, ended.to_string()).await;
        shutdown.run_until_cancelled(tokio::time::sleep(backoff.pause(share()))).await;
    }
    end(&link, &volumes, "the agent is stopping".to_owned()).await;
}

/// First everybody learns that there is no stream, then what came by it stops to count: so nobody who finds his files
/// out of date asks the session that is over.
async fn end(link: &Link, volumes: &Arc<Volumes>, why: String) {
    link.set(LinkState::Away(why));
    let volumes = Arc::clone(volumes);
    let _ = tokio::task::spawn_blocking(move || volumes.end_session()).await;
    // Who has looked in between has found a session that is over, and looks again.
    link.state.send_modify(|_| ());
}

/// From 0 to 1; random enough for what it is for.
fn share() -> f64 {
    let (_, low) = uuid::Uuid::new_v4().as_u64_pair();
    (low % 1000) as f64 / 1000.0
}

impl SessionError {
    /// One word for metrics and logs.
    fn reason(&self) -> &'static str {
        match self {
            SessionError::Connect(_) => "ConnectFailed",
            SessionError::Status(status) if status.code() == tonic::Code::Unauthenticated => {
                "Unauthenticated"
            }
            SessionError::Status(_) => "Refused",
            SessionError::Silent => "Silent",
            SessionError::Ended => "Ended",
            SessionError::Protocol(_) => "Protocol",
        }
    }
}
