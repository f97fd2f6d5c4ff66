//! Custom resources as nobody should write them, before a real server process on a real API server: each is told what
//! is wrong with it, and none keeps the others from being served. Must not need nodes.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tidelock::crd::{ManagedSecret, RotationSchedule};
use tidelock_e2e::{Cluster, wait_for};
use tokio::process::{Child, Command};

const SYSTEM: &str = "tidelock-system";
const CRDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
/// Nothing here is a promise to users; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

struct Stage {
    cluster: Cluster,
    client: Client,
}

impl Stage {
    fn api<K: kube::Resource<DynamicType = ()>>(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), "shop", &ApiResource::erase::<K>(&()))
    }

    async fn apply<K: kube::Resource<DynamicType = ()>>(
        &self,
        name: &str,
        spec: Value,
    ) -> Result<DynamicObject> {
        let object = json!({"apiVersion": "tidelock.dev/v1alpha1", "kind": K::kind(&()), "metadata": {"name": name},
            "spec": spec});
        let params = PatchParams::apply("test").force();
        Ok(self.api::<K>().patch(name, &params, &Patch::Apply(object)).await?)
    }

    async fn refused(&self, name: &str, spec: Value, says: &str) -> Result<()> {
        let refused =
            self.apply::<ManagedSecret>(name, spec).await.err().context("it was taken")?.to_string();
        ensure!(refused.contains(says), "`{refused}` does not say `{says}`");
        Ok(())
    }

    /// Waits until a condition has this reason, and gives its message back.
    async fn until<K: kube::Resource<DynamicType = ()>>(
        &self,
        name: &str,
        kind: &str,
        reason: &str,
    ) -> Result<String> {
        wait_for(&format!("{name} to be {reason}"), PATIENCE, async || {
            let object = self.api::<K>().get(name).await.ok()?;
            let conditions = object.data["status"]["conditions"].as_array()?;
            let found = conditions.iter().find(|found| found["type"] == kind && found["reason"] == reason)?;
            found["message"].as_str().map(str::to_owned)
        })
        .await
    }

    async fn until_made(&self, name: &str) -> Result<()> {
        self.until::<ManagedSecret>(name, "Ready", "Available").await.map(drop)
    }
}

fn start(cluster: &Cluster, store: &Path) -> Result<Child> {
    let port = || TcpListener::bind("127.0.0.1:0").and_then(|held| held.local_addr());
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidelock"));
    command.args(["server", "--namespace", SYSTEM, "--pod-name", "one", "--installation", "tidelock.test"]);
    command.args(["--image", "none", "--store-dir"]).arg(store);
    for listener in ["--webhook-listen", "--api-listen", "--node-listen", "--health-listen"] {
        command.arg(listener).arg(port()?.to_string());
    }
    command.env("KUBECONFIG", cluster.kubeconfig()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().context("the server cannot be started")
}

fn generated() -> Value {
    json!({"value": {"generate": {}}})
}

#[tokio::test]
async fn resources_that_are_wrong_are_told_so_and_the_others_are_served() -> Result<()> {
    let cluster = Cluster::api_only().await?;
    let stage = Stage { client: cluster.client(), cluster };
    stage.cluster.kubectl(&["apply", "-f", CRDS]).await?;
    for namespace in [SYSTEM, "tidelock-rotations", "shop"] {
        stage.cluster.kubectl(&["create", "namespace", namespace]).await?;
    }
    a_status_is_patched_before_the_server_sees_it(&stage).await?;
    people_see_it_too(&stage).await?;
    let folder = tempfile::tempdir()?;
    let mut server = start(&stage.cluster, folder.path())?;
    stage.until_made("patched").await?;
    let patched = stage.api::<ManagedSecret>().get("patched").await?;
    ensure!(patched.data["status"].get("lastRotation").is_none(), "the status is written anew");
    a_spec_of_another_schema(&stage).await?;
    what_the_schema_refuses(&stage).await?;
    names_of_others(&stage).await?;
    schedules(&stage).await?;
    ensure!(server.try_wait()?.is_none(), "the server lives");
    Ok(())
}

/// The API server takes this time for one, and no parser of times does.
async fn a_status_is_patched_before_the_server_sees_it(stage: &Stage) -> Result<()> {
    stage.apply::<ManagedSecret>("patched", generated()).await?;
    let status = json!({"status": {"lastRotation": "2026-01-01T00:00:00+99:99"}});
    let params = PatchParams::default();
    stage.api::<ManagedSecret>().patch_status("patched", &params, &Patch::Merge(status)).await?;
    Ok(())
}

async fn people_see_it_too(stage: &Stage) -> Result<()> {
    for words in [&["list", "-A"][..], &["describe", "patched", "-n", "shop"], &["list", "-A", "-o", "yaml"]]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidelock"));
        let output = command.args(words).env("KUBECONFIG", stage.cluster.kubeconfig()).output().await?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success() && text.contains("patched"), "tidelock {words:?} shows it: {text}");
    }
    Ok(())
}

