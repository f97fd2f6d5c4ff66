//! What the webhook adds to the creation of a pod: asked directly as the API server asks it, and in creations without
//! effect (dry run) of annotated pods beside others. Must not leave pods behind.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::client::Body;
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Found, Row, Samples, Target, Unit};
use crate::shop::{NAMESPACE, Shop};
use crate::{install, progress};

const SECRET: &str = "webhook";
const PAIRS: usize = 500;
const REVIEWS: usize = 1000;
const WARM_UP: usize = 20;
const METRIC: &str = "apiserver_admission_webhook_admission_duration_seconds";

pub(super) async fn measure(shop: &Shop) -> Result<Found> {
    shop.login(SECRET).await?;
    let pods: Api<Pod> = Api::namespaced(shop.cluster.client(), NAMESPACE);
    let (annotated, other) = (pod(shop, true)?, pod(shop, false)?);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let step = progress::step(&format!("create {PAIRS} pods of each kind without effect"), "");
    let (mut with, mut without) = (Samples::new()?, Samples::new()?);
    let mut before = Seen::default();
    for round in 0..PAIRS + WARM_UP {
        if round == WARM_UP {
            before = Seen::read(&shop.cluster.client()).await?;
        }
        for (pod, samples) in [(&annotated, &mut with), (&other, &mut without)] {
            let begun = Instant::now();
            let made = pods.create(&dry, pod).await?;
            let took = begun.elapsed();
            let volumes = made.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
            let injected = volumes.filter(|volume| volume.csi.is_some()).count();
            ensure!(
                injected == usize::from(std::ptr::eq(pod, &annotated)),
                "{injected} volumes were injected"
            );
            if round >= WARM_UP {
                samples.add(took)?;
            }
        }
    }
    let seen = Seen::read(&shop.cluster.client()).await?.since(&before);
    step.done();
    let step = progress::step(&format!("ask the webhook {REVIEWS} times"), "");
    let known = reviews(shop, |_| SECRET.to_owned()).await?;
    let unknown = reviews(shop, |round| format!("account-{round}")).await?;
    step.done();
    let target = Target::P99Below(0.01);
    let row = |what: &str, samples: &Samples| {
        Row::new(what, Unit::Seconds, samples.figures(), target)
            .beside("creation of a pod without us (dry run)", without.figures())
    };
    let whole =
        Row::new("creation of an annotated pod (dry run)", Unit::Seconds, with.figures(), Target::None)
            .beside("creation of a pod without us (dry run)", without.figures());
    Ok(Found {
        rows: vec![
            row("webhook, annotated pod", &known),
            row("webhook, of a ServiceAccount not seen lately", &unknown),
            whole,
        ],
        notes: vec![seen.told()],
    })
}

fn pod(shop: &Shop, annotated: bool) -> Result<Pod> {
    let mut pod = shop.pod("dry", SECRET, SECRET, json!({}));
    if !annotated {
        pod["metadata"]["annotations"] = json!({});
    }
    Ok(serde_json::from_value(pod)?)
}

/// Sends reviews one after the other on one connection, as the API server keeps one.
async fn reviews(shop: &Shop, account: impl Fn(usize) -> String) -> Result<Samples> {
    let client = client(shop).await?;
    let mut samples = Samples::new()?;
    for round in 0..REVIEWS + WARM_UP {
        let mut pod = shop.pod("asked", SECRET, &account(round), json!({}));
        pod["spec"]["restartPolicy"] = json!("Always");
        let body = serde_json::to_vec(&review(&pod))?;
        let request =
            Request::post("/inject").header("content-type", "application/json").body(Body::from(body))?;
        let begun = Instant::now();
        let response = client.send(request).await?;
        let status = response.status();
        let answer = response.into_body().collect_bytes().await?;
        let took = begun.elapsed();
        let answer: Value = serde_json::from_slice(&answer).context("the webhook's answer is no JSON")?;
        let patched = answer["response"]["patch"].is_string();
        ensure!(status.is_success() && patched, "the webhook answered {status}: {answer}");
        if round >= WARM_UP {
            samples.add(took)?;
        }
    }
    Ok(samples)
}

