//! A real Kubernetes cluster on this machine, for one test or for a person, gone without a trace when dropped.
//!
//! A node is one process tree in namespaces of its own (`init.sh` is its root), joined to the others by a bridge.
//! Whoever dies first, the test or the node, the rest follows: the tree hangs on a pipe that this process holds.
//! Must not know what is tested on it.

mod addresses;
mod cgroups;
mod lease;
mod network;
mod node;
mod options;
mod parts;
mod persistent;
mod pki;
mod processes;
mod startup;
mod usage;
mod volumes;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::images::Image;
use crate::tools::Tools;
use crate::{cache, program};
use lease::Lease;
pub use node::Node;
use options::Kind;
pub use options::Options;
pub use parts::Part;
use pki::Pki;
pub use processes::{Memory, Process};
pub use usage::Output;

/// A running cluster. Dropping it, also by a panic, takes everything away.
pub struct Cluster {
    // Before the lease: the number is free only when the nodes are gone.
    nodes: Vec<Node>,
    kind: Kind,
    client: kube::Client,
    tools: Tools,
    pki: Pki,
    keep: bool,
    lease: Lease,
}

impl Cluster {
    /// Builds what is missing, starts the cluster and waits until its nodes are Ready and names resolve.
    pub async fn start(options: Options) -> Result<Self> {
        startup::start(options).await
    }

    /// An API server with etcd, for tests that need no pods.
    pub async fn api_only() -> Result<Self> {
        Self::start(Options::api_only()).await
    }

    /// The administrator's client.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// The administrator's kubeconfig file.
    pub fn kubeconfig(&self) -> PathBuf {
        self.pki.kubeconfig(pki::ADMIN)
    }

    /// The key that signs ServiceAccounts' tokens, for who wants to forge one.
    pub fn token_key(&self) -> PathBuf {
        self.pki.service_account_key()
    }

    /// A node by its number; 1 is the control plane.
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index - 1]
    }

    /// All nodes, the control plane first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// This machine's address on the cluster's bridge: a server that a test runs itself listens here for pods.
    pub fn host_address(&self) -> Ipv4Addr {
        self.lease.addresses.host()
    }

    /// The folder with everything of this cluster; it goes with the cluster.
    pub fn folder(&self) -> &Path {
        &self.lease.folder
    }

    /// Fails with name and last words of the first part that died by itself.
    pub fn check(&self) -> Result<()> {
        self.nodes.iter().try_for_each(Node::check)
    }

    /// Boots a node that was killed, on the disk that it had.
    pub async fn start_node(&self, index: usize) -> Result<()> {
        let node = self.node(index);
        node.boot().await?;
        startup::start_parts(self, node).await
    }

    /// Loads an image archive into each node that is up.
    pub async fn load(&self, image: &Image) -> Result<()> {
        self.load_image(&image.archive).await
    }

    /// Loads an archive (OCI or Docker format) into each node that is up.
    pub async fn load_image(&self, archive: &Path) -> Result<()> {
        let nodes = self.nodes.iter().filter(|node| node.is_up() && node.parts().contains(&Part::Containerd));
        futures::future::try_join_all(nodes.map(|node| self.load_into(node, archive))).await?;
        Ok(())
    }

    /// Gives a loaded image another name in each node: one that manifests name, and that no registry here has.
    pub async fn name_image(&self, image: &Image, name: &str) -> Result<()> {
        for node in &self.nodes {
            let ctr = self.tools.path("ctr").display().to_string();
            node.run(&ctr, &["--namespace", "k8s.io", "images", "tag", "--force", &image.name(), name])
                .await?;
        }
        Ok(())
    }

    async fn load_into(&self, node: &Node, archive: &Path) -> Result<()> {
        let mut command = node.enter()?;
        command.arg("--").arg(self.tools.path("ctr"));
        command.args(["--namespace", "k8s.io", "images", "import"]).arg(archive);
        program::run(&mut command)
            .await
            .with_context(|| format!("cannot load an image into {}", node.name()))?;
        Ok(())
    }

    /// As [`crate::wait_for`], but ends at once when a part of the cluster dies, and tells on failure what the
    /// cluster itself says about it.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        deadline: Duration,
        mut probe: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T> {
        let waited = crate::wait_for(what, deadline, async || match self.check() {
            Err(died) => Some(Err(died)),
            Ok(()) => probe().await.map(Ok),
        });
        match waited.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(died)) => Err(died.context(format!("while waiting for {what}"))),
            Err(late) => bail!("{late}\n{}", self.troubles().await),
        }
    }

    /// Keeps the logs of a failed test where the next cluster does not remove them.
    fn save_logs(&self) -> Result<PathBuf> {
        let place = cache::state_folder()?.join("failed");
        std::fs::create_dir_all(&place)?;
        let kept = tempfile::Builder::new().prefix("logs-").tempdir_in(&place)?.keep();
        for node in &self.nodes {
            std::fs::rename(node.folder().join("log"), kept.join(node.name()))?;
        }
        Ok(kept)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.keep {
            self.nodes.iter().for_each(Node::release);
            return;
        }
        if std::thread::panicking()
            && let Ok(kept) = self.save_logs()
        {
            crate::progress::note(&format!("the logs of the cluster are in {}", kept.display()));
        }
        self.nodes.clear();
        if let Err(error) = self.lease.clear() {
            crate::progress::note(&format!("the cluster left something behind: {error:#}"));
        }
    }
}