async fn a_spec_of_another_schema(stage: &Stage) -> Result<()> {
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/value/properties/symmetricKey/\
                properties/encoding/enum/-";
    let patch = json!([{"op": "add", "path": path, "value": "Base32"}]).to_string();
    let crd = "managedsecrets.tidelock.dev";
    stage.cluster.kubectl(&["patch", "crd", crd, "--type=json", "-p", &patch]).await?;
    let spec = json!({"value": {"symmetricKey": {"encoding": "Base32"}}});
    wait_for("the wider schema to be in force", PATIENCE, async || {
        stage.apply::<ManagedSecret>("newer", spec.clone()).await.ok()
    })
    .await?;
    let message = stage.until::<ManagedSecret>("newer", "Synced", "SpecInvalid").await?;
    ensure!(
        message.starts_with("spec.value.symmetricKey.encoding: cannot be read; write one of"),
        "{message}"
    );
    ensure!(!message.contains("Base32"), "{message}");
    stage.apply::<ManagedSecret>("after-newer", generated()).await?;
    stage.until_made("after-newer").await?;
    stage.apply::<ManagedSecret>("newer", json!({"value": {"symmetricKey": {"encoding": "Hex"}}})).await?;
    stage.until_made("newer").await
}

async fn what_the_schema_refuses(stage: &Stage) -> Result<()> {
    let named = |name: String| json!({"name": name, "value": {"generate": {}}});
    stage.refused("bad", named(format!("shop/{}", "x".repeat(508))), "spec.name").await?;
    stage.refused("bad", named("shop/a\u{7}b".to_owned()), "spec.name").await?;
    stage.apply::<ManagedSecret>("longest", named(format!("shop/{}", "x".repeat(507)))).await?;
    stage.until_made("longest").await?;
    for template in [json!("{\"user\""), json!(["user"]), json!({"user": {"name": "x"}})] {
        let spec = json!({"value": {"generate": {"template": template, "key": "password"}}});
        stage.refused("bad", spec, "spec.value.generate.template").await?;
    }
    let large = json!({"value": {"generate": {}}, "description": "x".repeat(2049)});
    stage.refused("bad", large, "spec.description").await
}

async fn names_of_others(stage: &Stage) -> Result<()> {
    let named = |name: &str| json!({"name": name, "value": {"generate": {}}});
    stage.apply::<ManagedSecret>("first", named("shop/one")).await?;
    stage.until_made("first").await?;
    stage.apply::<ManagedSecret>("second", named("shop/one")).await?;
    let message = stage.until::<ManagedSecret>("second", "Synced", "NameTaken").await?;
    ensure!(message.contains("ManagedSecret shop/first"), "{message}");
    stage.apply::<ManagedSecret>("foreign", named("tidelock-system/one")).await?;
    let message = stage.until::<ManagedSecret>("foreign", "Synced", "NameOutsideNamespace").await?;
    ensure!(message.contains("`shop/one`"), "{message}");
    stage.until_made("first").await
}

async fn schedules(stage: &Stage) -> Result<()> {
    let spec = |secret: &str, days: usize| json!({"secret": secret, "schedule": format!("rate({days} days)"), "rotator": {"generate": {}}});
    stage.apply::<RotationSchedule>("orphan", spec("nobody", 30)).await?;
    let message = stage.until::<RotationSchedule>("orphan", "Ready", "SecretNotFound").await?;
    ensure!(message.contains("no ManagedSecret nobody"), "{message}");
    let mut generation = None;
    for days in 2..40 {
        generation =
            stage.apply::<RotationSchedule>("restless", spec("first", days)).await?.metadata.generation;
    }
    wait_for("the last of many changes to be in force", PATIENCE, async || {
        let seen = stage.api::<RotationSchedule>().get("restless").await.ok()?;
        let status = &seen.data["status"];
        let is_last = status["observedGeneration"].as_i64() == generation;
        (is_last && status["effective"]["schedule"] == "rate(39 days)").then_some(())
    })
    .await
}
