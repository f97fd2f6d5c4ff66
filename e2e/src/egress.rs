//! Keeps the programs of one group on this machine: what they send elsewhere, and what they ask of any name server, is
//! rejected and counted. Must not touch what other programs send.

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::process::Command;

use crate::program::{run, run_blocking};

/// Of nobody else on a machine that runs tests.
const GROUP: u32 = 64_123;
const TABLE: &str = "tidelock-egress";

/// Denied while this is held.
pub struct Egress(());

impl Egress {
    pub async fn denied() -> Result<Self> {
        crate::prerequisites::packages().await?;
        let rule = format!("meta skgid {GROUP}");
        let script = format!(
            "table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n chain output {{\n\
             type filter hook output priority 0; policy accept;\n\
             {rule} meta l4proto {{ tcp, udp }} th dport 53 counter reject\n\
             {rule} oifname != \"lo\" counter reject\n }}\n}}\n"
        );
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("egress.nft");
        std::fs::write(&file, script)?;
        run(Command::new("nft").arg("-f").arg(&file)).await.context("cannot deny egress")?;
        Ok(Self(()))
    }

    /// The group to run programs in.
    pub fn group(&self) -> u32 {
        GROUP
    }

    /// How many packets were rejected so far.
    pub async fn rejected(&self) -> Result<u64> {
        let table: Value = serde_json::from_str(
            &run(Command::new("nft").args(["-j", "list", "table", "inet", TABLE])).await?,
        )?;
        let rules = table["nftables"].as_array().context("no rules")?.iter();
        let expressions = rules.filter_map(|each| each["rule"]["expr"].as_array()).flatten();
        Ok(expressions.filter_map(|each| each["counter"]["packets"].as_u64()).sum())
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        let mut delete = std::process::Command::new("nft");
        let _ = run_blocking(delete.args(["delete", "table", "inet", TABLE]));
    }
}
