//! The command lines of `tidelock node` and `tidelock mounter`.
//! Must not read files; clap reads the environment for the few settings that Kubernetes can only give there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::bundle;
use super::config::{Config, Patience, PodTokens, ServerConfig, TokenSource};
use super::mounter;
use crate::clock;
use crate::inject::attributes::DRIVER;

const MIB: u64 = 1024 * 1024;
/// A right that is taken away while the server is away bites this much later.
const WINDOW_MAX: Duration = Duration::from_secs(24 * 3600);
const TOKEN_LOOK: Duration = Duration::from_secs(10);
/// Kubernetes marks the pod's own node in this variable, by the downward API.
const NODE_NAME: &str = "NODE_NAME";

/// Runs the node agent: serves kubelet's CSI calls and keeps pods' files up to date.
#[derive(Debug, clap::Args)]
pub struct NodeArgs {
    /// The node's name in Kubernetes.
    #[arg(long, env = NODE_NAME)]
    node_name: String,
    /// kubelet's root directory.
    #[arg(long, default_value = "/var/lib/kubelet")]
    kubelet_dir: PathBuf,
    /// The socket for kubelet's CSI calls, as seen in this container.
    #[arg(long, default_value = "/csi/csi.sock")]
    csi_socket: PathBuf,
    /// The same socket as kubelet sees it; default: plugins/csi.tidelock.dev/csi.sock in kubelet's directory.
    #[arg(long)]
    kubelet_csi_socket: Option<PathBuf>,
    /// The socket by which the driver is made known to kubelet: a file in kubelet's plugins_registry.
    // kubelet's client sends the socket's path as :authority, percent-encoded, which HTTP/2 servers refuse as a host.
    // What stands before an @ may be encoded, so the name ends in @localhost.
    #[arg(long, default_value = "/registration/csi.tidelock.dev@localhost")]
    registration_socket: PathBuf,
    /// Where manifests of mounts are kept: a directory of the host's /run. They hold no values.
    #[arg(long, default_value = "/run/tidelock/manifests")]
    manifests_dir: PathBuf,
    /// The mounter's socket.
    #[arg(long, default_value = "/mounter/mounter.sock")]
    mounter_socket: PathBuf,
    /// The name of this installation; pods' tokens have the audience `<installation>/node`.
    #[arg(long)]
    installation: String,
    /// Where kubelet puts pods' tokens: `secrets` with serviceAccountTokenInSecrets (Kubernetes 1.35 and later).
    #[arg(long, value_enum, default_value = "attributes")]
    token_source: TokenSource,
    /// The most that files and held values of all pods of this node may take together, in MiB. The container's memory
    /// limit must be larger by what the agent itself needs.
    #[arg(long, default_value_t = 64)]
    capacity_mib: u32,
    /// How long after the loss of the server the first mount of a pod is filled from what the agent holds in memory for
    /// the same ServiceAccount, secret and attributes; 0s: never. At most 24h.
    #[arg(long, default_value = "0s", value_parser = window)]
    trust_window: Duration,
    /// The address of the server's node stream: https://host:port.
    #[arg(long, required_unless_present = "drain_only")]
    server: Option<http::Uri>,
    /// The certificate authority of the server, in PEM.
    #[arg(long, default_value = "/run/tidelock-ca/ca.crt")]
    ca_file: PathBuf,
    /// The agent's own token, with the audience `<installation>/stream`.
    #[arg(long, default_value = "/var/run/secrets/tidelock/token")]
    token_file: PathBuf,
    /// Where /livez, /readyz and /metrics are served, without TLS.
    #[arg(long, default_value = "0.0.0.0:8081")]
    health_listen: SocketAddr,
    /// Only unmounts: no server is needed, new volumes are refused. For nodes that Tidelock is removed from.
    #[arg(long)]
    drain_only: bool,
}

impl NodeArgs {
    pub fn health_listen(&self) -> SocketAddr {
        self.health_listen
    }

