//! `make demo`: the main job, told in plain words while it happens on a real cluster.
//! Must not show anything that did not just happen.

mod site;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::Instant;

use crate::{Cluster, progress, wait_for};
use site::{CLUSTER, NAMESPACE, SAMPLES, Site};

const SECRET: &str = "orders-db";
const DEPLOYMENT: &str = "orders-api";
const FILE: &str = "/run/tidelock/orders-db/password";
const PATIENCE: Duration = Duration::from_secs(180);

/// Tells the whole story; an error ends it with the reason.
pub async fn run(kubeconfig: Option<PathBuf>, image: Option<String>) -> Result<()> {
    let begun = Instant::now();
    let site = Site::prepare(kubeconfig, image).await?;
    site.install().await?;
    let applied = Instant::now();
    site.apply_samples().await?;
    let pod = first_value(&site, applied).await?;
    rotate(&site, &pod).await?;
    consumers(&site).await?;
    progress::note("");
    progress::note(&format!("the whole demo took {:.1} s", begun.elapsed().as_secs_f32()));
    if site.is_own() {
        progress::note(&format!("look around:  export KUBECONFIG={}", site.kubeconfig().display()));
    }
    progress::note("take it away: make demo-down");
    Ok(())
}

/// Removes what the demo made and nothing else.
pub async fn down(kubeconfig: Option<PathBuf>, external: bool) -> Result<()> {
    if external {
        return Site::clear(kubeconfig.context("IMAGE is set and KUBECONFIG is not: set both, or none")?)
            .await;
    }
    let was_up = Cluster::down(CLUSTER).await?;
    progress::note(if was_up { "the demo's cluster is gone" } else { "the demo's cluster was not running" });
    Ok(())
}

struct SamplePod {
    name: String,
    uid: String,
}

async fn first_value(site: &Site, applied: Instant) -> Result<SamplePod> {
    let step = progress::step("wait for the first pod to run with its secret", "");
    let target = format!("deployment/{DEPLOYMENT}");
    let status = ["-n", SAMPLES, "rollout", "status", &target, "--timeout=180s"];
    if let Err(error) = site.kubectl(&status).await {
        let events = site.kubectl(&["-n", SAMPLES, "get", "events"]).await.unwrap_or_default();
        bail!("{error:#}\n{events}");
    }
    step.done();
    let pod = pod(site).await?;
    progress::note(&format!(
        "first mounted value: {:.1} s after `kubectl apply`",
        applied.elapsed().as_secs_f32()
    ));
    progress::note(&format!("pod {} (UID {}) has these files on tmpfs:", pod.name, pod.uid));
    let files = in_pod(site, &pod.name, &["ls", "-l", "/run/tidelock/orders-db/"]).await?;
    files.lines().for_each(|line| progress::note(&format!("  {line}")));
    progress::note(&format!("{FILE}: {}", hidden(&in_pod(site, &pod.name, &["cat", FILE]).await?)));
    Ok(pod)
}

async fn rotate(site: &Site, before: &SamplePod) -> Result<()> {
    let old = in_pod(site, &before.name, &["cat", FILE]).await?;
    let token = format!("tidelock.dev/rotate={}", std::process::id());
    progress::note("");
    progress::note(&format!("kubectl annotate managedsecret {SECRET} -n {SAMPLES} --overwrite {token}"));
    let asked = Instant::now();
    let step = progress::step("rotate: a Job takes the four steps, the files change", "");
    site.kubectl(&["-n", SAMPLES, "annotate", "managedsecret", SECRET, "--overwrite", &token]).await?;
    let new = wait_for("the file in the pod to change", PATIENCE, async || {
        let now = in_pod(site, &before.name, &["cat", FILE]).await.ok()?;
        (now != old).then_some(now)
    });
    let new = match new.await {
        Ok(new) => new,
        Err(late) => {
            let events = site.kubectl(&["get", "events", "-A"]).await.unwrap_or_default();
            bail!("{late:#}\n{events}");
        }
    };
    step.done();
    let after = pod(site).await?;
    ensure!(after.uid == before.uid, "the pod is another one: {} was {}", after.uid, before.uid);
    progress::note(&format!("{FILE}: {}", hidden(&new)));
    progress::note(&format!("the same pod, same UID {}: nothing was restarted", after.uid));
    progress::note(&format!(
        "asked to changed file, rotation Job included: {:.1} s",
        asked.elapsed().as_secs_f32()
    ));
    if let Some(mean) = commit_to_file(site).await {
        progress::note(&format!(
            "new version committed to files in place, as receipts prove: {:.0} ms",
            mean * 1000.0
        ));
    }
    Ok(())
}

async fn consumers(site: &Site) -> Result<()> {
    let path = "jsonpath={.status.consumers.current}/{.status.consumers.total}";
    let shown = wait_for("the status to count the receipts", Duration::from_secs(30), async || {
        let counts = site.kubectl(&["-n", SAMPLES, "get", "managedsecret", SECRET, "-o", path]).await.ok()?;
        let (current, total) = counts.split_once('/')?;
        (current == total && total != "0" && !total.is_empty()).then_some(())
    });
    shown.await?;
    progress::note("");
    progress::note(&format!("kubectl get managedsecret {SECRET} -n {SAMPLES}"));
    let table = site.kubectl(&["-n", SAMPLES, "get", "managedsecret", SECRET]).await?;
    table.lines().for_each(|line| progress::note(&format!("  {line}")));
    let path =
        "jsonpath={.status.consumers}{\"\\n\"}{range .status.versions[*]}{.id} {.stages}{\"\\n\"}{end}";
    let status = site.kubectl(&["-n", SAMPLES, "get", "managedsecret", SECRET, "-o", path]).await?;
    status.lines().for_each(|line| progress::note(&format!("  {line}")));
    Ok(())
}

async fn pod(site: &Site) -> Result<SamplePod> {
    let path = "jsonpath={.items[0].metadata.name} {.items[0].metadata.uid}";
    let selector = format!("app={DEPLOYMENT}");
    let text = site.kubectl(&["-n", SAMPLES, "get", "pods", "-l", &selector, "-o", path]).await?;
    let (name, uid) = text.split_once(' ').context("the sample has no pod")?;
    Ok(SamplePod { name: name.to_owned(), uid: uid.to_owned() })
}

async fn in_pod(site: &Site, pod: &str, command: &[&str]) -> Result<String> {
    let mut arguments = vec!["-n", SAMPLES, "exec", pod, "--"];
    arguments.extend(command);
    site.kubectl(&arguments).await
}

/// Mean of the server's own measurement from store commit to receipt, in seconds.
async fn commit_to_file(site: &Site) -> Option<f64> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/tidelock-server-0:8080/proxy/metrics");
    let text = site.kubectl(&["get", "--raw", &path]).await.ok()?;
    let sum = |ending: &str| -> f64 {
        let name = format!("tidelock_projection_commit_to_receipt_seconds_{ending}");
        let rows = text.lines().filter(|line| line.starts_with(&name));
        rows.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    let (total, count) = (sum("sum"), sum("count"));
    (count > 0.0).then(|| total / count)
}

/// Enough of a value to see that it changed. Terminals have histories.
fn hidden(value: &str) -> String {
    let value = value.trim_end();
    let shown: String = value.chars().take(4).collect();
    format!("{shown}... ({} characters)", value.chars().count())
}
