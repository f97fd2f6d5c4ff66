//! The start of a pod with one mounted secret, beside the same pod with kubelet's Secret volume, in turns on one node
//! that has the image. Counts from before the request is sent to the first program of the container: it looks at the
//! secret's file and tells of itself on the node, where the host sees it at once. What the API tells of a start comes up
//! to a second later, for kubelet looks at its containers once a second. Must not leave pods behind.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::swaps::Swaps;
use super::{Found, Row, Samples, Target, Unit};
use crate::progress;
use crate::shop::{NAMESPACE, PATIENCE, Shop};

const SECRET: &str = "start-db";
const LABEL: (&str, &str) = ("bench", "start");
/// Of each kind. Those that were started stay until the end: the end of one would disturb the start of the next.
const PODS: usize = 45;
const WARM_UP: usize = 3;
/// On the node, and in each pod.
const NODE_FOLDER: &str = "/run/bench-started";
const POD_FOLDER: &str = "/started";

pub(super) async fn measure(shop: &Shop) -> Result<Found> {
    prepare(shop).await?;
    let pods: Api<Pod> = Api::namespaced(shop.cluster.client(), NAMESPACE);
    let step =
        progress::step(&format!("start {PODS} pods of each kind, one after the other"), "three minutes");
    let mut started = Swaps::of(c"now", [shop.cluster.node(1).inside(NODE_FOLDER)?])?;
    let mut all = [Samples::new()?, Samples::new()?];
    for round in 0..PODS + WARM_UP {
        // Whichever comes second finds what the first left: each kind is first as often as the other.
        let turns = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for kind in turns {
            let name = format!("start-{kind}-{round}");
            let pod = serde_json::from_value(pod(shop, &name, kind == 0))?;
            let begun = Instant::now();
            pods.create(&PostParams::default(), &pod).await?;
            let took = started.all(begun, PATIENCE, |_| true).await?;
            if round >= WARM_UP {
                took.into_iter().try_for_each(|took| all[kind].add(took))?;
            }
            // Until kubelet has told of it, it is busy with it.
            shop.running(&name).await?;
        }
    }
    step.done();
    super::take_away(shop, LABEL).await?;
    let [ours, kubelets] = all.map(|samples| samples.figures());
    let more = Duration::from_secs_f64((ours.median - kubelets.median).max(0.0));
    let note = format!(
        "pod start: {PODS} pods of each kind; {} more at the median than with a Secret volume",
        Unit::Seconds.show(more.as_secs_f64())
    );
    let row = Row::new("pod start with one mounted secret", Unit::Seconds, ours, Target::AtMostMore(0.05));
    Ok(Found { rows: vec![row.beside("the same pod with a Secret volume", kubelets)], notes: vec![note] })
}

async fn prepare(shop: &Shop) -> Result<()> {
    shop.login(SECRET).await?;
    shop.status_is(SECRET, "Ready", |status| crate::shop::has_condition(status, "Ready", "True")).await?;
    shop.apply(&[json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": NAMESPACE},
        "stringData": {"username": "orders", "password": "before"},
    })])
    .await?;
    shop.cluster.node(1).run("mkdir", &["-p", NODE_FOLDER]).await?;
    Ok(())
}

/// The kinds differ in where the secret comes from, and in nothing else.
fn pod(shop: &Shop, name: &str, ours: bool) -> Value {
    let mut volumes =
        vec![json!({"name": "started", "hostPath": {"path": NODE_FOLDER, "type": "Directory"}})];
    let mut mounts = vec![json!({"name": "started", "mountPath": POD_FOLDER})];
    let file = format!("/run/tidelock/{SECRET}/password");
    if !ours {
        volumes.push(json!({"name": "secret", "secret": {"secretName": SECRET}}));
        mounts.push(
            json!({"name": "secret", "mountPath": format!("/run/tidelock/{SECRET}"), "readOnly": true}),
        );
    }
    let mut pod = shop.pod(name, SECRET, SECRET, json!({"volumes": volumes}));
    if !ours {
        pod["metadata"]["annotations"] = json!({});
    }
    pod["metadata"]["labels"] = json!({LABEL.0: LABEL.1});
    // Only a file that is renamed is told of, as one rename tells of a swap.
    let own = format!("{POD_FOLDER}/{name}");
    let tells = format!("test -s {file} && : > {own} && mv {own} {POD_FOLDER}/now && exec sleep 1000000");
    let container = &mut pod["spec"]["containers"][0];
    container["command"] = json!(["sh", "-c", tells]);
    container["volumeMounts"] = json!(mounts);
    pod
}
