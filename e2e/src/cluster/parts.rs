//! The programs of a node: their names, command lines and configuration files.
//! Each setting that differs from a usual cluster says which fact of the machine forces it.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::addresses::Addresses;
use super::pki::{ADMIN, API_SERVER, CONTROLLER_MANAGER, PROXY, Pki, SCHEDULER};
use crate::tools::{Kubernetes, Tools};

/// One program of a node, by the name of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Containerd,
    Etcd,
    ApiServer,
    ControllerManager,
    Scheduler,
    Kubelet,
    Proxy,
}

impl Part {
    pub fn name(self) -> &'static str {
        match self {
            Part::Containerd => "containerd",
            Part::Etcd => "etcd",
            Part::ApiServer => "kube-apiserver",
            Part::ControllerManager => "kube-controller-manager",
            Part::Scheduler => "kube-scheduler",
            Part::Kubelet => "kubelet",
            Part::Proxy => "kube-proxy",
        }
    }

    /// The port on which it listens once it works; `None` for containerd, which has a socket.
    pub(super) fn port(self) -> Option<u16> {
        match self {
            Part::Containerd => None,
            Part::Etcd => Some(2379),
            Part::ApiServer => Some(6443),
            Part::ControllerManager => Some(10257),
            Part::Scheduler => Some(10259),
            Part::Kubelet => Some(10250),
            Part::Proxy => Some(10249),
        }
    }

    /// A part that gives up when the API server does not answer yet.
    pub(super) fn needs_api_server(self) -> bool {
        matches!(self, Part::ControllerManager | Part::Scheduler | Part::Kubelet | Part::Proxy)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the files of one node are written from.
pub(super) struct Setting<'a> {
    pub(super) tools: &'a Tools,
    pub(super) addresses: Addresses,
    pub(super) pki: Pki,
    pub(super) folder: &'a Path,
    pub(super) index: usize,
    pub(super) pause: &'a str,
    pub(super) api_server_flags: &'a [String],
}

