//! Open values as the server sends them: the files of one secret, version and set of keys, held once for all the
//! volumes of the node that show them, and wiped when the last of them lets go.
//! Must not show a value.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::projection::{Files, ProjectionError};
use crate::wire::node as wire;

pub struct Payload {
    pub secret_arn: String,
    pub version_id: String,
    files: Vec<(String, Zeroizing<Vec<u8>>)>,
}

impl Payload {
    pub fn files(&self) -> Result<Files<'_>, ProjectionError> {
        Files::new(self.files.iter().map(|(name, content)| (name.as_str(), content.as_slice())))
    }

    pub fn file_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.files.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// What it takes of our memory.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|(name, content)| (name.len() + content.len()) as u64).sum()
    }
}

impl From<wire::Payload> for Payload {
    fn from(payload: wire::Payload) -> Self {
        let take = |mut file: wire::File| {
            (std::mem::take(&mut file.name), Zeroizing::new(std::mem::take(&mut file.content)))
        };
        Payload {
            secret_arn: payload.secret_arn,
            version_id: payload.version_id,
            files: payload.files.into_iter().map(take).collect(),
        }
    }
}

/// A payload for one volume, as one session of the stream sent it, or as there is none.
#[derive(Clone)]
pub struct Placement {
    /// Payloads and placements end with their session.
    pub session: u64,
    pub payload: Arc<Payload>,
    /// What the server's record says of a mount whose manifest was lost.
    pub mount: Option<Arc<wire::Mount>>,
    pub source: Source,
}

/// On whose word files are put in place.
#[derive(Clone)]
pub enum Source {
    /// The server's. It says as well what it would say to the next pod of the ServiceAccount with this uid.
    Server { first_mounts: wire::FirstMounts, account_uid: String },
    /// Nobody's: the server is away, and this is the trust window.
    Copy,
}
