//! Opening the store, on the first start and on every other: observes, asks `decide_start`, carries out one plan, and
//! observes again. Must not make a key beside records, nor take a lost store for a new one.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use super::surroundings::{Place, Surroundings};
use super::watched::noted;
use crate::cluster::{LeaseTrouble, StorePosition};
use crate::config::ServerArgs;
use crate::failpoint;
use crate::kms::{KeyFile, KmsError, RootKey};
use crate::seal::SystemRandom;
use crate::store::{
    Batch, Change, Embedded, EmbeddedFile, Epoch, Installation, InstallationState, KeySeen, LossAccepted,
    Observed, Position, ROW_MAC, Refusal, StartPlan, Store, StoreError, check_clock, check_position,
    decide_start,
};
use crate::telemetry::Component;

/// A first start takes four; what takes more is in a circle.
const STEPS_MAX: usize = 8;

/// A store that may be served from.
pub struct Opened {
    pub store: Arc<dyn Store>,
    pub root_key: Arc<dyn RootKey>,
    pub epoch: Epoch,
    pub position: Position,
}

/// Why the store is not open. It is tried again: somebody may restore what is missing.
#[derive(Debug, thiserror::Error)]
pub enum Hindrance {
    #[error("{0}")]
    Refused(Refusal),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Key(#[from] KmsError),
    #[error("{0}")]
    Lease(#[from] LeaseTrouble),
    #[error("{what} could not be {done}: {source}")]
    Cluster { what: String, done: &'static str, source: Box<kube::Error> },
    #[error("the first start came to no end in {STEPS_MAX} steps")]
    Circle,
    #[error("opening the store was cut off")]
    CutOff,
}

impl Hindrance {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.reason,
            Self::Store(error) => error.reason(),
            Self::Key(error) => error.reason(),
            Self::Lease(_) => "LeaseUnreadable",
            Self::Cluster { .. } => "APIServerUnavailable",
            Self::Circle | Self::CutOff => "StoreNotOpened",
        }
    }

    /// Says it where people look: in readiness, and from there in the log.
    pub fn tell(&self, component: &Component) {
        component.not_ready(self.reason(), self.to_string());
    }
}

/// Which store it is.
pub struct StoreSettings {
    pub folder: PathBuf,
    pub region: String,
    pub account: String,
    pub allow_clock_behind_store: bool,
}

impl From<&ServerArgs> for StoreSettings {
    fn from(args: &ServerArgs) -> Self {
        Self {
            folder: args.store_dir.clone(),
            region: args.region.clone(),
            account: args.account.clone(),
            allow_clock_behind_store: args.allow_clock_behind_store,
        }
    }
}

/// What an opening needs to know and to ask.
pub struct Opening<'a> {
    pub around: &'a dyn Surroundings,
    pub settings: StoreSettings,
    pub now: Timestamp,
    /// The position that an earlier leader noted on the Lease.
    pub noted: Option<StorePosition>,
}

