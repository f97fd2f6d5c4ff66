//! SHELL. The node agent: CSI identity and node services, registration with kubelet, the stream to the server; the mounter.
//! Must not import store, kms, seal or keeper.
//!
//! Two containers of one pod. The *mounter* is privileged and sees kubelet's pods, but has no network and no token:
//! it mounts, and hands the agent a descriptor of the mounted directory. The *agent* has the stream, the values and
//! the sockets that kubelet calls, but no path to any pod.

pub mod agent;
pub mod args;
mod bundle;
mod cause;
mod claims;
mod config;
mod csi;
mod manifest;
pub mod mounter;
mod payload;
mod publish;
mod registration;
mod request;
mod target;
mod trust;
mod uplink;
mod volumes;

#[cfg(test)]
mod tests;

pub use agent::{NodeError, Readiness};
pub use config::{Config, Patience, PodTokens, ServerConfig, TokenSource};
pub use target::{Target, TargetError};
