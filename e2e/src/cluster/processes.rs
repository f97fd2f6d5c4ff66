//! Looks at processes from the host's side, by `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

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
            let target =
                i32::try_from(pid).ok().and_then(Pid::from_raw).context("a process without a number")?;
            match kill_process(target, signal) {
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
