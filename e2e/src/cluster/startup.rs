//! Brings a cluster up in the order in which its parts need each other.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::{try_join, try_join_all};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node as NodeObject, ServiceAccount};
use kube::Api;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::addresses::NODES_MAX;
use super::node::Node;
use super::options::{Kind, Options};
use super::parts::{Part, Setting};
use super::pki::{self, Pki};
use super::{Cluster, lease, network, persistent};
use crate::images::{self, Image};
use crate::tools::Tools;

/// Generous: other things may be running, and a part that dies ends the waiting at once.
const READY_WITHIN: Duration = Duration::from_secs(120);

pub(super) async fn start(options: Options) -> Result<Cluster> {
    ensure!(
        (1..=NODES_MAX).contains(&options.nodes),
        "a cluster has 1 to {NODES_MAX} nodes, not {}",
        options.nodes
    );
    let tools = Tools::ensure().await?;
    let whole = options.kind == Kind::Whole;
    let bundled = if whole { Some(Bundled::build().await?) } else { None };

    let lease = lease::take()?;
    let pki = Pki::in_folder(&lease.folder);
    pki.write(lease.addresses, options.nodes)?;
    network::bridge(lease.addresses)?;
    let keep = options.persistent.is_some();
    let mut nodes = Vec::new();
    for index in 1..=options.nodes {
        let node = Node::new(&lease, index, options.nodes, keep, options.kind.parts(index))?;
        let setting = Setting {
            tools: &tools,
            addresses: lease.addresses,
            pki: pki.clone(),
            folder: node.folder(),
            index,
            pause: &bundled.as_ref().map(|images| images.pause.name()).unwrap_or_default(),
            api_server_flags: &options.api_server_flags,
        };
        setting.write(node.parts())?;
        nodes.push(node);
    }
    let client = client(&pki).await?;
    // From here on a failure drops the cluster, which takes the nodes down again.
    let mut cluster = Cluster { nodes, kind: options.kind, client, tools, pki, keep: false, lease };
    try_join_all(cluster.nodes.iter().map(Node::boot)).await?;
    let parts = try_join_all(cluster.nodes.iter().map(|node| start_parts(&cluster, node)));
    try_join(parts, load_all(&cluster, bundled.as_ref(), &options.images)).await?;
    ready(&cluster, bundled.as_ref()).await?;
    if let Some(name) = &options.persistent {
        persistent::record(&cluster, name)?;
        cluster.keep = true;
    }
    Ok(cluster)
}

/// The images that every whole cluster has.
struct Bundled {
    pause: Image,
    coredns: Image,
    busybox: Image,
}

impl Bundled {
    async fn build() -> Result<Self> {
        Ok(Self {
            pause: images::pause().await?,
            coredns: images::coredns().await?,
            busybox: images::busybox().await?,
        })
    }
}

pub(super) async fn client(pki: &Pki) -> Result<kube::Client> {
    let kubeconfig = Kubeconfig::read_from(pki.kubeconfig(pki::ADMIN))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    kube::Client::try_from(config).context("cannot make a client from the cluster's kubeconfig")
}

/// Starts the parts of a node that has booted, some only when the API server answers.
pub(super) async fn start_parts(cluster: &Cluster, node: &Node) -> Result<()> {
    for part in node.parts().iter().filter(|part| !part.needs_api_server()) {
        node.start_part(*part).await?;
    }
    // A node that comes back while the control plane is away waits as a real one does: by itself.
    if cluster.node(1).is_up() {
        cluster
            .wait_for("the API server to be ready", READY_WITHIN, async || api_ready(&cluster.client).await)
            .await?;
    }
    // kubelet gives up when nobody answers it.
    if node.parts().contains(&Part::Containerd) {
        node.serves(Part::Containerd).await?;
    }
    for part in node.parts().iter().filter(|part| part.needs_api_server()) {
        node.start_part(*part).await?;
    }
    Ok(())
}

async fn api_ready(client: &kube::Client) -> Option<()> {
    let request = http_get("/readyz")?;
    client.request_text(request).await.ok().map(drop)
}

fn http_get(path: &str) -> Option<http::Request<Vec<u8>>> {
    http::Request::get(path).body(Vec::new()).ok()
}

async fn load_all(cluster: &Cluster, bundled: Option<&Bundled>, more: &[Image]) -> Result<()> {
    let Some(bundled) = bundled else { return Ok(()) };
    try_join_all(cluster.nodes.iter().map(|node| node.serves(Part::Containerd))).await?;
    for image in [&bundled.pause, &bundled.coredns, &bundled.busybox].into_iter().chain(more) {
        cluster.load(image).await?;
    }
    Ok(())
}

async fn ready(cluster: &Cluster, bundled: Option<&Bundled>) -> Result<()> {
    if cluster.kind == Kind::Api {
        return Ok(());
    }
    // Without it no pod is admitted, and it is made by a controller a moment after the namespace.
    let accounts: Api<ServiceAccount> = Api::default_namespaced(cluster.client());
    cluster
        .wait_for("the ServiceAccount `default`", READY_WITHIN, async || accounts.get("default").await.ok())
        .await?;
    let Some(bundled) = bundled else { return Ok(()) };
    let manifest = include_str!("bundled.yaml")
        .replace("@IMAGE@", &bundled.coredns.name())
        .replace("@ADDRESS@", &cluster.lease.addresses.dns().to_string());
    let path = cluster.folder().join("bundled.yaml");
    std::fs::write(&path, manifest)?;
    cluster.kubectl(&["create", "-f", &path.display().to_string()]).await?;
    let wanted = cluster.nodes.len();
    cluster
        .wait_for("all nodes to be Ready", READY_WITHIN, async || {
            (ready_nodes(&cluster.client).await? == wanted).then_some(())
        })
        .await?;
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), "kube-system");
    cluster
        .wait_for("DNS to be ready", READY_WITHIN, async || {
            let status = deployments.get_status("coredns").await.ok()?.status?;
            (status.ready_replicas == Some(1)).then_some(())
        })
        .await
}

async fn ready_nodes(client: &kube::Client) -> Option<usize> {
    let nodes = Api::<NodeObject>::all(client.clone()).list(&ListParams::default()).await.ok()?;
    let is_ready = |node: &&NodeObject| {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    Some(nodes.items.iter().filter(is_ready).count())
}
