//! The keeping of trust against a real API server. Must not need nodes, nor wait without a condition.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tidelock::clock::SystemClock;
use tidelock::controller::trust::{Trust, TrustSettings};
use tidelock::pki::{Certificates, Lifetimes};
use tidelock::telemetry::Readiness;
use tidelock_e2e::{Cluster, wait_for};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const NS: &str = "tidelock";
const DEADLINE: Duration = Duration::from_secs(30);
const NAME: &str = "annotated-pods-need-tidelock-server-running.tidelock.dev";

struct Running {
    certificates: Arc<Certificates>,
    readiness: Readiness,
    bundle: tokio::sync::watch::Receiver<Arc<str>>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

fn start(client: &Client, lifetimes: Lifetimes) -> Running {
    let settings = TrustSettings {
        namespace: NS.to_owned(),
        secret: "tidelock-ca-key".to_owned(),
        config_map: "tidelock-ca".to_owned(),
        more_namespaces: vec!["tidelock-rotations".to_owned()],
        webhook_configuration: "tidelock".to_owned(),
        installation: "test".to_owned(),
        server_names: vec!["tidelock-server.tidelock.svc".to_owned()],
        lifetimes,
    };
    let (certificates, readiness) = (Certificates::new(), Readiness::default());
    let component = readiness.component("trust");
    let trust =
        Trust::new(client.clone(), settings, SystemClock::shared(), Arc::clone(&certificates), component);
    let (bundle, shutdown) = (trust.bundle(), CancellationToken::new());
    let task = tokio::spawn(trust.run(shutdown.clone()));
    Running { certificates, readiness, bundle, shutdown, task }
}

impl Running {
    async fn until_ready(&self) -> Result<()> {
        wait_for("trust to be kept", DEADLINE, async || self.readiness.unready().is_empty().then_some(()))
            .await
    }

    async fn stop(self) -> Result<()> {
        self.shutdown.cancel();
        Ok(tokio::time::timeout(DEADLINE, self.task).await??)
    }
}

async fn cluster() -> Result<Cluster> {
    let cluster = Cluster::api_only().await?;
    for ns in [NS, "tidelock-rotations"] {
        let metadata = ObjectMeta { name: Some(ns.to_owned()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        Api::all(cluster.client()).create(&PostParams::default(), &namespace).await?;
    }
    Ok(cluster)
}

fn configuration() -> Result<MutatingWebhookConfiguration> {
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "tidelock", "labels": {"kept": "yes"}},
        "webhooks": [{
            "name": NAME, "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
            "clientConfig": {"service": {"name": "tidelock-server", "namespace": NS, "port": 8443, "path": "/inject"}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        }],
    });
    Ok(serde_json::from_value(configuration)?)
}

async fn published(client: &Client, ns: &str) -> Option<String> {
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), ns);
    config_maps.get_opt("tidelock-ca").await.ok()??.data?.remove("ca.crt")
}

async fn ca_bundle(client: &Client) -> Option<String> {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let found = configurations.get_opt("tidelock").await.ok()??;
    let bundle = found.webhooks?.pop()?.client_config.ca_bundle?;
    String::from_utf8(bundle.0).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn trust_is_made_once_published_and_put_back_where_it_was_wiped() -> Result<()> {
    let cluster = cluster().await?;
    let client = cluster.client();
    let running = start(&client, Lifetimes::default());
    running.until_ready().await?;
    let bundle = running.bundle.borrow().to_string();
    assert!(!running.certificates.is_empty());
    for ns in [NS, "tidelock-rotations"] {
        assert_eq!(published(&client, ns).await.as_deref(), Some(&*bundle));
    }

    // No webhook configuration is made where nobody installed one; one that appears gets its caBundle.
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    assert!(configurations.get_opt("tidelock").await?.is_none());
    configurations.create(&PostParams::default(), &configuration()?).await?;
    let written = async || ca_bundle(&client).await.filter(|written| *written == bundle).map(|_| ());
    wait_for("the caBundle to be written", DEADLINE, written).await?;
    let found = configurations.get("tidelock").await?;
    assert_eq!(found.metadata.labels, configuration()?.metadata.labels);
    let hook = &found.webhooks.context("the webhooks are kept")?[0];
    assert_eq!((&*hook.name, hook.failure_policy.as_deref()), (NAME, Some("Fail")));

    // As `kubectl replace` does.
    let mut wiped = configuration()?;
    wiped.metadata.resource_version = found.metadata.resource_version;
    configurations.replace("tidelock", &PostParams::default(), &wiped).await?;
    wait_for("the caBundle to be put back", DEADLINE, written).await?;
    running.stop().await?;

    // The next process takes the same authority.
    let again = start(&client, Lifetimes::default());
    again.until_ready().await?;
    assert_eq!(**again.bundle.borrow(), *bundle);
    again.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_cannot_be_read_is_said_and_never_overwritten() -> Result<()> {
    let cluster = cluster().await?;
    let secrets: Api<Secret> = Api::namespaced(cluster.client(), NS);
    let broken = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tidelock-ca-key"},
        "stringData": {"ca.crt": "broken"},
    });
    let created = secrets.create(&PostParams::default(), &serde_json::from_value(broken)?).await?;
    let running = start(&cluster.client(), Lifetimes::default());
    wait_for("the trouble to be said", DEADLINE, async || {
        running.readiness.unready().into_iter().find(|unready| unready.reason == "AuthorityUnreadable")
    })
    .await?;
    assert!(running.certificates.is_empty());
    let there = secrets.get("tidelock-ca-key").await?;
    assert_eq!(there.metadata.resource_version, created.metadata.resource_version);

    // As its message says: deleted, a new one is made.
    secrets.delete("tidelock-ca-key", &DeleteParams::default()).await?;
    running.until_ready().await?;
    running.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_lived_authority_hands_over_to_a_successor_that_was_published_before() -> Result<()> {
    let cluster = cluster().await?;
    let client = cluster.client();
    let short = Lifetimes { authority: Duration::from_secs(32), leaf: Duration::from_secs(4) };
    let running = start(&client, short);
    running.until_ready().await?;
    let first = running.bundle.borrow().to_string();
    let successor = wait_for("a successor in the bundle", DEADLINE, async || {
        let bundle = published(&client, NS).await?;
        bundle.strip_prefix(&*first).filter(|rest| !rest.is_empty()).map(str::to_owned)
    })
    .await?;
    wait_for("the successor to sign, its predecessor still trusted", DEADLINE, async || {
        let bundle = published(&client, NS).await?;
        (bundle == format!("{successor}{first}")).then_some(())
    })
    .await?;
    assert!(running.readiness.unready().is_empty());
    running.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_agree_on_one_authority() -> Result<()> {
    let cluster = cluster().await?;
    let client = cluster.client();
    let (one, other) = (start(&client, Lifetimes::default()), start(&client, Lifetimes::default()));
    one.until_ready().await?;
    other.until_ready().await?;
    assert_eq!(**one.bundle.borrow(), **other.bundle.borrow());
    // A bundle that somebody changed is put back by whoever looks first.
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), NS);
    let patch = Patch::Merge(json!({"data": {"ca.crt": "changed"}}));
    config_maps.patch("tidelock-ca", &PatchParams::default(), &patch).await?;
    one.stop().await?;
    let third = start(&client, Lifetimes::default());
    third.until_ready().await?;
    assert_eq!(published(&client, NS).await.as_deref(), Some(&**third.bundle.borrow()));
    third.stop().await?;
    other.stop().await
}
