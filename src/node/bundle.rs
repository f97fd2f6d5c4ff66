//! What programs need in order to know whom they speak to: the public roots as Mozilla trusts them, and the authorities
//! by which this agent knows the server. No secret; nobody is asked for it.
//! Must not let anything through that is not a certificate.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pem::{EncodeConfig, LineEnding, Pem};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::MissedTickBehavior;

use super::config::ServerConfig;
use super::volumes::Volumes;
use crate::inject::attributes::{CA_BUNDLE_FILE, OUR_CA_FILE};
use crate::projection::{Files, ProjectionError};

/// How a bundle begins, by which it is known again when its manifest is lost.
const HEADING: &str = "# Certificate authorities: those of Tidelock, then the public ones.\n";

/// The files of a bundle volume, the same for all of a node.
pub struct Bundle {
    all: String,
    ours: String,
}

impl Bundle {
    /// With these authorities, in PEM, beside the public ones.
    fn of(ours: String) -> Bundle {
        let all = format!("{HEADING}{ours}{}", in_pem(webpki_root_certs::TLS_SERVER_ROOT_CERTS));
        Bundle { all, ours }
    }

    pub fn files(&self) -> Result<Files<'_>, ProjectionError> {
        Files::new([(CA_BUNDLE_FILE, self.all.as_bytes()), (OUR_CA_FILE, self.ours.as_bytes())])
    }

    /// Tells one bundle from another across restarts. Not a proof: whoever could forge it could write the files.
    pub fn version(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.all.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

/// Those of the agent's own file as it is now; `None` when that cannot be read or holds none.
fn authorities(ca_file: &Path) -> Option<String> {
    let text = fs::read(ca_file).ok()?;
    let ours: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(&text).flatten().collect();
    (!ours.is_empty()).then(|| in_pem(&ours))
}

fn in_pem(certificates: &[CertificateDer<'_>]) -> String {
    let blocks: Vec<Pem> =
        certificates.iter().map(|certificate| Pem::new("CERTIFICATE", certificate.as_ref())).collect();
    pem::encode_many_config(&blocks, EncodeConfig::new().set_line_ending(LineEnding::LF))
}

/// Whether a mounted volume holds a bundle. Resolves nothing outside of it.
pub fn is_in(folder: BorrowedFd<'_>) -> bool {
    let (flags, beneath) = (OFlags::RDONLY | OFlags::CLOEXEC, ResolveFlags::BENEATH);
    let Ok(file) = rustix::fs::openat2(folder, CA_BUNDLE_FILE, flags, Mode::empty(), beneath) else {
        return false;
    };
    let mut beginning = Vec::new();
    let read = fs::File::from(file).take(HEADING.len() as u64).read_to_end(&mut beginning);
    read.is_ok() && beginning == HEADING.as_bytes()
}

/// Gives the volumes the bundle of now, which is made only when it is another: a quarter of a megabyte that is made at each
/// look leaves the allocator with holes. Blocks.
pub fn renew(volumes: &Arc<Volumes>, ca_file: &Path) {
    match authorities(ca_file) {
        Some(ours) if volumes.bundle().is_some_and(|known| known.ours == ours) => {}
        Some(ours) => volumes.renew_bundle(Bundle::of(ours)),
        None => {
            tracing::warn!(file = %ca_file.display(), "no certificate authority can be read: bundles stay as they are");
        }
    }
}

/// Follows the agent's file of authorities, for as long as it is polled.
pub async fn follow(volumes: Arc<Volumes>, server: ServerConfig) {
    let mut look = tokio::time::interval(server.ca_look);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let (volumes, ca_file) = (Arc::clone(&volumes), server.ca_file.clone());
        let _ = tokio::task::spawn_blocking(move || renew(&volumes, &ca_file)).await;
    }
}

/// The server publishes its next authority long before it signs with it.
pub const LOOK: Duration = Duration::from_secs(10);
