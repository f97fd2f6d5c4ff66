//! Messages and the service of the stream between a node's agent and the server (see `proto/node.proto`).
//! Messages that carry values or tokens are wiped when dropped (so take fields out with `mem::take`) and never
//! show them in Debug.
//! Must not decide anything: it is spoken by `node` and by the server.

use std::fmt;

use zeroize::Zeroize;

pub use generated::*;

#[allow(clippy::all, clippy::too_many_lines, clippy::large_futures, reason = "generated code")]
mod generated {
    tonic::include_proto!("tidelock.node.v1");
}

/// The version of the stream's protocol that this program speaks.
pub const PROTOCOL_VERSION: u32 = 1;

impl fmt::Debug for Attach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attach")
            .field("request_id", &self.request_id)
            .field("mount", &self.mount)
            .field("pod_token", &"<redacted>")
            .finish()
    }
}

impl Drop for Attach {
    fn drop(&mut self) {
        self.pod_token.zeroize();
    }
}

impl fmt::Debug for Reauthenticate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reauthenticate").field("token", &"<redacted>").finish()
    }
}

impl Drop for Reauthenticate {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("name", &self.name).field("content", &"<redacted>").finish()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.content.zeroize();
    }
}

macro_rules! into_stream_message {
    ($envelope:ident, $module:ident: $($message:ident),+) => {$(
        impl From<$message> for $envelope {
            fn from(message: $message) -> Self {
                Self { message: Some($module::Message::$message(message)) }
            }
        }
    )+};
}

into_stream_message!(FromNode, from_node: Hello, Attach, Receipt, Trouble, Detach, Reauthenticate);
into_stream_message!(ToNode, to_node: Welcome, Payload, Place, Refused, Withdraw, DropPayload, Keep, Recorded);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_messages_shows_no_value_and_no_token() {
        let canary = "c4nary-value";
        let file = File { name: "password".into(), content: canary.as_bytes().to_vec() };
        let shown = [
            format!("{:?}", FromNode::from(Attach { request_id: 7, mount: None, pod_token: canary.into() })),
            format!("{:?}", FromNode::from(Reauthenticate { token: canary.into() })),
            format!("{:?}", ToNode::from(Payload { files: vec![file], ..Payload::default() })),
        ];
        for text in shown {
            assert!(text.contains("<redacted>"), "{text}");
            assert!(!text.contains(canary), "{text}");
            assert!(!text.contains(&format!("{:?}", canary.as_bytes())), "{text}");
        }
    }
}
