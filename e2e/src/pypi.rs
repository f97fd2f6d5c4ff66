//! Programs from PyPI, pinned by version and hash in `e2e/pypi/`, each in an environment of its own in the cache.
//! Must not install anything whose hash is not written down there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::cache::{self, Key};
use crate::program::{run, run_logged};
use crate::progress;

/// Debian's own, whichever else is on `PATH`.
const PYTHON: &str = "/usr/bin/python3";

/// The folder with the programs of `e2e/pypi/<name>.txt`.
pub async fn programs(name: &str) -> Result<PathBuf> {
    crate::prerequisites::packages().await?;
    let pins = Path::new(env!("CARGO_MANIFEST_DIR")).join("pypi").join(format!("{name}.txt"));
    let version = run(Command::new(PYTHON).arg("--version")).await?;
    let key = Key::new().file(&pins)?.text(&version);
    // Not filled beside its place and moved there: the programs hold the path that they were installed under.
    let folder = cache::folder()?.join(format!("pypi-{name}-{key}"));
    let whole = folder.join("whole");
    let _alone = cache::lock(&format!("pypi-{name}")).await?;
    if !whole.exists() {
        let step = progress::step(&format!("install {name} from PyPI"), "about half a minute");
        run(Command::new(PYTHON).args(["-m", "venv", "--clear"]).arg(&folder)).await?;
        let log = cache::folder()?.join("pypi.log");
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--disable-pip-version-check", "--require-hashes", "--requirement"]).arg(&pins);
        run_logged(&mut pip, &log).await.with_context(|| format!("cannot install {name} from PyPI"))?;
        fs::write(&whole, "").with_context(|| format!("cannot write {}", whole.display()))?;
        step.done();
    }
    Ok(folder.join("bin"))
}
