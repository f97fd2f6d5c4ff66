//! The machine of a run, and how busy it was with other things. Must not judge.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

/// What figures depend on besides the programs themselves.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Machine {
    pub when: String,
    pub processors: usize,
    pub model: String,
    pub memory_bytes: u64,
    pub kernel: String,
    pub versions: Vec<String>,
    pub profile: String,
    /// The part of all processors' time that others than this run used, at the beginning, before anything was started.
    pub busy_before: f64,
    /// The same at the end, when everything of the run was gone.
    pub busy_after: f64,
}

impl Machine {
    pub fn read() -> Result<Self> {
        let (cpu, memory) = (read("/proc/cpuinfo")?, read("/proc/meminfo")?);
        let model = field(&cpu, "model name").unwrap_or_else(|| "unknown".to_owned());
        let total = field(&memory, "MemTotal").context("/proc/meminfo has no MemTotal")?;
        let kib: u64 = total.trim_end_matches(" kB").trim().parse().context("MemTotal is no number")?;
        Ok(Self {
            processors: std::thread::available_parallelism()?.get(),
            model,
            memory_bytes: kib * 1024,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            ..Self::default()
        })
    }

    /// One line for each thing that a reader of the table wants to know.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let gib = self.memory_bytes as f64 / 1_073_741_824.0;
        [
            format!("{}, build profile {}", self.when, self.profile),
            format!("{} processors ({}), {gib:.1} GiB, Linux {}", self.processors, self.model, self.kernel),
            self.versions.join(", "),
            format!(
                "processors busy with other things: {:.0} % before, {:.0} % after",
                self.busy_before * 100.0,
                self.busy_after * 100.0
            ),
        ]
        .into_iter()
    }
}

/// Time of all processors together since the machine was started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spent {
    busy: u64,
    all: u64,
}

impl Spent {
    pub fn now() -> Result<Self> {
        parse(&read("/proc/stat")?).context("/proc/stat has no first line")
    }

    /// The busy part of the time since then.
    pub fn busy_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all);
        if all == 0 { 0.0 } else { self.busy.saturating_sub(before.busy) as f64 / all as f64 }
    }
}

/// `cpu user nice system idle iowait irq softirq steal ..`
fn parse(stat: &str) -> Option<Spent> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let numbers: Vec<u64> = line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let idle = numbers.get(3)? + numbers.get(4)?;
    let all = numbers.iter().sum();
    Some(Spent { busy: all - idle, all })
}

fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busy_part_of_a_time_is_what_was_neither_idle_nor_waiting() {
        let before = parse("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3\n").unwrap();
        let after = parse("cpu  140 0 110 740 110 0 0 0 0 0\n").unwrap();
        assert!((after.busy_since(before) - 0.5).abs() < 1e-9);
        assert!(before.busy_since(before).abs() < 1e-9);
        assert_eq!(parse("intr 1\n"), None);
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = Machine::read().unwrap();
        assert!(machine.processors > 0 && machine.memory_bytes > 0 && !machine.kernel.is_empty());
        Spent::now().unwrap();
    }
}
