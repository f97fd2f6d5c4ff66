//! A leader that stood still while another took over: when it goes on, it commits nothing more and ends. A real server
//! process on a real API server; the new leader is a second handle on its store, as another node would have one.
//! Must not need nodes.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tidelock::crd::ManagedSecret;
use tidelock::kms::{KeyFile, RootKey as _};
use tidelock::store::{EmbeddedFile, Epoch, ROW_MAC, Store as _};
use tidelock_e2e::{Cluster, wait_for};
use tokio::process::{Child, Command};

const SYSTEM: &str = "tidelock-system";
const CRDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
/// Nothing here is a promise to users; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

async fn start(cluster: &Cluster, store: &Path) -> Result<Child> {
    let port = || TcpListener::bind("127.0.0.1:0").and_then(|held| held.local_addr());
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidelock"));
    command.args(["server", "--namespace", SYSTEM, "--pod-name", "old", "--installation", "tidelock.test"]);
    command.args(["--image", "none", "--store-dir"]).arg(store);
    for listener in ["--webhook-listen", "--api-listen", "--node-listen", "--health-listen"] {
        command.arg(listener).arg(port()?.to_string());
    }
    command.env("KUBECONFIG", cluster.kubeconfig()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().context("the server cannot be started")
}

async fn make(client: &Client, name: &str) -> Result<()> {
    let object = json!({"apiVersion": "tidelock.dev/v1alpha1", "kind": "ManagedSecret", "metadata": {"name": name},
        "spec": {"value": {"generate": {}}}});
    secrets(client).patch(name, &PatchParams::apply("test"), &Patch::Apply(object)).await?;
    Ok(())
}

fn secrets(client: &Client) -> Api<ManagedSecret> {
    Api::namespaced(client.clone(), "shop")
}

async fn version(client: &Client, name: &str) -> Option<String> {
    secrets(client).get(name).await.ok()?.status?.current_version
}

/// What a server does that finds the store's lock free, with the root key of this installation.
async fn take_over(client: &Client, store: &Path) -> Result<Epoch> {
    let keys: Api<Secret> = Api::namespaced(client.clone(), SYSTEM);
    let line = keys.get("tidelock-root-key").await?.data.and_then(|mut data| data.remove("root-key"));
    let line = String::from_utf8(line.context("the Secret has no root key")?.0)?;
    let key = KeyFile::parse("test", &line)?;
    Ok(EmbeddedFile::open(store)?.unlock(key.derive(ROW_MAC).await?)?.raise_epoch().await?)
}

#[tokio::test]
async fn a_leader_that_was_paused_while_another_took_over_is_fenced_and_ends() -> Result<()> {
    let cluster = Cluster::api_only().await?;
    let client = cluster.client();
    cluster.kubectl(&["apply", "-f", CRDS]).await?;
    for namespace in [SYSTEM, "tidelock-rotations", "shop"] {
        cluster.kubectl(&["create", "namespace", namespace]).await?;
    }
    let folder = tempfile::tempdir()?;
    let server = start(&cluster, folder.path()).await?;
    make(&client, "before").await?;
    wait_for("the server to lead and to make a secret", PATIENCE, async || version(&client, "before").await)
        .await?;

    let pid = server.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let pid = pid.context("the server has ended")?;
    kill_process(pid, Signal::STOP)?;
    let locked = EmbeddedFile::open(folder.path()).map(drop).map_err(|error| error.reason());
    ensure!(locked == Err("StoreLocked"), "on one node the lock keeps a second server away: {locked:?}");
    // Another node's kernel knows nothing of that lock.
    std::fs::remove_file(folder.path().join("lock"))?;
    take_over(&client, folder.path()).await?;
    kill_process(pid, Signal::CONT)?;

    make(&client, "after").await?;
    let output = tokio::time::timeout(PATIENCE, server.wait_with_output()).await;
    let output = output.context("the old leader goes on")??;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1) && output.status.signal().is_none(),
        "{}: {words}",
        output.status
    );
    ensure!(words.contains("Fenced: a newer leader has taken over the store"), "{words}");
    ensure!(version(&client, "after").await.is_none(), "the old leader made a secret");
    Ok(())
}
