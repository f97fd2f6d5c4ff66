//! A cluster with Tidelock, a secret, a DNS server that tells what it is asked, and pods with Python.
//! Must not judge.

use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tidelock_e2e::shop::{NAMESPACE, PATIENCE, Shop};
use tidelock_e2e::{Image, Options, images, install};
use tokio::io::AsyncWriteExt;

/// As pods reach it.
pub const SERVER: &str = "https://tidelock-server.tidelock-system.svc:8444";
/// As the cluster's tokens name it.
pub const ISSUER: &str = "https://kubernetes.default.svc";
const PROGRAM: &str = include_str!("program.py");
const SLEEP: &str =
    "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nsignal.pause()";
const FENCE: &str = "inet fence";

pub struct Stage {
    pub shop: Shop,
    python: Image,
}

/// The one agent of the cluster, as it is now.
#[derive(Debug, PartialEq, Eq)]
pub struct Agent {
    pod: String,
    restarts: i32,
    is_ready: bool,
}

pub fn annotated(value: &str) -> Value {
    json!({"tidelock.dev/aws-sdk": value})
}

impl Stage {
    pub async fn open() -> Result<Stage> {
        let python = images::boto3().await?;
        let shop = Shop::open_with(Options::nodes(1).image(python.clone()), &[]).await?;
        shop.login("orders-db").await?;
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "stranger", "namespace": NAMESPACE}});
        shop.apply(&[account]).await?;
        shop.status_is("orders-db", "Ready", |status| {
            tidelock_e2e::shop::has_condition(status, "Ready", "True")
        })
        .await?;
        let stage = Stage { shop, python };
        stage.let_dns_tell().await?;
        stage.raise_fence().await?;
        Ok(stage)
    }

    /// A pod of this ServiceAccount in which Python waits.
    pub fn pod(&self, name: &str, account: &str, annotations: Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE, "annotations": annotations},
            "spec": {
                "serviceAccountName": account, "terminationGracePeriodSeconds": 1,
                "automountServiceAccountToken": false,
                "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": true},
                "containers": [{
                    "name": "app", "image": self.python.name(), "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-c", SLEEP],
                    "securityContext": {"readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false},
                }],
            },
        })
    }

    /// What the program says in this pod.
    pub async fn says(&self, pod: &str, words: &[&str]) -> Result<Value> {
        let command = [&["python3", "-B", "-c", PROGRAM][..], words].concat();
        let output = self.shop.cluster.exec(NAMESPACE, pod, None, &command).await?;
        ensure!(output.success, "{} in {pod}: {}{}", words[0], output.stderr, output.message);
        serde_json::from_str(&output.stdout).with_context(|| format!("no JSON: {}", output.stdout))
    }

    /// From now on this pod reaches Tidelock's API and DNS; what else it wants is dropped and counted.
    pub async fn fence(&self, pod: &str) -> Result<()> {
        let pod = self.object("pod", pod).await?;
        let address = pod["status"]["podIP"].as_str().context("the pod has no address")?;
        self.nft(&format!("add element {FENCE} pods {{ {address} }}")).await
    }

    async fn raise_fence(&self) -> Result<()> {
        let chain = |hook: &str| {
            [
                &format!("chain {hook} {{"),
                &format!("type filter hook {hook} priority 0"),
                "ip saddr != @pods accept",
                "ct state established accept",
                "ip daddr @servers tcp dport 8444 accept",
                "ip daddr @names udp dport 53 accept",
                "ip daddr @names tcp dport 53 accept",
                "counter name outside drop",
                "}",
            ]
            .join("\n")
        };
        let set = |name: &str| format!("set {name} {{ type ipv4_addr; }}\n");
        let lists = ["pods", "servers", "names"].map(set).concat();
        let chains = [chain("forward"), chain("input")].join("\n");
        self.nft(&format!("table {FENCE} {{\n{lists}counter outside {{ }}\n{chains}\n}}\n")).await?;
        self.let_through().await
    }

    /// The ways to the server and to DNS as they are now.
    async fn let_through(&self) -> Result<()> {
        for (list, ns, label) in [
            ("servers", install::NAMESPACE, "app.kubernetes.io/component=server"),
            ("names", "kube-system", "k8s-app=kube-dns"),
        ] {
            let words = ["-n", ns, "get", "pods", "-l", label, "-o", "jsonpath={.items[*].status.podIP}"];
            let addresses = self.shop.cluster.kubectl(&words).await?;
            for address in addresses.split_whitespace() {
                self.nft(&format!("add element {FENCE} {list} {{ {address} }}")).await?;
            }
        }
        Ok(())
    }

    async fn nft(&self, rules: &str) -> Result<()> {
        self.shop.cluster.node(1).run("nft", &[rules]).await.map(drop)
    }

    /// Packets that the fence has stopped.
    pub async fn fenced_off(&self) -> Result<u64> {
        let words = ["-j", "list", "counter", "inet", "fence", "outside"];
        let listed: Value = serde_json::from_str(&self.shop.cluster.node(1).run("nft", &words).await?)?;
        let counters = listed["nftables"].as_array().into_iter().flatten();
        let mut packets = counters.filter_map(|entry| entry["counter"]["packets"].as_u64());
        packets.next().context("nft names no counter")
    }

    pub async fn object(&self, kind: &str, name: &str) -> Result<Value> {
        let text = self.shop.cluster.kubectl(&["-n", NAMESPACE, "get", kind, name, "-o", "json"]).await?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Creates the object and returns what kubectl warns of.
    pub async fn warnings(&self, object: &Value) -> Result<String> {
        let mut child = self
            .shop
            .cluster
            .kubectl_command(&["create", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut input = child.stdin.take().context("kubectl has no standard input")?;
        input.write_all(object.to_string().as_bytes()).await?;
        drop(input);
        let output = child.wait_with_output().await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "kubectl create: {said}");
        Ok(said)
    }

    /// Kills the agent, and waits until kubelet has another that is ready.
    pub async fn kill_agent(&self) -> Result<()> {
        let before = self.agent().await?;
        self.shop.cluster.node(1).process(&["tidelock node --"])?.kill()?;
        let again = async || {
            self.agent().await.ok().filter(|now| now.restarts > before.restarts && now.is_ready).map(drop)
        };
        self.shop.cluster.wait_for("the agent to be back", PATIENCE, again).await
    }

    pub async fn agent(&self) -> Result<Agent> {
        let agents = self.shop.own_pods("node").await?;
        let [agent] = agents.as_slice() else { bail!("there are {} agents", agents.len()) };
        let containers = agent.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        let container = containers.into_iter().flatten().find(|container| container.name == "agent");
        let container = container.context("the agent's pod tells of no container agent")?;
        let pod = agent.metadata.name.clone().context("a pod has a name")?;
        Ok(Agent { pod, restarts: container.restart_count, is_ready: container.ready })
    }

    /// Kubelet writes a pod's ConfigMaps anew whenever it looks at the pod, and does so at once when the pod changes.
    pub async fn hand_authorities_to_agent(&self) -> Result<()> {
        let pod = self.agent().await?.pod;
        let words = ["-n", install::NAMESPACE, "annotate", "pod", &pod, "example.com/look=now"];
        self.shop.cluster.kubectl(&words).await.map(drop)
    }

    /// Another pod of the agent's, which is given the ConfigMaps of now at once.
    pub async fn replace_agent(&self) -> Result<()> {
        let ns = ["-n", install::NAMESPACE];
        let words = ["delete", "pod", "-l", "app.kubernetes.io/component=node", "--wait"];
        self.shop.cluster.kubectl(&[&ns[..], &words].concat()).await?;
        let rollout = ["rollout", "status", "daemonset/tidelock-node", "--timeout=120s"];
        self.shop.cluster.kubectl(&[&ns[..], &rollout].concat()).await?;
        Ok(())
    }

    pub async fn scale_server(&self, replicas: usize) -> Result<()> {
        let replicas_word = format!("--replicas={replicas}");
        let words = ["-n", install::NAMESPACE, "scale", "statefulset/tidelock-server", &replicas_word];
        self.shop.cluster.kubectl(&words).await?;
        if replicas > 0 {
            install::rolled_out(&self.shop.cluster).await?;
            return self.let_through().await;
        }
        let none = async || self.shop.own_pods("server").await.ok().filter(Vec::is_empty).map(drop);
        self.shop.cluster.wait_for("no server to be left", PATIENCE, none).await
    }

    /// Publishes another authority beside ours, and returns a line of it.
    pub async fn add_authority(&self) -> Result<String> {
        let ns = ["-n", install::NAMESPACE];
        let read =
            [&ns[..], &["get", "configmap", "tidelock-ca", "-o", "jsonpath={.data.ca\\.crt}"]].concat();
        let ours = self.shop.cluster.kubectl(&read).await?;
        let key = rcgen::KeyPair::generate()?;
        let mut parameters = rcgen::CertificateParams::new(Vec::new())?;
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let another = parameters.self_signed(&key)?.pem();
        let patch = json!({"data": {"ca.crt": format!("{}\n{another}", ours.trim())}}).to_string();
        let write = [&ns[..], &["patch", "configmap", "tidelock-ca", "-p", &patch]].concat();
        self.shop.cluster.kubectl(&write).await?;
        another.lines().nth(2).map(|line| line.trim().to_owned()).context("the certificate has no lines")
    }

    /// Has the release trust tokens of the cluster as an OpenID Connect issuer, for that audience.
    pub async fn trust_issuer(&self, audience: &str, account: &str, subject: &str) -> Result<()> {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "anybody-discovers-the-issuer"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                "name": "system:service-account-issuer-discovery"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:unauthenticated"}],
        });
        let ci = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "ci", "namespace": NAMESPACE}});
        self.shop.apply(&[binding, ci]).await?;
        let settings = [
            format!("oidcIssuers[0].issuer={ISSUER}"),
            format!("oidcIssuers[0].audience={audience}"),
            // Kubernetes has it in each namespace.
            "oidcIssuers[0].caConfigMap.name=kube-root-ca.crt".to_owned(),
            format!("oidcIssuers[0].rules[0].serviceAccount={account}"),
            format!("oidcIssuers[0].rules[0].claims.sub[0]={subject}"),
        ];
        let settings = settings.each_ref().map(String::as_str);
        install::helm_install(&self.shop.cluster, &self.shop.image, &settings).await?;
        install::rolled_out(&self.shop.cluster).await?;
        self.let_through().await
    }

    /// A token that the cluster makes for that audience.
    pub async fn token(&self, account: &str, audience: &str) -> Result<String> {
        let words = ["-n", NAMESPACE, "create", "token", account, "--audience", audience];
        Ok(self.shop.cluster.kubectl(&words).await?.trim().to_owned())
    }

    /// Every question that the cluster's DNS server was asked.
    pub async fn names_asked_for(&self) -> Result<String> {
        let words = ["-n", "kube-system", "logs", "-l", "k8s-app=kube-dns", "--tail=-1"];
        self.shop.cluster.kubectl(&words).await
    }

    async fn let_dns_tell(&self) -> Result<()> {
        let cluster = &self.shop.cluster;
        let read = ["-n", "kube-system", "get", "configmap", "coredns", "-o", "jsonpath={.data.Corefile}"];
        let corefile = cluster.kubectl(&read).await?.replacen("errors", "errors\n  log", 1);
        let patch = json!({"data": {"Corefile": corefile}}).to_string();
        cluster.kubectl(&["-n", "kube-system", "patch", "configmap", "coredns", "-p", &patch]).await?;
        cluster.kubectl(&["-n", "kube-system", "rollout", "restart", "deployment/coredns"]).await?;
        let status = ["-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=60s"];
        cluster.kubectl(&status).await?;
        Ok(())
    }
}
