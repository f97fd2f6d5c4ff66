//! What is measured: the server as it ships, a process of this machine beside a real API server, and ten thousand
//! secrets in its store; and moto's server with as many. Must not measure anything.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, TryStreamExt as _};
use http::Request;
use http_body_util::Full;
use jiff::Timestamp;
use serde_json::{Value, json};
use tidelock_e2e::{Cluster, images, progress, pypi, wait_for};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use super::load::{Target, whole};
use super::sign::Keys;

pub const SECRETS: usize = 10_000;
const VALUE_BYTES: usize = 256;
const NAMESPACE: &str = "tidelock";
const SHOP: &str = "shop";
const DEADLINE: Duration = Duration::from_secs(120);
/// Requests by operation and body, each with the second that it was signed in.
type Signed = HashMap<(&'static str, String), (i64, Request<Full<Bytes>>)>;

/// Somebody who answers AWS's API.
pub struct Peer {
    pub target: Target,
    pub keys: Keys,
    /// The server's process.
    pub process: u32,
    signed: Mutex<Signed>,
    _child: Child,
}

pub struct Site {
    pub ours: Arc<Peer>,
    log: PathBuf,
    _cluster: Cluster,
    _folder: tempfile::TempDir,
}

pub fn name(number: usize) -> String {
    format!("{SHOP}/orders-db-{number:05}")
}

/// JSON of so many bytes that holds the marker.
pub fn value(marker: &str) -> String {
    let bare = json!({ "password": marker }).to_string();
    let filler = "x".repeat(VALUE_BYTES.saturating_sub(bare.len()));
    json!({ "password": format!("{marker}{filler}") }).to_string()
}

impl Peer {
    /// A signed request. AWS's clients send as much.
    pub fn request(&self, operation: &str, body: &Value) -> Result<Request<Full<Bytes>>> {
        let (body, host) = (body.to_string(), self.target.host());
        let target = format!("secretsmanager.{operation}");
        let signature = self.keys.sign(now(), &host, &target, body.as_bytes());
        let request = Request::post("/")
            .header("host", host)
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-date", signature.date)
            .header("x-amz-security-token", &self.keys.token)
            .header("x-amz-target", target)
            .header("authorization", signature.authorization);
        Ok(request.body(Full::new(Bytes::from(body)))?)
    }

    /// The same, for what is asked again and again: signed once in a second, for signatures tell whole seconds, and what
    /// the client works is taken from the server.
    pub fn request_again(&self, operation: &'static str, body: &Value) -> Result<Request<Full<Bytes>>> {
        let (asked, second) = ((operation, body.to_string()), now().as_second());
        let mut signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, request)) = signed.get(&asked).filter(|(at, _)| *at == second) {
            return Ok(request.clone());
        }
        let request = self.request(operation, body)?;
        signed.insert(asked, (second, request.clone()));
        Ok(request)
    }

    /// The secrets, over so many connections.
    pub async fn fill(&self, marker: &'static str, whose: &str, at_once: usize) -> Result<()> {
        let step = progress::step(&format!("make {SECRETS} secrets in {whose}"), "about a minute");
        stream::iter(0..at_once)
            .map(Ok)
            .try_for_each_concurrent(at_once, async |first| {
                let mut sender = self.target.connect().await?;
                for number in (first..SECRETS).step_by(at_once) {
                    let body = json!({
                        "Name": name(number), "SecretString": value(marker),
                        "ClientRequestToken": format!("{number:036}"),
                    });
                    if sender.ready().await.is_err() {
                        sender = self.target.connect().await?;
                    }
                    whole(sender.send_request(self.request("CreateSecret", &body)?).await?).await?;
                }
                anyhow::Ok(())
            })
            .await?;
        step.done();
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a request is signed with the time of its sending")]
fn now() -> Timestamp {
    Timestamp::now()
}

impl Site {
    pub async fn start() -> Result<Self> {
        let step = progress::step("start an API server and Tidelock's server", "about half a minute");
        let cluster = Cluster::api_only().await?;
        let folder = tempfile::tempdir()?;
        prepare(&cluster, folder.path()).await?;
        let ports = free_ports::<4>().await?;
        let log = folder.path().join("log");
        let child = server(&cluster, folder.path(), &ports, &log).await?;
        let process = child.id().context("it runs")?;
        let bundle = wait_for("the CA to be published", DEADLINE, async || {
            let words =
                ["-n", NAMESPACE, "get", "configmap", "tidelock-ca", "-o", "jsonpath={.data.ca\\.crt}"];
            cluster.kubectl(&words).await.ok().filter(|text| !text.is_empty())
        })
        .await
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        let target = Target::trusting(ports[2], bundle.as_bytes())?;
        let words = ["-n", SHOP, "create", "token", "orders-api", "--audience", "tidelock.tidelock/api"];
        let bind = ["--bound-object-kind", "Pod", "--bound-object-name", "orders-api-0"];
        let token = cluster.kubectl(&[&words[..], &bind].concat()).await?;
        let keys =
            wait_for("the server to give keys", DEADLINE, async || assume(&target, token.trim()).await.ok())
                .await
                .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        step.done();
        let ours = Arc::new(Peer { target, keys, process, signed: Mutex::default(), _child: child });
        Ok(Self { ours, log, _cluster: cluster, _folder: folder })
    }

    /// What the server said, for an error that it is the cause of.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Moto's own server, which answers whoever signs with anything.
pub async fn moto() -> Result<Arc<Peer>> {
    let program = pypi::programs("moto").await?.join("moto_server");
    let [port] = free_ports::<1>().await?;
    let child = Command::new(program)
        .args(["--host", "127.0.0.1", "--port", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let process = child.id().context("it runs")?;
    let target = Target::plain(port);
    let up = async || target.connect().await.ok().map(drop);
    wait_for("moto to listen", DEADLINE, up).await?;
    let word = |text: &str| text.to_owned();
    let (id, secret, token, region) = (word("AKIAMOTO"), word("any"), word("any"), word("us-east-1"));
    let keys = Keys { id, secret, token, region, of_day: Mutex::default() };
    Ok(Arc::new(Peer { target, keys, process, signed: Mutex::default(), _child: child }))
}

async fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT]> {
    let mut held = Vec::new();
    for _ in 0..COUNT {
        held.push(TcpListener::bind("127.0.0.1:0").await?);
    }
    let ports = held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect::<Result<Vec<_>>>()?;
    ports.try_into().ok().context("as many ports as were held")
}

/// A pod that nobody runs, of a ServiceAccount that may do with secrets of its namespace what is measured.
async fn prepare(cluster: &Cluster, folder: &Path) -> Result<()> {
    let rule = |resources: &[&str], verbs: &[&str]| json!({"apiGroups": ["tidelock.dev"], "resources": resources, "verbs": verbs});
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let named = |name: &str| json!({"name": name, "namespace": SHOP});
    let items = [
        namespace(NAMESPACE),
        namespace("tidelock-rotations"),
        namespace(SHOP),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": named("orders-api")}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": named("orders-api-0"), "spec": {
            "nodeName": "node-1", "serviceAccountName": "orders-api", "automountServiceAccountToken": false,
            "containers": [{"name": "main", "image": "none"}],
        }}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": named("orders-api"),
            "rules": [rule(&["managedsecrets/value"], &["reveal", "put"]), rule(&["managedsecrets"], &["create"])],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": named("orders-api"),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "orders-api"},
            "subjects": [{"kind": "ServiceAccount", "name": "orders-api", "namespace": SHOP}],
        }),
    ];
    for definition in tidelock::crd::definitions() {
        apply(cluster, folder, &serde_json::to_value(&definition)?).await?;
    }
    for item in &items {
        apply(cluster, folder, item).await?;
    }
    fs::create_dir(folder.join("store"))?;
    Ok(())
}

