//! The way out to one node. A node that does not read is cut off: it must not hold up the others, nor our memory.

use std::time::Duration;

use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::wire::node::ToNode;

/// Messages that wait for the network. A payload may be large: few of them.
const WAITING_MAX: usize = 32;
const SEND_MAX: Duration = Duration::from_secs(30);

/// The stream cannot be written any more, or not fast enough.
#[derive(Debug)]
pub(super) struct Closed;

pub(super) struct Outgoing(mpsc::Sender<Result<ToNode, Status>>);

pub(super) fn channel() -> (Outgoing, impl Stream<Item = Result<ToNode, Status>> + Send + 'static) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Outgoing(sender), ReceiverStream::new(receiver))
}

impl Outgoing {
    pub(super) async fn send(&self, message: impl Into<ToNode>) -> Result<(), Closed> {
        self.0.send_timeout(Ok(message.into()), SEND_MAX).await.map_err(|_| Closed)
    }

    /// The last word, if there is room for it.
    pub(super) fn end(self, status: Status) {
        let _ = self.0.try_send(Err(status));
    }
}
