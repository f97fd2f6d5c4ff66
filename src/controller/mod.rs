//! SHELL. Loops over Kubernetes objects, per kind: observe, decide, apply, report.
//! Must not import another shell.

pub mod guard;
pub mod managed_secret;
pub mod nodes;
pub mod rotation;
pub mod trust;
