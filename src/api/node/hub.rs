//! The streams there are: one per node, the newest one. Must not hold anything of what they carry.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::NodeSettings;
use crate::access::Principal;
use crate::cluster::{MountClaim, PodRefused};

/// How long a new stream waits for the former one of its node to end, so that their writes do not mix.
const FORMER_ENDS_MAX: Duration = Duration::from_secs(5);

/// Pods that the API server is asked about at once, of all nodes together. When the server is back, every mount of the
/// cluster is asked about; tokens of pods that wait for their first mount do not stand in that queue.
const VOUCHES_MAX: usize = 64;

const STREAMS: &str = "tidelock_node_streams";

pub(super) struct Hub {
    settings: NodeSettings,
    vouches: Semaphore,
    streams: Mutex<BTreeMap<String, Place>>,
}

/// A node's place: `end` asks its stream to go, `ended` says that it has gone.
#[derive(Clone)]
pub(super) struct Place {
    pub end: CancellationToken,
    pub ended: CancellationToken,
}

impl Hub {
    pub(super) fn new(settings: NodeSettings) -> Self {
        Self { settings, vouches: Semaphore::new(VOUCHES_MAX), streams: Mutex::default() }
    }

    pub(super) fn settings(&self) -> &NodeSettings {
        &self.settings
    }

    /// Asks the cluster who the pod of a mount is, when it is this mount's turn.
    pub(super) async fn vouch(&self, claim: &MountClaim) -> Result<Principal, PodRefused> {
        let _turn = self.vouches.acquire().await;
        self.settings.pods.vouch(claim).await
    }

    /// Takes the node's place. A former stream is ended first: it may be one that died unnoticed.
    pub(super) async fn take_place(&self, node: &str) -> Place {
        let place = Place { end: CancellationToken::new(), ended: CancellationToken::new() };
        let former = {
            let mut streams = self.streams();
            let former = streams.insert(node.to_owned(), place.clone());
            metrics::gauge!(STREAMS).set(streams.len() as f64);
            former
        };
        if let Some(former) = former {
            former.end.cancel();
            if tokio::time::timeout(FORMER_ENDS_MAX, former.ended.cancelled()).await.is_err() {
                tracing::warn!(node, "the former stream of the node does not end");
            }
        }
        place
    }

    /// Leaves the place, unless a newer stream has taken it.
    pub(super) fn leave(&self, node: &str, place: &Place) {
        place.ended.cancel();
        let mut streams = self.streams();
        // A token that was cancelled by `take_place` belongs to a stream that was replaced.
        if !place.end.is_cancelled() {
            streams.remove(node);
        }
        metrics::gauge!(STREAMS).set(streams.len() as f64);
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<String, Place>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
