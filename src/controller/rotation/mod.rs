//! The loop over RotationSchedules: observe, decide (`rotation::decide`), apply, report; and beside it the one over
//! secrets that the AWS API configured. Must not decide by itself, and must not touch values: its Jobs do, with rights of
//! their own.

mod apply;
mod asked;
mod by_secret;
mod configured;
mod containers;
mod job;
mod observe;
mod pods;
mod rotators;
mod spec;
mod status;
mod subject;
mod unscheduled;

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Config as ControllerConfig, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use by_secret::BySecret;
pub use job::JobSettings;
pub use rotators::{Rotators, RotatorsError};

use super::guard::Guard;
use crate::clock::Clock;
use crate::cluster::{EventKind, EventSender, ROTATION_LABEL};
use crate::crd::reasons::Reason;
use crate::crd::{ManagedSecret, Readable, RotationSchedule, RotationScheduleStatus};
use crate::keeper::{Keeper, KeeperError, TestEnd};
use crate::rotation::{Plan, decide};
use spec::Unfit;
use subject::Subject;

/// All of the server's writes to objects carry this name.
const FIELD_MANAGER: &str = "tidelock";
/// One reconcile may begin a rotation and start its Job at once; more than these are another reconcile.
const PLANS_MAX: usize = 4;
/// Watches bring what changes; this is for what they cannot: a node's silence, a change in the store.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// While nothing is under way, nothing happens that the watches do not bring: a new value shows in the ManagedSecret.
const LOOK_AGAIN_AT_REST: Duration = Duration::from_secs(3600);
const LOOK_AGAIN_WHILE_ROTATING: Duration = Duration::from_secs(15);
const LOOK_AGAIN_AFTER_ERROR: Duration = Duration::from_secs(5);
const RECONCILES_MAX: u16 = 8;

/// What the loop works with.
#[derive(Clone)]
pub struct RotationPorts {
    pub client: Client,
    pub keeper: Arc<Keeper>,
    pub clock: Arc<dyn Clock>,
    pub events: EventSender,
    pub settings: JobSettings,
    /// What RotateSecret can name.
    pub rotators: Rotators,
    /// The certificates (PEM) that the server's descends from, as they are now; empty before the first are made.
    pub ca: tokio::sync::watch::Receiver<Arc<str>>,
    /// The leadership that acts.
    pub epoch: u64,
}

struct RotationContext {
    client: Client,
    keeper: Arc<Keeper>,
    clock: Arc<dyn Clock>,
    events: EventSender,
    settings: JobSettings,
    rotators: Rotators,
    ca: tokio::sync::watch::Receiver<Arc<str>>,
    epoch: u64,
    /// Of `settings.guards`, in that order.
    guards: Vec<Guard>,
    schedules: Store<Readable<RotationSchedule>>,
    by_secret: Arc<BySecret>,
    /// A reconcile found its schedule gone.
    schedule_missed: Notify,
}

#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    #[error("the API server refused or did not answer")]
    Cluster(#[from] kube::Error),
    #[error("the secret's rotation could not be read or written")]
    Keeper(#[from] KeeperError),
    #[error("the server's certificates are not made yet")]
    NoTrustYet,
    #[error(
        "the server may not create Jobs in namespace {0}: bind the ClusterRole tidelock-job-creator of the chart to \
         its ServiceAccount there"
    )]
    MayNotCreateJobs(String),
    #[error("the Job {0} was refused: {1}")]
    JobRefused(String, String),
    #[error("the Job {0} has the name of this attempt, but is not ours: delete it")]
    ForeignJob(String),
}

impl ReconcileError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Cluster(_) => "ClusterUnavailable",
            Self::Keeper(error) => error.reason(),
            Self::NoTrustYet => "NoTrustYet",
            Self::MayNotCreateJobs(_) => "MayNotCreateJobs",
            Self::JobRefused(..) => "JobRefused",
            Self::ForeignJob(_) => "ForeignJob",
        }
    }
}

impl ReconcileError {
    /// Whether it stays so until somebody who sees the event does something.
    fn is_for_people(&self) -> bool {
        matches!(self, Self::MayNotCreateJobs(_) | Self::JobRefused(..) | Self::ForeignJob(_))
    }
}

