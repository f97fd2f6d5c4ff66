//! Which address is whose. Everything follows from the cluster's number, so clusters never collide.

use std::net::Ipv4Addr;

/// Clusters at once on one machine: the number goes into three ranges that must not meet.
pub(super) const NUMBER_MAX: u8 = 49;
pub(super) const NODES_MAX: usize = 9;

#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) number: u8,
}

impl Addresses {
    /// This machine, as the nodes and their pods see it.
    pub(super) fn host(self) -> Ipv4Addr {
        Ipv4Addr::new(172, 29, self.number, 1)
    }

    /// Nodes count from 1. Node 1 is the control plane.
    pub(super) fn node(self, index: usize) -> Ipv4Addr {
        Ipv4Addr::new(172, 29, self.number, 10 + small(index))
    }

    pub(super) fn api(self) -> Ipv4Addr {
        self.node(1)
    }

    pub(super) fn node_pods(self, index: usize) -> String {
        format!("10.{}.{index}.0/24", 100 + self.number)
    }

    pub(super) fn pods(self) -> String {
        format!("10.{}.0.0/16", 100 + self.number)
    }

    pub(super) fn services(self) -> String {
        format!("10.{}.0.0/16", 150 + self.number)
    }

    pub(super) fn api_service(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 150 + self.number, 0, 1)
    }

    pub(super) fn dns(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 150 + self.number, 0, 10)
    }

    pub(super) fn bridge(self) -> String {
        format!("tlbr{}", self.number)
    }

    /// The host's end of a node's cable.
    pub(super) fn cable(self, index: usize) -> String {
        format!("tl{}n{index}", self.number)
    }
}

fn small(index: usize) -> u8 {
    u8::try_from(index.min(NODES_MAX)).unwrap_or(u8::MAX)
}
