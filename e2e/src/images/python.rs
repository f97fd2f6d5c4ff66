//! Debian's Python with boto3 as PyPI has it, for pods with a program that nobody wrote for us.
//! Must not change either: what runs is what a user would install.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Blocking;

use anyhow::{Context, Result};

use super::archive::{Image, build};
use super::{copy, libraries};
use crate::cache::Key;
use crate::program::{run, run_blocking};
use crate::pypi;

const PYTHON: &str = "/usr/bin/python3";
const ASK: &str =
    "import os, sys, sysconfig; print(os.path.realpath(sys.executable), sysconfig.get_path('stdlib'))";

/// `python3` and boto3 with what they need, and nothing else: not even a shell.
pub async fn boto3() -> Result<Image> {
    let programs = pypi::programs("boto3").await?;
    let asked = run(tokio::process::Command::new(PYTHON).args(["-c", ASK])).await?;
    let (program, library) = asked.trim().split_once(' ').context("python3 did not say where it is")?;
    let (program, library) = (PathBuf::from(program), PathBuf::from(library));
    let mut shared = libraries::of(&program).await?;
    for entry in fs::read_dir(library.join("lib-dynload"))? {
        let module = entry?.path();
        // One that links to nothing is no trouble.
        shared.extend(libraries::of(&module).await.unwrap_or_default());
    }
    let packages = site_packages(&programs)?;
    let key = Key::new().file(&program)?.text(&programs.display().to_string());
    build("boto3", key, "FROM scratch\nCOPY rootfs/ /\nENV PATH=/usr/bin HOME=/tmp\n", |context| {
        let root = context.join("rootfs");
        copy(&program, &root.join("usr/bin/python3"))?;
        tree(&library, &root.join(library.strip_prefix("/")?))?;
        tree(&packages, &root.join("usr/lib/python3/dist-packages"))?;
        libraries::place(&shared, &root)?;
        fs::create_dir_all(root.join("tmp"))?;
        fs::set_permissions(root.join("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1777))?;
        fs::create_dir_all(root.join("etc"))?;
        fs::write(root.join("etc/passwd"), "root:x:0:0::/tmp:/usr/bin/python3\n")?;
        Ok(())
    })
    .await
}

/// Where the environment of these programs has its packages.
fn site_packages(programs: &Path) -> Result<PathBuf> {
    let library = programs.parent().context("the environment has no folder")?.join("lib");
    let versions = fs::read_dir(&library)?.collect::<std::io::Result<Vec<_>>>()?;
    let found = versions.iter().map(|entry| entry.path().join("site-packages")).find(|path| path.is_dir());
    found.with_context(|| format!("{} has no site-packages", library.display()))
}

fn tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("a tree needs a place")?)?;
    run_blocking(Blocking::new("cp").arg("-rL").arg(from).arg(to)).map(drop)
}
