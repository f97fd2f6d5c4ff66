//! Tidelock's server as a process of this machine in front of a real cluster, so that a test can kill it at one exact
//! point and have it back within a second. The chart is installed as ever, with no server pod; the Service leads here.
//! Must not know how Tidelock works inside.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::install::NAMESPACE;
use crate::shop::{self, Shop};
use crate::{install, program};

const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const HEALTH_PORT: u16 = 8080;
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Where a server may run: its program, its store, and the rights of its own ServiceAccount.
pub struct Host<'a> {
    shop: &'a Shop,
    program: PathBuf,
    store: PathBuf,
    kubeconfig: PathBuf,
    log: PathBuf,
}

/// One process of the server. Dropping it kills it.
pub struct Server {
    child: Child,
}

impl Server {
    /// Waits until it has ended, and says how.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait().await?)
    }

    /// Kills it as the kernel would.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

impl<'a> Host<'a> {
    /// Installs the chart, takes its server pod away, and leads its Service to this machine.
    pub async fn prepare(shop: &'a Shop) -> Result<Host<'a>> {
        let program = guarded_program().await?;
        install::helm_install(&shop.cluster, &shop.image, &[]).await?;
        let scale = ["-n", NAMESPACE, "scale", "statefulset/tidelock-server", "--replicas=0"];
        shop.cluster.kubectl(&scale).await?;
        let none = async || shop.own_pods("server").await.ok().filter(Vec::is_empty).map(drop);
        shop.cluster.wait_for("no server pod to be left", shop::PATIENCE, none).await?;
        let port = |name: &str, port: u16| json!({"name": name, "port": port, "protocol": "TCP"});
        let ports =
            [port("webhook", 8443), port("api", 8444), port("node", 8445), port("health", HEALTH_PORT)];
        let labels = json!({"kubernetes.io/service-name": "tidelock-server"});
        shop.apply(&[json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "tidelock-server-on-host", "namespace": NAMESPACE, "labels": labels},
            "endpoints": [{"addresses": [shop.cluster.host_address().to_string()]}], "ports": ports,
        })])
        .await?;
        let folder = shop.cluster.folder().join("host-server");
        let store = folder.join("store");
        fs::create_dir_all(&store)?;
        let kubeconfig = own_kubeconfig(shop, &folder).await?;
        Ok(Host { shop, program, store, kubeconfig, log: folder.join("log") })
    }

    /// Starts it, to die at a failpoint when one is named.
    pub async fn start(&self, failpoint: Option<&str>) -> Result<Server> {
        self.release_lease().await?;
        let address = self.shop.cluster.host_address();
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.args(["server", "--namespace", NAMESPACE, "--pod-name", "tidelock-server-0"]);
        command.arg(format!("--installation=tidelock.{NAMESPACE}")).arg("--store-dir").arg(&self.store);
        for (door, port) in [("webhook", 8443), ("api", 8444), ("node", 8445), ("health", HEALTH_PORT)] {
            command.arg(format!("--{door}-listen={address}:{port}"));
        }
        command.arg("--image").arg(self.shop.image.name()).args(["--relist-every=3s", "--log-level=debug"]);
        command.env("KUBECONFIG", &self.kubeconfig).env_remove("TIDELOCK_TEST_GUARD_OFF");
        match failpoint {
            Some(name) => command.env("TIDELOCK_TEST_FAILPOINT", name),
            None => command.env_remove("TIDELOCK_TEST_FAILPOINT"),
        };
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        Ok(Server { child: command.spawn().context("cannot start the server")? })
    }

    /// Starts it and waits until it says that it is ready.
    pub async fn start_ready(&self) -> Result<Server> {
        let mut server = self.start(None).await?;
        let ready = async || {
            if let Ok(Some(status)) = server.child.try_wait() {
                return Some(Err(anyhow::anyhow!("the server ended with {status}")));
            }
            self.health("/readyz")
                .await
                .ok()
                .filter(|answer| answer.starts_with("HTTP/1.1 200"))
                .map(|_| Ok(()))
        };
        let waited =
            self.shop.cluster.wait_for("the server on this machine to be ready", READY_WITHIN, ready);
        waited.await?.with_context(|| program::tail_of(&self.log))?;
        Ok(server)
    }

    /// The value of a metric without labels.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let answer = self.health("/metrics").await?;
        let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("there is no metric {name}"))?.trim().parse()?)
    }

    async fn health(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect((self.shop.cluster.host_address(), HEALTH_PORT)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: health\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// A dead process gives no Lease back; nobody else may hold it here, and waiting for its end proves nothing.
    async fn release_lease(&self) -> Result<()> {
        let lease = ["-n", NAMESPACE, "patch", "lease", "tidelock-server", "--type=merge"];
        let free = json!({"spec": {"holderIdentity": null}}).to_string();
        match self.shop.cluster.kubectl(&[&lease[..], &["-p", &free]].concat()).await {
            Err(error) if !format!("{error:#}").contains("not found") => Err(error),
            _ => Ok(()),
        }
    }
}

/// The program with failpoints. The one that ships has none.
pub async fn guarded_program() -> Result<PathBuf> {
    let words =
        ["build", "--quiet", "--package", "tidelock", "--bin", "tidelock", "--features", "test-guards"];
    let mut build = Command::new("cargo");
    build.current_dir(WORKSPACE).args(words).arg("--message-format=json");
    let messages = program::run(&mut build).await?;
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "tidelock")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    let built = executable.context("cargo did not say where it put the program")?;
    // Another build of the same profile takes its place.
    let kept = built.with_file_name("tidelock-with-failpoints");
    fs::copy(&built, &kept).with_context(|| format!("cannot keep {}", built.display()))?;
    Ok(kept)
}

/// A kubeconfig with a token of the server's own ServiceAccount: it can do what it can in its pod, and no more.
async fn own_kubeconfig(shop: &Shop, folder: &Path) -> Result<PathBuf> {
    let words = ["-n", NAMESPACE, "create", "token", "tidelock-server", "--duration=2h"];
    let token = shop.cluster.kubectl(&words).await?;
    ensure!(!token.trim().is_empty(), "kubectl made no token");
    let text = shop.cluster.kubectl(&["config", "view", "--raw", "--minify", "-o", "json"]).await?;
    let mut config: Value = serde_json::from_str(&text)?;
    config["users"][0]["user"] = json!({"token": token.trim()});
    let file = folder.join("kubeconfig");
    fs::write(&file, config.to_string())?;
    Ok(file)
}
