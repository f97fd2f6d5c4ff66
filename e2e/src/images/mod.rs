//! Image archives for a cluster that can reach no registry: our own program, and the few helpers of test pods.
//! Built `FROM scratch` by buildah and kept in the cache. Must not start anything.

mod archive;
pub mod earlier;
mod libraries;
mod python;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::cache::Key;
use crate::program::run;
use crate::progress;
use crate::tools::Tools;
pub use archive::Image;
use archive::build;
pub use python::boto3;

const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const BUSYBOX: &str = "/bin/busybox";

/// What containerd puts under every pod.
pub async fn pause() -> Result<Image> {
    let program = Tools::ensure().await?.path("pause");
    build(
        "pause",
        Key::new().file(&program)?,
        "FROM scratch\nCOPY pause /pause\nENTRYPOINT [\"/pause\"]\n",
        |context| copy(&program, &context.join("pause")),
    )
    .await
}

/// The cluster's DNS server.
pub async fn coredns() -> Result<Image> {
    let program = Tools::ensure().await?.path("coredns");
    let recipe = "FROM scratch\nCOPY coredns /coredns\nENTRYPOINT [\"/coredns\"]\n";
    build("coredns", Key::new().file(&program)?, recipe, |context| copy(&program, &context.join("coredns")))
        .await
}

/// A shell with the usual small programs, `wget`, `nc`, `httpd` and `nslookup` among them, for test pods.
/// Its user 1000 is called `app`. Debian's `wget -T` crashes: say `timeout 3 wget` instead.
pub async fn busybox() -> Result<Image> {
    Tools::ensure().await?;
    let applets = run(Command::new(BUSYBOX).arg("--list")).await?;
    let libraries = libraries::of(Path::new(BUSYBOX)).await?;
    let recipe = "FROM scratch\nCOPY rootfs/ /\nENV PATH=/bin\nCMD [\"/bin/sh\"]\n";
    build("busybox", Key::new().text(&applets).file(Path::new(BUSYBOX))?, recipe, |context| {
        let root = context.join("rootfs");
        copy(Path::new(BUSYBOX), &root.join("bin/busybox"))?;
        for applet in applets.lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", root.join("bin").join(applet))?;
        }
        libraries::place(&libraries, &root)?;
        fs::create_dir_all(root.join("tmp"))?;
        fs::set_permissions(root.join("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1777))?;
        fs::create_dir_all(root.join("etc"))?;
        fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\napp:x:1000:1000::/tmp:/bin/sh\n")?;
        fs::write(root.join("etc/group"), "root:x:0:\napp:x:1000:\n")?;
        Ok(())
    })
    .await
}

/// Tidelock itself, from a release build of this clone.
pub async fn tidelock() -> Result<Image> {
    static BUILT: OnceCell<Image> = OnceCell::const_new();
    BUILT.get_or_try_init(build_tidelock).await.cloned()
}

/// The program in that image, to be run on this machine.
pub async fn tidelock_program() -> Result<PathBuf> {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    BUILT.get_or_try_init(release_program).await.cloned()
}

/// Prepares `target/image/`, on which the `Containerfile` works with buildah and with Docker, and returns it.
pub async fn tidelock_context() -> Result<PathBuf> {
    let program = tidelock_program().await?;
    let context = Path::new(WORKSPACE).join("target/image");
    if context.exists() {
        fs::remove_dir_all(&context).with_context(|| format!("cannot clear {}", context.display()))?;
    }
    tidelock_rootfs(&program, &libraries::of(&program).await?, &context)?;
    Ok(context)
}

async fn build_tidelock() -> Result<Image> {
    Tools::ensure().await?;
    let program = tidelock_program().await?;
    let libraries = libraries::of(&program).await?;
    let recipe = fs::read_to_string(Path::new(WORKSPACE).join("Containerfile"))
        .context("cannot read Containerfile")?;
    let mut key = Key::new().file(&program)?;
    for library in &libraries {
        key = key.file(library)?;
    }
    build("tidelock", key, &recipe, |context| tidelock_rootfs(&program, &libraries, context)).await
}

fn tidelock_rootfs(program: &Path, libraries: &[PathBuf], context: &Path) -> Result<()> {
    let root = context.join("rootfs");
    copy(program, &root.join("usr/bin/tidelock"))?;
    libraries::place(libraries, &root)
}

/// Builds the program as it ships and says where it is. Cargo's own lock keeps concurrent callers apart.
/// `TIDELOCK_PROFILE=dev` builds for who changes a line and wants to see it on a cluster within seconds.
pub async fn release_program() -> Result<PathBuf> {
    let profile = profile();
    let step =
        progress::step(&format!("build tidelock, profile {profile}"), "minutes when cold, then seconds");
    let messages = run(Command::new("cargo").current_dir(WORKSPACE).args([
        "build",
        "--profile",
        &profile,
        "--quiet",
        "--package",
        "tidelock",
        "--bin",
        "tidelock",
        "--message-format=json",
    ]))
    .await?;
    let executable = executable(&messages)?;
    step.done();
    Ok(executable)
}

/// The profile of cargo that programs for clusters are built with.
pub fn profile() -> String {
    #[expect(clippy::disallowed_methods, reason = "a developer's choice for this one run")]
    std::env::var("TIDELOCK_PROFILE").unwrap_or_else(|_| "release".to_owned())
}

/// The commit that this clone is at, and whether anything is changed beside it.
pub async fn revision() -> Result<String> {
    let words = ["describe", "--always", "--dirty", "--abbrev=12"];
    Ok(run(Command::new("git").current_dir(WORKSPACE).args(words)).await?.trim().to_owned())
}

/// Where cargo put the program, from its messages in JSON.
fn executable(messages: &str) -> Result<PathBuf> {
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "tidelock")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo did not say where it put the program `tidelock`")?;
    ensure!(executable.exists(), "cargo named {}, which is not there", executable.display());
    Ok(executable)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}
