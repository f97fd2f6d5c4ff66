//! Secrets whose RotationSchedule is gone: rotation is switched off, and an attempt that is under way is ended.
//! Must not take the absence of an event, or a local copy, for a deletion: it lists again before it acts.

use std::collections::BTreeSet;
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
const PAGE: u32 = 500;
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
            _ = now_and_then.tick() => Some(Local::Suffices),
            () = ctx.schedule_missed.notified() => Some(Local::MayBeBehind),
            event = events.try_next() => match event {
                Ok(Some(Event::Delete(_) | Event::InitDone)) => Some(Local::MayBeBehind),
                Ok(Some(Event::Init | Event::InitApply(_) | Event::Apply(_))) => None,
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "the watch of RotationSchedules was interrupted");
                    None
                }
            },
        };
        if let Some(local) = look
            && let Err(error) = sweep(ctx, local).await
        {
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

/// Whether the local copy of all schedules is enough to say that a secret has one still.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Local {
    Suffices,
    /// A schedule has just gone.
    MayBeBehind,
}

/// What schedules name: secrets by namespace and name; and the namespaces of those that cannot be read, for they may name
/// any secret there.
#[derive(Default)]
struct Named {
    secrets: BTreeSet<(String, String)>,
    unread: BTreeSet<String>,
}

impl Named {
    fn see(&mut self, read: &Readable<RotationSchedule>) {
        let Some(namespace) = read.object.metadata.namespace.clone() else { return };
        if read.unread.is_some() {
            self.unread.insert(namespace);
        } else {
            self.secrets.insert((namespace, read.object.spec.secret.clone()));
        }
    }

    fn has(&self, (_, namespace, name): &(Arn, String, String)) -> bool {
        self.unread.contains(namespace) || self.secrets.contains(&(namespace.clone(), name.clone()))
    }
}

/// Asks nobody about secrets whose schedules are seen, and the cluster at once about all others.
async fn sweep(ctx: &RotationContext, local: Local) -> Result<(), ReconcileError> {
    let mut rotating = rotating(ctx).await?;
    if local == Local::Suffices {
        let mut named = Named::default();
        ctx.schedules.state().iter().for_each(|read| named.see(read));
        rotating.retain(|secret| !named.has(secret));
    }
    if rotating.is_empty() {
        return Ok(());
    }
    let named = listed(ctx).await?;
    for (arn, namespace, name) in rotating.iter().filter(|secret| !named.has(secret)) {
        switch_off_without_schedule(ctx, arn, namespace, name).await?;
    }
    Ok(())
}

/// The secrets of resources whose rotation is on, with the resource's namespace and name.
async fn rotating(ctx: &RotationContext) -> Result<Vec<(Arn, String, String)>, ReconcileError> {
    let (mut rotating, mut after) = (Vec::new(), None);
    loop {
        let page = ctx.keeper.inventory(after.as_ref(), PAGE as usize).await?;
        rotating.extend(page.iter().filter_map(|record| match &record.origin {
            Origin::CustomResource { namespace, name, .. } if record.rotation_enabled == Some(true) => {
                Some((record.arn.clone(), namespace.clone(), name.clone()))
            }
            _ => None,
        }));
        match page.last() {
            Some(last) if page.len() == PAGE as usize => after = Some(last.name.clone()),
            _ => return Ok(rotating),
        }
    }
}

async fn listed(ctx: &RotationContext) -> Result<Named, ReconcileError> {
    let schedules: Api<Readable<RotationSchedule>> = Api::all(ctx.client.clone());
    let (mut named, mut page) = (Named::default(), ListParams::default().limit(PAGE));
    loop {
        let listed = schedules.list(&page).await?;
        listed.items.iter().for_each(|read| named.see(read));
        match listed.metadata.continue_.filter(|more| !more.is_empty()) {
            Some(more) => page = page.continue_token(&more),
            None => return Ok(named),
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
