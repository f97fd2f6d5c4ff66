//! One node: a process tree in namespaces of its own, and what can be done to it from outside.
//! Must not know what the cluster is for.

mod boot;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixStream;

use super::addresses::Addresses;
use super::parts::Part;
use super::processes::{self, Process};
use super::{cgroups, network};
use crate::program::{self, tail_of};
use crate::wait::wait_for;

/// How long the first process and the network of a node may take, on a machine that is busy with other things.
const BOOT_SECONDS_MAX: u64 = 30;

/// A node of a running cluster. Everything here can be called while others use the same cluster.
pub struct Node {
    pub(super) index: usize,
    folder: PathBuf,
    lock_path: PathBuf,
    addresses: Addresses,
    routes: String,
    persistent: bool,
    parts: Vec<Part>,
    life: Mutex<Life>,
}

/// What changes as a node lives and dies.
#[derive(Default)]
struct Life {
    unshare: Option<Child>,
    init: Option<u32>,
    control: Option<File>,
    /// Parts that ought to run; one of these that has ended is a failure.
    expected: BTreeSet<Part>,
    /// Where the words of containerd's present life begin in its log.
    containerd_since: usize,
}

impl Node {
    pub(super) fn new(
        cluster: &super::lease::Lease,
        index: usize,
        nodes: usize,
        persistent: bool,
        parts: Vec<Part>,
    ) -> Result<Self> {
        let addresses = cluster.addresses;
        let folder = cluster.folder.join(format!("node{index}"));
        for inside in ["parts", "log", "cni", "var/lib/kubelet", "var/lib/containerd", "var/log/pods", "etcd"]
        {
            fs::create_dir_all(folder.join(inside))
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        // etcd warns about anything wider.
        fs::set_permissions(folder.join("etcd"), fs::Permissions::from_mode(0o700))?;
        let routes = (1..=nodes)
            .filter(|other| *other != index)
            .map(|other| format!("{} {}\n", addresses.node_pods(other), addresses.node(other)))
            .collect();
        let lock_path = cluster.lock_path.clone();
        Ok(Self { index, folder, lock_path, addresses, routes, persistent, parts, life: Mutex::default() })
    }

    /// The node's name in Kubernetes: `node1`, `node2`, ...
    pub fn name(&self) -> String {
        format!("node{}", self.index)
    }

    /// The node's address, which the host and the pods reach.
    pub fn address(&self) -> std::net::Ipv4Addr {
        self.addresses.node(self.index)
    }

    /// Where a part writes what it has to say.
    pub fn log(&self, part: Part) -> PathBuf {
        self.folder.join("log").join(format!("{part}.log"))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Power cut: everything on the node ends at once. What was written to its disk stays.
    pub async fn kill(&self) -> Result<()> {
        let (init, child) = {
            let mut life = self.life();
            life.expected.clear();
            life.control = None;
            (life.init.take(), life.unshare.take())
        };
        tokio::task::spawn_blocking(move || end(init, child)).await?;
        self.gone().await
    }

    async fn gone(&self) -> Result<()> {
        let record = self.folder.join("init.pid");
        let Some(pid) = read_number(&record) else { return Ok(()) };
        wait_for(&format!("the processes of {} to end", self.name()), Duration::from_secs(20), async || {
            (!processes::is_init_of(pid, &self.folder)).then_some(())
        })
        .await?;
        cgroups::remove_of(&self.folder);
        fs::remove_file(&record).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error.into()),
        })
    }

    /// Freezes every process of the node, pods included, as a paused virtual machine.
    pub fn stop(&self) -> Result<()> {
        processes::signal_tree(self.init()?, Signal::STOP)
    }

    /// Lets a stopped node go on.
    pub fn cont(&self) -> Result<()> {
        processes::signal_tree(self.init()?, Signal::CONT)
    }

    /// The one process on the node, in a pod or not, whose command line has these words in it.
    pub fn process(&self, words: &[&str]) -> Result<Process> {
        Process::find(self.init()?, words)
    }

    /// Pulls the network cable: the node and its pods go on, but reach nobody and are reached by nobody.
    pub fn partition(&self) -> Result<()> {
        network::plug(self.addresses, self.index, false)
    }

    /// Plugs the cable in again.
    pub fn heal(&self) -> Result<()> {
        network::plug(self.addresses, self.index, true)
    }

    /// Kills a part with SIGKILL; it stays down until it is started again.
    pub async fn kill_part(&self, part: Part) -> Result<()> {
        self.end_part(part, "KILL").await
    }

    /// Stops a part politely.
    pub async fn stop_part(&self, part: Part) -> Result<()> {
        self.end_part(part, "TERM").await
    }

    /// Starts a part that is down.
    pub async fn start_part(&self, part: Part) -> Result<()> {
        for suffix in ["exit", "pid"] {
            let _ = fs::remove_file(self.folder.join(format!("parts/{part}.{suffix}")));
        }
        self.life().expected.insert(part);
        if part == Part::Containerd {
            self.life().containerd_since = fs::read(self.log(part)).map_or(0, |log| log.len());
        }
        self.command(&format!("start {part}"))?;
        self.appears(&format!("parts/{part}.pid"), &format!("{part} to be started on {}", self.name())).await
    }

    /// Stops a part, starts it again and waits until it listens.
    pub async fn restart_part(&self, part: Part) -> Result<()> {
        self.stop_part(part).await?;
        self.start_part(part).await?;
        self.serves(part).await
    }

    /// Waits until a part that was started listens, or fails with its last words.
    pub async fn serves(&self, part: Part) -> Result<()> {
        let init = self.init()?;
        let socket = self.inside("run/containerd/containerd.sock")?;
        let what = format!("{part} on {} to listen", self.name());
        wait_for(&what, Duration::from_secs(BOOT_SECONDS_MAX), async || {
            let listens = match part.port() {
                Some(port) => processes::listens(init, port),
                // A connection, not the socket's file: that one is there before anybody listens.
                None => UnixStream::connect(&socket).await.is_ok() && self.containerd_has_booted(),
            };
            if listens { Some(Ok(())) } else { self.check().err().map(Err) }
        })
        .await?
    }

    /// Before that it listens, but refuses kubelet, which ends then.
    fn containerd_has_booted(&self) -> bool {
        let since = self.life().containerd_since;
        let said = fs::read_to_string(self.log(Part::Containerd)).unwrap_or_default();
        said.get(since..).is_some_and(|said| said.contains("containerd successfully booted"))
    }

    async fn end_part(&self, part: Part, signal: &str) -> Result<()> {
        self.life().expected.remove(&part);
        self.command(&format!("signal {part} {signal}"))?;
        self.appears(&format!("parts/{part}.exit"), &format!("{part} on {} to end", self.name())).await
    }

    /// Runs a program inside the node, outside of any pod, and returns what it prints.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        program::run(self.enter()?.arg("--").arg(program).args(arguments)).await
    }

    /// `nsenter` into the node, to be completed with a command.
    pub(super) fn enter(&self) -> Result<tokio::process::Command> {
        let mut command = tokio::process::Command::new("nsenter");
        command.args(["--target", &self.init()?.to_string(), "--mount", "--pid", "--net", "--uts", "--ipc"]);
        Ok(command)
    }

    /// A path of the node's own file system, as it is seen from outside; good until the node goes down.
    pub fn inside(&self, path: &str) -> Result<PathBuf> {
        Ok(Path::new("/proc").join(self.init()?.to_string()).join("root").join(path.trim_start_matches('/')))
    }

    /// Whether the node's processes run.
    pub fn is_up(&self) -> bool {
        self.init().is_ok_and(|init| processes::is_init_of(init, &self.folder))
    }

    /// Fails with the name and the last words of a part that ended without being told to.
    pub fn check(&self) -> Result<()> {
        let expected: Vec<Part> = self.life().expected.iter().copied().collect();
        if !expected.is_empty() && !self.is_up() {
            let log = self.folder.join("log/init.log");
            bail!("{} went down by itself; the end of {}:\n{}", self.name(), log.display(), tail_of(&log));
        }
        for part in expected {
            let Some(status) = read_number(&self.folder.join(format!("parts/{part}.exit"))) else { continue };
            let log = self.log(part);
            let how = if status > 128 {
                format!("of signal {}", status - 128)
            } else {
                format!("with exit {status}")
            };
            bail!("{part} on {} died {how}; the end of {}:\n{}", self.name(), log.display(), tail_of(&log));
        }
        Ok(())
    }

    async fn appears(&self, file: &str, what: &str) -> Result<()> {
        let path = self.folder.join(file);
        let seen = wait_for(what, Duration::from_secs(BOOT_SECONDS_MAX), async || {
            (path.exists() || !self.is_up()).then_some(())
        });
        seen.await.and_then(|()| {
            ensure!(path.exists(), "{} went down while waiting for {what}", self.name());
            Ok(())
        })?;
        Ok(())
    }

    fn command(&self, line: &str) -> Result<()> {
        let mut life = self.life();
        let control = life.control.as_mut().with_context(|| format!("{} is down", self.name()))?;
        writeln!(control, "{line}")
            .with_context(|| format!("{} does not take commands any more", self.name()))
    }

    fn init(&self) -> Result<u32> {
        self.life().init.with_context(|| format!("{} is down", self.name()))
    }

    fn fifo(&self) -> PathBuf {
        self.folder.join("control")
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over a node that another process started for good.
    pub(super) fn adopt(&self) {
        let record = read_number(&self.folder.join("init.pid"));
        let Some(init) = record.filter(|init| processes::is_init_of(*init, &self.folder)) else { return };
        let mut life = self.life();
        life.init = Some(init);
        life.control = open_fifo(&self.fifo()).ok();
        life.expected = self.parts.iter().copied().collect();
    }

    /// Lets go of a node that is to outlive this process.
    pub(super) fn release(&self) {
        *self.life() = Life::default();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let life = self.life.get_mut().unwrap_or_else(PoisonError::into_inner);
        life.control = None;
        end(life.init.take(), life.unshare.take());
    }
}

/// Kills the first process; the kernel takes the rest along before it reports that one as ended.
fn end(init: Option<u32>, child: Option<Child>) {
    let pid = init.and_then(|init| i32::try_from(init).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // Already dead is as good.
        let _ = kill_process(pid, Signal::KILL);
    }
    if let Some(mut child) = child {
        if pid.is_none() {
            let _ = child.kill();
        }
        let _ = child.wait();
    }
}

fn open_fifo(path: &Path) -> Result<File> {
    File::options()
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}

fn read_number(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
