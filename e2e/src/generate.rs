//! Writes what follows from other files: the CRDs and their reference from the types, the manifests without Helm from
//! the chart, the table that requests are validated by from AWS's service model.
//! Must not write anything that a person edits.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::{Tools, program, service_model};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const KINDS: [&str; 2] = ["managedsecrets", "rotationschedules"];

/// Every generated file with what it should hold.
pub async fn files() -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for kind in KINDS {
        let name = format!("{kind}.tidelock.dev");
        files.push((place(&format!("crds/{name}.yaml")), tidelock(&["crds", &name]).await?));
    }
    files.push((place("charts/tidelock/templates/crds.yaml"), tidelock(&["crds", "--chart"]).await?));
    files.push((place("config/common/crds.yaml"), tidelock(&["crds"]).await?));
    files.push((place("docs/crds.md"), tidelock(&["crds", "--reference"]).await?));
    files.push((place("config/install.yaml"), rendered("1.35.0").await?));
    files.push((place("config/before-1.35/install.yaml"), rendered("1.33.0").await?));
    files.extend(service_model().await?);
    Ok(files)
}

/// Writes them all. The table first: it is part of the program that the next are asked of.
pub async fn write() -> Result<()> {
    service_model().await?.into_iter().try_for_each(write_down)?;
    files().await?.into_iter().try_for_each(write_down)
}

fn write_down((path, text): (PathBuf, String)) -> Result<()> {
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

async fn service_model() -> Result<[(PathBuf, String); 2]> {
    let tables = service_model::tables().await?;
    let model = "src/api/aws/model";
    Ok([
        (place(&format!("{model}/table.rs")), tables.requests),
        (place(&format!("{model}/tests/declared.rs")), tables.answers),
    ])
}

fn place(path: &str) -> PathBuf {
    Path::new(ROOT).join(path)
}

async fn tidelock(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("cargo");
    command.current_dir(ROOT).args(["run", "--quiet", "--package", "tidelock", "--bin", "tidelock", "--"]);
    program::run(command.args(arguments)).await
}

/// The chart as Helm renders it for a version of Kubernetes, without hooks, which only Helm runs.
async fn rendered(version: &str) -> Result<String> {
    let tools = Tools::ensure().await?;
    let chart = place("charts/tidelock");
    let mut command = Command::new(tools.path("helm"));
    command.args(["template", "tidelock"]).arg(chart).args(["--namespace", "tidelock-system", "--no-hooks"]);
    let text = program::run(command.args(["--kube-version", version, "--set", "crds.install=false"])).await?;
    // Helm's own mark would claim what it does not manage.
    let lines = text.lines().map(|line| line.replace("managed-by: Helm", "managed-by: kustomize"));
    let lines = lines.filter(|line| !line.trim_start().starts_with("helm.sh/chart:"));
    let head = "# Written by `make generate` from charts/tidelock; edit that.\n";
    Ok(head.to_owned() + &lines.collect::<Vec<_>>().join("\n") + "\n")
}
