//! A tenant to try Tidelock with: a namespace, secrets in it, pods that carry them. Everything through kubectl, as
//! its user would. Must not know how Tidelock works inside.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::{Cluster, Image, Options, images, install};

/// A cluster with Tidelock installed, and a namespace on it.
pub struct Shop {
    pub cluster: Cluster,
    pub image: Image,
    busybox: Image,
}

pub const NAMESPACE: &str = "shop";
pub const PATIENCE: Duration = Duration::from_secs(120);

impl Shop {
    /// A fresh cluster of so many nodes with Tidelock ready on it and the namespace `shop`.
    pub async fn open(nodes: usize) -> Result<Self> {
        Self::open_with(Options::nodes(nodes), &[]).await
    }

    /// The same with options of the cluster and settings of the chart.
    pub async fn open_with(options: Options, settings: &[&str]) -> Result<Self> {
        let shop = Self::without_tidelock(options).await?;
        install::install(&shop.cluster, &shop.image, settings).await?;
        Ok(shop)
    }

    /// A fresh cluster with images and a volume, before anything is installed.
    pub async fn without_tidelock(options: Options) -> Result<Self> {
        Self::with_store_on(1, options).await
    }

    /// The same with the server's volume, and so the server, on another node than the first.
    pub async fn with_store_on(node: usize, options: Options) -> Result<Self> {
        let (image, busybox) = (images::tidelock().await?, images::busybox().await?);
        let options = options.image(image.clone()).image(busybox.clone());
        let cluster = Cluster::start(options).await?;
        cluster.static_volume(node, "tidelock-store", "1Gi").await?;
        cluster.kubectl(&["create", "namespace", NAMESPACE]).await?;
        Ok(Self { cluster, image, busybox })
    }

    /// `kubectl apply -f -` with these objects.
    pub async fn apply(&self, objects: &[Value]) -> Result<String> {
        apply(&self.cluster, objects).await
    }

    /// A ManagedSecret whose generated login the ServiceAccount of the same name may have.
    pub async fn login(&self, name: &str) -> Result<()> {
        self.apply(&[
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}}),
            login(name, name),
        ])
        .await?;
        Ok(())
    }

    /// A RotationSchedule with the rotator `generate` that is due on request only.
    pub async fn schedule(&self, secret: &str) -> Result<()> {
        self.apply(&[json!({
            "apiVersion": "tidelock.dev/v1alpha1", "kind": "RotationSchedule",
            "metadata": {"name": secret, "namespace": NAMESPACE},
            "spec": {"secret": secret, "schedule": "rate(365 days)", "rotateImmediately": false, "rotator": {"generate": {}}},
        })])
        .await?;
        Ok(())
    }

    /// A pod that carries a secret and does nothing. `more` is merged into its spec.
    pub fn pod(&self, name: &str, secret: &str, account: &str, more: Value) -> Value {
        let mut spec = json!({
            "serviceAccountName": account,
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "app", "image": self.busybox.name(), "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"],
            }],
        });
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE, "annotations": {"tidelock.dev/inject": secret}},
            "spec": spec,
        })
    }

    /// Waits until a pod is Ready and returns its UID.
    pub async fn running(&self, pod: &str) -> Result<String> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client(), NAMESPACE);
        self.cluster
            .wait_for(&format!("pod {pod} to be Ready"), PATIENCE, async || {
                let found = pods.get_opt(pod).await.ok()??;
                install::is_ready(&found).then_some(found.metadata.uid)?
            })
            .await
    }

    /// What a file in a pod holds.
    pub async fn file(&self, pod: &str, path: &str) -> Result<String> {
        let read = async || self.cluster.exec(NAMESPACE, pod, None, &["cat", path]).await;
        // One connection in very many breaks; to read again harms nothing.
        let output = match read().await {
            Ok(output) => output,
            Err(_) => read().await?,
        };
        ensure!(output.success, "cannot read {path} in {pod}: {}{}", output.stderr, output.message);
        Ok(output.stdout)
    }

    /// Waits until a file in a pod holds something else.
    pub async fn changed(&self, pod: &str, path: &str, old: &str, within: Duration) -> Result<String> {
        self.cluster
            .wait_for(&format!("{path} in {pod} to change"), within, async || {
                self.file(pod, path).await.ok().filter(|now| now != old)
            })
            .await
    }

    /// Asks for a rotation as the README says.
    pub async fn rotate(&self, secret: &str, token: &str) -> Result<()> {
        let annotation = format!("tidelock.dev/rotate={token}");
        self.cluster
            .kubectl(&["-n", NAMESPACE, "annotate", "managedsecret", secret, "--overwrite", &annotation])
            .await?;
        Ok(())
    }

    /// The whole status of a ManagedSecret; `Null` before it has one.
    pub async fn status(&self, secret: &str) -> Result<Value> {
        let text =
            self.cluster.kubectl(&["-n", NAMESPACE, "get", "managedsecret", secret, "-o", "json"]).await?;
        let object: Value = serde_json::from_str(&text).context("kubectl printed no JSON")?;
        Ok(object["status"].clone())
    }

    /// Waits until a ManagedSecret's status is as wanted.
    pub async fn status_is(
        &self,
        secret: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        self.cluster
            .wait_for(&format!("the status of {secret} to say {what}"), PATIENCE, async || {
                self.status(secret).await.ok().filter(&wanted)
            })
            .await
    }

    /// The pods of Tidelock itself by component, `server` or `node`.
    pub async fn own_pods(&self, component: &str) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client(), install::NAMESPACE);
        let selector = format!("app.kubernetes.io/name=tidelock,app.kubernetes.io/component={component}");
        Ok(pods.list(&ListParams::default().labels(&selector)).await?.items)
    }
}

/// A ManagedSecret with a generated password and a user name, readable for one ServiceAccount.
pub fn login(name: &str, account: &str) -> Value {
    json!({
        "apiVersion": "tidelock.dev/v1alpha1", "kind": "ManagedSecret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "value": {"generate": {"template": {"username": "orders"}, "key": "password"}},
            "access": [{"serviceAccount": account}],
        },
    })
}

/// Whether a condition has this status, such as `("Ready", "True")`.
pub fn has_condition(status: &Value, kind: &str, wanted: &str) -> bool {
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == kind && condition["status"] == wanted)
}

/// `kubectl apply -f -` with these objects, as administrator.
pub async fn apply(cluster: &Cluster, objects: &[Value]) -> Result<String> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let mut child = cluster
        .kubectl_command(&["apply", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut input = child.stdin.take().context("kubectl has no standard input")?;
    input.write_all(list.to_string().as_bytes()).await?;
    drop(input);
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "kubectl apply: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
