//! Bridge, cables and routes on the host's side of a cluster.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::addresses::{Addresses, NODES_MAX};
use crate::program::run_blocking;

/// The bridge that joins the nodes, with the host on it, and the route to Services by the control plane's node.
pub(super) fn bridge(addresses: Addresses) -> Result<()> {
    let bridge = addresses.bridge();
    ip(&["link", "add", &bridge, "type", "bridge"])?;
    ip(&["addr", "add", &format!("{}/24", addresses.host()), "dev", &bridge])?;
    ip(&["link", "set", &bridge, "up"])?;
    ip(&["route", "replace", &addresses.services(), "via", &addresses.api().to_string()])
}

/// Lays the cable from a node's namespace to the bridge; the node configures its own end.
pub(super) fn cable(addresses: Addresses, index: usize, init: u32) -> Result<()> {
    let cable = addresses.cable(index);
    // After a power cut the kernel takes the old cable away in its own time.
    if exists(&cable) {
        let _ = ip(&["link", "delete", &cable]);
    }
    ip(&["link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &init.to_string()])?;
    ip(&["link", "set", &cable, "master", &addresses.bridge(), "up"])?;
    ip(&["route", "replace", &addresses.node_pods(index), "via", &addresses.node(index).to_string()])
}

/// Pulls the cable or plugs it in again.
pub(super) fn plug(addresses: Addresses, index: usize, plugged: bool) -> Result<()> {
    ip(&["link", "set", &addresses.cable(index), if plugged { "up" } else { "down" }])
}

/// Everything of this cluster's that is still there; the routes go with the bridge.
pub(super) fn remove(addresses: Addresses) -> Result<()> {
    for link in (1..=NODES_MAX).map(|index| addresses.cable(index)).filter(|link| exists(link)) {
        // The kernel may be faster: a cable ends with either of its namespaces.
        let _ = ip(&["link", "delete", &link]);
    }
    let bridge = addresses.bridge();
    if exists(&bridge) { ip(&["link", "delete", &bridge]) } else { Ok(()) }
}

fn exists(link: &str) -> bool {
    Path::new("/sys/class/net").join(link).exists()
}

fn ip(arguments: &[&str]) -> Result<()> {
    run_blocking(Command::new("ip").args(arguments)).map(drop)
}