impl Opening<'_> {
    /// Opens the store. Also tells whether the noted position is to be forgotten, since somebody accepted the loss.
    pub async fn run(&self) -> Result<(Opened, bool), Hindrance> {
        let loss = self.around.loss().await?;
        for _ in 0..STEPS_MAX {
            let mut file = opened(self.settings.folder.clone()).await?;
            let key = self.around.root_key().await?;
            let installation = file.installation()?;
            let observed = Observed {
                custom_resource_has_arn: installation.is_none()
                    && self.around.some_resource_has_arn().await?,
                installation,
                store_has_records: file.has_records()?,
                key: seen(&key),
                loss: loss.clone(),
                region: self.settings.region.clone(),
                account: self.settings.account.clone(),
            };
            match (decide_start(&observed), key) {
                (StartPlan::BeginInitialising { adopt }, _) => {
                    let id = adopt.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
                    tracing::info!(installation = id, "a new store begins");
                    failpoint::reach("first-start.before-begin");
                    file.begin(&self.installation(id).await?)?;
                    failpoint::reach("first-start.begun");
                }
                (StartPlan::CreateKey { installation }, _) => {
                    failpoint::reach("first-start.before-key");
                    let line = KeyFile::generate(&installation, &mut SystemRandom);
                    self.around.keep_root_key(line).await?;
                    failpoint::reach("first-start.key-made");
                }
                (StartPlan::FinishReady { .. }, Ok(Some(key))) => {
                    finish(file, key, observed.installation).await?
                }
                (StartPlan::Serve, Ok(Some(key))) => {
                    let opened = self.serve(file, key, loss.as_ref(), observed.installation).await?;
                    if loss.is_some() {
                        self.around.forget_loss().await?;
                    }
                    return Ok((opened, loss.is_some()));
                }
                (StartPlan::Refuse(refusal), _) => return Err(Hindrance::Refused(refusal)),
                // A plan that needs the key was made with it.
                (StartPlan::FinishReady { .. } | StartPlan::Serve, _) => return Err(Hindrance::Circle),
            }
        }
        Err(Hindrance::Circle)
    }

    async fn serve(
        &self,
        file: EmbeddedFile,
        key: KeyFile,
        loss: Option<&LossAccepted>,
        installation: Option<Installation>,
    ) -> Result<Opened, Hindrance> {
        let store = unlocked(file, &key).await?;
        let position = store.position().await?;
        // Whoever accepted the loss of this very store accepted that it is an older copy, or a new one.
        let id = installation.map_or_else(|| LossAccepted::UNKNOWN.to_owned(), |of| of.id);
        let accepted = loss.is_some_and(|loss| loss.installation == id)
            || loss.is_some_and(|loss| loss.installation == LossAccepted::UNKNOWN);
        if let Some(before) = self.noted.filter(|before| !accepted && noted(position).is_behind(*before)) {
            let before = Position { epoch: Epoch(before.epoch), commit: before.commit };
            check_position(before, position).map_err(|refusal| older_copy(refusal, &id))?;
        }
        if !self.settings.allow_clock_behind_store {
            check_clock(store.newest_record_at().await?, self.now).map_err(Hindrance::Refused)?;
        }
        let epoch = store.raise_epoch().await?;
        let position = store.position().await?;
        failpoint::reach("start.epoch-raised");
        Ok(Opened { store: Arc::new(store), root_key: Arc::new(key), epoch, position })
    }

    async fn installation(&self, id: String) -> Result<Installation, Hindrance> {
        let Place { cluster_id, crd_uid } = self.around.place().await?;
        Ok(Installation {
            id,
            state: InstallationState::Initialising,
            region: self.settings.region.clone(),
            account: self.settings.account.clone(),
            cluster_id,
            crd_uid,
            root_key: None,
            created_at: self.now,
        })
    }
}

fn seen(key: &Result<Option<KeyFile>, KmsError>) -> KeySeen {
    match key {
        Ok(None) => KeySeen::Absent,
        Ok(Some(key)) => {
            KeySeen::Present { installation: key.installation().to_owned(), key: key.key_id().clone() }
        }
        Err(error) => KeySeen::Malformed(error.to_string()),
    }
}

/// Whoever has no newer copy needs to know how to go on with this one.
fn older_copy(refusal: Refusal, installation: &str) -> Hindrance {
    let message = format!(
        "{}; if there is no newer one, `tidelock init --accept-loss={installation}` goes on with this one, and what \
         was written after it is lost",
        refusal.message
    );
    Hindrance::Refused(Refusal { message, ..refusal })
}

/// Opening waits for locks and reads the disk.
async fn opened(folder: PathBuf) -> Result<EmbeddedFile, Hindrance> {
    let opening = tokio::task::spawn_blocking(move || EmbeddedFile::open(&folder));
    Ok(opening.await.map_err(|_| Hindrance::CutOff)??)
}

async fn unlocked(file: EmbeddedFile, key: &KeyFile) -> Result<Embedded, Hindrance> {
    let row_key = key.derive(ROW_MAC).await?;
    let unlocking = tokio::task::spawn_blocking(move || file.unlock(row_key));
    Ok(unlocking.await.map_err(|_| Hindrance::CutOff)??)
}

/// The last step of a first start: from now on the store is this key's.
async fn finish(file: EmbeddedFile, key: KeyFile, begun: Option<Installation>) -> Result<(), Hindrance> {
    let Some(begun) = begun else { return Err(Hindrance::Circle) };
    let store = unlocked(file, &key).await?;
    failpoint::reach("first-start.unlocked");
    let epoch = store.raise_epoch().await?;
    failpoint::reach("first-start.before-ready");
    let ready =
        Installation { state: InstallationState::Ready, root_key: Some(key.key_id().clone()), ..begun };
    store.commit(Batch { epoch, changes: vec![Change::PutInstallation(ready)], audit: Vec::new() }).await?;
    failpoint::reach("first-start.ready");
    Ok(())
}
