//! What must be on the machine before anything is built: Go, and a handful of Debian packages that we install.
//! Must not install anything that does not come from the distribution's own archive.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use crate::cache;
use crate::program::run;
use crate::progress;

const GO_MINOR_MIN: u32 = 26;

/// Debian packages with a file that shows whether each is there.
const PACKAGES: [(&str, &str); 13] = [
    ("containernetworking-plugins", "/usr/lib/cni/ptp"),
    ("nftables", "/usr/sbin/nft"),
    ("iptables", "/usr/sbin/iptables"),
    ("conntrack", "/usr/sbin/conntrack"),
    ("iproute2", "/usr/sbin/ip"),
    ("util-linux", "/usr/bin/unshare"),
    ("buildah", "/usr/bin/buildah"),
    ("skopeo", "/usr/bin/skopeo"),
    ("libseccomp-dev", "/usr/include/seccomp.h"),
    ("pkg-config", "/usr/bin/pkg-config"),
    ("gcc", "/usr/bin/gcc"),
    ("python3-venv", "/var/lib/dpkg/info/python3-venv.list"),
    // Not busybox-static: what is linked statically against glibc crashes when it resolves a name.
    ("busybox", "/var/lib/dpkg/info/busybox.list"),
];

/// Everything a cluster needs of the machine, or one sentence that says what is missing.
pub(crate) async fn ensure_all() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "a cluster needs root: it makes namespaces, mounts and a bridge"
    );
    go().await?;
    packages().await
}

async fn go() -> Result<()> {
    let needs = format!("Go 1.{GO_MINOR_MIN} or later is needed on PATH");
    let version = run(Command::new("go").args(["env", "GOVERSION"])).await.context(needs.clone())?;
    let minor =
        version.trim().strip_prefix("go1.").and_then(|rest| rest.split(['.', '-', 'r']).next()?.parse().ok());
    match minor {
        Some(minor) if GO_MINOR_MIN <= minor => Ok(()),
        _ => bail!("{needs}; found {}", version.trim()),
    }
}

pub(crate) async fn packages() -> Result<()> {
    if missing().is_empty() {
        return Ok(());
    }
    let _alone = cache::lock("packages").await?;
    match missing().as_slice() {
        [] => Ok(()),
        missing => install_locked(missing).await,
    }
}

/// A Java compiler and Maven on `PATH`, whichever they are; else those of the distribution.
pub(crate) async fn java() -> Result<()> {
    let _alone = cache::lock("packages").await?;
    let mut missing = Vec::new();
    for (program, package) in [("javac", "default-jdk-headless"), ("mvn", "maven")] {
        if run(Command::new(program).arg("-version")).await.is_err() {
            missing.push(package);
        }
    }
    if missing.is_empty() { Ok(()) } else { install_locked(&missing).await }
}

/// Installs packages that not every suite needs.
pub(crate) async fn install(packages: &[&str]) -> Result<()> {
    let _alone = cache::lock("packages").await?;
    install_locked(packages).await
}

async fn install_locked(missing: &[&str]) -> Result<()> {
    let step =
        progress::step(&format!("install Debian packages: {}", missing.join(" ")), "about half a minute");
    let log = cache::folder()?.join("packages.log");
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-o", "DPkg::Lock::Timeout=300"]);
        command
    };
    crate::program::run_logged(apt().arg("update"), &log)
        .await
        .context("cannot refresh the package lists")?;
    crate::program::run_logged(apt().args(["install", "-y", "--no-install-recommends"]).args(missing), &log)
        .await
        .context("cannot install Debian packages")?;
    step.done();
    Ok(())
}

fn missing() -> Vec<&'static str> {
    PACKAGES.iter().filter(|(_, witness)| fs::metadata(witness).is_err()).map(|(name, _)| *name).collect()
}
