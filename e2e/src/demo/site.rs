//! The cluster that the demo runs on: one of its own, or the one that `KUBECONFIG` names.
//! Must say what it will install before it touches a cluster that is not its own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use crate::{Cluster, Options, Tools, images, program, progress};

/// The demo's own cluster.
pub const CLUSTER: &str = "demo";
/// Everything of the release is in here; the demo makes it and takes it away.
pub const NAMESPACE: &str = "tidelock-system";
pub const RELEASE: &str = "tidelock";
/// The namespace of the samples.
pub const SAMPLES: &str = "shop";
/// What the demo made carries this label, so that `demo-down` removes nothing else.
const LABEL: &str = "tidelock.dev/demo";

const DEFINITIONS: [&str; 2] = ["managedsecrets.tidelock.dev", "rotationschedules.tidelock.dev"];

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// The image that the samples name.
const SAMPLE_IMAGE: &str = "busybox";

pub struct Site {
    kubeconfig: PathBuf,
    tools: Tools,
    /// Repository and tag of Tidelock's image.
    image: (String, String),
    /// Replaces the samples' image where no registry can be reached.
    sample_image: Option<(String, String)>,
    own: bool,
}

impl Site {
    /// The user's cluster when both variables are set, else our own, started now or still running.
    pub async fn prepare(kubeconfig: Option<PathBuf>, image: Option<String>) -> Result<Self> {
        match (kubeconfig, image) {
            (Some(kubeconfig), Some(image)) => Self::of_user(kubeconfig, &image).await,
            (None, Some(_)) => {
                bail!("IMAGE is set and KUBECONFIG is not: set both to use your own cluster, or none")
            }
            // A machine of its own may well have a KUBECONFIG: without an image it is not meant for us.
            (_, None) => Self::of_our_own().await,
        }
    }

    async fn of_user(kubeconfig: PathBuf, image: &str) -> Result<Self> {
        let (repository, tag) = image
            .rsplit_once(':')
            .filter(|(_, tag)| !tag.contains('/'))
            .with_context(|| format!("IMAGE={image} has no tag: write repository:tag"))?;
        let image = (repository.to_owned(), tag.to_owned());
        let site = Self { kubeconfig, tools: Tools::ensure().await?, image, sample_image: None, own: false };
        let server = site
            .kubectl(&["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"])
            .await?;
        progress::note(&format!("using the cluster at {server}; this will be installed there:"));
        progress::note(&format!(
            "  namespace {NAMESPACE}: release {RELEASE} of charts/tidelock (cluster roles, webhook, CSI driver, CRDs)"
        ));
        progress::note(&format!("  namespace {SAMPLES}: the samples of config/samples"));
        Ok(site)
    }

