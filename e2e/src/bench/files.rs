//! From the write of a value to the changed file in a hundred pods of one node, beside kubelet's Secret volume in the
//! same pods; and the node agent's memory. Both count from before the request is sent, the API's own work included.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::time::Instant;

use super::swaps::Swaps;
use super::{Found, Row, Samples, Target, Unit, memory};
use crate::caller::Caller;
use crate::shop::{NAMESPACE, PATIENCE, Shop};
use crate::{install, progress};

const PODS: usize = 100;
/// Writes of each; kubelet takes more than a minute for one.
const WRITES: u32 = 30;
const KUBELET_WRITES: u32 = 2;
const KUBELET_WITHIN: Duration = Duration::from_secs(300);
/// Rests between two writes, as a rotation would; a pile of writes is another question.
const PAUSE: Duration = Duration::from_millis(500);
const SECRET: &str = "orders-db";
const LABEL: (&str, &str) = ("bench", "files");
/// Pods that are created at once.
const CREATED_AT_ONCE: usize = 8;
const READY_WITHIN: Duration = Duration::from_secs(600);

pub(super) async fn measure(shop: &Shop) -> Result<Found> {
    let mut found = Found::default();
    prepare(shop).await?;
    pods(shop, 0..1).await?;
    found.add(memory::agent(shop, "node agent, 1 mount").await?);
    let step = progress::step(&format!("start {PODS} pods with both volumes"), "about two minutes");
    pods(shop, 1..PODS).await?;
    step.done();
    found.add(memory::agent(shop, &format!("node agent, {PODS} mounts")).await?);

    let operator = Caller::operator(shop, &[]).await?;
    let folders = folders(shop).await?;
    let step = progress::step(&format!("{WRITES} writes of a ManagedSecret's value"), "half a minute");
    let mut ours = Swaps::of(c"..data", folders.iter().map(|(ours, _)| ours.clone()))?;
    let (mut all, mut answers, mut spread) = (Samples::new()?, Samples::new()?, Samples::new()?);
    for round in 0..WRITES {
        let value = format!("value-{round}");
        let begun = Instant::now();
        // Files may change before the answer is there.
        let (took, answered) = futures::future::try_join(
            ours.all(begun, PATIENCE, |folder| holds(folder, &value)),
            put(&operator, &value, round, begun),
        )
        .await?;
        let last = took.iter().max().context("no volume")?;
        spread.add(*last - *took.iter().min().context("no volume")?)?;
        took.into_iter().try_for_each(|took| all.add(took))?;
        answers.add(answered)?;
        tokio::time::sleep(PAUSE).await;
    }
    step.done();
    let step = progress::step(&format!("{KUBELET_WRITES} writes of a Secret"), "one to two minutes each");
    let mut theirs = Swaps::of(c"..data", folders.iter().map(|(_, theirs)| theirs.clone()))?;
    let mut kubelet = Samples::new()?;
    for round in 0..KUBELET_WRITES {
        let value = format!("value-{round}");
        let begun = Instant::now();
        patch(shop, &value).await?;
        let took = theirs.all(begun, KUBELET_WITHIN, |folder| holds(folder, &value)).await?;
        took.into_iter().try_for_each(|took| kubelet.add(took))?;
    }
    step.done();
    let show = |samples: &Samples| Unit::Seconds.show(samples.figures().median);
    let note = format!(
        "commit to file: {WRITES} writes, {PODS} files each; until the API answered {} (median), from the first of the \
         {PODS} files to the last {} (median); the slowest file of all took {}",
        show(&answers),
        show(&spread),
        Unit::Seconds.show(all.figures().max.unwrap_or_default()),
    );
    let what = format!("write to file, each of {PODS} pods on a node");
    let row = Row::new(&what, Unit::Seconds, all.figures(), Target::P99Below(0.2));
    found.rows.insert(0, row.beside("kubelet's Secret volume", kubelet.figures()));
    found.notes.push(note);
    super::take_away(shop, LABEL).await?;
    Ok(found)
}

