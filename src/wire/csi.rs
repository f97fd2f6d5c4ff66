//! Messages and services of CSI v1, as far as we speak it.
//! Must not decide anything: what a request means is `node`'s to say.

use std::fmt;

pub use generated::*;

#[allow(clippy::all, clippy::too_many_lines, clippy::large_futures, reason = "generated code")]
mod generated {
    tonic::include_proto!("csi.v1");
}

/// kubelet puts pods' tokens into `secrets` or `volume_context`, so neither is ever shown.
impl fmt::Debug for NodePublishVolumeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodePublishVolumeRequest")
            .field("volume_id", &self.volume_id)
            .field("target_path", &self.target_path)
            .field("readonly", &self.readonly)
            .field("secrets", &"<redacted>")
            .field("volume_context", &"<redacted>")
            .finish_non_exhaustive()
    }
}

impl Drop for NodePublishVolumeRequest {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.secrets.values_mut().for_each(Zeroize::zeroize);
        self.volume_context.values_mut().for_each(Zeroize::zeroize);
    }
}
