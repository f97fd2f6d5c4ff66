//! Messages and the service by which a plugin registers itself with kubelet.
//! Must not decide anything.

pub use generated::*;

#[allow(clippy::all, clippy::too_many_lines, clippy::large_futures, reason = "generated code")]
mod generated {
    tonic::include_proto!("pluginregistration");
}
