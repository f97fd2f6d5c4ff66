//! RotateSecret of a secret that a RotationSchedule rotates: no object changes by it, so no watch brings it. Must not
//! begin anything: the caller's transaction did, and the schedule's reconcile goes on from there.

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;

use super::{RotationContext, reconcile};
use crate::keeper::{Changed, What};
use crate::secret::{Arn, Origin};

/// Runs until it is dropped. A reconcile of the same schedule may run beside it: each act compares what it finds.
pub(super) async fn run(ctx: &Arc<RotationContext>) {
    let mut changes = ctx.keeper.changes();
    loop {
        match changes.recv().await {
            Ok(Changed { arn, what: What::Rotation }) => look(ctx, &arn).await,
            // What was missed is found at the next look at all.
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

async fn look(ctx: &Arc<RotationContext>, arn: &Arn) {
    let origin = ctx.keeper.rotation(arn).await.map(|view| view.origin);
    let Ok(Origin::CustomResource { namespace, name, .. }) = origin else { return };
    for schedule in ctx.by_secret.of(&namespace, &name) {
        if let Err(error) = reconcile(schedule, Arc::clone(ctx)).await {
            tracing::warn!(namespace, name, reason = error.reason(), %error, "a rotation that was asked for waits");
        }
    }
}
