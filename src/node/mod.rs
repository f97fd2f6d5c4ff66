//! SHELL. The node agent: CSI identity and node services, registration with kubelet, the stream to the server; the mounter.
//! Must not import store, kms, seal or keeper.
//!
//! Two containers of one pod. The *mounter* is privileged and sees kubelet's pods, but has no network and no token:
//! it mounts, and hands the agent a descriptor of the mounted directory. The *agent* has the stream, the values and
//! the sockets that kubelet calls, but no path to any pod.

pub mod mounter;
mod target;

pub use target::{Target, TargetError};