    pub fn config(self) -> Config {
        let server = self.server.filter(|_| !self.drain_only).map(|url| ServerConfig {
            url,
            ca_file: self.ca_file,
            ca_look: bundle::LOOK,
            token_file: self.token_file,
            token_look: TOKEN_LOOK,
        });
        let plugin_socket_on_host = self
            .kubelet_csi_socket
            .unwrap_or_else(|| self.kubelet_dir.join("plugins").join(DRIVER).join("csi.sock"));
        Config {
            node_name: self.node_name,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            driver: DRIVER.to_owned(),
            kubelet: self.kubelet_dir,
            plugin_socket: self.csi_socket,
            plugin_socket_on_host,
            registration_socket: self.registration_socket,
            manifests: self.manifests_dir,
            mounter_socket: self.mounter_socket,
            pod_tokens: PodTokens {
                audience: format!("{}/node", self.installation),
                source: self.token_source,
            },
            node_bytes_max: u64::from(self.capacity_mib) * MIB,
            server,
            patience: Patience::default(),
            trust_window: self.trust_window,
        }
    }
}

fn window(text: &str) -> Result<Duration, String> {
    let length = clock::length_of_time(text).filter(|length| *length <= WINDOW_MAX);
    length.ok_or_else(|| "write a whole number and one of s, m or h, such as 10m, and at most 24h".to_owned())
}

/// Runs the mounter: the privileged container beside the node agent.
#[derive(Debug, clap::Args)]
pub struct MounterArgs {
    /// kubelet's root directory; must be mounted at this very path, with propagation to the host.
    #[arg(long, default_value = "/var/lib/kubelet")]
    kubelet_dir: PathBuf,
    /// Where the agent asks, in a directory that only the two containers share.
    #[arg(long, default_value = "/mounter/mounter.sock")]
    socket: PathBuf,
    /// The user as whom the agent runs; nobody else is served.
    #[arg(long, default_value_t = 0)]
    agent_uid: u32,
}

impl MounterArgs {
    pub fn config(self) -> mounter::Config {
        mounter::Config {
            socket: self.socket,
            kubelet: self.kubelet_dir,
            driver: DRIVER.to_owned(),
            agent_uid: self.agent_uid,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Node {
        #[command(flatten)]
        args: NodeArgs,
    }

    #[derive(Parser)]
    struct Mounter {
        #[command(flatten)]
        args: MounterArgs,
    }

    fn parse(line: &str) -> Result<Config, clap::Error> {
        Node::try_parse_from(line.split(' ')).map(|parsed| parsed.args.config())
    }

    #[test]
    fn a_node_needs_its_name_the_installation_and_the_server() {
        let config =
            parse("x --node-name n1 --installation tidelock.sys --server https://server.sys.svc:9443")
                .unwrap();
        assert_eq!(config.pod_tokens.audience, "tidelock.sys/node");
        assert_eq!(config.pod_tokens.source, TokenSource::Attributes);
        assert_eq!(config.server.unwrap().url.port_u16(), Some(9443));
        let socket = config.plugin_socket_on_host.display().to_string();
        assert_eq!(socket, "/var/lib/kubelet/plugins/csi.tidelock.dev/csi.sock");
        assert!(parse("x --node-name n1 --installation tidelock.sys").is_err());
        assert!(parse("x --node-name n1 --server https://a:1").is_err());
    }

    #[test]
    fn draining_needs_no_server_and_uses_none() {
        assert!(parse("x --node-name n1 --installation i --drain-only").unwrap().server.is_none());
        let both = parse("x --node-name n1 --installation i --drain-only --server https://a:1").unwrap();
        assert!(both.server.is_none());
    }

    #[test]
    fn there_is_no_trust_window_unless_somebody_asks_for_one() {
        let window = |more: &str| {
            parse(&format!("x --node-name n --installation i --server https://a:1{more}"))
                .map(|c| c.trust_window)
        };
        assert_eq!(window("").unwrap(), Duration::ZERO);
        assert_eq!(window(" --trust-window=10m").unwrap(), Duration::from_secs(600));
        for wrong in [" --trust-window=10", " --trust-window=25h", " --trust-window=-1s"] {
            let error = window(wrong).unwrap_err().to_string();
            assert!(error.contains("--trust-window") && error.contains("at most 24h"), "{error}");
        }
    }

    #[test]
    fn another_kubelet_directory_moves_what_lies_in_it() {
        let config =
            parse("x --node-name n --installation i --drain-only --kubelet-dir /data/kubelet").unwrap();
        assert!(config.plugin_socket_on_host.starts_with("/data/kubelet/plugins"));
        let mounter = Mounter::try_parse_from(["x", "--kubelet-dir", "/data/kubelet"]).unwrap().args.config();
        assert_eq!(mounter.kubelet, PathBuf::from("/data/kubelet"));
        assert_eq!(mounter.agent_uid, 0);
    }
}