/// A ManagedSecret, and a Secret with a value of the same kind.
async fn prepare(shop: &Shop) -> Result<()> {
    shop.login(SECRET).await?;
    shop.apply(&[
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": NAMESPACE},
            "stringData": {"username": "orders", "password": "before"}}),
    ])
    .await?;
    Ok(())
}

async fn pods(shop: &Shop, numbers: std::ops::Range<usize>) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(shop.cluster.client(), NAMESPACE);
    let wanted = numbers.end;
    let mut created = futures::stream::iter(numbers.map(|number| {
        let api = api.clone();
        let pod = pod(shop, number);
        async move {
            api.create(&PostParams::default(), &serde_json::from_value(pod)?)
                .await
                .map_err(anyhow::Error::from)
        }
    }))
    .buffer_unordered(CREATED_AT_ONCE);
    while let Some(created) = created.next().await {
        created.context("cannot create a pod")?;
    }
    let what = format!("{wanted} pods with both volumes to be Ready");
    shop.cluster
        .wait_for(&what, READY_WITHIN, async || {
            let pods = api.list(&ListParams::default().labels(&selector())).await.ok()?;
            (pods.items.iter().filter(|pod| install::is_ready(pod)).count() == wanted).then_some(())
        })
        .await
}

fn selector() -> String {
    format!("{}={}", LABEL.0, LABEL.1)
}

/// With both volumes; it does nothing at all, so that nothing but the volumes is measured.
fn pod(shop: &Shop, number: usize) -> serde_json::Value {
    let mut pod = shop.pod(
        &format!("files-{number}"),
        SECRET,
        SECRET,
        json!({"volumes": [{"name": "kubelets", "secret": {"secretName": SECRET}}]}),
    );
    pod["metadata"]["labels"] = json!({LABEL.0: LABEL.1});
    let container = &mut pod["spec"]["containers"][0];
    container["command"] = json!(["sleep", "1000000"]);
    container["volumeMounts"] = json!([{"name": "kubelets", "mountPath": "/run/kubelets", "readOnly": true}]);
    pod
}

/// Where the two volumes of each pod lie on the node, as seen from the host.
async fn folders(shop: &Shop) -> Result<Vec<(PathBuf, PathBuf)>> {
    let api: Api<Pod> = Api::namespaced(shop.cluster.client(), NAMESPACE);
    let pods = api.list(&ListParams::default().labels(&selector())).await?;
    let volumes = |pod: &Pod| {
        let uid = pod.metadata.uid.as_deref().context("a pod without a UID")?;
        let volumes = shop.cluster.node(1).inside(&format!("/var/lib/kubelet/pods/{uid}/volumes"))?;
        let ours = only(&volumes.join("kubernetes.io~csi"))?.join("mount");
        Ok((ours, volumes.join("kubernetes.io~secret/kubelets")))
    };
    let folders: Vec<_> = pods.items.iter().map(volumes).collect::<Result<_>>()?;
    ensure!(folders.len() == PODS, "{} pods have volumes", folders.len());
    Ok(folders)
}

fn only(folder: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let all: Vec<_> = entries.collect::<Result<_, _>>()?;
    ensure!(all.len() == 1, "{} has {} entries", folder.display(), all.len());
    Ok(all[0].path())
}

fn holds(folder: &Path, value: &str) -> bool {
    std::fs::read_to_string(folder.join("password")).is_ok_and(|found| found == value)
}

/// Writes a value by the AWS API; when it was answered.
async fn put(operator: &Caller, value: &str, round: u32, begun: Instant) -> Result<Duration> {
    let request = json!({
        "SecretId": format!("{NAMESPACE}/{SECRET}"),
        "ClientRequestToken": format!("00000000-0000-0000-0000-{round:012}"),
        "SecretString": json!({"username": "orders", "password": value}).to_string(),
    });
    let (status, body) = operator.call("PutSecretValue", request).await?;
    ensure!(status == 200, "PutSecretValue was answered with {status}: {body}");
    Ok(begun.elapsed())
}

async fn patch(shop: &Shop, value: &str) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(shop.cluster.client(), NAMESPACE);
    let change = json!({"stringData": {"password": value}});
    secrets.patch(SECRET, &PatchParams::default(), &Patch::Merge(change)).await?;
    Ok(())
}
