//! Builds the parts of Kubernetes from pinned Go modules, once, into the cache.
//! Each module lies in `e2e/tools/`, its `go.sum` says what may be downloaded. Must not run what it builds.
//!
//! Kubernetes itself is there at both ends of what is supported: `TIDELOCK_KUBERNETES=1.33` chooses the older one for
//! everything that this process starts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use tokio::process::Command;
use tokio::sync::{OnceCell, Semaphore};

use crate::cache::{self, Key};
use crate::progress;
use crate::{prerequisites, program};

/// The sources that are built, as they lie in the clone.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tools");

/// The names under which the one Kubernetes program acts as different parts.
const KUBE_NAMES: [&str; 6] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"];

/// Two at once: the link steps are single-threaded, the compilations fill all cores anyway.
const BUILDS_AT_ONCE: usize = 2;

/// The end of the supported range that clusters are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kubernetes {
    Oldest,
    Newest,
}

impl Kubernetes {
    /// The one that `TIDELOCK_KUBERNETES` names, or the newest.
    #[expect(clippy::disallowed_methods, reason = "the test environment is configured by the environment")]
    pub fn chosen() -> Result<Self> {
        Self::named(std::env::var("TIDELOCK_KUBERNETES").ok().as_deref())
    }

    fn named(name: Option<&str>) -> Result<Self> {
        match name.unwrap_or_default() {
            "1.33" => Ok(Self::Oldest),
            "" | "1.36" => Ok(Self::Newest),
            other => {
                bail!("TIDELOCK_KUBERNETES is `{other}`; write 1.33 or 1.36, for which modules are pinned")
            }
        }
    }

    /// The version as its API server tells it.
    pub fn version(self) -> &'static str {
        match self {
            Self::Oldest => "v1.33.13",
            Self::Newest => "v1.36.3",
        }
    }

    fn module(self) -> &'static Module {
        match self {
            Self::Oldest => &KUBE_OLDEST,
            Self::Newest => &KUBE_NEWEST,
        }
    }
}

/// The folder with every binary of a cluster.
#[derive(Clone, Debug)]
pub struct Tools {
    bin: PathBuf,
    kubernetes: Kubernetes,
}

impl Tools {
    /// Builds what is not in the cache yet. Called by every cluster; costs milliseconds once built.
    pub async fn ensure() -> Result<Self> {
        static BUILT: OnceCell<Tools> = OnceCell::const_new();
        BUILT.get_or_try_init(build_all).await.cloned()
    }

    /// What clusters of these programs are.
    pub fn kubernetes(&self) -> Kubernetes {
        self.kubernetes
    }

    /// Where the programs lie, for a search path.
    pub fn folder(&self) -> &Path {
        &self.bin
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// A search path on which containerd finds its shim, and kubelet the system's programs.
    pub(crate) fn search_path(&self) -> String {
        format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", self.bin.display())
    }
}

struct Module {
    name: &'static str,
    /// Program name and package.
    programs: &'static [(&'static str, &'static str)],
    tags: &'static str,
    variables: &'static [&'static str],
    cgo: bool,
    hint: &'static str,
}

const KUBE_NEWEST: Module = Module {
    name: "kube",
    programs: &[("kube", ".")],
    tags: "",
    // Without these every client sees version v0.0.0.
    variables: &[
        "k8s.io/component-base/version.gitVersion=v1.36.3",
        "k8s.io/component-base/version.gitMajor=1",
        "k8s.io/component-base/version.gitMinor=36",
    ],
    cgo: false,
    hint: "Kubernetes itself, about 4 minutes",
};

const KUBE_OLDEST: Module = Module {
    name: "kube-1.33",
    variables: &[
        "k8s.io/component-base/version.gitVersion=v1.33.13",
        "k8s.io/component-base/version.gitMajor=1",
        "k8s.io/component-base/version.gitMinor=33",
    ],
    hint: "the oldest Kubernetes that is supported, about 4 minutes",
    ..KUBE_NEWEST
};