fn review(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "0df28fbd-5f5f-11e8-bc74-36e6bb280816",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "name": "asked", "namespace": NAMESPACE, "operation": "CREATE",
            "userInfo": {"username": "bench"}, "object": pod, "oldObject": null, "dryRun": true,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    })
}

async fn client(shop: &Shop) -> Result<Client> {
    let words = |what: &'static str| ["-n", install::NAMESPACE, "get", "-o", what];
    let read = async |path: &'static str, object: &'static str| {
        shop.cluster.kubectl(&[&words(path)[..], &[object]].concat()).await
    };
    let address = read("jsonpath={.spec.clusterIP}", "service/tidelock-server").await?;
    let authority = read("jsonpath={.data.ca\\.crt}", "configmap/tidelock-ca").await?;
    let mut config = Config::new(format!("https://{address}:8443").parse()?);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("ca.crt");
    std::fs::write(&file, authority)?;
    config.root_cert_file = Some(file);
    config.tls_server_name = Some(format!("tidelock-server.{}.svc", install::NAMESPACE));
    config.read_timeout = Some(Duration::from_secs(30));
    Ok(Client::try_from(config)?)
}

/// The API server's own count of how long it waited for our webhook: calls, seconds, and calls within 5 and 25 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen {
    calls: f64,
    seconds: f64,
    within_5_ms: f64,
    within_25_ms: f64,
}

impl Seen {
    async fn read(client: &Client) -> Result<Self> {
        let text = client.request_text(Request::get("/metrics").body(Vec::new())?).await?;
        Self::parse(&text).with_context(|| format!("the API server has no metric {METRIC} of our webhook"))
    }

    fn parse(text: &str) -> Option<Self> {
        let of_ours = |suffix: &str, more: &str| {
            let name = format!("{METRIC}_{suffix}{{");
            let mut lines = text.lines().filter(|line| {
                line.starts_with(&name) && line.contains("tidelock.dev\"") && line.contains(more)
            });
            lines.next()?.rsplit_once(' ')?.1.parse().ok()
        };
        Some(Self {
            calls: of_ours("count", "")?,
            seconds: of_ours("sum", "")?,
            within_5_ms: of_ours("bucket", "le=\"0.005\"")?,
            within_25_ms: of_ours("bucket", "le=\"0.025\"")?,
        })
    }

    fn since(self, before: &Self) -> Self {
        Self {
            calls: self.calls - before.calls,
            seconds: self.seconds - before.seconds,
            within_5_ms: self.within_5_ms - before.within_5_ms,
            within_25_ms: self.within_25_ms - before.within_25_ms,
        }
    }

    fn told(self) -> String {
        let part = |within: f64| 100.0 * within / self.calls.max(1.0);
        format!(
            "webhook, as the API server counts it ({METRIC}): {} calls, {} on average, {:.1} % within 5 ms, {:.1} % \
             within 25 ms",
            self.calls,
            Unit::Seconds.show(self.seconds / self.calls.max(1.0)),
            part(self.within_5_ms),
            part(self.within_25_ms)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_servers_count_is_that_of_our_webhook_alone() {
        let line = |name: &str, kind: &str, le: &str, value: f64| {
            format!("{METRIC}_{kind}{{name=\"{name}\",operation=\"CREATE\"{le}}} {value}\n")
        };
        let mut text = String::from("# HELP something\n");
        for (name, factor) in [("other.example", 7.0), ("pods.tidelock.dev", 1.0)] {
            text += &line(name, "bucket", ",le=\"0.005\"", 8.0 * factor);
            text += &line(name, "bucket", ",le=\"0.025\"", 9.0 * factor);
            text += &line(name, "sum", "", 0.05 * factor);
            text += &line(name, "count", "", 10.0 * factor);
        }
        let seen = Seen::parse(&text).unwrap();
        assert_eq!(seen, Seen { calls: 10.0, seconds: 0.05, within_5_ms: 8.0, within_25_ms: 9.0 });
        let told = seen.told();
        assert!(told.contains("10 calls, 5.00 ms on average, 80.0 % within 5 ms, 90.0 %"), "{told}");
        assert_eq!(Seen::parse("# nothing"), None);
    }
}
