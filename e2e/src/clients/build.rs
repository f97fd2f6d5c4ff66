//! How each program is built and installed: into the cache, under the key of its sources, its lock and its toolchain.
//! Must not install anything that a lock does not name by its hash.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::process::Command;

use super::{Driver, sources};
use crate::cache::{self, Key};
use crate::program::{run, run_logged};
use crate::{progress, pypi};

pub(super) async fn python(environment: &str, script: &str) -> Result<Driver> {
    let script = sources().join("python").join(script).display().to_string();
    // Without compiled files beside the scripts: they lie in the clone.
    Ok(Driver {
        program: pypi::programs(environment).await?.join("python"),
        words: vec!["-B".to_owned(), script],
    })
}

pub(super) async fn go() -> Result<Driver> {
    let source = sources().join("go");
    let version = run(Command::new("go").arg("version").current_dir(&source)).await?;
    let folder = built("go", &source, &version, "about a minute", async |folder: &Path, log: &Path| {
        let mut go = Command::new("go");
        go.args(["build", "-mod=readonly", "-trimpath", "-o"]).arg(folder.join("client")).arg(".");
        run_logged(go.current_dir(&source).env("CGO_ENABLED", "0"), log).await
    })
    .await?;
    Ok(Driver { program: folder.join("client"), words: Vec::new() })
}

/// The folder of what `build` makes of these sources with this toolchain.
async fn built(
    name: &str,
    source: &Path,
    toolchain: &str,
    expected: &str,
    build: impl AsyncFnOnce(&Path, &Path) -> Result<()>,
) -> Result<PathBuf> {
    let key = key(Key::new().text(toolchain), source)?;
    let folder = cache::folder()?.join(format!("client-{name}-{key}"));
    let _alone = cache::lock(&format!("client-{name}")).await?;
    cache::fill(&folder, async |partial| {
        let step = progress::step(&format!("build the client of {name}"), expected);
        let log = cache::folder()?.join(format!("client-{name}.log"));
        build(&partial, &log).await.with_context(|| format!("cannot build the client of {name}"))?;
        step.done();
        Ok(())
    })
    .await?;
    Ok(folder)
}

/// Of every file below the folder, by name.
fn key(key: Key, folder: &Path) -> Result<Key> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    paths.iter().try_fold(key, |key, path| {
        let key = key.text(&path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() { self::key(key, path) } else { key.file(path) }
    })
}
