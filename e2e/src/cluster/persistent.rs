//! Clusters that outlive the process that started them, found again by name.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::node::Node;
use super::options::Kind;
use super::pki::Pki;
use super::{Cluster, lease, startup};
use crate::cache;
use crate::tools::Tools;

/// What another process has to know to take over.
#[derive(Serialize, Deserialize)]
struct Record {
    name: String,
    nodes: usize,
    kind: Kind,
}

const RECORD: &str = "cluster.json";

pub(super) fn record(cluster: &Cluster, name: &str) -> Result<()> {
    let record = Record { name: name.to_owned(), nodes: cluster.nodes.len(), kind: cluster.kind };
    fs::write(cluster.folder().join(RECORD), serde_json::to_vec(&record)?)?;
    Ok(())
}

impl Cluster {
    /// Joins a running cluster that was started as [`super::Options::persistent`]; `None` if there is none of
    /// this name. Dropping the handle leaves the cluster running.
    pub async fn attach(name: &str) -> Result<Option<Self>> {
        let Some((number, record)) = find(name)? else { return Ok(None) };
        let tools = Tools::ensure().await?;
        let lease = lease::share(number)?;
        let pki = Pki::in_folder(&lease.folder);
        let client = startup::client(&pki).await?;
        let mut nodes = Vec::new();
        for index in 1..=record.nodes {
            let node = Node::new(&lease, index, record.nodes, true, record.kind.parts(index))?;
            node.adopt();
            nodes.push(node);
        }
        Ok(Some(Self { nodes, kind: record.kind, client, tools, pki, keep: true, lease }))
    }

    /// Takes a persistent cluster down, whoever started it. False if there is none of this name.
    pub async fn down(name: &str) -> Result<bool> {
        let Some(mut cluster) = Self::attach(name).await? else { return Ok(false) };
        for node in cluster.nodes() {
            if node.is_up() {
                node.kill().await.with_context(|| format!("cannot take {} down", node.name()))?;
            }
        }
        cluster.keep = false;
        Ok(true)
    }

    /// The names of the persistent clusters that run.
    pub fn names() -> Result<Vec<String>> {
        Ok(all()?.into_iter().map(|(_, record)| record.name).collect())
    }
}

fn find(name: &str) -> Result<Option<(u8, Record)>> {
    Ok(all()?.into_iter().find(|(_, record)| record.name == name))
}

fn all() -> Result<Vec<(u8, Record)>> {
    let state = cache::state_folder()?;
    let mut found = Vec::new();
    for number in lease::running()? {
        if let Some(record) = read(&state.join(number.to_string()).join(RECORD))? {
            found.push((number, record));
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Option<Record>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(
            serde_json::from_slice(&bytes).with_context(|| format!("cannot read {}", path.display()))?,
        )),
        // One that is starting, or a test's.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => bail!("cannot read {}: {error}", path.display()),
    }
}
