//! The server as it ships, a process of this machine beside a real API server, and what a pod is given to speak to it.
//! Must not need nodes: the pods are objects that nobody runs.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::{Cluster, wait_for};

pub const SHOP: &str = "shop";
const NS: &str = "tidelock";
const DEADLINE: Duration = Duration::from_secs(90);

/// The cluster, the server beside it, and what a pod would be given.
pub struct Site {
    pub client: Client,
    cluster: Cluster,
    folder: tempfile::TempDir,
    ports: Vec<u16>,
    program: PathBuf,
    /// The AWS API's port, where somebody else than the server holds it.
    held: Option<std::net::TcpListener>,
    /// What the server is started with beside the rest.
    words: Vec<String>,
    server: Child,
}

async fn make<T>(api: Api<T>, value: Value) -> Result<T>
where
    T: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + DeserializeOwned,
{
    Ok(api.create(&PostParams::default(), &serde_json::from_value(value)?).await?)
}

impl Site {
    /// With this program as the server.
    pub async fn new(program: &Path) -> Result<Self> {
        Self::start(program, false, &[]).await
    }

    /// The same, with more arguments.
    pub async fn with(program: &Path, words: &[&str]) -> Result<Self> {
        Self::start(program, false, words).await
    }

    /// The same, with the AWS API's port held open for it, as systemd does by socket activation.
    pub async fn holding_port(program: &Path) -> Result<Self> {
        Self::start(program, true, &[]).await
    }

    async fn start(program: &Path, holds_port: bool, words: &[&str]) -> Result<Self> {
        let cluster = Cluster::api_only().await?;
        let client = cluster.client();
        for name in [NS, "tidelock-rotations", SHOP] {
            make::<Namespace>(Api::all(client.clone()), json!({"metadata": {"name": name}})).await?;
        }
        let definitions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds").display().to_string();
        cluster.kubectl(&["apply", "-f", &definitions]).await?;
        let served = ["wait", "--for", "condition=Established", "--timeout", "60s", "crd", "--all"];
        cluster.kubectl(&served).await?;
        let mut listeners = Vec::new();
        for _ in 0..4 {
            listeners.push(TcpListener::bind("127.0.0.1:0").await?);
        }
        let ports = listeners.iter().map(|held| Ok(held.local_addr()?.port())).collect::<Result<Vec<_>>>()?;
        let held = if holds_port { Some(listeners.remove(2).into_std()?) } else { None };
        drop(listeners);
        if let Some(held) = &held {
            // A child gets what is not to be closed.
            fcntl_setfd(held, FdFlags::empty())?;
        }
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("store"))?;
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let server = start(program, held.as_ref(), &cluster, folder.path(), &ports, &words)?;
        let program = program.to_owned();
        Ok(Self { client, cluster, folder, ports, program, held, words, server })
    }

    /// Kills the server and has another take over its store.
    pub async fn restart(&mut self) -> Result<()> {
        self.server.kill().await?;
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), NS);
        let free = Patch::Merge(json!({"spec": {"holderIdentity": null}}));
        leases.patch("tidelock-server", &PatchParams::default(), &free).await?;
        self.server = self.another()?;
        Ok(())
    }

    /// Of the store, the tokens and the rest, for as long as the site is there.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn another(&self) -> Result<Child> {
        let folder = self.folder.path();
        start(&self.program, self.held.as_ref(), &self.cluster, folder, &self.ports, &self.words)
    }

    /// Ends the server as kubelet does, and has another take over. Gives how long the first one took to end.
    pub async fn roll(&mut self) -> Result<Duration> {
        let begun = std::time::Instant::now();
        let id = self.server.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("it runs")?;
        kill_process(id, Signal::TERM)?;
        let ended = tokio::time::timeout(DEADLINE, self.server.wait()).await.context("it does not end")??;
        let took = begun.elapsed();
        anyhow::ensure!(ended.success(), "the server ended with {ended}");
        self.server = self.another()?;
        Ok(took)
    }

    /// Waits until the server says that it is ready.
    pub async fn ready(&self) -> Result<()> {
        wait_for("the server to be ready", DEADLINE, async || {
            self.health("/readyz").await.ok()?.starts_with("HTTP/1.1 200").then_some(())
        })
        .await
    }

    /// The value of one line of the server's metrics, named with its labels.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let page = self.health("/metrics").await?;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("there is no metric {name}"))?.trim().parse()?)
    }

    async fn health(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports[0])).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// The AWS API's port.
    pub fn port(&self) -> u16 {
        self.ports[2]
    }

    /// The server's resident memory, in KiB.
    pub fn resident_kib(&self) -> Result<u64> {
        let id = self.server.id().context("it has ended")?;
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("its memory")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// What the server has said so far.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.path().join("log"))?)
    }

    /// A ServiceAccount and a pod of it, with the token that kubelet would put there.
    pub async fn pod(&self, account: &str) -> Result<PathBuf> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), SHOP);
        make(accounts, json!({"metadata": {"name": account}})).await?;
        let pod = json!({
            "metadata": {"name": format!("{account}-0")},
            "spec": {
                "nodeName": "node-1", "serviceAccountName": account, "automountServiceAccountToken": false,
                "containers": [{"name": "main", "image": "none"}],
            },
        });
        make::<Pod>(Api::namespaced(self.client.clone(), SHOP), pod).await?;
        let bound = format!("{account}-0");
        let words = ["-n", SHOP, "create", "token", account, "--audience", "tidelock.tidelock/api"];
        let bind = ["--bound-object-kind", "Pod", "--bound-object-name", &bound];
        let token = self.cluster.kubectl(&[&words[..], &bind[..]].concat()).await?;
        let file = self.folder.path().join(account);
        fs::write(&file, token)?;
        Ok(file)
    }

    /// The bundle that clients are to trust.
    pub async fn authority(&self) -> Result<PathBuf> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), NS);
        let bundle = wait_for("the CA to be published", DEADLINE, async || {
            maps.get_opt("tidelock-ca").await.ok()??.data?.remove("ca.crt")
        })
        .await?;
        let file = self.folder.path().join("ca.crt");
        fs::write(&file, bundle)?;
        Ok(file)
    }

    /// The environment of a program that has nothing but its ServiceAccount.
    pub async fn dressed(&self, account: &str, token: &Path) -> Result<Vec<(String, String)>> {
        let bundle = self.authority().await?.display().to_string();
        let endpoint = format!("https://localhost:{}", self.ports[2]);
        let role = format!("arn:aws:iam::000000000000:role/{SHOP}/{account}");
        let token = token.display().to_string();
        let given = [
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", endpoint.as_str()),
            ("AWS_ENDPOINT_URL_STS", &endpoint),
            ("AWS_REGION", "local-1"),
            ("AWS_DEFAULT_REGION", "local-1"),
            ("AWS_ROLE_ARN", &role),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
            ("AWS_CA_BUNDLE", &bundle),
            ("SSL_CERT_FILE", &bundle),
            ("NODE_EXTRA_CA_CERTS", &bundle),
        ];
        Ok(given.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec())
    }
}

