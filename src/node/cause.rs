//! Why a pod waits for its volume, in the one place that knows the gRPC code and the words for it. kubelet makes them
//! an event on the pod.
//! Must not hold a value or a token.

use tonic::{Code, Status};

use super::trust::Untrusted;
use super::volumes::VolumeError;
use crate::wire::node::refused;

const MESSAGE_CHARS_MAX: usize = 900;

/// Why a first mount is not done yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// There is no stream; the words say why.
    ServerAway(String),
    /// There is no stream, for the reason in these words, but a trust window, in which this mount is not filled.
    Untrusted(Untrusted, String),
    /// There is a stream, but no answer.
    NoAnswer,
    Refused(refused::Reason, String),
    /// The node's own side failed.
    Volume(&'static str, String),
    /// The agent serves no new mounts.
    Draining,
    Busy,
    Gone,
}

impl Cause {
    /// One word for the event, the metric and the log.
    pub fn reason(&self) -> &'static str {
        use refused::Reason;
        match self {
            Cause::ServerAway(_) => "ServerAway",
            Cause::Untrusted(Untrusted::NoCopy, _) => "NoTrustedCopy",
            Cause::Untrusted(Untrusted::Over, _) => "TrustWindowOver",
            Cause::Untrusted(Untrusted::Off | Untrusted::Connecting, _) => "ServerAway",
            Cause::NoAnswer => "NoAnswer",
            Cause::Refused(reason, _) => match reason {
                Reason::UnknownSecret => "UnknownSecret",
                Reason::NotAllowed => "NotAllowed",
                Reason::NoValue => "NoValue",
                Reason::ScheduledForDeletion => "ScheduledForDeletion",
                Reason::BadRequest => "BadRequest",
                Reason::TokenRejected => "TokenRejected",
                Reason::TooLarge => "TooLarge",
                Reason::Unavailable | Reason::Unspecified => "ServerBusy",
            },
            Cause::Volume(reason, _) => reason,
            Cause::Draining => "Draining",
            Cause::Busy => "Busy",
            Cause::Gone => "Unpublished",
        }
    }

    /// Whether the same call can still succeed. What needs another pod, or another token, is answered at once.
    pub fn can_pass(&self) -> bool {
        use refused::Reason;
        match self {
            Cause::ServerAway(_) | Cause::Untrusted(..) | Cause::NoAnswer => true,
            Cause::Refused(reason, _) => {
                !matches!(reason, Reason::BadRequest | Reason::TokenRejected | Reason::TooLarge)
            }
            Cause::Volume(..) | Cause::Draining | Cause::Busy | Cause::Gone => false,
        }
    }

    /// What kubelet is told of the volume with `whose` content. It takes Unavailable, Aborted and the like for "perhaps done",
    /// and will unpublish; that does no harm.
    pub fn status(&self, whose: &str) -> Status {
        use refused::Reason;
        let (code, what) = match self {
            Cause::ServerAway(why) => (Code::Unavailable, away_in_words(Untrusted::Off, why)),
            Cause::Untrusted(untrusted, why) => (Code::Unavailable, away_in_words(*untrusted, why)),
            Cause::NoAnswer => (
                Code::Unavailable,
                "the Tidelock server has not answered yet; the pod starts when it does".to_owned(),
            ),
            Cause::Refused(reason, message) => {
                let code = match reason {
                    Reason::UnknownSecret => Code::NotFound,
                    Reason::NotAllowed => Code::PermissionDenied,
                    Reason::NoValue | Reason::ScheduledForDeletion | Reason::TooLarge => {
                        Code::FailedPrecondition
                    }
                    Reason::BadRequest => Code::InvalidArgument,
                    Reason::TokenRejected => Code::Unauthenticated,
                    Reason::Unavailable | Reason::Unspecified => Code::Unavailable,
                };
                (code, message.clone())
            }
            Cause::Volume("TooLarge" | "BadFileName", message) => (Code::FailedPrecondition, message.clone()),
            Cause::Volume("NodeFull", message) => (Code::ResourceExhausted, message.clone()),
            Cause::Volume("Unpublished" | "StreamBroke", message) => (Code::Aborted, message.clone()),
            Cause::Volume(_, message) => (Code::Internal, message.clone()),
            Cause::Draining => (
                Code::Unavailable,
                "Tidelock on this node only unmounts (`node --drain-only`): it is being removed".to_owned(),
            ),
            Cause::Busy => (Code::Aborted, "another call for this volume is under way".to_owned()),
            Cause::Gone => (Code::Aborted, "the volume was unpublished meanwhile".to_owned()),
        };
        let text = format!("{}: {whose}: {what}", self.reason());
        Status::new(code, text.chars().take(MESSAGE_CHARS_MAX).collect::<String>())
    }
}

fn away_in_words(untrusted: Untrusted, why: &str) -> String {
    let more = match untrusted {
        Untrusted::NoCopy => {
            ", and the node holds no copy of the secret for this ServiceAccount and these attributes of the volume"
        }
        Untrusted::Over => {
            ", and the time is over in which the node gives out its copies (`node.trustWindow`)"
        }
        Untrusted::Off | Untrusted::Connecting => "",
    };
    format!("the Tidelock server cannot be reached from this node ({why}){more}; the pod starts when it can")
}

impl From<&VolumeError> for Cause {
    fn from(error: &VolumeError) -> Self {
        Cause::Volume(error.reason(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_code_and_says_which_secret() {
        use refused::Reason;
        let refused = |reason| Cause::Refused(reason, "says the server".into());
        let cases = [
            (Cause::ServerAway("connection refused".into()), Code::Unavailable, "cannot be reached"),
            (Cause::Untrusted(Untrusted::NoCopy, "refused".into()), Code::Unavailable, "NoTrustedCopy"),
            (Cause::Untrusted(Untrusted::Over, "refused".into()), Code::Unavailable, "node.trustWindow"),
            (Cause::NoAnswer, Code::Unavailable, "has not answered"),
            (
                refused(Reason::UnknownSecret),
                Code::NotFound,
                "UnknownSecret: secret orders-db: says the server",
            ),
            (refused(Reason::NotAllowed), Code::PermissionDenied, "NotAllowed"),
            (refused(Reason::NoValue), Code::FailedPrecondition, "NoValue"),
            (refused(Reason::ScheduledForDeletion), Code::FailedPrecondition, "ScheduledForDeletion"),
            (refused(Reason::BadRequest), Code::InvalidArgument, "BadRequest"),
            (refused(Reason::TokenRejected), Code::Unauthenticated, "TokenRejected"),
            (refused(Reason::TooLarge), Code::FailedPrecondition, "TooLarge"),
            (refused(Reason::Unavailable), Code::Unavailable, "ServerBusy"),
            (Cause::Volume("NodeFull", "full".into()), Code::ResourceExhausted, "full"),
            (Cause::Volume("MounterAway", "away".into()), Code::Internal, "away"),
            (Cause::Draining, Code::Unavailable, "--drain-only"),
            (Cause::Busy, Code::Aborted, "another call"),
        ];
        for (cause, code, words) in cases {
            let status = cause.status("secret orders-db");
            assert_eq!(status.code(), code, "{cause:?}");
            assert!(status.message().contains(words), "{}", status.message());
            assert!(status.message().contains("orders-db"), "{}", status.message());
        }
    }

    #[test]
    fn a_long_message_is_cut() {
        let cause = Cause::Refused(refused::Reason::NoValue, "ü".repeat(5000));
        assert_eq!(cause.status("x").message().chars().count(), MESSAGE_CHARS_MAX);
    }
}
