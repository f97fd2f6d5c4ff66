//! Opening the store, on the first start and on every other: observes, asks `decide_start`, carries out one plan, and
//! observes again. Must not make a key beside records, nor take a lost store for a new one.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, Client, CustomResourceExt};
use zeroize::Zeroize;

use super::watched::noted;
use crate::cluster::{LeaseTrouble, StorePosition};
use crate::config::ServerArgs;
use crate::crd::{ACCEPT_LOSS_KEY, ManagedSecret, accept_loss_name};
use crate::kms::{KeyFile, KmsError, RootKey};
use crate::seal::SystemRandom;
use crate::store::{
    Batch, Change, Embedded, EmbeddedFile, Epoch, Installation, InstallationState, KeySeen, LossAccepted,
    Observed, Position, ROW_MAC, Refusal, StartPlan, Store, StoreError, check_clock, check_position,
    decide_start,
};

/// The key of the Secret's data that holds the root key's line.
const ROOT_KEY: &str = "root-key";
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
}

/// What an opening needs to know and to ask.
pub struct Opening<'a> {
    pub client: &'a Client,
    pub args: &'a ServerArgs,
    pub now: Timestamp,
    /// The position that an earlier leader noted on the Lease.
    pub noted: Option<StorePosition>,
}

impl Opening<'_> {
    /// Opens the store. Also tells whether the noted position is to be forgotten, since somebody accepted the loss.
    pub async fn run(&self) -> Result<(Opened, bool), Hindrance> {
        let loss = self.loss().await?;
        for _ in 0..STEPS_MAX {
            let mut file = opened(self.args.store_dir.clone()).await?;
            let key = self.root_key().await?;
            let installation = file.installation()?;
            let observed = Observed {
                custom_resource_has_arn: installation.is_none() && self.some_resource_has_arn().await?,
                installation,
                store_has_records: file.has_records()?,
                key: seen(&key),
                loss: loss.clone(),
                region: self.args.region.clone(),
                account: self.args.account.clone(),
            };
            match (decide_start(&observed), key) {
                (StartPlan::BeginInitialising { adopt }, _) => {
                    let id = adopt.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
                    tracing::info!(installation = id, "a new store begins");
                    file.begin(&self.installation(id).await?)?;
                }
                (StartPlan::CreateKey { installation }, _) => self.create_root_key(&installation).await?,
                (StartPlan::FinishReady { .. }, Ok(Some(key))) => {
                    finish(file, key, observed.installation).await?
                }
                (StartPlan::Serve, Ok(Some(key))) => {
                    let opened = self.serve(file, key, loss.as_ref(), observed.installation).await?;
                    if loss.is_some() {
                        self.forget_loss().await?;
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
        let accepted = loss.is_some_and(|loss| installation.is_some_and(|of| of.id == loss.installation))
            || loss.is_some_and(|loss| loss.installation == LossAccepted::UNKNOWN);
        if let Some(before) = self.noted.filter(|before| !accepted && noted(position).is_behind(*before)) {
            let before = Position { epoch: Epoch(before.epoch), commit: before.commit };
            check_position(before, position).map_err(Hindrance::Refused)?;
        }
        if !self.args.allow_clock_behind_store {
            check_clock(store.newest_record_at().await?, self.now).map_err(Hindrance::Refused)?;
        }
        let epoch = store.raise_epoch().await?;
        let position = store.position().await?;
        Ok(Opened { store: Arc::new(store), root_key: Arc::new(key), epoch, position })
    }

    /// `Ok(None)` when there is none; the inner error says what is wrong with one that is no key.
    async fn root_key(&self) -> Result<Result<Option<KeyFile>, KmsError>, Hindrance> {
        let name = self.args.root_key_name();
        let what = || format!("the Secret {}/{name}", self.args.namespace);
        let found = self.secrets().get_opt(&name).await;
        let Some(secret) = found.map_err(|source| asked(what(), source))? else { return Ok(Ok(None)) };
        let mut data = secret.data.unwrap_or_default();
        let place = what();
        let line = data.get(ROOT_KEY).and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
        let key = match line {
            Some(line) => KeyFile::parse(&place, line).map(Some),
            None => Err(KmsError::BadKeyFile { path: place, wrong: "it has no text under `root-key`" }),
        };
        data.values_mut().for_each(|bytes| bytes.0.zeroize());
        Ok(key)
    }

    /// Fails silently when one is there by now: the next look finds it.
    async fn create_root_key(&self, installation: &str) -> Result<(), Hindrance> {
        let line = KeyFile::generate(installation, &mut SystemRandom);
        let name = self.args.root_key_name();
        let mut secret = Secret {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            data: Some([(ROOT_KEY.to_owned(), ByteString(line.as_bytes().to_vec()))].into()),
            immutable: Some(true),
            ..Secret::default()
        };
        let created = self.secrets().create(&PostParams::default(), &secret).await;
        secret.data.iter_mut().flat_map(|data| data.values_mut()).for_each(|bytes| bytes.0.zeroize());
        match created {
            Ok(_) => {
                tracing::info!(secret = name, "the root key was made: back it up, no value opens without it")
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(source) => {
                let what = format!("the Secret {}/{name}", self.args.namespace);
                return Err(Hindrance::Cluster { what, done: "created", source: Box::new(source) });
            }
        }
        Ok(())
    }

    async fn installation(&self, id: String) -> Result<Installation, Hindrance> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let system = namespaces.get_metadata("kube-system").await;
        let system = system.map_err(|source| asked("the namespace kube-system".to_owned(), source))?;
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let definition = definitions.get_metadata_opt(ManagedSecret::crd_name()).await;
        let definition =
            definition.map_err(|source| asked("the definition of ManagedSecret".to_owned(), source))?;
        Ok(Installation {
            id,
            state: InstallationState::Initialising,
            region: self.args.region.clone(),
            account: self.args.account.clone(),
            cluster_id: system.metadata.uid.unwrap_or_default(),
            crd_uid: definition.and_then(|found| found.metadata.uid).unwrap_or_default(),
            root_key: None,
            created_at: self.now,
        })
    }

    async fn some_resource_has_arn(&self) -> Result<bool, Hindrance> {
        let resources: Api<ManagedSecret> = Api::all(self.client.clone());
        match resources.list(&ListParams::default()).await {
            Ok(found) => Ok(found.items.iter().any(|r| r.status.as_ref().is_some_and(|s| s.arn.is_some()))),
            // Without the definition there are no resources.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(source) => Err(asked("ManagedSecrets".to_owned(), source)),
        }
    }

    async fn loss(&self) -> Result<Option<LossAccepted>, Hindrance> {
        let name = accept_loss_name(&self.args.name);
        let found = self.config_maps().get_opt(&name).await;
        let found = found.map_err(|source| asked(format!("the ConfigMap {name}"), source))?;
        let installation = found.and_then(|map| map.data?.remove(ACCEPT_LOSS_KEY));
        Ok(installation.map(|installation| LossAccepted { installation }))
    }

    async fn forget_loss(&self) -> Result<(), Hindrance> {
        let name = accept_loss_name(&self.args.name);
        match self.config_maps().delete(&name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(source) => {
                let what = format!("the ConfigMap {name}");
                Err(Hindrance::Cluster { what, done: "deleted", source: Box::new(source) })
            }
        }
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.args.namespace)
    }

    fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.args.namespace)
    }
}

fn asked(what: String, source: kube::Error) -> Hindrance {
    Hindrance::Cluster { what, done: "read", source: Box::new(source) }
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
    let epoch = store.raise_epoch().await?;
    let ready =
        Installation { state: InstallationState::Ready, root_key: Some(key.key_id().clone()), ..begun };
    store.commit(Batch { epoch, changes: vec![Change::PutInstallation(ready)], audit: Vec::new() }).await?;
    Ok(())
}