impl Setting<'_> {
    /// Writes the start script and the configuration of each part.
    pub(super) fn write(&self, parts: &[Part]) -> Result<()> {
        for part in parts {
            let arguments = match part {
                Part::Containerd => self.containerd()?,
                Part::Etcd => self.etcd(),
                Part::ApiServer => self.api_server(),
                Part::ControllerManager => self.controller_manager(),
                Part::Scheduler => self.scheduler(),
                Part::Kubelet => self.kubelet()?,
                Part::Proxy => self.proxy()?,
            };
            let program = self.tools.path(part.name()).display().to_string();
            let words: Vec<String> =
                std::iter::once(&program).chain(&arguments).map(|word| quoted(word)).collect();
            let script = format!(
                "export PATH={}\nexec {}\n",
                quoted(&self.tools.search_path()),
                words.join(" \\\n  ")
            );
            self.file(&format!("parts/{part}.sh"), &script)?;
        }
        Ok(())
    }

    fn node(&self) -> String {
        format!("node{}", self.index)
    }

    fn file(&self, name: &str, content: &str) -> Result<String> {
        let path = self.folder.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path.display().to_string())
    }

    fn json(&self, name: &str, content: &Value) -> Result<String> {
        self.file(name, &content.to_string())
    }

    fn containerd(&self) -> Result<Vec<String>> {
        let network = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [
            // Point to point, not a bridge: everything passes the node's routing, so that a Service works between
            // two pods of one node whether or not the kernel filters bridges.
            {"type": "ptp", "ipMasq": false, "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": self.addresses.node_pods(self.index)}]],
                "dataDir": "/run/ipam",
                "routes": [{"dst": "0.0.0.0/0"}],
            }},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ]});
        self.json("cni/10-pods.conflist", &network)?;
        let config = include_str!("containerd.toml")
            .replace("@PAUSE@", self.pause)
            .replace("@CNI@", &self.folder.join("cni").display().to_string())
            .replace("@RUNC@", &self.tools.path("runc").display().to_string());
        Ok(vec!["--config".to_owned(), self.file("containerd.toml", &config)?])
    }

    fn etcd(&self) -> Vec<String> {
        flags([
            ("data-dir", self.folder.join("etcd").display().to_string()),
            ("listen-client-urls", "http://127.0.0.1:2379".to_owned()),
            ("advertise-client-urls", "http://127.0.0.1:2379".to_owned()),
            ("listen-peer-urls", "http://127.0.0.1:2380".to_owned()),
            ("log-level", "warn".to_owned()),
            // A cluster for minutes: a power cut here is SIGKILL, which loses no page cache.
            ("unsafe-no-fsync", "true".to_owned()),
        ])
    }

    fn api_server(&self) -> Vec<String> {
        let pki = &self.pki;
        let mut flags = flags([
            ("etcd-servers", "http://127.0.0.1:2379".to_owned()),
            ("bind-address", "0.0.0.0".to_owned()),
            ("advertise-address", self.addresses.api().to_string()),
            ("tls-cert-file", shown(&pki.certificate(API_SERVER))),
            ("tls-private-key-file", shown(&pki.key(API_SERVER))),
            ("client-ca-file", shown(&pki.authority())),
            ("authorization-mode", "Node,RBAC".to_owned()),
            // In addition to the default ones, which stay on.
            ("enable-admission-plugins", "NodeRestriction".to_owned()),
            ("service-account-issuer", "https://kubernetes.default.svc".to_owned()),
            ("service-account-signing-key-file", shown(&pki.service_account_key())),
            ("service-account-key-file", shown(&pki.service_account_public_key())),
            ("service-cluster-ip-range", self.addresses.services()),
            ("allow-privileged", "true".to_owned()),
            ("kubelet-certificate-authority", shown(&pki.authority())),
            ("kubelet-client-certificate", shown(&pki.certificate(ADMIN))),
            ("kubelet-client-key", shown(&pki.key(ADMIN))),
            ("kubelet-preferred-address-types", "InternalIP".to_owned()),
        ]);
        flags.extend_from_slice(self.api_server_flags);
        flags
    }

    fn controller_manager(&self) -> Vec<String> {
        let kubeconfig = shown(&self.pki.kubeconfig(CONTROLLER_MANAGER));
        flags([
            ("kubeconfig", kubeconfig.clone()),
            ("authentication-kubeconfig", kubeconfig.clone()),
            ("authorization-kubeconfig", kubeconfig),
            ("service-account-private-key-file", shown(&self.pki.service_account_key())),
            ("root-ca-file", shown(&self.pki.authority())),
            ("cluster-signing-cert-file", shown(&self.pki.authority())),
            ("cluster-signing-key-file", shown(&self.pki.key("ca"))),
            ("use-service-account-credentials", "true".to_owned()),
            ("bind-address", "127.0.0.1".to_owned()),
            ("leader-elect", "false".to_owned()),
            // Half a minute instead of a whole one until a dead node counts as such.
            ("node-monitor-grace-period", "25s".to_owned()),
            ("node-monitor-period", "2s".to_owned()),
        ])
    }

    fn scheduler(&self) -> Vec<String> {
        let kubeconfig = shown(&self.pki.kubeconfig(SCHEDULER));
        flags([
            ("kubeconfig", kubeconfig.clone()),
            ("authentication-kubeconfig", kubeconfig.clone()),
            ("authorization-kubeconfig", kubeconfig),
            ("bind-address", "127.0.0.1".to_owned()),
            ("leader-elect", "false".to_owned()),
        ])
    }

    fn kubelet(&self) -> Result<Vec<String>> {
        let node = self.node();
        let mut config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            // Machines with cgroup v1, or without the rights to make a hierarchy for pods.
            "failCgroupV1": false,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": "/",
            "cgroupsPerQOS": false,
            "enforceNodeAllocatable": [],
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "address": self.addresses.node(self.index),
            "readOnlyPort": 0,
            "tlsCertFile": self.pki.certificate(&node),
            "tlsPrivateKeyFile": self.pki.key(&node),
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": self.pki.authority()},
            },
            "authorization": {"mode": "Webhook"},
            "clusterDNS": [self.addresses.dns()],
            "clusterDomain": "cluster.local",
            "nodeLeaseDurationSeconds": 12,
            "nodeStatusUpdateFrequency": "5s",
            "failSwapOn": false,
            "localStorageCapacityIsolation": false,
            // The disk belongs to the machine, and how full it is is not the cluster's affair.
            "evictionHard": {
                "memory.available": "1Mi",
                "nodefs.available": "0%",
                "nodefs.inodesFree": "0%",
                "imagefs.available": "0%",
            },
            "imageGCHighThresholdPercent": 100,
            "maxPods": 250,
            "resolvConf": self.file("resolv.conf", "")?,
        });
        if self.tools.kubernetes() == Kubernetes::Newest {
            // One image under two names, one of them pulled: kubelet would pull the other, from a registry that is not there.
            config["imagePullCredentialsVerificationPolicy"] = json!("NeverVerify");
        }
        Ok(flags([
            ("config", self.json("kubelet.json", &config)?),
            ("kubeconfig", shown(&self.pki.kubeconfig(&node))),
            ("hostname-override", node),
            ("node-ip", self.addresses.node(self.index).to_string()),
            ("v", "2".to_owned()),
        ]))
    }

    fn proxy(&self) -> Result<Vec<String>> {
        let config = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clusterCIDR": self.addresses.pods(),
            "clientConnection": {"kubeconfig": self.pki.kubeconfig(PROXY)},
            // These sysctls are not writable from a namespace; zero means: leave them.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "hostnameOverride": self.node(),
        });
        Ok(flags([("config", self.json("kube-proxy.json", &config)?)]))
    }
}

fn flags<const N: usize>(pairs: [(&str, String); N]) -> Vec<String> {
    pairs.into_iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// One word of a shell command, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_reaches_the_program_unchanged() {
        for word in ["plain", "with space", "it's", "$HOME `x` \\ \"q\"", ""] {
            let mut shell = std::process::Command::new("sh");
            let printed = shell.args(["-c", &format!("printf %s {}", quoted(word))]).output().unwrap();
            assert_eq!(String::from_utf8(printed.stdout).unwrap(), word);
        }
    }
}
