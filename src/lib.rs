//! Tidelock: AWS Secrets Manager for any Kubernetes cluster.
//! The map of the rooms and who may import whom is in `ARCHITECTURE.md`; `tidy.rs` enforces it.
