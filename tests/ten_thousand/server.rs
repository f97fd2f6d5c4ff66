//! The server as it ships, a process of this machine: what it takes, and what it says of itself.
//! Must not look into the store.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tidelock_e2e::{Cluster, images, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// Generous: machines that run tests are busy.
const DEADLINE: Duration = Duration::from_secs(180);

/// Of what Linux shows in /proc, on every machine.
const TICKS_PER_SECOND: u64 = 100;

/// Killed when dropped.
pub struct Server {
    child: Child,
    id: u32,
    health: u16,
    log: PathBuf,
}

/// Of the whole process, and the part that it has made itself rather than read from its program.
pub struct Memory {
    pub resident_mib: u64,
    own_mib: u64,
    peak_mib: u64,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resident_mib, own_mib, peak_mib } = self;
        write!(f, "{resident_mib} MiB resident ({own_mib} MiB anonymous, at most {peak_mib} MiB so far)")
    }
}

impl Server {
    /// With the store that is in the folder already, if there is one.
    pub async fn start(cluster: &Cluster, folder: &Path) -> Result<Self> {
        let program = images::tidelock_program().await?;
        let mut ports = Vec::new();
        for _ in 0..4 {
            ports.push(TcpListener::bind("127.0.0.1:0").await?);
        }
        let addresses = ports.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
        drop(ports);
        let (store, log) = (folder.join("store"), folder.join("log"));
        fs::create_dir_all(&store)?;
        let mut command = Command::new(program);
        command
            .args(["server", "--namespace", "tidelock", "--pod-name", "tidelock-server-0", "--image", "none"])
            .args(["--installation", "tidelock.tidelock", "--relist-every", "20s", "--log-level", "warn"])
            .arg("--store-dir")
            .arg(store);
        let flags = ["--health-listen", "--webhook-listen", "--api-listen", "--node-listen"];
        for (flag, address) in flags.into_iter().zip(&addresses) {
            command.arg(flag).arg(address.to_string());
        }
        let child = command
            .env("KUBECONFIG", cluster.kubeconfig())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .kill_on_drop(true)
            .spawn()?;
        let id = child.id().context("it runs")?;
        Ok(Self { child, id, health: addresses[0].port(), log })
    }

    pub async fn ready(&self) -> Result<()> {
        let ready = async || self.ask("/readyz").await.ok()?.starts_with("HTTP/1.1 200").then_some(());
        wait_for("the server to be ready", DEADLINE, ready).await.with_context(|| self.said())
    }

    /// Ends the test when the server has ended.
    pub fn check(&self) {
        assert!(Path::new(&format!("/proc/{}/status", self.id)).exists(), "it ended:\n{}", self.said());
    }

    /// The value of one line of its metrics, named with its labels.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let page = self.ask("/metrics").await?;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("there is no metric {name}"))?.trim().parse()?)
    }

    pub fn memory(&self) -> Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id))?;
        let mebibytes = |field: &str| {
            let line =
                status.lines().find_map(|line| line.strip_prefix(field)).context("a field of status")?;
            anyhow::Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
        };
        Ok(Memory {
            resident_mib: mebibytes("VmRSS:")?,
            own_mib: mebibytes("RssAnon:")?,
            peak_mib: mebibytes("VmHWM:")?,
        })
    }

    /// Processor time so far, of all its threads.
    pub fn worked(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id))?;
        let (_, fields) = stat.rsplit_once(')').context("the name is in brackets")?;
        // utime and stime are fields 14 and 15, counted from 1; two are gone with the name.
        let ticks =
            fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// As kubelet ends it.
    pub async fn stop(mut self) -> Result<()> {
        let id = Pid::from_raw(self.id.cast_signed()).context("it runs")?;
        kill_process(id, Signal::TERM)?;
        let status = tokio::time::timeout(DEADLINE, self.child.wait()).await??;
        ensure!(status.success(), "{status}\n{}", self.said());
        Ok(())
    }

    async fn ask(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.health)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}
