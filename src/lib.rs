//! Tidelock: AWS Secrets Manager for any Kubernetes cluster.
//! The map of the rooms and who may import whom is in `ARCHITECTURE.md`; `tidy.rs` enforces it.

pub mod access;
pub mod api;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod controller;
pub mod crd;
pub mod failpoint;
pub mod federation;
pub mod inject;
pub mod issuers;
pub mod keeper;
pub mod kms;
pub mod node;
pub mod pki;
pub mod policy;
pub mod projection;
pub mod rotation;
pub mod rotator;
pub mod seal;
pub mod secret;
pub mod serve;
pub mod server;
pub mod signature;
pub mod store;
pub mod telemetry;
pub mod webhook;
pub mod wire;

#[cfg(test)]
mod tidy;
