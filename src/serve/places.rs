//! A place for each connection, so that strangers cannot take all memory. That all are taken is told, for whoever comes
//! then waits in the kernel's queue and hears nothing. Must not refuse a client, nor let one in without a place.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A door that stays full is told of once in this time.
const TOLD_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Places {
    door: &'static str,
    connections_max: usize,
    free: Arc<Semaphore>,
    told: Option<Instant>,
}

impl Places {
    pub(super) fn new(door: &'static str, connections_max: usize) -> Self {
        Self { door, connections_max, free: Arc::new(Semaphore::new(connections_max)), told: None }
    }

    /// The next place; `None` when the door closes.
    pub(super) async fn next(&mut self, shutdown: &CancellationToken) -> Option<OwnedSemaphorePermit> {
        if let Some(place) = self.free() {
            return Some(place);
        }
        self.tell(Instant::now());
        shutdown.run_until_cancelled(Arc::clone(&self.free).acquire_owned()).await?.ok()
    }

    /// A place, if one is free just now.
    pub(super) fn free(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    fn tell(&mut self, now: Instant) {
        metrics::counter!("tidelock_connections_full_total", "door" => self.door).increment(1);
        if self.told.is_some_and(|told| now.duration_since(told) < TOLD_EVERY) {
            return;
        }
        self.told = Some(now);
        tracing::warn!(
            door = self.door,
            reason = "ConnectionsFull",
            connections_max = self.connections_max,
            "all connections of this port are taken; further clients wait until one ends"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_door_lets_nobody_in_and_is_counted() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let open = CancellationToken::new();
        let mut places = Places::new("test", 1);
        let first = places.next(&open).await;
        assert!(first.is_some() && places.told.is_none(), "a place was free");
        let waits = tokio::time::timeout(Duration::from_millis(10), places.next(&open)).await;
        assert!(waits.is_err(), "nobody is let in without a place");
        let page = recorder.handle().render();
        assert!(page.contains("tidelock_connections_full_total{door=\"test\"} 1"), "{page}");
        assert!(places.told.is_some());
        drop(first);
        assert!(places.next(&open).await.is_some());
    }

    #[test]
    fn a_door_that_stays_full_is_told_of_once_a_minute() {
        let mut places = Places::new("test", 1);
        let begun = Instant::now();
        for (seconds, told) in [(0, 0), (1, 0), (59, 0), (60, 60), (100, 60), (121, 121)] {
            places.tell(begun + Duration::from_secs(seconds));
            assert_eq!(places.told, Some(begun + Duration::from_secs(told)), "after {seconds} s");
        }
    }

    #[tokio::test]
    async fn a_door_that_closes_lets_nobody_wait() {
        let closes = CancellationToken::new();
        let mut places = Places::new("test", 0);
        closes.cancel();
        assert!(places.next(&closes).await.is_none());
    }
}
