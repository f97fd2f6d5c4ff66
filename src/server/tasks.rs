//! Every task of the server, by name: owned, waited for, and none of them may end before the server does.
//! Must not restart anything: the process ends, and Kubernetes starts it again.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Less than the pod's grace period.
const DRAIN_MAX: Duration = Duration::from_secs(20);

pub struct Tasks {
    set: JoinSet<&'static str>,
    /// Those that have not ended.
    names: Vec<&'static str>,
    stop: CancellationToken,
}

impl Tasks {
    pub fn new(stop: CancellationToken) -> Self {
        Self { set: JoinSet::new(), names: Vec::new(), stop }
    }

    /// A token that is cancelled when the tasks are to end.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.names.push(name);
        self.set.spawn(async move {
            task.await;
            name
        });
    }

    /// The name of a task that ended although nobody stopped it.
    pub async fn ended(&mut self) -> String {
        match self.set.join_next().await {
            Some(Ok(name)) => format!("the task `{name}` ended"),
            Some(Err(error)) => format!("a task panicked: {error}"),
            // Without any task there is nothing to wait for.
            None => std::future::pending().await,
        }
    }

    /// Stops all and waits for them; what does not end in time is cut off.
    pub async fn drain(mut self) {
        self.stop.cancel();
        let Self { set, names, .. } = &mut self;
        let all = async {
            while let Some(ended) = set.join_next().await {
                names.retain(|name| ended.as_ref().ok() != Some(name));
            }
        };
        if tokio::time::timeout(DRAIN_MAX, all).await.is_err() {
            tracing::warn!(tasks = names.join(", "), "tasks were cut off at shutdown");
        }
    }
}
