//! The loop over secrets whose rotation the AWS API configured: the same observe, decide and apply as for schedules, with
//! a registered rotator in place of a schedule's, in the namespace of rotations. Must not follow a ManagedSecret's secret.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::broadcast::error::RecvError;

use super::observe::{self, Asked};
use super::spec::Wanted;
use super::subject::Subject;
use super::{LOOK_AGAIN, LOOK_AGAIN_AFTER_ERROR, PLANS_MAX, ReconcileError, RotationContext, apply, waits};
use crate::cluster::EventKind;
use crate::crd::reasons::Reason;
use crate::keeper::{Changed, JobRecord, RotationConfig, RotationState, RotationView, TestEnd, What};
use crate::rotation::{Plan, Retries, decide, rotator_name};
use crate::secret::{Arn, Name};

/// No watch brings its Jobs: nothing names the secret on them but an ARN.
const LOOK_AGAIN_WHILE_ROTATING: Duration = Duration::from_secs(2);
const PAGE: usize = 500;

/// The secrets that are followed, and when each is looked at next.
type Followed = BTreeMap<Arn, Instant>;

/// Runs until it is dropped.
pub(super) async fn run(ctx: &RotationContext) {
    let mut changes = ctx.keeper.changes();
    let mut followed = everything(ctx).await;
    loop {
        look(ctx, &mut followed).await;
        let now = ctx.clock.monotonic();
        let next = followed.values().min().map_or(LOOK_AGAIN, |at| at.saturating_duration_since(now));
        tokio::select! {
            changed = changes.recv() => match changed {
                Ok(Changed { arn, what }) => {
                    if what.may_bring_rotation() || (followed.contains_key(&arn) && what != What::Consumers) {
                        followed.insert(arn, now);
                    }
                }
                Err(RecvError::Lagged(_)) => followed = everything(ctx).await,
                Err(RecvError::Closed) => return,
            },
            () = tokio::time::sleep(next) => {}
        }
    }
}

/// All that the API configured, to be looked at now.
async fn everything(ctx: &RotationContext) -> Followed {
    loop {
        match inventory(ctx).await {
            Ok(followed) => return followed,
            Err(error) => {
                tracing::warn!(reason = error.reason(), %error, "configured rotations could not be listed");
                tokio::time::sleep(LOOK_AGAIN_AFTER_ERROR).await;
            }
        }
    }
}

async fn inventory(ctx: &RotationContext) -> Result<Followed, ReconcileError> {
    let (mut followed, now) = (Followed::new(), ctx.clock.monotonic());
    let mut after: Option<Name> = None;
    loop {
        let page = ctx.keeper.inventory(after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(followed) };
        after = Some(last.name.clone());
        let configured = page.iter().filter(|record| record.rotation.is_some());
        followed.extend(configured.map(|record| (record.arn.clone(), now)));
    }
}

async fn look(ctx: &RotationContext, followed: &mut Followed) {
    let now = ctx.clock.monotonic();
    let due: Vec<Arn> = followed.iter().filter(|(_, at)| **at <= now).map(|(arn, _)| arn.clone()).collect();
    for arn in due {
        match follow(ctx, &arn).await {
            Ok(Some(again)) => drop(followed.insert(arn, ctx.clock.monotonic() + again)),
            Ok(None) => drop(followed.remove(&arn)),
            Err(error) => {
                tracing::warn!(secret = %arn, reason = error.reason(), %error, "a rotation could not be followed");
                followed.insert(arn, ctx.clock.monotonic() + LOOK_AGAIN_AFTER_ERROR);
            }
        }
    }
}

