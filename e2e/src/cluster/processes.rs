//! Looks at processes from the host's side, by `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Memory of a process in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub resident: u64,
    /// The most that was ever resident.
    pub resident_max: u64,
    /// Without the program's own code and other files, which the kernel can drop and read again.
    pub anonymous: u64,
}

/// One process on a node, such as the one of a container.
#[derive(Clone, Copy, Debug)]
pub struct Process(Pid);

impl Process {
    /// The process below `root` whose command line has these words in it.
    pub(super) fn find(root: u32, words: &[&str]) -> Result<Self> {
        let is_it = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            words.iter().all(|word| line.contains(word))
        };
        let found: Vec<u32> = tree(root).into_iter().filter(is_it).collect();
        let [pid] = found[..] else { bail!("{} processes run {words:?}", found.len()) };
        Ok(Self(number(pid)?))
    }

    /// SIGKILL: it has no time for anything.
    pub fn kill(self) -> Result<()> {
        self.signal(Signal::KILL)
    }

    /// SIGSTOP: it stands still, and holds what it holds.
    pub fn stop(self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT: it goes on as if no time had passed.
    pub fn cont(self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Its memory, as the kernel counts it. Files on tmpfs do not count.
    pub fn memory(self) -> Result<Memory> {
        let path = format!("/proc/{}/status", self.0.as_raw_nonzero());
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let bytes = |name: &str| -> Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix(" kB"));
            let kib: u64 = line.with_context(|| format!("{path} has no {name}"))?.trim().parse()?;
            Ok(kib * 1024)
        };
        Ok(Memory {
            resident: bytes("VmRSS:")?,
            resident_max: bytes("VmHWM:")?,
            anonymous: bytes("RssAnon:")?,
        })
    }

    fn signal(self, signal: Signal) -> Result<()> {
        kill_process(self.0, signal).with_context(|| format!("cannot signal process {:?}", self.0))
    }
}

fn number(pid: u32) -> Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).context("a process without a number")
}

/// The processes that this one started and that are still there.
pub(super) fn children(pid: u32) -> Vec<u32> {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")) else { return Vec::new() };
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Whether the process with this number is the first one of the node in this folder, and not another that got
/// the number later.
pub(super) fn is_init_of(pid: u32, folder: &Path) -> bool {
    let wanted = format!("NODE_DIR={}", folder.display());
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes()))
}

/// Whether anybody listens on a TCP port in the network namespace of a process.
pub(super) fn listens(pid: u32, port: u16) -> bool {
    // Local address and port, remote ones, state; `0A` is LISTEN.
    ["tcp", "tcp6"].iter().any(|table| {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        text.lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (local, state) = (words.next().unwrap_or_default(), words.nth(1).unwrap_or_default());
            local.ends_with(&format!(":{port:04X}")) && state == "0A"
        })
    })
}

/// Signals a process and all that descend from it, until no new one turns up.
pub(super) fn signal_tree(root: u32, signal: Signal) -> Result<()> {
    let mut reached = BTreeSet::new();
    loop {
        let fresh: Vec<u32> = tree(root).into_iter().filter(|pid| !reached.contains(pid)).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        for pid in fresh {
            reached.insert(pid);
            match kill_process(number(pid)?, signal) {
                Err(error) if error != rustix::io::Errno::SRCH => {
                    return Err(error).with_context(|| format!("cannot signal process {pid}"));
                }
                _ => {}
            }
        }
    }
}

fn tree(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
            next += 1;
            continue;
        };
        // Any thread may be a parent.
        for thread in threads.flatten() {
            let Ok(text) = fs::read_to_string(thread.path().join("children")) else { continue };
            found.extend(text.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
        }
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_use_is_at_most_what_it_ever_was_and_its_own_is_a_part_of_it() {
        let memory = Process(rustix::process::getpid()).memory().unwrap();
        let rising = [100 * 1024, memory.anonymous, memory.resident, memory.resident_max];
        assert!(rising.is_sorted(), "{memory:?}");
    }
}
