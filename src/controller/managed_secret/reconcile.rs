//! One look at one ManagedSecret, and what follows from it. Must not decide, nor hold state between looks but the time
//! of the last status.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use kube::runtime::controller::Action;
use kube::{Api, Resource, ResourceExt};

use super::decide::{self, Observed, Plan, Refusal};
use super::observe::{self, ObserveError, Seen};
use super::status::{self, Facts, Outcome};
use super::value::{self, ValueError};
use super::{Context, Reader};
use crate::access::Principal;
use crate::cluster::EventKind;
use crate::crd::condition::SYNCED;
use crate::crd::reasons::Reason;
use crate::crd::{ANNOTATION_APPROVE_RESTORE, Desired, ManagedSecret, ManagedSecretStatus, Readable};
use crate::failpoint;
use crate::keeper::{Create, KeeperError, Restoration};
use crate::secret::{Origin, SecretId, VersionId};

/// A restore is followed by a configure, and that by the look that finds nothing to do.
const STEPS_MAX: usize = 4;
/// What can change without an event: a source Secret, a policy, a namespace.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Of what is settled every change is told: by the watch, or by the keeper.
const LOOK_NOW_AND_THEN: Duration = Duration::from_secs(3600);

#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error("the status could not be written: {0}")]
    Status(Box<kube::Error>),
}