fn start(
    program: &Path,
    held: Option<&std::net::TcpListener>,
    cluster: &Cluster,
    folder: &Path,
    ports: &[u16],
    words: &[String],
) -> Result<Child> {
    let mut command = match held {
        None => Command::new(program),
        Some(held) => {
            // Whoever is to take over the socket is named by his process, which only he knows.
            let take = format!("exec 3<&{}; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"", held.as_raw_fd());
            let mut command = Command::new("bash");
            command.args(["-c", &take, "bash"]).arg(program);
            command
        }
    };
    command
        .args(["server", "--namespace", NS, "--pod-name", "tidelock-server-0", "--image", "none"])
        .args(["--installation", "tidelock.tidelock", "--relist-every", "2s", "--log-level", "debug"])
        .arg("--store-dir")
        .arg(folder.join("store"))
        .args(words);
    let flags = ["--health-listen", "--webhook-listen", "--api-listen", "--node-listen"];
    for (flag, port) in flags.into_iter().zip(ports) {
        command.arg(flag).arg(format!("127.0.0.1:{port}"));
    }
    let log = fs::File::options().create(true).append(true).open(folder.join("log"))?;
    let kubeconfig = cluster.kubeconfig();
    command.env("KUBECONFIG", kubeconfig).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.kill_on_drop(true).spawn().context("the server does not start")
}

/// How a program ended.
pub struct Ended {
    pub well: bool,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a program with these variables and no others.
pub async fn ended(program: &Path, words: &[&str], given: &[(String, String)]) -> Result<Ended> {
    ended_as(rustix::process::getgid().as_raw(), program, words, given).await
}

/// The same in this group, as which `Egress` knows it.
pub async fn ended_as(
    group: u32,
    program: &Path,
    words: &[&str],
    given: &[(String, String)],
) -> Result<Ended> {
    let home = tempfile::tempdir()?;
    let output = Command::new(program)
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", "/usr/bin:/bin")
        .envs(given.iter().cloned())
        .args(words)
        .gid(group)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot start {}", program.display()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ended { well: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

/// The same: its output, or what it said was wrong.
pub async fn run(program: &Path, words: &[&str], given: &[(String, String)]) -> Result<String, String> {
    let ended = ended(program, words, given).await.map_err(|error| format!("{error:#}"))?;
    if ended.well { Ok(ended.stdout) } else { Err(ended.stderr) }
}
