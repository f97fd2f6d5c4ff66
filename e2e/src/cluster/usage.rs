//! What a test does with a cluster as any user would: kubectl, helm, exec, and reading what went wrong.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::future::try_join;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::{AttachParams, ListParams};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::Cluster;
use crate::program;

/// What is run in a pod takes milliseconds, but neither API server nor kubelet ever gives up on a command that hangs.
const EXEC_SECONDS_MAX: u64 = 60;

/// What a command in a pod printed, and whether it ended with exit 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub success: bool,
    /// Kubernetes' words for a failure, such as `command terminated with exit code 1`.
    pub message: String,
}

impl Cluster {
    /// Runs kubectl as administrator and returns what it prints; an error has what it said.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        program::run(self.user_program("kubectl").args(arguments)).await
    }

    /// kubectl as administrator, for who needs its standard input or its process.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.user_program("kubectl");
        command.args(arguments);
        command
    }

    /// Runs helm as administrator and returns what it prints; an error has what it said.
    pub async fn helm(&self, arguments: &[&str]) -> Result<String> {
        program::run(self.user_program("helm").args(arguments)).await
    }

    /// A program on which nothing of the user's own configuration has an influence.
    fn user_program(&self, name: &str) -> Command {
        let home = self.folder().join("home");
        let mut command = Command::new(self.tools.path(name));
        command
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", &home)
            .env("KUBECACHEDIR", home.join("kube"))
            .env("HELM_CACHE_HOME", home.join("helm/cache"))
            .env("HELM_CONFIG_HOME", home.join("helm/config"))
            .env("HELM_DATA_HOME", home.join("helm/data"));
        command
    }

    /// Runs a command in a container of a running pod; `None` is the pod's first container. One that is not over after a
    /// minute is an error.
    pub async fn exec(
        &self,
        ns: &str,
        pod: &str,
        container: Option<&str>,
        command: &[&str],
    ) -> Result<Output> {
        self.exec_within(Duration::from_secs(EXEC_SECONDS_MAX), ns, pod, container, command).await
    }

    /// The same with a deadline of its own.
    pub async fn exec_within(
        &self,
        within: Duration,
        ns: &str,
        pod: &str,
        container: Option<&str>,
        command: &[&str],
    ) -> Result<Output> {
        timeout(within, self.exec_to_its_end(ns, pod, container, command))
            .await
            .with_context(|| format!("{command:?} in {ns}/{pod} is not over after {within:?}"))?
    }

    async fn exec_to_its_end(
        &self,
        ns: &str,
        pod: &str,
        container: Option<&str>,
        command: &[&str],
    ) -> Result<Output> {
        let pods: Api<Pod> = Api::namespaced(self.client(), ns);
        let mut params = AttachParams::default().stdin(false).stdout(true).stderr(true);
        if let Some(container) = container {
            params = params.container(container);
        }
        let what = || format!("cannot run {command:?} in {ns}/{pod}");
        let mut process = pods.exec(pod, command.iter().copied(), &params).await.with_context(what)?;
        let mut stdout = process.stdout().with_context(what)?;
        let mut stderr = process.stderr().with_context(what)?;
        let status = process.take_status().with_context(what)?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let read = async {
            try_join(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err)).await.map_err(Some)
        };
        // None when the connection broke. Then the streams never end, and what happened is told by the process alone.
        let status = async { status.await.ok_or(None) };
        let status = match try_join(read, status).await {
            Ok((_, status)) => status,
            Err(Some(unread)) => return Err(unread).with_context(what),
            Err(None) => {
                process.join().await.with_context(what)?;
                bail!("{}: no status came", what());
            }
        };
        process.join().await.with_context(what)?;
        Ok(Output {
            stdout: String::from_utf8_lossy(&out).into_owned(),
            stderr: String::from_utf8_lossy(&err).into_owned(),
            success: status.status.as_deref() == Some("Success"),
            message: status.message.unwrap_or_default(),
        })
    }

    /// The events about an object, oldest first, one per line: `Warning FailedMount: ...`.
    pub async fn events(&self, ns: &str, object: &str) -> Result<String> {
        let events: Api<Event> = Api::namespaced(self.client(), ns);
        let about = ListParams::default().fields(&format!("involvedObject.name={object}"));
        Ok(events.list(&about).await?.items.iter().map(event_line).collect())
    }

    /// What the cluster says is wrong right now: warnings, and pods that are not well.
    pub(super) async fn troubles(&self) -> String {
        let mut text = String::new();
        let pods: Api<Pod> = Api::all(self.client());
        match pods.list(&ListParams::default()).await {
            Ok(pods) => {
                pods.items.iter().filter(|pod| !is_well(pod)).for_each(|pod| text.push_str(&pod_line(pod)))
            }
            Err(error) => {
                let _ = writeln!(text, "  the API server does not answer: {error}");
            }
        }
        let events: Api<Event> = Api::all(self.client());
        if let Ok(events) = events.list(&ListParams::default().fields("type=Warning")).await {
            let begin = events.items.len().saturating_sub(15);
            events.items[begin..].iter().for_each(|event| text.push_str(&event_line(event)));
        }
        text
    }
}

fn is_well(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    let conditions = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
    let ready =
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    phase == Some("Succeeded") || (phase == Some("Running") && ready)
}

fn pod_line(pod: &Pod) -> String {
    let (ns, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref());
    let mut line = format!("  pod {}/{}", ns.unwrap_or_default(), name.unwrap_or_default());
    let Some(status) = &pod.status else { return line + "\n" };
    let _ = write!(line, " {}", status.phase.as_deref().unwrap_or("without phase"));
    let containers =
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    for container in containers {
        let state = container.state.as_ref();
        if let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) {
            let reason = waiting.reason.as_deref().unwrap_or_default();
            let _ = write!(
                line,
                "; {} waits: {reason} {}",
                container.name,
                waiting.message.as_deref().unwrap_or_default()
            );
        }
        if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
            let _ = write!(line, "; {} ended with {}", container.name, ended.exit_code);
        }
    }
    line + "\n"
}

fn event_line(event: &Event) -> String {
    let object = event.involved_object.name.as_deref().unwrap_or_default();
    format!(
        "  {} {} {object}: {}\n",
        event.type_.as_deref().unwrap_or_default(),
        event.reason.as_deref().unwrap_or_default(),
        event.message.as_deref().unwrap_or_default()
    )
}