/// Why a plan could not be carried out. It is shown in the status and tried again.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error(transparent)]
    Value(#[from] ValueError),
    #[error("{0}")]
    Keeper(#[from] KeeperError),
    #[error("the object's UID cannot be the id of a version: {0}")]
    Token(#[from] crate::secret::VersionIdError),
}

impl ApplyError {
    fn outcome(&self) -> Outcome {
        let reason = match self {
            Self::Value(error) => error.reason(),
            Self::Keeper(KeeperError::Exists(_) | KeeperError::NameMarkedForDeletion) => Reason::NameTaken,
            Self::Keeper(KeeperError::RestoreNeedsApproval(_)) => Reason::RestoreNeedsApproval,
            Self::Keeper(KeeperError::InvalidParameter(_) | KeeperError::InvalidRequest(_)) => {
                Reason::SpecInvalid
            }
            Self::Keeper(_) | Self::Token(_) => Reason::TryingAgain,
        };
        Outcome { synced: false, reason, message: self.to_string() }
    }
}

pub(super) async fn reconcile(
    read: Arc<Readable<ManagedSecret>>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    if read.object.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let (seen, outcome) = settle(&read, &context).await?;
    let calm = if outcome.synced { LOOK_NOW_AND_THEN } else { LOOK_AGAIN };
    let wait = report(&read, &context, &seen, &outcome).await?;
    super::counted("done");
    Ok(Action::requeue(wait.unwrap_or(calm)))
}

/// Observes, decides and applies until there is nothing to do, or something stands in the way.
async fn settle(
    read: &Readable<ManagedSecret>,
    context: &Context,
) -> Result<(Seen, Outcome), ReconcileError> {
    let object = &read.object;
    for _ in 0..STEPS_MAX {
        let seen = observe::observe(context, read).await?;
        let plan = decide::decide(&observed(object, &seen, authors_are_asked(context).await));
        if let Some(outcome) = ending(&plan) {
            return Ok((seen, outcome));
        }
        match apply(context, &seen, plan).await {
            Ok(Some((reason, note))) => tell(object, context, EventKind::Normal, reason, note.to_owned()),
            Ok(None) => {}
            Err(error) => {
                // After a failed write nothing that was seen before is sure.
                return Ok((observe::observe(context, read).await?, error.outcome()));
            }
        }
    }
    let message = "the secret changes faster than it can be followed".to_owned();
    let outcome = Outcome { synced: false, reason: Reason::TryingAgain, message };
    Ok((observe::observe(context, read).await?, outcome))
}

fn observed<'a>(object: &'a ManagedSecret, seen: &'a Seen, authors_are_asked: bool) -> Observed<'a> {
    let effective = object.status.as_ref().and_then(|status| status.effective.as_ref());
    let approved = object.annotations().get(ANNOTATION_APPROVE_RESTORE);
    Observed {
        resource: seen.identity(),
        desired: seen.desired.as_ref(),
        named: seen.named.as_ref(),
        elsewhere: seen.elsewhere.as_ref().map(|secret| &secret.name),
        made_by: effective.map(|effective| effective.value.as_str()),
        approved_restore: approved.map(String::as_str),
        authors_are_asked,
    }
}

async fn authors_are_asked(context: &Context) -> bool {
    context.authors.is_in_force(context.ports.clock.monotonic()).await
}

/// How it ends when the plan is to do nothing.
fn ending(plan: &Plan) -> Option<Outcome> {
    match plan {
        Plan::Keep => {
            let message = "the secret is as spec says".to_owned();
            Some(Outcome { synced: true, reason: Reason::Applied, message })
        }
        Plan::Refuse(Refusal { reason, message }) => {
            Some(Outcome { synced: false, reason: *reason, message: message.clone() })
        }
        Plan::Create | Plan::Restore { .. } | Plan::Configure(_) => None,
    }
}

/// Carries one plan out; each is one transaction of the store, so that a kill leaves it done or not done.
async fn apply(
    context: &Context,
    seen: &Seen,
    plan: Plan,
) -> Result<Option<(Reason, &'static str)>, ApplyError> {
    let keeper = &context.ports.keeper;
    match (plan, &seen.desired, &seen.named) {
        (Plan::Create, Ok(desired), _) => {
            create(context, seen, desired).await?;
            Ok(Some((Reason::Created, "the secret was made")))
        }
        (Plan::Restore { approved }, _, Some(secret)) => {
            let restoration =
                Restoration::Resource { uid: &seen.uid, namespace_uid: &seen.namespace_uid, approved };
            let was_deleted = secret.deletion.is_some();
            keeper
                .restore(&Principal::Controller, &SecretId::Arn(secret.arn.to_string()), restoration)
                .await?;
            Ok(was_deleted.then_some((Reason::Restored, "the secret is back, with its versions")))
        }
        (Plan::Configure(wanted), _, Some(secret)) => {
            keeper.configure(&Principal::Controller, &SecretId::Arn(secret.arn.to_string()), &wanted).await?;
            Ok(None)
        }
        _ => Ok(None),
    }
}

async fn create(context: &Context, seen: &Seen, desired: &Desired) -> Result<(), ApplyError> {
    let reader: &Reader = &context.settings.reader;
    let value = {
        let mut random = (context.ports.random)();
        let client = &context.ports.client;
        value::first_value(&desired.value, &seen.namespace, client, reader, random.as_mut()).await?
    };
    failpoint::reach("create.value-made");
    let wanted = Create {
        name: desired.name.clone(),
        description: desired.description.clone(),
        // The UID of the resource: however often the making is begun, it is one version.
        token: VersionId::parse(&seen.uid)?,
        value,
        origin: Origin::CustomResource {
            namespace: seen.namespace.clone(),
            name: seen.name.clone(),
            uid: seen.uid.clone(),
            namespace_uid: seen.namespace_uid.clone(),
        },
        grants: decide::grants(desired),
        recovery_window_days: desired.recovery_window_days,
        tags: std::collections::BTreeMap::new(),
    };
    context.ports.keeper.create(&Principal::Controller, &wanted).await?;
    Ok(())
}

/// Writes the status when it is another one. Returns how long to wait when the last write was too short ago.
async fn report(
    read: &Readable<ManagedSecret>,
    context: &Context,
    seen: &Seen,
    outcome: &Outcome,
) -> Result<Option<Duration>, ReconcileError> {
    let (object, secret) = (&read.object, seen.own());
    let consumers = match secret {
        Some(secret) => context.ports.keeper.consumers(&secret.arn).await.ok(),
        None => None,
    };
    let before = object.status.as_ref();
    let recorded = before.and_then(|status| Some(status.effective.as_ref()?.value.clone()));
    let made_by = recorded.or_else(|| seen.desired.as_ref().ok().map(|desired| desired.value.describe()));
    let generation = object.metadata.generation;
    let now = context.ports.clock.now();
    let status = status::build(before, Facts { outcome, secret, consumers, made_by, generation, now });
    if before == Some(&status) {
        return Ok(None);
    }
    if let Some(wait) = too_soon(context, &seen.uid) {
        return Ok(Some(wait));
    }
    let api = Api::namespaced(context.ports.client.clone(), &seen.namespace);
    failpoint::reach("status.before-write");
    match status::write(&api, read, &status).await {
        Ok(()) => failpoint::reach("status.written"),
        // It is gone, or another of its name is there: the sweep sees to the secret.
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => return Ok(None),
        Err(error) => return Err(ReconcileError::Status(Box::new(error))),
    }
    announce(object, context, before, outcome);
    Ok(None)
}

/// Takes the turn to write, or says how long it is until the next one.
fn too_soon(context: &Context, uid: &str) -> Option<Duration> {
    let now: Instant = context.ports.clock.monotonic();
    let every = context.settings.status_every;
    let mut written = context.written.lock().unwrap_or_else(PoisonError::into_inner);
    written.retain(|_, at| now.saturating_duration_since(*at) < every);
    if let Some(at) = written.get(uid) {
        return Some(every.saturating_sub(now.saturating_duration_since(*at)));
    }
    written.insert(uid.to_owned(), now);
    None
}

/// An event for each new reason, so that `kubectl describe` tells the story once; that it was made tells already that
/// it is as wanted.
fn announce(
    object: &ManagedSecret,
    context: &Context,
    before: Option<&ManagedSecretStatus>,
    outcome: &Outcome,
) {
    let conditions = before.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let said = conditions.iter().find(|condition| condition.type_ == SYNCED).map(|c| c.reason.as_str());
    let told = said == Some(outcome.reason.word()) || (said.is_none() && outcome.reason == Reason::Applied);
    if told {
        return;
    }
    let kind = if outcome.synced { EventKind::Normal } else { EventKind::Warning };
    tell(object, context, kind, outcome.reason, outcome.message.clone());
}

fn tell(object: &ManagedSecret, context: &Context, kind: EventKind, reason: Reason, note: String) {
    let (namespace, name) = (object.namespace(), object.name_any());
    tracing::info!(namespace, name, %reason, "a ManagedSecret has a new state");
    context.ports.events.send(object.object_ref(&()), kind, reason.word(), "Sync", note);
}
