//! The server's end of the node stream (`wire/proto/node.proto`): one stream per node, opened by its agent.
//! Must not decide who may have what: the keeper does. Must not trust a node: it can speak for its own pods only.

mod admit;
mod clerk;
mod hub;
mod outgoing;
mod payloads;
mod pending;
mod refusal;
mod session;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::Stream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use hub::Hub;

use super::authenticate::Authenticate;
use crate::access::{Principal, ServiceAccount};
use crate::clock::Clock;
use crate::cluster::{MountClaim, PodReader, PodRefused};
use crate::keeper::Keeper;
use crate::wire::node::node_stream_server::{NodeStream, NodeStreamServer};
use crate::wire::node::{FromNode, ToNode};

/// A Hello of a node full of pods fits; nothing else comes near.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// PORT. Who is the pod behind a mount that comes back without a token?
#[async_trait]
pub trait Vouch: Send + Sync {
    async fn vouch(&self, claim: &MountClaim) -> Result<Principal, PodRefused>;
}

#[async_trait]
impl Vouch for PodReader {
    async fn vouch(&self, claim: &MountClaim) -> Result<Principal, PodRefused> {
        PodReader::vouch(self, claim).await
    }
}

/// What the door works with.
pub struct NodeSettings {
    pub keeper: Arc<Keeper>,
    pub tokens: Arc<dyn Authenticate>,
    pub pods: Arc<dyn Vouch>,
    pub clock: Arc<dyn Clock>,
    /// `<installation>/stream`: the agent's own token.
    pub stream_audience: String,
    /// `<installation>/node`: the tokens of pods.
    pub mount_audience: String,
    /// The ServiceAccount that the agents run as.
    pub agent: ServiceAccount,
    /// How often the rights of each live mount are asked for again.
    pub recheck_every: Duration,
    /// How long a stream stands on one token of the agent's. Above the token's own lifetime.
    pub token_lasts: Duration,
}

/// Accepts the streams.
#[derive(Clone)]
pub struct NodeDoor {
    hub: Arc<Hub>,
    stop: CancellationToken,
    sessions: TaskTracker,
}

impl NodeDoor {
    /// `stop` ends every stream.
    pub fn new(settings: NodeSettings, stop: CancellationToken) -> Self {
        Self { hub: Arc::new(Hub::new(settings)), stop, sessions: TaskTracker::new() }
    }

    /// The gRPC service, to be served with HTTP/2.
    pub fn service(&self) -> NodeStreamServer<Self> {
        NodeStreamServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Waits until every stream has ended and said so to the keeper. After `stop`.
    pub async fn drained(&self) {
        self.sessions.close();
        self.sessions.wait().await;
    }
}

#[async_trait]
impl NodeStream for NodeDoor {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<ToNode, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<FromNode>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        if self.stop.is_cancelled() {
            return Err(Status::unavailable("the server is stopping"));
        }
        let node = admit::agent(self.hub.settings(), request.metadata()).await?;
        let (outgoing, stream) = outgoing::channel();
        let hub = Arc::clone(&self.hub);
        self.sessions.spawn(session::run(hub, node, outgoing, request.into_inner(), self.stop.child_token()));
        Ok(Response::new(Box::pin(stream)))
    }
}
