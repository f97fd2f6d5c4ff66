//! Tidelock as it was at an earlier commit: its chart, and the image of its program, for tests of upgrades.
//! Must not change what the present build finds in cargo's target folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use super::archive::{Image, build};
use super::{WORKSPACE, copy, executable, libraries, tidelock_rootfs};
use crate::cache::{self, Key};
use crate::program::run;
use crate::progress;
use crate::tools::Tools;

/// The first commit that holds the whole main job: whoever installed since then can upgrade.
pub const FIRST_WHOLE: &str = "08474ab43abbf3631a5528092a82a6febd202b06";

/// What was installed once.
pub struct Earlier {
    pub image: Image,
    pub chart: PathBuf,
}

/// Builds the program of a commit, once per machine, and says where its chart is.
pub async fn earlier(commit: &str) -> Result<Earlier> {
    Tools::ensure().await?;
    let commit = find(commit).await?;
    let folder = cache::folder()?.join("earlier").join(&commit);
    {
        let _alone = cache::lock("earlier").await?;
        cache::fill(&folder, async |partial| compile(&commit, &partial).await).await?;
    }
    let (program, source) = (folder.join("tidelock"), folder.join("source"));
    let libraries = libraries::of(&program).await?;
    let recipe = fs::read_to_string(source.join("Containerfile"))?;
    let key = Key::new().file(&program)?;
    let image =
        build("tidelock", key, &recipe, |context| tidelock_rootfs(&program, &libraries, context)).await?;
    Ok(Earlier { image, chart: source.join("charts/tidelock") })
}

/// The whole name of the commit. A shallow clone fetches the rest of its history first.
async fn find(commit: &str) -> Result<String> {
    let whole = format!("{commit}^{{commit}}");
    let look = async || run(git().args(["rev-parse", "--verify", "--quiet", &whole])).await;
    if let Ok(found) = look().await {
        return Ok(found.trim().to_owned());
    }
    let shallow = run(git().args(["rev-parse", "--is-shallow-repository"])).await.unwrap_or_default();
    if shallow.trim() == "true" {
        progress::note(&format!("commit {commit} is not in this shallow clone: git fetch --unshallow"));
        if let Err(error) = run(git().args(["fetch", "--unshallow", "--quiet"])).await {
            bail!("{} The rest could not be fetched: {error:#}", missing(commit));
        }
        if let Ok(found) = look().await {
            return Ok(found.trim().to_owned());
        }
    }
    bail!("{}", missing(commit))
}

fn missing(commit: &str) -> String {
    format!(
        "This clone has no commit {commit}, from which upgrades are tested: clone with the whole history of the main \
         branch, or `git fetch --unshallow`."
    )
}

fn git() -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(WORKSPACE);
    command
}

async fn compile(commit: &str, folder: &Path) -> Result<()> {
    let step = progress::step(&format!("build tidelock as of {}", &commit[..8]), "minutes, once");
    let (source, archive) = (folder.join("source"), folder.join("source.tar"));
    fs::create_dir_all(&source)?;
    run(git().args(["archive", "--output"]).arg(&archive).arg(commit)).await?;
    run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&source)).await?;
    fs::remove_file(&archive)?;
    // The dependencies are those of the present build, mostly. Its own crate must not be taken for the present one,
    // which has the same name and version: another profile gives its files other names.
    let target = target_folder().await?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&source).args(["build", "--quiet", "--package", "tidelock", "--bin", "tidelock"]);
    cargo.args(["--config", "profile.dev.package.tidelock.codegen-units=64", "--message-format=json"]);
    let messages = run(cargo.arg("--target-dir").arg(target)).await?;
    copy(&executable(&messages)?, &folder.join("tidelock"))?;
    step.done();
    Ok(())
}

async fn target_folder() -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    let text =
        run(cargo.current_dir(WORKSPACE).args(["metadata", "--no-deps", "--format-version=1"])).await?;
    let metadata: serde_json::Value = serde_json::from_str(&text).context("cargo metadata is JSON")?;
    let folder = metadata["target_directory"].as_str().context("cargo does not say where it builds")?;
    Ok(PathBuf::from(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_clone_without_the_commit_says_what_to_do() {
        let error = find("0123456789abcdef0123456789abcdef01234567").await.unwrap_err().to_string();
        assert!(error.contains("git fetch --unshallow"), "{error}");
    }
}
