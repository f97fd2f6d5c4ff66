//! The server as it ships, a process of this machine beside a real API server: what befalls its volume and its root key
//! while it starts and while it serves. Must not look into the store: readiness, log and the cluster's objects tell.

#![expect(clippy::expect_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tidelock::crd::ManagedSecret;
use tidelock_e2e::host_server::guarded_program;
use tidelock_e2e::{Cluster, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

const NS: &str = "tidelock";
const SHOP: &str = "shop";
/// Generous: machines that run tests are busy.
const DEADLINE: Duration = Duration::from_secs(90);
const MEBIBYTES: u64 = 16;

fn fault(what: &str, moment: &str, outcome: &str) {
    // Not `println`: what a test that passes prints there is not shown.
    let _ = writeln!(std::io::stdout(), "\nfault: {what:<34} | {moment:<34} | {outcome}");
}

/// A cluster, and a volume for the server's store.
struct Site {
    cluster: Cluster,
    client: Client,
    folder: tempfile::TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = unmount(self.volume(), UnmountFlags::DETACH);
    }
}

/// A running server; killed when dropped.
struct Server {
    child: Child,
    health: u16,
    log: PathBuf,
}

impl Site {
    async fn new() -> Result<Self> {
        let cluster = Cluster::api_only().await?;
        let client = cluster.client();
        for name in [NS, "tidelock-rotations", SHOP] {
            let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
            Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
        }
        for definition in tidelock::crd::definitions() {
            let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
            definitions.create(&PostParams::default(), &definition).await?;
        }
        let resources: Api<ManagedSecret> = Api::all(client.clone());
        wait_for("the definitions to be served", DEADLINE, async || {
            resources.list(&ListParams::default()).await.ok().map(drop)
        })
        .await?;
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("volume"))?;
        let size = std::ffi::CString::new(format!("size={MEBIBYTES}m"))?;
        mount("tmpfs", folder.path().join("volume"), "tmpfs", MountFlags::empty(), Some(size.as_c_str()))?;
        fs::create_dir(folder.path().join("volume/store"))?;
        // Kept: a build with failpoints takes its place.
        fs::copy(env!("CARGO_BIN_EXE_tidelock"), folder.path().join("tidelock"))?;
        Ok(Self { cluster, client, folder })
    }

    fn volume(&self) -> PathBuf {
        self.folder.path().join("volume")
    }

    fn store(&self) -> PathBuf {
        self.volume().join("store")
    }

    async fn start(&self) -> Result<Server> {
        self.start_program(&self.folder.path().join("tidelock"), None).await
    }

    async fn start_program(&self, program: &Path, failpoint: Option<&str>) -> Result<Server> {
        self.give_up_lease().await?;
        let mut ports = Vec::new();
        for _ in 0..4 {
            ports.push(TcpListener::bind("127.0.0.1:0").await?);
        }
        let addresses = ports.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
        drop(ports);
        let log = self.folder.path().join("log");
        let mut command = Command::new(program);
        command
            .args(["server", "--namespace", NS, "--pod-name", "tidelock-server-0", "--image", "none"])
            .args(["--installation", "tidelock.tidelock", "--relist-every", "2s"])
            .arg("--store-dir")
            .arg(self.store());
        let flags = ["--health-listen", "--webhook-listen", "--api-listen", "--node-listen"];
        for (flag, address) in flags.into_iter().zip(&addresses) {
            command.arg(flag).arg(address.to_string());
        }
        command.envs(failpoint.map(|point| ("TIDELOCK_TEST_FAILPOINT", point)));
        let child = command
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Server { child, health: addresses[0].port(), log })
    }

    /// What a server that was killed holds would keep the next one waiting for as long as the Lease lasts.
    async fn give_up_lease(&self) -> Result<()> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), NS);
        let patch = Patch::Merge(json!({"spec": {"holderIdentity": null}}));
        if leases.get_opt("tidelock-server").await?.is_some() {
            leases.patch("tidelock-server", &PatchParams::default(), &patch).await?;
        }
        Ok(())
    }

    /// As before the very first start.
    async fn forget(&self) -> Result<()> {
        self.empty()?;
        self.secrets().delete("tidelock-root-key", &DeleteParams::default()).await?;
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), NS);
        leases.delete("tidelock-server", &DeleteParams::default()).await?;
        Ok(())
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), NS)
    }

    async fn root_key(&self) -> Result<Option<Secret>> {
        Ok(self.secrets().get_opt("tidelock-root-key").await?)
    }

    async fn put_root_key_back(&self, mut key: Secret) -> Result<()> {
        key.metadata.resource_version = None;
        key.metadata.uid = None;
        self.secrets().create(&PostParams::default(), &key).await?;
        Ok(())
    }

    fn resources(&self) -> Api<ManagedSecret> {
        Api::namespaced(self.client.clone(), SHOP)
    }

    async fn login(&self, name: &str) -> Result<()> {
        let resource = json!({
            "apiVersion": "tidelock.dev/v1alpha1", "kind": "ManagedSecret", "metadata": {"name": name},
            "spec": {"value": {"generate": {"template": {"username": "orders"}, "key": "password"}}},
        });
        self.resources().create(&PostParams::default(), &serde_json::from_value(resource)?).await?;
        Ok(())
    }

    /// ARN and versions of each secret, once all of them have both.
    async fn told(&self) -> Result<BTreeMap<String, serde_json::Value>> {
        wait_for("every secret to have a version", DEADLINE, async || {
            let found = self.resources().list(&ListParams::default()).await.ok()?;
            let told = found.items.iter().map(|resource| {
                let status = serde_json::to_value(resource.status.as_ref()?).ok()?;
                let versions = status["versions"].as_array().filter(|versions| !versions.is_empty())?;
                let name = resource.metadata.name.clone()?;
                Some((name, json!({"arn": status["arn"].as_str()?, "versions": versions})))
            });
            told.collect()
        })
        .await
    }

    fn files(&self) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
        let paths = fs::read_dir(self.store())?.map(|entry| entry.map(|entry| entry.path()));
        paths.map(|path| path.and_then(|path| Ok((path.clone(), fs::read(path)?)))).map(|f| Ok(f?)).collect()
    }

    fn empty(&self) -> Result<()> {
        self.files()?.keys().try_for_each(fs::remove_file)?;
        Ok(())
    }

    fn put_back(&self, files: &BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
        self.empty()?;
        files.iter().try_for_each(|(path, bytes)| fs::write(path, bytes))?;
        Ok(())
    }
}

