//! Keeps the programs of one group on this machine: what they send elsewhere, and what they ask of any name server, is
//! rejected and counted. Must not touch what other programs send.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::process::Command;

use crate::program::{run, run_blocking};

/// With the number of the process, groups of nobody else on a machine that runs tests.
const GROUPS: u32 = 640_000_000;
/// With the number of the process: runs beside each other do not count each other's packets.
const TABLES: &str = "tidelock-egress-";

/// Denied while this is held, which one of a process can be.
pub struct Egress {
    process: u32,
}

impl Egress {
    pub async fn denied() -> Result<Self> {
        crate::prerequisites::packages().await?;
        clear_of_dead().await?;
        let denied = Self { process: std::process::id() };
        let (table, rule) = (denied.table(), format!("meta skgid {}", denied.group()));
        let script = format!(
            "table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n chain output {{\n\
             type filter hook output priority 0; policy accept;\n\
             {rule} meta l4proto {{ tcp, udp }} th dport 53 counter reject\n\
             {rule} oifname != \"lo\" counter reject\n }}\n}}\n"
        );
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("egress.nft");
        std::fs::write(&file, script)?;
        run(Command::new("nft").arg("-f").arg(&file)).await.context("cannot deny egress")?;
        Ok(denied)
    }

    /// The group to run programs in.
    pub fn group(&self) -> u32 {
        GROUPS + self.process
    }

    fn table(&self) -> String {
        format!("{TABLES}{}", self.process)
    }

    /// How many packets were rejected so far.
    pub async fn rejected(&self) -> Result<u64> {
        let table: Value = serde_json::from_str(
            &run(Command::new("nft").args(["-j", "list", "table", "inet", &self.table()])).await?,
        )?;
        let rules = table["nftables"].as_array().context("no rules")?.iter();
        let expressions = rules.filter_map(|each| each["rule"]["expr"].as_array()).flatten();
        Ok(expressions.filter_map(|each| each["counter"]["packets"].as_u64()).sum())
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        let mut delete = std::process::Command::new("nft");
        let _ = run_blocking(delete.args(["delete", "table", "inet", &self.table()]));
    }
}

/// The tables of all runs on this machine.
async fn tables() -> Result<Vec<String>> {
    let listed: Value =
        serde_json::from_str(&run(Command::new("nft").args(["-j", "list", "tables", "inet"])).await?)?;
    let names = listed["nftables"].as_array().context("no tables")?.iter();
    let names = names.filter_map(|each| each["table"]["name"].as_str());
    Ok(names.filter(|name| name.starts_with(TABLES)).map(str::to_owned).collect())
}

/// Takes away what runs have left that were killed.
async fn clear_of_dead() -> Result<()> {
    for table in tables().await? {
        let process = table.trim_start_matches(TABLES);
        if !Path::new("/proc").join(process).exists() {
            // Another run may have been faster.
            let _ = run(Command::new("nft").args(["delete", "table", "inet", &table])).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_run_has_a_table_of_its_own_and_a_dead_one_s_goes_with_the_next() -> Result<()> {
        crate::prerequisites::packages().await?;
        let mut other = Command::new("sleep").arg("60").kill_on_drop(true).spawn()?;
        let running = format!("{TABLES}{}", other.id().context("it has ended")?);
        // More than the kernel gives out.
        let dead = format!("{TABLES}4194305");
        for table in [&running, &dead] {
            run(Command::new("nft").args(["add", "table", "inet", table])).await?;
        }
        let denied = Egress::denied().await?;
        let there = tables().await?;
        assert!(there.contains(&denied.table()) && there.contains(&running) && !there.contains(&dead));
        let own = denied.table();
        drop(denied);
        assert!(!tables().await?.contains(&own));
        other.kill().await?;
        clear_of_dead().await?;
        assert!(!tables().await?.contains(&running));
        Ok(())
    }
}