/// Says when to look again; nothing when there is nothing to follow.
async fn follow(ctx: &RotationContext, arn: &Arn) -> Result<Option<Duration>, ReconcileError> {
    for _ in 0..PLANS_MAX {
        let view = match ctx.keeper.rotation(arn).await {
            Err(crate::keeper::KeeperError::NotFound) => return Ok(None),
            view => view?,
        };
        let Some(config) = view.config.clone() else { return Ok(None) };
        let subject = Subject::of_secret(&view.name, &ctx.settings);
        if view.enabled != Some(true) {
            return switched_off(ctx, &view).await.map(Some);
        }
        if view.hindrance.is_some() {
            ctx.keeper.end_rotation_test(arn, TestEnd::HINDERED).await?;
            return Ok(Some(LOOK_AGAIN));
        }
        let Some(wanted) = wanted(ctx, &config)? else {
            ctx.keeper.end_rotation_test(arn, TestEnd::HINDERED).await?;
            unregistered(ctx, &subject, &config);
            return Ok(Some(LOOK_AGAIN));
        };
        let asked = Asked { token: None, since: config.since };
        let seen = observe::seen(ctx, &subject, view, wanted, asked).await?;
        apply::tidy_up(ctx, &seen).await?;
        let now = ctx.clock.now();
        let plan = decide(&seen.observed(), now);
        told_of(ctx, &subject, apply::apply(ctx, &subject, &seen, plan).await)?;
        if waits(plan) {
            let rotating = matches!(plan, Plan::Wait { .. } | Plan::WaitingForNode);
            return Ok(Some(if rotating { LOOK_AGAIN_WHILE_ROTATING } else { super::look_again(plan, now) }));
        }
    }
    Ok(Some(Duration::ZERO))
}

fn wanted(ctx: &RotationContext, config: &RotationConfig) -> Result<Option<Wanted>, ReconcileError> {
    let Some(work) = ctx.rotators.named(rotator_name(&config.rotator)) else { return Ok(None) };
    Ok(Some(Wanted {
        schedule: config.schedule()?,
        retries: Retries::default(),
        suspend: false,
        rotate_immediately: false,
        work: work.clone(),
    }))
}

/// 1. A rotation that was resumed just when somebody cancelled it loses its rights. 2. Jobs whose pods are gone are noted, so
///    that none is waited for later. 3. No other goes on.
async fn switched_off(ctx: &RotationContext, view: &RotationView) -> Result<Duration, ReconcileError> {
    let Some(journal) = &view.journal else { return Ok(LOOK_AGAIN) };
    // 1.
    if journal.state == RotationState::Running {
        let message = "rotation is off";
        ctx.keeper.halt_rotation(&view.arn, Reason::RotationCancelled.word(), message).await?;
        return Ok(Duration::ZERO);
    }
    // 2.
    let gone = observe::gone(ctx, view).await?;
    if !gone.is_empty() {
        ctx.keeper.rotation_pods_gone(&view.arn, &gone).await?;
    }
    // 3. The Job of the journal's own attempt has ended well, or was overtaken.
    let is_earlier = |job: &&JobRecord| job.attempt != journal.attempt;
    let live = || journal.jobs.iter().filter(|job| !job.gone && !gone.contains(&job.uid));
    let overtaken = journal.state == RotationState::Abandoned;
    let wanted: Vec<_> = live().filter(|job| overtaken || is_earlier(job)).cloned().collect();
    apply::delete_jobs(ctx, &wanted).await?;
    let waits = live().any(|job| is_earlier(&job));
    Ok(if waits { LOOK_AGAIN_WHILE_ROTATING } else { LOOK_AGAIN })
}

fn unregistered(ctx: &RotationContext, subject: &Subject, config: &RotationConfig) {
    let name = rotator_name(&config.rotator);
    let note =
        format!("{}no rotator {name} is registered any more: see the chart's value rotators", subject.prefix);
    let reason = Reason::RotatorUnsuitable.word();
    ctx.events.send(subject.about.clone(), EventKind::Warning, reason, "Rotate", note);
}

/// What stays so until somebody who sees the event does something.
fn told_of(
    ctx: &RotationContext,
    subject: &Subject,
    applied: Result<(), ReconcileError>,
) -> Result<(), ReconcileError> {
    if let Err(error) = &applied
        && error.is_for_people()
    {
        let note = format!("{}{error}", subject.prefix);
        ctx.events.send(subject.about.clone(), EventKind::Warning, error.reason(), "Rotate", note);
    }
    applied
}
