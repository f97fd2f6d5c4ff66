//! Tidelock on a cluster as its user would have it there: by the chart, with real Helm.
//! Must not know how Tidelock works inside.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;

use crate::{Cluster, Image};

/// Where releases of tests live, and what they are called.
pub const NAMESPACE: &str = "tidelock-system";
pub const RELEASE: &str = "tidelock";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/tidelock");
const READY_WITHIN: Duration = Duration::from_secs(180);

/// Installs or upgrades the release, and waits until server and node agents are ready.
pub async fn install(cluster: &Cluster, image: &Image, settings: &[&str]) -> Result<()> {
    helm_install(cluster, image, settings).await?;
    ready(cluster).await
}

/// What `helm upgrade --install` does, without waiting.
pub async fn helm_install(cluster: &Cluster, image: &Image, settings: &[&str]) -> Result<()> {
    helm_install_from(Path::new(CHART), cluster, image, settings).await
}

/// The same from another chart, such as an earlier one.
pub async fn helm_install_from(
    chart: &Path,
    cluster: &Cluster,
    image: &Image,
    settings: &[&str],
) -> Result<()> {
    let chart = chart.display().to_string();
    let repository = format!("image.repository={}", image.repository);
    let tag = format!("image.tag={}", image.tag);
    let mut arguments =
        vec!["upgrade", "--install", RELEASE, &chart, "--namespace", NAMESPACE, "--create-namespace"];
    arguments.extend(["--set", &repository, "--set", &tag, "--set", "image.pullPolicy=IfNotPresent"]);
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    cluster.helm(&arguments).await.context("cannot install the chart")?;
    Ok(())
}

/// Waits until the server says that it is ready, and an agent is ready on each node.
pub async fn ready(cluster: &Cluster) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), NAMESPACE);
    let wanted = cluster.nodes().len() + 1;
    cluster
        .wait_for("the server and a node agent on each node to be ready", READY_WITHIN, async || {
            let list =
                pods.list(&ListParams::default().labels("app.kubernetes.io/name=tidelock")).await.ok()?;
            (list.items.iter().filter(|pod| is_ready(pod)).count() == wanted).then_some(())
        })
        .await
}

/// Waits until a change of the release has reached every pod of it, and all is ready again.
pub async fn rolled_out(cluster: &Cluster) -> Result<()> {
    for workload in ["statefulset/tidelock-server", "daemonset/tidelock-node"] {
        cluster.kubectl(&["-n", NAMESPACE, "rollout", "status", workload, "--timeout=180s"]).await?;
    }
    ready(cluster).await
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
