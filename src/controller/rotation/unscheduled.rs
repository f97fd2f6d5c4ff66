//! Secrets whose RotationSchedule is gone: rotation is switched off, and an attempt that is under way is ended.
//! Must not take the absence of an event, or a local copy, for a deletion: it lists again before it acts.

use std::time::Duration;

use futures::TryStreamExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, api::ListParams};

use super::{ReconcileError, RotationContext, apply};
use crate::cluster::EventKind;
use crate::crd::reasons::Reason;
use crate::crd::{ManagedSecret, Readable, RotationSchedule};
use crate::secret::{Arn, Origin};

/// For what no event told: a deletion while nobody watched, a Job that was made at the very moment of one.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
const PAGE: usize = 500;
const MESSAGE: &str =
    "the RotationSchedule was deleted in the middle of the rotation; another one resumes it";

/// Runs until it is dropped.
pub(super) async fn run(ctx: &RotationContext) {
    let schedules: Api<Readable<RotationSchedule>> = Api::all(ctx.client.clone());
    let events = kube::runtime::watcher(schedules, watcher::Config::default()).default_backoff();
    let mut events = std::pin::pin!(events);
    let mut now_and_then = tokio::time::interval(SWEEP_EVERY);
    loop {
        let look = tokio::select! {
            _ = now_and_then.tick() => true,
            () = ctx.schedule_missed.notified() => true,
            event = events.try_next() => match event {
                Ok(Some(Event::Delete(_) | Event::InitDone)) => true,
                Ok(Some(Event::Init | Event::InitApply(_) | Event::Apply(_))) => false,
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "the watch of RotationSchedules was interrupted");
                    false
                }
            },
        };
        if look && let Err(error) = sweep(ctx).await {
            tracing::warn!(reason = error.reason(), %error, "secrets without a schedule could not be looked for");
        }
    }
}

/// Whether the object is there still, and no other under its name.
pub(super) async fn is_there(
    ctx: &RotationContext,
    object: &RotationSchedule,
) -> Result<bool, ReconcileError> {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let schedules: Api<RotationSchedule> = Api::namespaced(ctx.client.clone(), namespace);
    let found = schedules.get_metadata_opt(object.metadata.name.as_deref().unwrap_or_default()).await?;
    Ok(found.is_some_and(|found| {
        found.metadata.uid == object.metadata.uid && found.metadata.deletion_timestamp.is_none()
    }))
}

async fn sweep(ctx: &RotationContext) -> Result<(), ReconcileError> {
    let mut after = None;
    loop {
        let page = ctx.keeper.inventory(after.as_ref(), PAGE).await?;
        for record in &page {
            if record.rotation_enabled == Some(true)
                && let Origin::CustomResource { namespace, name, .. } = &record.origin
            {
                switch_off_without_schedule(ctx, &record.arn, namespace, name).await?;
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.name.clone()),
            _ => return Ok(()),
        }
    }
}

/// 1. Make sure that no schedule names the secret. 2. Take the rights of an attempt that is under way. 3. Delete its
///    Job. 4. Note that rotation is off: until then the next sweep does all of it again.
async fn switch_off_without_schedule(
    ctx: &RotationContext,
    arn: &Arn,
    namespace: &str,
    name: &str,
) -> Result<(), ReconcileError> {
    // 1.
    let schedules: Api<Readable<RotationSchedule>> = Api::namespaced(ctx.client.clone(), namespace);
    let named = schedules.list(&ListParams::default()).await?;
    // One that cannot be read may name any secret of its namespace.
    if named.items.iter().any(|read| read.unread.is_some() || read.object.spec.secret == name) {
        return Ok(());
    }
    // 2.
    let reason = Reason::RotationCancelled;
    let jobs = ctx.keeper.halt_rotation(arn, reason.word(), MESSAGE).await?;
    // 3.
    apply::delete_jobs(ctx, &jobs).await?;
    // 4.
    ctx.keeper.set_rotation_enabled(arn, false).await?;
    metrics::counter!("tidelock_rotation_events_total", "reason" => reason.word()).increment(1);
    tracing::info!(namespace, name, reason = reason.word(), "rotation is off");
    let secrets: Api<ManagedSecret> = Api::namespaced(ctx.client.clone(), namespace);
    if let Some(secret) = secrets.get_metadata_opt(name).await? {
        let note = "no RotationSchedule names this secret any more: it is rotated no more".to_owned();
        let about = kube::Resource::object_ref(&secret, &());
        ctx.events.send(about, EventKind::Normal, reason.word(), "Rotate", note);
    }
    Ok(())
}
