//! Asks the keeper for one stream, one thing after the other: the answers come in the order of what they were made
//! from, so an older version is never placed after a newer one. Must not know the wire.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::refusal::Refusal;
use crate::access::Principal;
use crate::keeper::{Held, Keeper, KeeperError, MountRequest, Projected, Refreshed};
use crate::secret::{Arn, VersionId};
use crate::wire::node::Mount;

/// Questions that wait; a stream that asks more is read no further until there is room.
const QUESTIONS_MAX: usize = 1024;

pub(super) enum Question {
    Attach { request_id: u64, mount: Mount, pod: Principal },
    Resume { mount: Mount, pod: Principal },
    Receipt { mount_id: String, arn: Arn, version: VersionId },
    Detach { mount_id: String },
    Refresh(BTreeSet<Arn>),
    RefreshAll,
}

pub(super) enum Answer {
    Attached { request_id: u64, mount: Mount, pod: Principal, outcome: Result<Projected, Refusal> },
    Resumed { mount: Mount, outcome: Result<Refreshed, KeeperError> },
    Refreshed(Vec<(String, Refreshed)>),
}

/// The way in. The answers go to the stream's own queue.
pub(super) fn start(
    keeper: Arc<Keeper>,
    node: String,
    answers: mpsc::UnboundedSender<Answer>,
) -> (mpsc::Sender<Question>, impl Future<Output = ()> + Send) {
    let (questions, mut waiting) = mpsc::channel(QUESTIONS_MAX);
    let work = async move {
        while let Some(question) = waiting.recv().await {
            let Some(answer) = ask(&keeper, &node, question).await else { continue };
            if answers.send(answer).is_err() {
                return;
            }
        }
    };
    (questions, work)
}

async fn ask(keeper: &Keeper, node: &str, question: Question) -> Option<Answer> {
    match question {
        Question::Attach { request_id, mount, pod } => {
            let outcome = keeper.attach(&pod, node, request(&mount)).await;
            let outcome = outcome.map_err(|error| Refusal::from(&error));
            Some(Answer::Attached { request_id, mount, pod, outcome })
        }
        Question::Resume { mount, pod } => {
            let outcome = keeper.resume(&pod, node, request(&mount), held(&mount)).await;
            Some(Answer::Resumed { mount, outcome })
        }
        Question::Receipt { mount_id, arn, version } => {
            let outcome = keeper.receipt(node, &mount_id, &arn, &version).await;
            unwritten("a receipt", node, &mount_id, outcome)
        }
        Question::Detach { mount_id } => {
            let outcome = keeper.detach(node, &mount_id).await;
            unwritten("the end of a mount", node, &mount_id, outcome)
        }
        Question::Refresh(arns) => {
            let mut refreshed = Vec::new();
            for arn in &arns {
                refreshed.extend(keeper.refresh(node, arn).await);
            }
            Some(Answer::Refreshed(refreshed))
        }
        Question::RefreshAll => Some(Answer::Refreshed(keeper.refresh_node(node).await)),
    }
}

/// What could not be written is told again by the next Hello of the node.
fn unwritten(what: &str, node: &str, mount_id: &str, outcome: Result<(), KeeperError>) -> Option<Answer> {
    if let Err(error) = outcome {
        tracing::error!(reason = error.reason(), %error, node, mount_id, what, "could not be written down");
    }
    None
}

fn request(mount: &Mount) -> MountRequest {
    MountRequest {
        mount_id: mount.mount_id.clone(),
        pod_namespace: mount.pod_namespace.clone(),
        pod_name: mount.pod_name.clone(),
        pod_uid: mount.pod_uid.clone(),
        attributes: mount.attributes.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
    }
}

/// What the manifest says that the files are; nothing when it says nothing that can be.
fn held(mount: &Mount) -> Option<Held> {
    Some(Held {
        arn: Arn::parse(&mount.secret_arn)?,
        version: VersionId::parse(&mount.version_id).ok()?,
        file_names: mount.file_names.iter().cloned().collect(),
    })
}
