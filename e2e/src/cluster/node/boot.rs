//! How a node comes up: namespaces of its own, its first process, and its network. Must not start what runs on it.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{BOOT_SECONDS_MAX, Node, open_fifo};
use crate::cluster::{network, processes};
use crate::program::tail_of;
use crate::wait::wait_for;

impl Node {
    /// Makes the namespaces and the network; starts no part yet.
    pub(in crate::cluster) async fn boot(&self) -> Result<()> {
        ensure!(!self.is_up(), "{} is up already", self.name());
        let _ = fs::remove_file(self.folder.join("network.up"));
        self.spawn()?;
        let init = self.first_child().await?;
        fs::write(self.folder.join("init.pid"), init.to_string())?;
        self.life().init = Some(init);
        network::cable(self.addresses, self.index, init)?;
        self.command("network")?;
        self.appears("network.up", &format!("the network of {}", self.name())).await
    }

    fn spawn(&self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.folder.join("log/init.log"))?;
        // A session of its own: Ctrl-C in the terminal is for us, and we take the node down in order.
        let mut command = Command::new("setsid");
        command
            .arg("unshare")
            .args(["--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"])
            .args(["--propagation", "slave", "bash", "-c", include_str!("../init.sh"), "node-init"])
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("NODE", self.name())
            .env("NODE_DIR", &self.folder)
            .env("LOCK", &self.lock_path)
            .env("ADDRESS", self.address().to_string())
            .env("GATEWAY", self.addresses.host().to_string())
            .env("ROUTES", &self.routes)
            .stdout(log.try_clone()?)
            .stderr(log);
        let fifo = self.fifo();
        if self.persistent {
            make_fifo(&fifo)?;
            // Opened for both directions by the node itself: its end never comes.
            command.stdin(open_fifo(&fifo)?);
        } else {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().context("cannot start `unshare`")?;
        let control = match child.stdin.take() {
            Some(pipe) => File::from(OwnedFd::from(pipe)),
            None => open_fifo(&fifo)?,
        };
        let mut life = self.life();
        life.control = Some(control);
        life.unshare = Some(child);
        Ok(())
    }

    async fn first_child(&self) -> Result<u32> {
        let unshare = self
            .life()
            .unshare
            .as_ref()
            .map(Child::id)
            .context("the node was taken down while it started")?;
        let deadline = Duration::from_secs(BOOT_SECONDS_MAX);
        let found = wait_for(&format!("the namespaces of {}", self.name()), deadline, async || {
            processes::children(unshare).first().copied()
        })
        .await;
        found.with_context(|| tail_of(&self.folder.join("log/init.log")))
    }
}

fn make_fifo(path: &Path) -> Result<()> {
    match rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::from_raw_mode(0o600)) {
        Err(error) if error != rustix::io::Errno::EXIST => {
            Err(error).with_context(|| format!("cannot make {}", path.display()))
        }
        _ => Ok(()),
    }
}
