//! Kubernetes events: what a person sees with `kubectl describe`. Sent in the background; nothing waits for them.
//! Must not carry values. An event that cannot be sent is logged and forgotten: work never fails for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

use super::within;
use crate::clock::Clock;

/// Events that wait for the API server; beyond them new ones are dropped.
const QUEUE_MAX: usize = 1024;

/// The same word about the same object is not repeated within this time.
const REPEATED_AFTER: Duration = Duration::from_secs(30);

/// Objects and words remembered for that.
const REMEMBERED_MAX: usize = 8192;

/// Warnings that are counted on when they are said again; forgotten ones are told as new.
const COUNTED_MAX: usize = 1024;

/// The API server takes notes of up to 1 KiB.
const NOTE_BYTES_MAX: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    Normal,
    Warning,
}

struct Outgoing {
    about: ObjectReference,
    kind: EventKind,
    reason: &'static str,
    action: &'static str,
    note: String,
}

/// Where shells drop their events.
#[derive(Clone)]
pub struct EventSender(mpsc::Sender<Outgoing>);

impl EventSender {
    /// `reason` is the word that condition, metric and log share; `action` says what was being done.
    pub fn send(
        &self,
        about: ObjectReference,
        kind: EventKind,
        reason: &'static str,
        action: &'static str,
        note: String,
    ) {
        let outgoing = Outgoing { about, kind, reason, action, note: shortened(note) };
        if self.0.try_send(outgoing).is_err() {
            tracing::debug!(reason, "an event was dropped: too many wait, or the publisher has ended");
        }
    }
}

/// What makes two events the same: object, reason and note.
type Key = (String, &'static str, String);

/// Sends what the senders drop. Run by its owner until the last sender is gone.
pub struct EventPublisher {
    client: Client,
    reporter: Reporter,
    /// A recorder takes events of one object and reason for one series, and shows the first note of it ever after. So each
    /// note has its own.
    counted: HashMap<Key, Recorder>,
    clock: Arc<dyn Clock>,
    queue: mpsc::Receiver<Outgoing>,
    said: Said,
}

impl EventPublisher {
    /// `instance` is the name of our pod.
    pub fn new(client: Client, clock: Arc<dyn Clock>, instance: String) -> (EventSender, Self) {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let reporter = Reporter { controller: "tidelock.dev/server".into(), instance: Some(instance) };
        let (counted, said) = Default::default();
        (EventSender(sender), Self { client, reporter, counted, clock, queue, said })
    }

    pub async fn run(mut self) {
        while let Some(outgoing) = self.queue.recv().await {
            let key = outgoing.key();
            if self.said.is_new(&key, self.clock.monotonic()) {
                let recorder = self.recorder(key, outgoing.kind);
                publish(&recorder, outgoing).await;
            }
        }
    }

    fn recorder(&mut self, key: Key, kind: EventKind) -> Recorder {
        let new = || Recorder::new(self.client.clone(), self.reporter.clone());
        if kind == EventKind::Normal {
            return new();
        }
        if self.counted.len() >= COUNTED_MAX && !self.counted.contains_key(&key) {
            self.counted.clear();
        }
        self.counted.entry(key).or_insert_with(new).clone()
    }
}

impl Outgoing {
    fn key(&self) -> Key {
        let about = &self.about;
        let object = about.uid.clone().unwrap_or_else(|| {
            let part = |text: &Option<String>| text.clone().unwrap_or_default();
            format!("{}/{}/{}", part(&about.kind), part(&about.namespace), part(&about.name))
        });
        (object, self.reason, self.note.clone())
    }
}

async fn publish(recorder: &Recorder, outgoing: Outgoing) {
    let type_ = match outgoing.kind {
        EventKind::Normal => EventType::Normal,
        EventKind::Warning => EventType::Warning,
    };
    let event = Event {
        type_,
        reason: outgoing.reason.to_owned(),
        note: Some(outgoing.note),
        action: outgoing.action.to_owned(),
        secondary: None,
    };
    if let Err(error) = within(recorder.publish(&event, &outgoing.about)).await {
        tracing::debug!(reason = outgoing.reason, %error, "an event could not be sent");
    }
}

/// What was said lately, so that a retry loop does not fill the event list.
#[derive(Default)]
struct Said(HashMap<Key, Instant>);

impl Said {
    fn is_new(&mut self, key: &Key, now: Instant) -> bool {
        let lately = |at: &Instant| now.saturating_duration_since(*at) < REPEATED_AFTER;
        if self.0.get(key).is_some_and(lately) {
            return false;
        }
        if self.0.len() >= REMEMBERED_MAX {
            self.0.retain(|_, at| lately(at));
            if self.0.len() >= REMEMBERED_MAX {
                self.0.clear();
            }
        }
        self.0.insert(key.clone(), now);
        true
    }
}

fn shortened(mut note: String) -> String {
    if note.len() > NOTE_BYTES_MAX {
        let end = (0..=NOTE_BYTES_MAX).rev().find(|end| note.is_char_boundary(*end)).unwrap_or(0);
        note.truncate(end);
        note.push('…');
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn key(uid: &str, reason: &'static str, note: &str) -> Key {
        let outgoing = Outgoing {
            about: ObjectReference { uid: Some(uid.into()), ..ObjectReference::default() },
            kind: EventKind::Warning,
            reason,
            action: "Mount",
            note: note.into(),
        };
        outgoing.key()
    }

    #[test]
    fn the_same_word_about_the_same_object_is_said_once_in_half_a_minute() {
        let (mut said, start) = (Said::default(), SystemClock.monotonic());
        assert!(said.is_new(&key("a", "NoValue", "x"), start));
        assert!(!said.is_new(&key("a", "NoValue", "x"), start + Duration::from_secs(29)));
        assert!(said.is_new(&key("a", "NotAllowed", "x"), start));
        assert!(said.is_new(&key("a", "NoValue", "y"), start));
        assert!(said.is_new(&key("b", "NoValue", "x"), start));
        assert!(said.is_new(&key("a", "NoValue", "x"), start + REPEATED_AFTER));
    }

    #[test]
    fn what_was_said_does_not_grow_without_end() {
        let (mut said, start) = (Said::default(), SystemClock.monotonic());
        for number in 0..=REMEMBERED_MAX {
            assert!(said.is_new(&key(&number.to_string(), "NoValue", "x"), start));
        }
        assert!(said.0.len() <= REMEMBERED_MAX);
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        let cut = shortened("é".repeat(600));
        assert!(cut.len() <= NOTE_BYTES_MAX + '…'.len_utf8() && cut.ends_with('…'));
        assert_eq!(shortened("short".into()), "short");
    }
}
