//! Which RotationSchedules name a secret, so that nobody goes through all of them to find out: each of ten thousand
//! secrets would. Must not be believed: it only says where to look, and the local copy says what stands there.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use kube::runtime::reflector::{ObjectRef, Store};

use crate::crd::{Readable, RotationSchedule};

/// Namespace and name of a secret.
type Key = (String, String);

/// The local copy of all schedules, and which of them have named which secret.
pub(super) struct BySecret {
    all: Store<Readable<RotationSchedule>>,
    /// Names of schedules; `None` until the first of them is noted, for the copy is not complete before.
    named: Mutex<Option<HashMap<Key, BTreeSet<String>>>>,
}

impl BySecret {
    pub(super) fn new(all: Store<Readable<RotationSchedule>>) -> Self {
        Self { all, named: Mutex::new(None) }
    }

    /// Notes what a schedule names. Whoever looks at a schedule does so first: one that is not noted yet has changed just
    /// now, and is looked at as soon as its turn comes.
    pub(super) fn note(&self, schedule: &RotationSchedule) {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let named = named.get_or_insert_with(|| {
            let mut named = HashMap::new();
            self.all.state().iter().for_each(|read| add(&mut named, &read.object));
            named
        });
        add(named, schedule);
    }

    /// The schedules that name a secret now.
    pub(super) fn of(&self, namespace: &str, secret: &str) -> Vec<Arc<Readable<RotationSchedule>>> {
        let names = |read: &Arc<Readable<RotationSchedule>>| {
            let schedule = &read.object;
            schedule.metadata.namespace.as_deref() == Some(namespace) && schedule.spec.secret == secret
        };
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(named) = named.as_mut() else {
            return self.all.state().into_iter().filter(names).collect();
        };
        let key = (namespace.to_owned(), secret.to_owned());
        let Some(candidates) = named.get_mut(&key) else { return Vec::new() };
        let mut found = Vec::new();
        candidates.retain(|name| {
            let read = self.all.get(&ObjectRef::new(name).within(namespace)).filter(names);
            let stands = read.is_some();
            found.extend(read);
            stands
        });
        if candidates.is_empty() {
            named.remove(&key);
        }
        found
    }
}

fn add(named: &mut HashMap<Key, BTreeSet<String>>, schedule: &RotationSchedule) {
    if let (Some(namespace), Some(name)) = (&schedule.metadata.namespace, &schedule.metadata.name) {
        let key = (namespace.clone(), schedule.spec.secret.clone());
        named.entry(key).or_default().insert(name.clone());
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;

    use super::*;

    fn schedule(name: &str, secret: &str) -> Readable<RotationSchedule> {
        let object = serde_json::json!({
            "apiVersion": "tidelock.dev/v1alpha1", "kind": "RotationSchedule",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"secret": secret, "schedule": "rate(1 day)", "rotator": {"generate": {}}},
        });
        serde_json::from_value(object).unwrap()
    }

    fn names(index: &BySecret, namespace: &str, secret: &str) -> Vec<String> {
        let found = index.of(namespace, secret);
        let mut names: Vec<_> =
            found.into_iter().filter_map(|read| read.object.metadata.name.clone()).collect();
        names.sort();
        names
    }

    #[test]
    fn it_finds_what_names_a_secret_now_and_nothing_that_did_before() {
        let (store, mut writer) = reflector::store();
        let index = BySecret::new(store);
        let mut happens = |event: Event<_>| writer.apply_watcher_event(&event);
        happens(Event::Init);
        for (name, secret) in [("a", "orders"), ("b", "orders"), ("c", "bills")] {
            happens(Event::InitApply(schedule(name, secret)));
        }
        happens(Event::InitDone);
        assert_eq!(names(&index, "shop", "orders"), ["a", "b"], "before anything is noted");
        index.note(&schedule("c", "bills").object);
        assert_eq!(names(&index, "shop", "orders"), ["a", "b"], "those that were there");
        assert_eq!(names(&index, "other", "orders"), [""; 0]);

        happens(Event::Apply(schedule("c", "orders")));
        index.note(&schedule("c", "orders").object);
        assert_eq!(names(&index, "shop", "orders"), ["a", "b", "c"]);
        assert_eq!(names(&index, "shop", "bills"), [""; 0], "it names another one now");

        happens(Event::Delete(schedule("a", "orders")));
        assert_eq!(names(&index, "shop", "orders"), ["b", "c"]);
        happens(Event::Apply(schedule("a", "orders")));
        index.note(&schedule("a", "orders").object);
        assert_eq!(names(&index, "shop", "orders"), ["a", "b", "c"], "it is there again");
    }
}
