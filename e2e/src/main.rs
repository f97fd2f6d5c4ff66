//! `tidelock-e2e`: a cluster for a person, behind `make cluster-up`. Must hold no logic of its own.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use tidelock_e2e::{Cluster, Options, Tools, bench, images, progress};

/// Real Kubernetes clusters on this machine.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build the parts of Kubernetes, the images of test pods and the earliest Tidelock into the cache
    Tools,
    /// Start a cluster that stays, and print the line that makes kubectl use it
    Up {
        #[arg(long, default_value_t = 1)]
        nodes: usize,
        #[arg(long, default_value = "dev")]
        name: String,
        /// Image archives to load into each node
        #[arg(long)]
        load: Vec<PathBuf>,
    },
    /// Load image archives into the nodes of a cluster
    Load {
        #[arg(long, default_value = "dev")]
        name: String,
        archives: Vec<PathBuf>,
    },
    /// Take a cluster away
    Down {
        #[arg(long, default_value = "dev")]
        name: String,
    },
    /// List the clusters that stay
    List,
    /// Write the CRDs and manifests that follow from the types and the chart
    Generate,
    /// Show the main job on a cluster of its own, or on the one of KUBECONFIG when IMAGE is set too
    Demo,
    /// Remove what the demo made
    DemoDown,
    /// Measure Tidelock beside what a user would pick instead, and print one table
    Bench {
        /// Parts to run alone; all of them when none is named
        #[arg(long, value_enum, value_delimiter = ',')]
        only: Vec<bench::Section>,
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Prepare target/image, the build context of the Containerfile, from a release build
    ImageContext,
    /// Build Tidelock's image as an OCI archive
    Image {
        #[arg(long)]
        to: PathBuf,
    },
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// Markdown, for people
    Table,
    Json,
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().verb {
        Verb::Tools => tools().await,
        Verb::Up { nodes, name, load } => up(nodes, &name, &load).await,
        Verb::Load { name, archives } => {
            let Some(cluster) = Cluster::attach(&name).await? else { bail!("no cluster `{name}` runs") };
            load_all(&cluster, &archives).await
        }
        Verb::Down { name } => {
            let was_up = Cluster::down(&name).await?;
            progress::note(&format!(
                "cluster `{name}` {}",
                if was_up { "is gone" } else { "was not running" }
            ));
            Ok(())
        }
        Verb::List => {
            Cluster::names()?.iter().for_each(|name| answer(name));
            Ok(())
        }
        Verb::Generate => tidelock_e2e::generate::write().await,
        Verb::Demo => {
            tidelock_e2e::demo::run(variable("KUBECONFIG").map(PathBuf::from), variable("IMAGE")).await
        }
        Verb::DemoDown => {
            let external = variable("IMAGE").is_some();
            tidelock_e2e::demo::down(variable("KUBECONFIG").map(PathBuf::from), external).await
        }
        Verb::Bench { only, output } => {
            let report = bench::run(&only).await?;
            answer(&match output {
                Format::Table => report.table(),
                Format::Json => report.json()?,
            });
            Ok(())
        }
        Verb::ImageContext => {
            answer(&images::tidelock_context().await?.display().to_string());
            Ok(())
        }
        Verb::Image { to } => {
            let image = images::tidelock().await?;
            std::fs::copy(&image.archive, &to)?;
            answer(&format!("{} holds {}", to.display(), image.name()));
            Ok(())
        }
    }
}

async fn tools() -> Result<()> {
    Tools::ensure().await?;
    images::pause().await?;
    images::coredns().await?;
    images::busybox().await?;
    images::earlier::earlier(images::earlier::FIRST_WHOLE).await?;
    Ok(())
}

async fn up(nodes: usize, name: &str, archives: &[PathBuf]) -> Result<()> {
    let cluster = match Cluster::attach(name).await? {
        Some(running) if running.nodes().len() == nodes => {
            progress::note(&format!("cluster `{name}` is up already"));
            running
        }
        Some(running) => {
            bail!("cluster `{name}` is up with {} nodes; take it down first", running.nodes().len())
        }
        None => {
            let begun = tokio::time::Instant::now();
            let cluster = Cluster::start(Options::nodes(nodes).persistent(name)).await?;
            progress::note(&format!(
                "cluster `{name}`: {nodes} nodes Ready in {:.1} s",
                begun.elapsed().as_secs_f32()
            ));
            cluster
        }
    };
    load_all(&cluster, archives).await?;
    answer(&format!("export KUBECONFIG={}", cluster.kubeconfig().display()));
    Ok(())
}

async fn load_all(cluster: &Cluster, archives: &[PathBuf]) -> Result<()> {
    for archive in archives {
        cluster.load_image(archive).await?;
    }
    Ok(())
}

/// A variable of the demo's two; empty is as good as absent.
#[expect(clippy::disallowed_methods, reason = "the demo's interface is two variables, as its README says")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[expect(clippy::print_stdout, reason = "the answer, for other programs to read")]
fn answer(text: &str) {
    println!("{text}");
}
