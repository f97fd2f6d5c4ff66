//! Brings complete volumes to what was last wanted of them, and keeps trying while that cannot be done.
//! Must not run twice for one volume.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Volume, VolumeError, Volumes, Wish};
use crate::node::manifest::Manifest;
use crate::projection::Former;
use crate::wire::node::Trouble;

const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LAST: Duration = Duration::from_secs(30);
/// How long former files stay for a reader who is on his way into them. One whose CPU time is used up stands still for
/// the rest of a tenth of a second.
const LINGER: Duration = Duration::from_secs(2);

impl Volumes {
    /// Replaces whatever was wished before. Of a bundle the server wishes nothing.
    pub(super) fn wish(self: &Arc<Self>, volume: &Arc<Volume>, wish: Wish) {
        let mut state = volume.state();
        let is_bundle = state.manifest.as_ref().is_some_and(Manifest::is_of_bundle);
        if is_bundle != matches!(wish, Wish::Bundle(_)) {
            return;
        }
        state.wish = Some(wish);
        if std::mem::replace(&mut state.is_converging, true) {
            volume.changed.notify_one();
            return;
        }
        drop(state);
        self.convergers.spawn(converge(Arc::clone(self), Arc::clone(volume)));
    }

    /// Waits for file work that is under way.
    pub async fn settle(&self) {
        self.convergers.close();
        for volume in self.all() {
            volume.state().wish = None;
            volume.changed.notify_one();
        }
        self.convergers.wait().await;
    }
}

async fn converge(volumes: Arc<Volumes>, volume: Arc<Volume>) {
    let mut retry = RETRY_FIRST;
    let mut told = None;
    let mut former = Former::Gone;
    loop {
        let wish = {
            let mut state = volume.state();
            let wish = state.wish.clone().filter(|_| !state.is_gone);
            if wish.is_none() && former == Former::Gone {
                state.is_converging = false;
                return;
            }
            wish
        };
        let Some(wish) = wish else {
            linger(&volumes, &volume).await;
            former = Former::Gone;
            continue;
        };
        let outcome = fulfil(&volumes, &volume, &wish).await;
        if let Ok(left) = &outcome {
            former = *left;
        }
        match outcome {
            Ok(_) | Err(VolumeError::Gone | VolumeError::Stale) => {
                // Another wish may have come meanwhile: that one stays.
                volume.state().wish.take_if(|latest| latest.is_same(&wish));
                (retry, told) = (RETRY_FIRST, None);
            }
            Err(error) => {
                if told.replace(error.reason()) != Some(error.reason()) {
                    tell(&volumes, &volume, &wish, &error).await;
                }
                let _ = tokio::time::timeout(retry, volume.changed.notified()).await;
                retry = (retry * 2).min(RETRY_LAST);
            }
        }
    }
}

/// Sweeps former files in a while, unless the next change does it before, or the volume or the agent ends.
async fn linger(volumes: &Arc<Volumes>, volume: &Arc<Volume>) {
    let until = Instant::now() + LINGER;
    let is_over = || {
        let state = volume.state();
        state.wish.is_some() || state.is_gone || volumes.convergers.is_closed()
    };
    while !is_over() {
        if timeout_at(until, volume.changed.notified()).await.is_err() {
            let (volumes, volume) = (Arc::clone(volumes), Arc::clone(volume));
            let _ = tokio::task::spawn_blocking(move || volumes.sweep(&volume)).await;
            return;
        }
    }
}

async fn fulfil(volumes: &Arc<Volumes>, volume: &Arc<Volume>, wish: &Wish) -> Result<Former, VolumeError> {
    let (volumes, volume, wish) = (Arc::clone(volumes), Arc::clone(volume), wish.clone());
    let done = tokio::task::spawn_blocking(move || {
        let outcome = volumes.fulfil(&volume, &wish);
        let verb = wish.verb();
        let word = outcome.as_ref().map_or_else(VolumeError::reason, |_| "Done");
        metrics::counter!("tidelock_node_swaps_total", "verb" => verb, "outcome" => word).increment(1);
        if outcome.is_ok() {
            tracing::info!(mount = %volume.target, verb, "the files of a volume were changed");
        }
        outcome
    });
    // A panic in file work is a bug of ours; it must not end the volume's updates.
    done.await.unwrap_or(Err(VolumeError::Gone))
}

async fn tell(volumes: &Arc<Volumes>, volume: &Volume, wish: &Wish, error: &VolumeError) {
    tracing::error!(mount = %volume.target, reason = error.reason(), %error, "changing the files of a volume failed");
    if wish.session().is_none() {
        return;
    }
    let trouble = Trouble {
        mount_id: volume.target.mount_id(),
        reason: error.reason().to_owned(),
        message: error.to_string(),
    };
    let volumes = Arc::clone(volumes);
    let _ = tokio::task::spawn_blocking(move || volumes.send(trouble)).await;
}

impl Wish {
    fn verb(&self) -> &'static str {
        match self {
            Wish::Place(_) => "place",
            Wish::Withdraw { .. } => "withdraw",
            Wish::Bundle(_) => "bundle",
        }
    }

    fn is_same(&self, other: &Wish) -> bool {
        match (self, other) {
            (Wish::Place(mine), Wish::Place(theirs)) => {
                mine.session == theirs.session && Arc::ptr_eq(&mine.payload, &theirs.payload)
            }
            (Wish::Withdraw { session: mine }, Wish::Withdraw { session: theirs }) => mine == theirs,
            (Wish::Bundle(mine), Wish::Bundle(theirs)) => Arc::ptr_eq(mine, theirs),
            _ => false,
        }
    }
}
