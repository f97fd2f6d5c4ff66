//! Which parts of the process can do their work, and in one word why not. Must not decide what follows from it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The states of all components; the process is ready when each of them is.
#[derive(Clone, Default)]
pub struct Readiness {
    components: Arc<Mutex<BTreeMap<&'static str, Option<Why>>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Why {
    reason: &'static str,
    message: String,
}

/// A component that is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unready {
    pub component: &'static str,
    /// One word in CamelCase, the same in conditions, events and logs: `StoreLost`.
    pub reason: &'static str,
    /// For people: what is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.component, self.reason, self.message)
    }
}

impl Readiness {
    /// Announces a component, which is not ready until it says so.
    pub fn component(&self, name: &'static str) -> Component {
        let component = Component { name, readiness: self.clone() };
        component.not_ready("Starting", "has not finished starting");
        component
    }

    /// All components that are not ready, by name. No component at all counts as one that is missing.
    pub fn unready(&self) -> Vec<Unready> {
        let components = self.components.lock().unwrap_or_else(PoisonError::into_inner);
        if components.is_empty() {
            let message = "no component has been announced".to_owned();
            return vec![Unready { component: "process", reason: "Starting", message }];
        }
        let unready = |(component, why): (&&'static str, &Option<Why>)| {
            let Why { reason, message } = why.clone()?;
            Some(Unready { component, reason, message })
        };
        components.iter().filter_map(unready).collect()
    }

    fn set(&self, component: &'static str, why: Option<Why>) {
        metrics::gauge!("tidelock_ready", "component" => component).set(f64::from(u8::from(why.is_none())));
        let mut components = self.components.lock().unwrap_or_else(PoisonError::into_inner);
        let before = components.insert(component, why.clone());
        if before.as_ref() == Some(&why) {
            return;
        }
        match why {
            None => tracing::info!(component, "ready"),
            Some(why) => tracing::warn!(component, reason = why.reason, detail = why.message, "not ready"),
        }
    }
}

/// One component's word on itself.
#[derive(Clone)]
pub struct Component {
    name: &'static str,
    readiness: Readiness,
}

impl Component {
    pub fn ready(&self) {
        self.readiness.set(self.name, None);
    }

    /// `reason` is one word, bounded; `message` says what is wrong and what to do, and holds no value.
    pub fn not_ready(&self, reason: &'static str, message: impl Into<String>) {
        self.readiness.set(self.name, Some(Why { reason, message: message.into() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_ready_when_every_announced_component_is() {
        let readiness = Readiness::default();
        assert_eq!(readiness.unready()[0].component, "process");
        let (store, trust) = (readiness.component("store"), readiness.component("trust"));
        store.ready();
        assert_eq!(readiness.unready().len(), 1);
        trust.ready();
        assert_eq!(readiness.unready(), []);
        store.not_ready("StoreLost", "restore the volume");
        assert_eq!(readiness.unready()[0].to_string(), "store: StoreLost: restore the volume");
    }
}
