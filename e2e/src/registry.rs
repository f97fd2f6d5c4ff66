//! A registry of images on a node, under a name as people have it, with TLS that skopeo and containerd there trust.
//! Everything is in the node's own namespaces and goes with the cluster. Must not touch this machine's hosts or trust.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::{Cluster, cache, prerequisites, program, progress};

/// Starts a registry on a node and makes `host` lead to it there.
pub async fn serve(cluster: &Cluster, node: usize, host: &str) -> Result<()> {
    let registry = program_path().await?;
    let folder = cluster.folder().join("registry");
    let trusted = folder.join("certs");
    fs::create_dir_all(&trusted)?;
    fs::create_dir_all(folder.join("store"))?;
    let own = rcgen::generate_simple_self_signed([host.to_owned()])?;
    fs::write(trusted.join("registry.crt"), own.cert.pem())?;
    fs::write(folder.join("registry.key"), own.signing_key.serialize_pem())?;
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    fs::write(folder.join("hosts"), format!("{hosts}\n127.0.0.1 {host}\n"))?;
    fs::write(folder.join("config.yml"), settings(&folder))?;
    // The node has the machine's files, but mounts of its own.
    let place = folder.display();
    let script = format!(
        "set -e; mount --bind {place}/hosts /etc/hosts; mount --bind {place}/certs /etc/ssl/certs\n\
         setsid {} serve {place}/config.yml </dev/null >{place}/log 2>&1 &",
        registry.display()
    );
    let node = cluster.node(node);
    node.run("bash", &["-c", &script]).await.context("cannot start the registry")?;
    let listens = async || node.run("bash", &["-c", "exec 3<>/dev/tcp/127.0.0.1/443"]).await.ok().map(drop);
    let waited = cluster.wait_for("the registry to listen", Duration::from_secs(30), listens).await;
    waited.with_context(|| program::tail_of(&folder.join("log")))
}

fn settings(folder: &Path) -> String {
    let place = folder.display();
    format!(
        "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {place}/store}}}}\n\
         http:\n  addr: 127.0.0.1:443\n  tls: {{certificate: {place}/certs/registry.crt, key: {place}/registry.key}}\n"
    )
}

/// Unpacked from Debian's package instead of installed: that would start a service on this machine.
async fn program_path() -> Result<PathBuf> {
    prerequisites::ensure_all().await?;
    let folder = cache::folder()?.join("tools/docker-registry");
    let _alone = cache::lock("docker-registry").await?;
    cache::fill(&folder, async |partial| {
        let step = progress::step("fetch Debian's docker-registry", "");
        let download = || {
            let mut command = Command::new("apt-get");
            command.current_dir(&partial).args([
                "-o",
                "APT::Sandbox::User=root",
                "download",
                "docker-registry",
            ]);
            command
        };
        if program::run(&mut download()).await.is_err() {
            program::run(Command::new("apt-get").arg("update"))
                .await
                .context("cannot refresh the package lists")?;
            program::run(&mut download()).await.context("cannot fetch docker-registry")?;
        }
        let unpack = "dpkg -x docker-registry_*.deb . && rm docker-registry_*.deb";
        program::run(Command::new("sh").current_dir(&partial).args(["-c", unpack])).await?;
        step.done();
        Ok(())
    })
    .await?;
    Ok(folder.join("usr/bin/docker-registry"))
}