impl Server {
    /// Body of `/readyz`; empty while the port is not open.
    async fn readiness(&self) -> String {
        let asked = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.health)).await?;
            stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        asked.await.unwrap_or_default()
    }

    async fn ready(&self) -> Result<()> {
        let ready = async || self.readiness().await.starts_with("HTTP/1.1 200").then_some(());
        wait_for("the server to be ready", DEADLINE, ready).await.with_context(|| self.said())
    }

    /// Waits until readiness and the log both say it.
    async fn says(&self, reason: &str) -> Result<()> {
        wait_for(&format!("readiness and log to say {reason}"), DEADLINE, async || {
            let readiness = self.readiness().await;
            let told =
                readiness.starts_with("HTTP/1.1 503") && readiness.contains(&format!("store: {reason}: "));
            (told && self.said().contains(reason)).then_some(())
        })
        .await
        .with_context(|| self.said())
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// As kubelet ends it.
    async fn stop(mut self) -> Result<()> {
        let id = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("it runs")?;
        kill_process(id, Signal::TERM)?;
        let status = tokio::time::timeout(DEADLINE, self.child.wait()).await??;
        ensure!(status.success(), "{status}\n{}", self.said());
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_befalls_the_volume_or_the_root_key_is_told_and_nothing_is_made_anew() -> Result<()> {
    let site = Site::new().await?;
    killed_at_each_point_of_the_first_start(&site).await?;
    killed_while_it_starts_for_the_first_time(&site).await?;
    site.login("orders-db").await?;
    let server = site.start().await?;
    server.ready().await?;
    site.told().await?;
    full_while_serving(&site, &server).await?;
    server.stop().await?;
    let whole = site.told().await?;
    older_copy(&site).await?;
    key_or_volume_gone(&site).await?;
    let server = site.start().await?;
    server.ready().await?;
    assert_eq!(site.told().await?, whole, "a version was made or lost");
    server.stop().await
}

/// As `server::opening` names them, in the order in which they are passed.
const POINTS: [&str; 8] = [
    "first-start.before-begin",
    "first-start.begun",
    "first-start.before-key",
    "first-start.key-made",
    "first-start.unlocked",
    "first-start.before-ready",
    "first-start.ready",
    "start.epoch-raised",
];

async fn killed_at_each_point_of_the_first_start(site: &Site) -> Result<()> {
    let program = guarded_program().await?;
    for (number, point) in POINTS.into_iter().enumerate() {
        let mut server = site.start_program(&program, Some(point)).await?;
        let status = tokio::time::timeout(DEADLINE, server.child.wait()).await.context(point)??;
        ensure!(status.signal() == Some(9), "{point}: {status}\n{}", server.said());
        let key = site.root_key().await?;
        assert_eq!(key.is_some(), number > 2, "{point}");
        let server = site.start().await?;
        server.ready().await?;
        server.stop().await?;
        let now = site.root_key().await?.context("a store in use has a key")?;
        assert!(key.is_none_or(|before| before.metadata.uid == now.metadata.uid), "{point}: made twice");
        fault("SIGKILL of the server", &format!("first start, {point}"), "resumes: one root key, then ready");
        site.forget().await?;
    }
    Ok(())
}

/// SIGKILL a little later each time, until one start comes through.
async fn killed_while_it_starts_for_the_first_time(site: &Site) -> Result<()> {
    let mut key: Option<Secret> = None;
    for kills in 0u32.. {
        let server = site.start().await?;
        let moment = Duration::from_millis(u64::from(kills) * 60);
        let ready = async {
            while !server.readiness().await.starts_with("HTTP/1.1 200") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let came_through = tokio::time::timeout(moment, ready).await.is_ok();
        server.kill().await?;
        let found = site.root_key().await?;
        if let Some(before) = &key {
            let now = found.as_ref().expect("a key that was made stays");
            assert_eq!((&before.metadata.uid, &before.data), (&now.metadata.uid, &now.data));
        }
        key = found;
        if came_through {
            assert!(key.is_some());
            fault(
                "SIGKILL of the server",
                &format!("first start, {kills} moments"),
                "one root key, then ready",
            );
            return Ok(());
        }
        ensure!(moment < DEADLINE, "no start came through");
    }
    Ok(())
}

async fn full_while_serving(site: &Site, server: &Server) -> Result<()> {
    let filler = site.volume().join("filler");
    let mut file = fs::File::create(&filler)?;
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    // Each wants to be written; what room the log still has is taken by the first ones.
    let mut made = 0;
    wait_for("the server to notice that the volume is full", DEADLINE, async || {
        made += 1;
        site.login(&format!("more-{made}")).await.ok()?;
        server.readiness().await.contains("store: StoreFull: ").then_some(())
    })
    .await
    .with_context(|| server.said())?;
    assert!(server.said().contains("StoreFull"));
    fs::remove_file(filler)?;
    server.ready().await?;
    let told = site.told().await?;
    assert_eq!(told.len(), made + 1);
    for (name, told) in &told {
        assert_eq!(told["versions"].as_array().map(Vec::len), Some(1), "{name}: {told}");
    }
    fault("full disk", "the server serves", "StoreFull in readiness and log; each secret made once after");
    Ok(())
}

async fn older_copy(site: &Site) -> Result<()> {
    let older = site.files()?;
    let server = site.start().await?;
    server.ready().await?;
    server.stop().await?;
    let newest = site.files()?;
    site.put_back(&older)?;
    let server = site.start().await?;
    server.says("StoreRolledBack").await?;
    server.kill().await?;
    site.put_back(&newest)?;
    fault("older copy of the volume", "the server starts", "StoreRolledBack in readiness and log");
    Ok(())
}

async fn key_or_volume_gone(site: &Site) -> Result<()> {
    let files = site.files()?;
    let key = site.root_key().await?.context("there is a key")?;
    site.secrets().delete("tidelock-root-key", &DeleteParams::default()).await?;
    let server = site.start().await?;
    server.says("RootKeyLost").await?;
    assert!(site.root_key().await?.is_none());
    // Put back, it is taken without a restart.
    site.put_root_key_back(key.clone()).await?;
    server.ready().await?;
    server.stop().await?;
    fault("root key gone", "the server starts", "RootKeyLost, none made; ready once it is back");

    let newest = site.files()?;
    assert_ne!(files, newest);
    site.empty()?;
    let server = site.start().await?;
    server.says("StoreLost").await?;
    server.kill().await?;
    fault("volume emptied", "the server starts", "StoreLost in readiness and log");

    site.empty()?;
    site.secrets().delete("tidelock-root-key", &DeleteParams::default()).await?;
    let server = site.start().await?;
    server.says("StoreLost").await?;
    server.kill().await?;
    assert!(site.root_key().await?.is_none());
    fault("volume and root key gone", "the server starts", "StoreLost, no key made");
    site.put_root_key_back(key).await?;
    site.put_back(&newest)
}
