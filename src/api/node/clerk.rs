//! Asks the keeper for one stream, one thing after the other: the answers come in the order of what they were made
//! from, so an older version is never placed after a newer one. Must not know the wire.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::refusal::Refusal;
use crate::access::Principal;
use crate::keeper::{Held, Keeper, KeeperError, MountRequest, Projected, Receipt, Refreshed};
use crate::secret::{Arn, VersionId};
use crate::wire::node::Mount;

/// Questions that wait; a stream that asks more is read no further until there is room.
const QUESTIONS_MAX: usize = 1024;
/// Receipts of one write: pods of a node that get a new version tell of it almost at once.
const RECEIPTS_MAX: usize = 128;

pub(super) enum Question {
    Attach {
        request_id: u64,
        mount: Mount,
        pod: Principal,
    },
    Resume {
        mount: Mount,
        pod: Principal,
    },
    /// A first mount that the node filled while this server was away.
    Served {
        mount: Mount,
        at: Timestamp,
    },
    Receipt(Receipt),
    Detach {
        mount_id: String,
    },
    Refresh(BTreeSet<Arn>),
    RefreshAll,
}

pub(super) enum Answer {
    Attached {
        request_id: u64,
        mount: Mount,
        pod: Principal,
        outcome: Result<Projected, Refusal>,
    },
    Resumed {
        mount: Mount,
        outcome: Result<Refreshed, KeeperError>,
    },
    Refreshed(Vec<(String, Refreshed)>),
    /// The audit has what the node did.
    Recorded {
        mount_id: String,
    },
}

/// The way in. The answers go to the stream's own queue.
pub(super) fn start(
    keeper: Arc<Keeper>,
    node: String,
    answers: mpsc::UnboundedSender<Answer>,
) -> (mpsc::Sender<Question>, impl Future<Output = ()> + Send) {
    let (questions, mut waiting) = mpsc::channel(QUESTIONS_MAX);
    let work = async move {
        let mut put_off = None;
        while let Some(question) = next(&mut put_off, &mut waiting).await {
            let answer = match question {
                Question::Receipt(first) => {
                    let receipts;
                    (receipts, put_off) = with_those_that_wait(first, &mut waiting);
                    write_down(&keeper, &node, &receipts).await;
                    continue;
                }
                question => ask(&keeper, &node, question).await,
            };
            if answer.is_some_and(|answer| answers.send(answer).is_err()) {
                return;
            }
        }
    };
    (questions, work)
}

async fn next(put_off: &mut Option<Question>, waiting: &mut mpsc::Receiver<Question>) -> Option<Question> {
    match put_off.take() {
        Some(question) => Some(question),
        None => waiting.recv().await,
    }
}

/// The receipts that wait behind the first one, each of another mount, to be written together; and the question that
/// ended their row.
fn with_those_that_wait(
    first: Receipt,
    waiting: &mut mpsc::Receiver<Question>,
) -> (Vec<Receipt>, Option<Question>) {
    let mut mounts = BTreeSet::from([first.mount_id.clone()]);
    let mut receipts = vec![first];
    while receipts.len() < RECEIPTS_MAX {
        match waiting.try_recv() {
            Ok(Question::Receipt(next)) if mounts.insert(next.mount_id.clone()) => receipts.push(next),
            Ok(other) => return (receipts, Some(other)),
            Err(_) => break,
        }
    }
    (receipts, None)
}

/// All in one write, or each in its own: one that cannot be written costs no other.
async fn write_down(keeper: &Keeper, node: &str, receipts: &[Receipt]) {
    if receipts.len() > 1 && keeper.receipts(node, receipts).await.is_ok() {
        return;
    }
    for receipt in receipts {
        if let Err(error) = keeper.receipts(node, std::slice::from_ref(receipt)).await {
            unwritten("a receipt", node, &receipt.mount_id, &error);
        }
    }
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
        Question::Served { mount, at } => {
            let mount_id = mount.mount_id.clone();
            let held = held(&mount)?;
            let account = &mount.service_account;
            let outcome = keeper.served_meanwhile(node, &request(&mount), account, &held, at).await;
            if let Err(error) = outcome {
                unwritten("a mount in the trust window", node, &mount_id, &error);
                return None;
            }
            let pod = format!("{}/{}", mount.pod_namespace, mount.pod_name);
            tracing::info!(pod, "the audit has a mount that the node made while this server was away");
            Some(Answer::Recorded { mount_id })
        }
        Question::Receipt(receipt) => {
            write_down(keeper, node, &[receipt]).await;
            None
        }
        Question::Detach { mount_id } => {
            if let Err(error) = keeper.detach(node, &mount_id).await {
                unwritten("the end of a mount", node, &mount_id, &error);
            }
            None
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
fn unwritten(what: &str, node: &str, mount_id: &str, error: &KeeperError) {
    tracing::error!(reason = error.reason(), %error, node, mount_id, what, "could not be written down");
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
        copy_wanted: mount.copy_wanted,
    })
}
