//! What an agent needs to know, as plain data. Must not read the environment or files.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of one agent.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's name in Kubernetes.
    pub node_name: String,
    pub agent_version: String,
    /// The name of the CSI driver.
    pub driver: String,
    /// kubelet's root directory, as kubelet writes it in target paths.
    pub kubelet: PathBuf,
    /// Where we listen for kubelet's CSI calls.
    pub plugin_socket: PathBuf,
    /// The same socket as kubelet sees it on the host.
    pub plugin_socket_on_host: PathBuf,
    /// Where kubelet looks for us, in its directory of registration sockets.
    pub registration_socket: PathBuf,
    /// Where the manifests of mounts are kept: on the host's tmpfs, so that they end with the mounts.
    pub manifests: PathBuf,
    /// The mounter's socket.
    pub mounter_socket: PathBuf,
    /// Pods' tokens: their audience, and where kubelet puts them.
    pub pod_tokens: PodTokens,
    /// The most that files and held values of this node may take together.
    pub node_bytes_max: u64,
    /// `None` serves no new mounts: it only lets go of those that are there.
    pub server: Option<ServerConfig>,
    pub patience: Patience,
    /// How long first mounts are filled from the node's own copies after the server was lost; zero: never.
    pub trust_window: Duration,
}

/// How the server is reached.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// `https://host:port`.
    pub url: http::Uri,
    /// The certificate authorities that are trusted, in PEM; read at each connection.
    pub ca_file: PathBuf,
    /// How often that file is looked at for pods that want to trust the same.
    pub ca_look: Duration,
    /// The agent's own projected token; read at each connection and watched for its successor.
    pub token_file: PathBuf,
    /// How often the token's file is looked at for a new one. kubelet renews it at four fifths of its life, which is
    /// ten minutes at least.
    pub token_look: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodTokens {
    pub audience: String,
    pub source: TokenSource,
}

/// Where kubelet puts pods' tokens. Only the configured place is read: whoever writes a pod can put a token of his
/// choice into the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TokenSource {
    /// Among the attributes of the volume (CSIDriver without `serviceAccountTokenInSecrets`).
    Attributes,
    /// In the secrets of the call (`serviceAccountTokenInSecrets: true`, from Kubernetes 1.35 on).
    Secrets,
}

/// How long a first mount waits, and for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// A call whose reason to wait has been told before is held this long. kubelet gives up after 120 s.
    pub hold: Duration,
    /// What the first call waits for a server that is away, for it may be about to return.
    pub away: Duration,
    /// What the first call waits for an answer of the server.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            hold: Duration::from_secs(100),
            away: Duration::from_secs(2),
            answer: Duration::from_secs(10),
        }
    }
}
