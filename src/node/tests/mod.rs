//! The agent, whole: kubelet's part is played by a gRPC client on its real sockets, the server's by the generated
//! service behind real TLS; mounter, mounts and files are real. Needs root.

mod bundle;
mod first_mount;
mod harness;
mod life;
mod restart;
mod trust;