async fn apply(cluster: &Cluster, folder: &Path, item: &Value) -> Result<()> {
    let file = folder.join("item.json");
    fs::write(&file, item.to_string())?;
    let file = file.display().to_string();
    cluster.kubectl(&["apply", "--server-side", "-f", &file]).await.map(drop)
}

async fn server(cluster: &Cluster, folder: &Path, ports: &[u16; 4], log: &Path) -> Result<Child> {
    let mut command = Command::new(images::tidelock_program().await?);
    command
        .args(["server", "--namespace", NAMESPACE, "--pod-name", "tidelock-server-0", "--image", "none"])
        .args(["--installation", "tidelock.tidelock", "--log-level", "warn"])
        .arg("--store-dir")
        .arg(folder.join("store"));
    let flags = ["--health-listen", "--webhook-listen", "--api-listen", "--node-listen"];
    for (flag, port) in flags.into_iter().zip(ports) {
        command.arg(flag).arg(format!("127.0.0.1:{port}"));
    }
    command.env("KUBECONFIG", cluster.kubeconfig());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(log)?);
    command.kill_on_drop(true).spawn().context("the server does not start")
}

/// Keys for the pod's token.
async fn assume(target: &Target, token: &str) -> Result<Keys> {
    let form = format!(
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=load&WebIdentityToken={token}\
         &RoleArn=arn:aws:iam::000000000000:role/{SHOP}/orders-api"
    );
    let request = Request::post("/")
        .header("host", target.host())
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form)))?;
    let mut sender = target.connect().await?;
    let answer = whole(sender.send_request(request).await?).await?;
    let answer = String::from_utf8_lossy(&answer);
    let element = |name: &str| {
        let (_, rest) = answer.split_once(&format!("<{name}>"))?;
        rest.split_once('<').map(|(text, _)| text.to_owned())
    };
    let word = |name: &str| element(name).with_context(|| format!("STS told no {name}"));
    Ok(Keys {
        id: word("AccessKeyId")?,
        secret: word("SecretAccessKey")?,
        token: word("SessionToken")?,
        region: "local-1".to_owned(),
        of_day: Mutex::default(),
    })
}
