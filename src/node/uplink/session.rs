//! One session: from Hello to the end of the stream.
//! Must not outlive its connection, nor keep what the server sent by it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Request, Status, Streaming};
use zeroize::Zeroizing;

use super::connect::{self, ConnectError};
use super::{Link, LinkState, Up};
use crate::node::config::ServerConfig;
use crate::node::payload::{Payload, Placement, Source};
use crate::node::volumes::Volumes;
use crate::wire::node::node_stream_client::NodeStreamClient;
use crate::wire::node::to_node::Message;
use crate::wire::node::{
    FromNode, Hello, PROTOCOL_VERSION, Place, Reauthenticate, Refused, ToNode, Trouble, refused,
};

const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the server ended the stream: {}: {}", .0.code(), .0.message())]
    Status(Status),
    #[error("the server did not welcome us within 10 s")]
    Silent,
    #[error("the server closed the stream")]
    Ended,
    #[error("the server speaks otherwise: {0}; are agent and server of one release?")]
    Protocol(String),
}

impl From<Status> for SessionError {
    fn from(status: Status) -> Self {
        SessionError::Status(status)
    }
}

/// Returns when the session is over, and why.
pub(super) async fn run(
    link: &Link,
    volumes: &Arc<Volumes>,
    server: &ServerConfig,
    hello: Hello,
) -> SessionError {
    match serve(link, volumes, server, hello).await {
        Err(error) => error,
        Ok(()) => SessionError::Ended,
    }
}

async fn serve(
    link: &Link,
    volumes: &Arc<Volumes>,
    server: &ServerConfig,
    hello: Hello,
) -> Result<(), SessionError> {
    let token = connect::read_token(&server.token_file)?;
    let channel = connect::connect(server).await?;
    let (outbox, inbox) = mpsc::unbounded_channel::<FromNode>();
    let beginning = {
        let (volumes, outbox) = (Arc::clone(volumes), outbox.clone());
        tokio::task::spawn_blocking(move || volumes.begin_session(hello, outbox))
    };
    let id = beginning.await.map_err(|error| SessionError::Protocol(error.to_string()))?;

    let mut request = Request::new(UnboundedReceiverStream::new(inbox));
    request.metadata_mut().insert("authorization", bearer(&token)?);
    let mut client = NodeStreamClient::with_origin(channel, server.url.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let welcomed = async {
        let mut inbound = client.connect(request).await?.into_inner();
        welcome(&mut inbound).await?;
        Ok::<_, SessionError>(inbound)
    };
    let mut inbound = timeout(ANSWER_PATIENCE, welcomed).await.map_err(|_| SessionError::Silent)??;
    tracing::info!(session = id, "connected to the server");
    volumes.session_is_up(id);
    let up = Up { session: id, outbox };
    link.set(LinkState::Up(up.clone()));

    let mut session = Session { id, up, volumes, payloads: HashMap::new() };
    let mut token = token;
    let mut look = tokio::time::interval(server.token_look);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = inbound.message() => match message? {
                Some(message) => session.hear(message),
                None => return Ok(()),
            },
            _ = look.tick() => token = session.renew(server, token),
        }
    }
}

fn bearer(token: &str) -> Result<AsciiMetadataValue, SessionError> {
    let text = Zeroizing::new(format!("Bearer {token}"));
    let mut value = AsciiMetadataValue::try_from(text.as_str())
        .map_err(|_| SessionError::Protocol("the agent's token file holds no token".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn welcome(inbound: &mut Streaming<ToNode>) -> Result<(), SessionError> {
    match inbound.message().await?.and_then(|first| first.message) {
        Some(Message::Welcome(welcome)) if welcome.protocol_version == PROTOCOL_VERSION => Ok(()),
        Some(Message::Welcome(welcome)) => Err(SessionError::Protocol(format!(
            "protocol {} and not {PROTOCOL_VERSION}",
            welcome.protocol_version
        ))),
        _ => Err(SessionError::Protocol("its first message is no Welcome".to_owned())),
    }
}

struct Session<'a> {
    id: u64,
    up: Up,
    volumes: &'a Arc<Volumes>,
    /// `None` for one that the node had no room for.
    payloads: HashMap<u64, Option<Arc<Payload>>>,
}

impl Session<'_> {
    fn hear(&mut self, message: ToNode) {
        match message.message {
            Some(Message::Payload(payload)) => {
                let id = payload.payload_id;
                let held = self.volumes.hold(Payload::from(payload));
                self.payloads.insert(id, held);
                self.volumes.measure_held();
            }
            Some(Message::DropPayload(dropped)) => {
                self.payloads.remove(&dropped.payload_id);
                self.volumes.measure_held();
            }
            Some(Message::Place(place)) => self.place(place),
            Some(Message::Refused(Refused { request_id, mount_id, reason, message })) => {
                let reason = refused::Reason::try_from(reason).unwrap_or_default();
                self.volumes.refuse(&mount_id, request_id, reason, message);
            }
            Some(Message::Withdraw(withdraw)) => {
                tracing::info!(
                    mount = withdraw.mount_id,
                    reason = withdraw.reason,
                    "files are to be withdrawn"
                );
                self.volumes.withdraw(self.id, &withdraw.mount_id, withdraw.reason);
            }
            Some(Message::Keep(keep)) => {
                let first_mounts = keep.first_mounts();
                if let Some(receipt) = self.volumes.keep(self.id, &keep.mount_id, first_mounts) {
                    self.up.send(receipt);
                }
            }
            Some(Message::Recorded(recorded)) => self.volumes.recorded(&recorded.mount_id),
            // A second Welcome says nothing new; what a later server says besides is not for us.
            Some(Message::Welcome(_)) | None => {}
        }
    }

    fn place(&mut self, place: Place) {
        match self.payloads.get(&place.payload_id) {
            Some(Some(payload)) => {
                let payload = Arc::clone(payload);
                let first_mounts = place.first_mounts();
                let source = Source::Server { first_mounts, account_uid: place.account_uid };
                let mount = place.mount.map(Arc::new);
                let placement = Placement { session: self.id, payload, mount, source };
                if place.copy_only {
                    if let Some(receipt) = self.volumes.copy(&place.mount_id, &placement) {
                        self.up.send(receipt);
                    }
                    return;
                }
                self.volumes.place(&place.mount_id, place.request_id, placement);
            }
            missing => {
                let (reason, message) = match missing {
                    Some(_) => (
                        "NodeFull",
                        "this node holds as many values as its capacity allows: raise the chart's `node.capacityMiB`",
                    ),
                    None => ("PayloadMissing", "the server named files that it had not sent"),
                };
                tracing::error!(mount = place.mount_id, reason, "files cannot be placed");
                let unavailable = refused::Reason::Unavailable;
                self.volumes.refuse(&place.mount_id, place.request_id, unavailable, message.to_owned());
                self.up.send(Trouble {
                    mount_id: place.mount_id,
                    reason: reason.to_owned(),
                    message: message.to_owned(),
                });
            }
        }
    }

    /// Tells the server of a new token once its file holds one. A file that cannot be read now is read next time.
    fn renew(&self, server: &ServerConfig, token: Zeroizing<String>) -> Zeroizing<String> {
        match connect::read_token(&server.token_file) {
            Ok(next) if next != token => {
                self.up.send(Reauthenticate { token: next.as_str().to_owned() });
                next
            }
            Ok(_) => token,
            Err(error) => {
                tracing::warn!(%error, "the agent's token could not be read again");
                token
            }
        }
    }
}
