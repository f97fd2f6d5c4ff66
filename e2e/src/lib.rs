//! Starts real Kubernetes clusters on this machine and takes them away again.
//! Must not know how Tidelock works inside: scenarios see only what a user sees.
