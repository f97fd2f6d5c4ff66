//! What an opening asks for around the store's file: the root key, what secrets there were, who accepted a loss.
//! In a cluster these are Kubernetes objects. Must not decide what follows from them.

use async_trait::async_trait;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, Client, CustomResourceExt};
use zeroize::{Zeroize, Zeroizing};

use super::opening::Hindrance;
use crate::config::ServerArgs;
use crate::crd::{ACCEPT_LOSS_KEY, ManagedSecret, Readable, accept_loss_name};
use crate::kms::{KeyFile, KmsError};
use crate::store::LossAccepted;

/// The key of the Secret's data that holds the root key's line.
const ROOT_KEY: &str = "root-key";

/// Where a store is made.
pub struct Place {
    pub cluster_id: String,
    pub crd_uid: String,
}

/// Everything but the store's own folder.
#[async_trait]
pub trait Surroundings: Send + Sync {
    /// `Ok(None)` when there is none; the inner error says what is wrong with one that is no key.
    async fn root_key(&self) -> Result<Result<Option<KeyFile>, KmsError>, Hindrance>;

    /// Does nothing when one is there by now: the next look finds it.
    async fn keep_root_key(&self, line: Zeroizing<String>) -> Result<(), Hindrance>;

    async fn place(&self) -> Result<Place, Hindrance>;

    async fn some_resource_has_arn(&self) -> Result<bool, Hindrance>;

    async fn loss(&self) -> Result<Option<LossAccepted>, Hindrance>;

    async fn forget_loss(&self) -> Result<(), Hindrance>;
}

pub struct InCluster<'a> {
    pub client: &'a Client,
    pub args: &'a ServerArgs,
}

#[async_trait]
impl Surroundings for InCluster<'_> {
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

    async fn keep_root_key(&self, line: Zeroizing<String>) -> Result<(), Hindrance> {
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

    async fn place(&self) -> Result<Place, Hindrance> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let system = namespaces.get_metadata("kube-system").await;
        let system = system.map_err(|source| asked("the namespace kube-system".to_owned(), source))?;
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let definition = definitions.get_metadata_opt(ManagedSecret::crd_name()).await;
        let definition =
            definition.map_err(|source| asked("the definition of ManagedSecret".to_owned(), source))?;
        Ok(Place {
            cluster_id: system.metadata.uid.unwrap_or_default(),
            crd_uid: definition.and_then(|found| found.metadata.uid).unwrap_or_default(),
        })
    }

    async fn some_resource_has_arn(&self) -> Result<bool, Hindrance> {
        let resources: Api<Readable<ManagedSecret>> = Api::all(self.client.clone());
        match resources.list(&ListParams::default()).await {
            Ok(found) => {
                Ok(found.items.iter().any(|r| r.object.status.as_ref().is_some_and(|s| s.arn.is_some())))
            }
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
}

impl InCluster<'_> {
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