/// What is the same with each version of Kubernetes.
const OTHERS: [Module; 6] = [
    Module {
        name: "containerd",
        programs: &[
            ("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
            ("containerd-shim-runc-v2", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
            ("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
        ],
        tags: "no_btrfs no_devmapper no_zfs no_aufs",
        variables: &[],
        cgo: false,
        hint: "about a minute",
    },
    Module {
        name: "coredns",
        programs: &[("coredns", "github.com/coredns/coredns")],
        tags: "",
        variables: &[],
        cgo: false,
        hint: "about 1.5 minutes",
    },
    Module {
        name: "helm",
        programs: &[("helm", "helm.sh/helm/v3/cmd/helm")],
        tags: "",
        variables: &[
            "helm.sh/helm/v3/internal/version.version=v3.22.0",
            "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1",
            "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=36",
        ],
        cgo: false,
        hint: "about a minute",
    },
    Module {
        name: "etcd",
        programs: &[("etcd", "go.etcd.io/etcd/server/v3")],
        tags: "",
        variables: &[],
        cgo: false,
        hint: "about half a minute",
    },
    Module {
        name: "runc",
        programs: &[("runc", "github.com/opencontainers/runc")],
        // Without it every sandbox fails: "seccomp: config provided but seccomp not supported".
        tags: "seccomp",
        variables: &[],
        cgo: true,
        hint: "15 seconds",
    },
    Module {
        name: "pause",
        programs: &[("pause", ".")],
        tags: "",
        variables: &[],
        cgo: false,
        hint: "1 second",
    },
];

impl Module {
    fn source(&self) -> PathBuf {
        Path::new(SOURCES).join(self.name)
    }

    fn flags(&self) -> String {
        let variables: String = self.variables.iter().map(|variable| format!(" -X {variable}")).collect();
        format!("-s -w{variables}")
    }

    fn key(&self) -> Result<Key> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.source())
            .with_context(|| format!("cannot list {}", self.source().display()))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()?;
        files.sort();
        let mut key = Key::new().text(self.tags).text(&self.flags()).text(std::env::consts::ARCH);
        for file in files.iter().filter(|file| file.is_file()) {
            key = key.text(&file.file_name().unwrap_or_default().to_string_lossy()).file(file)?;
        }
        for (program, package) in self.programs {
            key = key.text(program).text(package);
        }
        Ok(key)
    }

    /// Builds into `folder`. Retried once, for a registry that hiccups in the middle of a long download.
    async fn build(&self, folder: &Path) -> Result<()> {
        let step = progress::step(&format!("build {}", self.name), self.hint);
        let log = cache::folder()?.join(format!("build-{}.log", self.name));
        if let Err(error) = self.compile(folder, &log).await {
            progress::note(&format!("building {} failed, trying once more: {error:#}", self.name));
            tokio::time::sleep(Duration::from_secs(2)).await;
            self.compile(folder, &log).await?;
        }
        step.done();
        Ok(())
    }

    async fn compile(&self, folder: &Path, log: &Path) -> Result<()> {
        for (program, package) in self.programs {
            let mut command = Command::new("go");
            command
                .current_dir(self.source())
                .env("CGO_ENABLED", if self.cgo { "1" } else { "0" })
                // The Go that is here, and the pinned versions: neither may be exchanged on the way.
                .env("GOTOOLCHAIN", "local")
                .env("GOFLAGS", "-mod=readonly -buildvcs=false")
                .env("GOWORK", "off")
                .args(["build", "-trimpath", "-tags", self.tags, "-ldflags", &self.flags()])
                .arg("-o")
                .arg(folder.join(program))
                .arg(package);
            program::run_logged(&mut command, log)
                .await
                .with_context(|| format!("cannot build {program}"))?;
        }
        Ok(())
    }
}

async fn build_all() -> Result<Tools> {
    let kubernetes = Kubernetes::chosen()?;
    prerequisites::ensure_all().await?;
    let root = cache::folder()?.join("tools");
    let modules: Vec<&Module> = std::iter::once(kubernetes.module()).chain(&OTHERS).collect();
    let mut folders = Vec::new();
    let mut all = Key::new();
    for module in &modules {
        let key = module.key()?;
        all = all.text(&key.to_string());
        folders.push(root.join(format!("{}-{key}", module.name)));
    }
    let bin = root.join(format!("bin-{all}"));
    if bin.exists() {
        return Ok(Tools { bin, kubernetes });
    }
    let _alone = cache::lock("tools").await?;
    let slots = Semaphore::new(BUILDS_AT_ONCE);
    try_join_all(modules.iter().zip(&folders).map(async |(module, folder)| {
        let _slot = slots.acquire().await?;
        cache::fill(folder, async |partial| module.build(&partial).await).await
    }))
    .await?;
    cache::fill(&bin, async |partial| link(&modules, &folders, &partial)).await?;
    Ok(Tools { bin, kubernetes })
}

/// One folder of links, so that one PATH entry serves a whole node.
fn link(modules: &[&Module], folders: &[PathBuf], bin: &Path) -> Result<()> {
    for (module, folder) in modules.iter().zip(folders) {
        for (program, _) in module.programs {
            symlink(folder.join(program), bin.join(program))?;
            if *program == "kube" {
                for name in KUBE_NAMES {
                    symlink(folder.join(program), bin.join(name))?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = &'static Module> {
        [&KUBE_NEWEST, &KUBE_OLDEST].into_iter().chain(&OTHERS)
    }

    #[test]
    fn a_version_of_kubernetes_is_named_by_its_minor_and_pinned() {
        assert_eq!(Kubernetes::named(None).unwrap(), Kubernetes::Newest);
        assert_eq!(Kubernetes::named(Some("1.33")).unwrap(), Kubernetes::Oldest);
        assert!(Kubernetes::named(Some("1.20")).unwrap_err().to_string().contains("1.33 or 1.36"));
        for kubernetes in [Kubernetes::Oldest, Kubernetes::Newest] {
            let pinned = fs::read_to_string(kubernetes.module().source().join("go.mod")).unwrap();
            assert!(pinned.contains(&format!("k8s.io/kubernetes {}\n", kubernetes.version())));
            assert!(kubernetes.module().flags().contains(&format!("={}", kubernetes.version())));
        }
    }

    #[test]
    fn every_module_is_pinned_by_checksums() {
        for module in all().filter(|module| module.name != "pause") {
            let sums = fs::read_to_string(module.source().join("go.sum")).unwrap();
            assert!(sums.lines().count() > 20, "{} has no checksums", module.name);
        }
    }

    #[test]
    fn the_key_of_a_module_is_stable_and_its_own() {
        let keys: Vec<String> = all().map(|module| module.key().unwrap().to_string()).collect();
        let again: Vec<String> = all().map(|module| module.key().unwrap().to_string()).collect();
        assert_eq!(keys, again);
        let distinct: std::collections::BTreeSet<&String> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }
}