/// Runs the loop until `shutdown`; a reconcile under way is finished first.
pub async fn run(ports: RotationPorts, shutdown: CancellationToken) {
    let RotationPorts { client, keeper, clock, events, settings, rotators, ca, epoch } = ports;
    let ours = watcher::Config::default().labels(ROTATION_LABEL);
    let controller =
        Controller::new(Api::<Readable<RotationSchedule>>::all(client.clone()), watcher::Config::default());
    let schedules = controller.store();
    let by_secret = Arc::new(BySecret::new(schedules.clone()));
    let of_secret = {
        let by_secret = Arc::clone(&by_secret);
        move |secret: PartialObjectMeta<ManagedSecret>| schedules_of(&secret.metadata, &by_secret)
    };
    let guards = settings.guards.iter().map(|name| Guard::new(client.clone(), name.clone())).collect();
    let ctx = RotationContext {
        client: client.clone(),
        keeper,
        clock,
        events,
        settings,
        rotators,
        ca,
        epoch,
        guards,
        schedules,
        by_secret,
        schedule_missed: Notify::new(),
    };
    let ctx = Arc::new(ctx);
    let stop = shutdown.clone();
    let followed = controller
        .with_config(ControllerConfig::default().concurrency(RECONCILES_MAX))
        .watches(
            Api::<PartialObjectMeta<ManagedSecret>>::all(client.clone()),
            watcher::Config::default(),
            of_secret,
        )
        .watches(Api::<Job>::all(client.clone()), ours.clone(), |job: Job| schedule_of(&job))
        .watches(Api::<Pod>::all(client), ours, |pod: Pod| schedule_of(&pod))
        .graceful_shutdown_on(async move { shutdown.cancelled().await })
        .run(reconcile, on_error, Arc::clone(&ctx))
        .for_each(|_| async {});
    let followed = async {
        tokio::select! {
            () = followed => {}
            () = stopped_early(&stop, &ctx) => {}
        }
    };
    tokio::join!(
        followed,
        stop.run_until_cancelled(unscheduled::run(&ctx)),
        stop.run_until_cancelled(asked::run(&ctx)),
        stop.run_until_cancelled(configured::run(&ctx)),
    );
}

/// Returns when the loop is stopped before it knows all schedules. It has begun nothing then, and would wait for ever for
/// the rest of them.
async fn stopped_early(stop: &CancellationToken, ctx: &RotationContext) {
    stop.cancelled().await;
    if ctx.schedules.wait_until_ready().now_or_never().is_some() {
        std::future::pending::<()>().await;
    }
}

async fn reconcile(
    read: Arc<Readable<RotationSchedule>>,
    ctx: Arc<RotationContext>,
) -> Result<Action, ReconcileError> {
    ctx.by_secret.note(&read.object);
    if read.object.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    if let Some(unread) = &read.unread {
        let unfit = Unfit::new(Reason::ScheduleInvalid, unread);
        let status = status::unfit(&read.object, &unfit, ctx.clock.now());
        apply::tell_new(&ctx, &read.object, &status);
        status::report(&ctx, &read, status).await?;
        return Ok(Action::requeue(LOOK_AGAIN));
    }
    let Some((status, again)) = settle(&ctx, &read.object).await? else {
        ctx.schedule_missed.notify_one();
        return Ok(Action::await_change());
    };
    apply::tell_new(&ctx, &read.object, &status);
    status::report(&ctx, &read, status).await?;
    Ok(Action::requeue(again))
}

/// Observes and acts until what is seen asks for nothing more now. Says what to report, and when to look again; nothing
/// when the schedule is gone. That is asked after each act too, so that no act is the last thing done for it.
async fn settle(
    ctx: &RotationContext,
    object: &RotationSchedule,
) -> Result<Option<(RotationScheduleStatus, Duration)>, ReconcileError> {
    let subject = Subject::of_schedule(object);
    let mut plans = 0;
    loop {
        if !unscheduled::is_there(ctx, object).await? {
            return Ok(None);
        }
        let seen = match observe::observe(ctx, object).await? {
            Ok(seen) => seen,
            Err(unfit) => {
                end_hindered_test(ctx, object, &unfit).await?;
                return Ok(Some((status::unfit(object, &unfit, ctx.clock.now()), LOOK_AGAIN)));
            }
        };
        if seen.view.enabled != Some(true) {
            // DescribeSecret says that a schedule is followed.
            ctx.keeper.set_rotation_enabled(&seen.view.arn, true).await?;
        }
        apply::tidy_up(ctx, &seen).await?;
        let now = ctx.clock.now();
        let plan = decide(&seen.observed(), now);
        apply::apply(ctx, &subject, &seen, plan).await?;
        plans += 1;
        let waits = waits(plan);
        if waits || plans == PLANS_MAX {
            let again = if waits { look_again(plan, now) } else { Duration::ZERO };
            return Ok(Some((status::fit(object, &seen, plan, now), again)));
        }
    }
}