    async fn of_our_own() -> Result<Self> {
        let (image, busybox) = (images::tidelock().await?, images::busybox().await?);
        let cluster = match Cluster::attach(CLUSTER).await? {
            Some(running) => running,
            None => {
                let cluster = Cluster::start(Options::nodes(1).persistent(CLUSTER)).await?;
                cluster.static_volume(1, "tidelock-store", "1Gi").await?;
                cluster
            }
        };
        cluster.load(&image).await?;
        cluster.load(&busybox).await?;
        Ok(Self {
            kubeconfig: cluster.kubeconfig(),
            tools: Tools::ensure().await?,
            image: (image.repository, image.tag),
            sample_image: Some((busybox.repository, busybox.tag)),
            own: true,
        })
    }

    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        program::run(self.program("kubectl").args(arguments)).await
    }

    async fn helm(&self, arguments: &[&str]) -> Result<String> {
        program::run(self.program("helm").args(arguments)).await
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.tools.path(name));
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// The kubeconfig to name in commands that the reader may want to try.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    pub fn is_own(&self) -> bool {
        self.own
    }

    /// Installs or upgrades the release and waits until it is ready.
    pub async fn install(&self) -> Result<()> {
        self.claim_namespace(NAMESPACE).await?;
        let definitions = self.claim_definitions().await?;
        let step = progress::step("install the chart with Helm", "");
        let chart = format!("{ROOT}/charts/tidelock");
        let (repository, tag) = &self.image;
        let (repository, tag) = (format!("image.repository={repository}"), format!("image.tag={tag}"));
        let definitions_here = format!("crds.install={}", definitions == Definitions::OfDemo);
        let arguments = [
            "upgrade",
            "--install",
            RELEASE,
            &chart,
            "--namespace",
            NAMESPACE,
            "--set",
            &repository,
            "--set",
            &tag,
            "--set",
            &definitions_here,
        ];
        self.helm(&arguments).await?;
        if definitions == Definitions::OfDemo {
            self.kubectl(
                &[&["label", "--overwrite", "crd"], &DEFINITIONS[..], &[&format!("{LABEL}=true")]].concat(),
            )
            .await?;
        }
        step.done();
        let step = progress::step("wait until server and node agents are ready", "");
        if let Err(error) = self.ready().await {
            let pods =
                self.kubectl(&["-n", NAMESPACE, "get", "pods", "-o", "wide"]).await.unwrap_or_default();
            let events = self.kubectl(&["-n", NAMESPACE, "get", "events"]).await.unwrap_or_default();
            bail!("{error:#}\n{pods}\n{events}");
        }
        step.done();
        Ok(())
    }

    async fn ready(&self) -> Result<()> {
        for workload in ["statefulset/tidelock-server", "daemonset/tidelock-node"] {
            self.kubectl(&["-n", NAMESPACE, "rollout", "status", workload, "--timeout=180s"]).await?;
        }
        let server = ["wait", "--for=condition=Ready", "pod/tidelock-server-0", "--timeout=120s"];
        self.kubectl(&[&["-n", NAMESPACE], &server[..]].concat()).await.map(drop)
    }

    /// Applies `config/samples`.
    pub async fn apply_samples(&self) -> Result<()> {
        self.claim_namespace(SAMPLES).await?;
        let step = progress::step("apply config/samples", "");
        self.kubectl(&["apply", "-k", &self.overlay()?]).await?;
        step.done();
        Ok(())
    }

    /// A kustomization over the samples that names an image this cluster has.
    fn overlay(&self) -> Result<String> {
        let folder = Path::new(ROOT).join("target/demo");
        std::fs::create_dir_all(&folder)?;
        let mut text = String::from("resources: [../../config/samples]\n");
        if let Some((repository, tag)) = &self.sample_image {
            text.push_str(&format!(
                "images:\n- {{name: {SAMPLE_IMAGE}, newName: {repository}, newTag: {tag:?}}}\n"
            ));
        }
        std::fs::write(folder.join("kustomization.yaml"), text)?;
        Ok(folder.display().to_string())
    }

    /// Makes a namespace that is the demo's, or finds the one of an earlier run.
    async fn claim_namespace(&self, name: &str) -> Result<()> {
        let found = self
            .kubectl(&["get", "namespace", name, "--ignore-not-found", "--show-labels", "--no-headers"])
            .await?;
        if found.trim().is_empty() {
            self.kubectl(&["create", "namespace", name]).await?;
            self.kubectl(&["label", "namespace", name, &format!("{LABEL}=true")]).await?;
            return Ok(());
        }
        ensure!(
            found.contains(LABEL),
            "the namespace {name} exists and is not the demo's: remove it, or use another cluster"
        );
        Ok(())
    }

    /// Whose the definitions of our kinds are: somebody's, who then keeps them, or the demo's.
    async fn claim_definitions(&self) -> Result<Definitions> {
        let found = self.definitions().await?;
        let of_demo = found.trim().is_empty() || found.contains(LABEL);
        Ok(if of_demo { Definitions::OfDemo } else { Definitions::OfOthers })
    }

    async fn definitions(&self) -> Result<String> {
        let words =
            [&["get", "crd", "--ignore-not-found", "--show-labels", "--no-headers"], &DEFINITIONS[..]];
        self.kubectl(&words.concat()).await
    }

    /// Helm leaves the definitions. They go when the demo made them and nobody else uses them.
    async fn clear_definitions(&self) -> Result<()> {
        if !self.definitions().await?.contains(LABEL) {
            return Ok(());
        }
        let used = self.kubectl(&["get", "managedsecrets,rotationschedules", "-A", "-o", "name"]).await?;
        if !used.trim().is_empty() {
            progress::note("the CustomResourceDefinitions stay: others have objects of these kinds");
            return Ok(());
        }
        let step = progress::step("remove the CustomResourceDefinitions", "");
        self.kubectl(&[&["delete", "crd", "--wait=true", "--timeout=60s"], &DEFINITIONS[..]].concat())
            .await?;
        step.done();
        Ok(())
    }

    /// Removes what the demo made in a cluster that is not its own.
    pub async fn clear(kubeconfig: PathBuf) -> Result<()> {
        let image = (String::new(), String::new());
        let site = Self { kubeconfig, tools: Tools::ensure().await?, image, sample_image: None, own: false };
        for name in [SAMPLES, NAMESPACE] {
            let found = site
                .kubectl(&["get", "namespace", name, "--ignore-not-found", "--show-labels", "--no-headers"])
                .await?;
            if !found.contains(LABEL) {
                progress::note(&format!("namespace {name}: nothing of the demo's"));
                continue;
            }
            let step = progress::step(&format!("remove namespace {name}"), "");
            if name == NAMESPACE {
                site.helm(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait"])
                    .await?;
            }
            site.kubectl(&["delete", "namespace", name, "--wait=true", "--timeout=180s"]).await?;
            step.done();
        }
        site.clear_definitions().await
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Definitions {
    OfDemo,
    OfOthers,
}