/// A test stands in the way of rotations, and one that cannot be followed would not end. Of two schedules that name the
/// secret it is the other's.
async fn end_hindered_test(
    ctx: &RotationContext,
    object: &RotationSchedule,
    unfit: &Unfit,
) -> Result<(), ReconcileError> {
    if unfit.reason == Reason::ScheduleConflict {
        return Ok(());
    }
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    match ctx.keeper.secret_of_resource(namespace, &object.spec.secret) {
        Some(arn) => Ok(ctx.keeper.end_rotation_test(&arn, TestEnd::HINDERED).await?),
        None => Ok(()),
    }
}

/// Whether the plan changed nothing that the next decision would see.
fn waits(plan: Plan) -> bool {
    match plan {
        Plan::Nothing { .. } | Plan::Wait { .. } | Plan::RetryAt { .. } | Plan::WaitingForNode => true,
        Plan::Begin { .. }
        | Plan::Resume { .. }
        | Plan::StartJob { .. }
        | Plan::AttemptFailed { .. }
        | Plan::Succeed
        | Plan::Abandon
        | Plan::TestSucceeded
        | Plan::TestFailed { .. } => false,
    }
}

fn look_again(plan: Plan, now: Timestamp) -> Duration {
    let until = |at: Timestamp, most: Duration| {
        let wait = Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO);
        // A moment later than asked, so that the decision does not wait for the last millisecond again.
        wait.saturating_add(Duration::from_millis(100)).min(most)
    };
    match plan {
        Plan::Nothing { until: Some(at) } => until(at, LOOK_AGAIN_AT_REST),
        Plan::Nothing { until: None } => LOOK_AGAIN_AT_REST,
        Plan::RetryAt { at } => until(at, LOOK_AGAIN),
        Plan::Wait { .. } | Plan::WaitingForNode => LOOK_AGAIN_WHILE_ROTATING,
        _ => LOOK_AGAIN,
    }
}

fn on_error(
    read: Arc<Readable<RotationSchedule>>,
    error: &ReconcileError,
    ctx: Arc<RotationContext>,
) -> Action {
    let object = &read.object;
    let (namespace, name) = (object.metadata.namespace.as_deref(), object.metadata.name.as_deref());
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(namespace, name, reason = error.reason(), %error, cause, "a reconcile failed");
    metrics::counter!("tidelock_reconcile_failures_total", "kind" => "RotationSchedule").increment(1);
    if error.is_for_people() {
        ctx.events.send(
            object.object_ref(&()),
            EventKind::Warning,
            error.reason(),
            "Rotate",
            error.to_string(),
        );
    }
    Action::requeue(LOOK_AGAIN_AFTER_ERROR)
}

fn schedules_of(secret: &ObjectMeta, schedules: &BySecret) -> Vec<ObjectRef<Readable<RotationSchedule>>> {
    let (Some(namespace), Some(name)) = (&secret.namespace, &secret.name) else { return Vec::new() };
    schedules.of(namespace, name).iter().map(|read| ObjectRef::from_obj(read.as_ref())).collect()
}

/// A Job or pod says in an annotation whose it is: some run in a namespace of their own. Whoever forges it causes a
/// reconcile, no more.
fn schedule_of<K: Resource>(object: &K) -> Option<ObjectRef<Readable<RotationSchedule>>> {
    let annotations = object.meta().annotations.as_ref()?;
    let (namespace, name) = annotations.get(job::SCHEDULE_ANNOTATION)?.split_once('/')?;
    Some(ObjectRef::new(name).within(namespace))
}
