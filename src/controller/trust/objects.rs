//! The objects in which trust is kept and published. Must not decide when.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::{Stream, StreamExt};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use zeroize::{Zeroize, Zeroizing};

use super::{TrustError, TrustSettings};
use crate::pki::{Authority, Files, PkiError, file};

const FIELD_MANAGER: &str = "tidelock";
const CONFLICT: u16 = 409;

/// An authority and the version of the object that it was read from.
pub(super) struct Stored {
    pub(super) authority: Authority,
    pub(super) version: Option<String>,
}

pub(super) struct Objects {
    secrets: Api<Secret>,
    config_maps: Vec<Api<ConfigMap>>,
    webhooks: Api<MutatingWebhookConfiguration>,
    secret: String,
    config_map: String,
    webhook_configuration: String,
}

impl Objects {
    pub(super) fn new(client: Client, settings: &TrustSettings) -> Objects {
        let namespaces = std::iter::once(&settings.namespace).chain(&settings.more_namespaces);
        Objects {
            secrets: Api::namespaced(client.clone(), &settings.namespace),
            config_maps: namespaces.map(|ns| Api::namespaced(client.clone(), ns)).collect(),
            webhooks: Api::all(client),
            secret: settings.secret.clone(),
            config_map: settings.config_map.clone(),
            webhook_configuration: settings.webhook_configuration.clone(),
        }
    }

    pub(super) async fn authority(&self) -> Result<Option<Stored>, TrustError> {
        match self.secrets.get_opt(&self.secret).await.map_err(ask("read the Secret of the authority"))? {
            None => Ok(None),
            Some(secret) => self.stored(secret).map(Some),
        }
    }

    /// Another replica may have been faster: then its authority counts, and the next round reads it.
    pub(super) async fn create(&self, authority: Authority) -> Result<Stored, TrustError> {
        let secret = self.secret(&authority, None);
        let what = "the Secret of the authority";
        let created = written(self.secrets.create(&PostParams::default(), &secret).await, what);
        wipe(secret);
        self.stored(created?)
    }

    pub(super) async fn replace(
        &self,
        authority: Authority,
        version: Option<String>,
    ) -> Result<Authority, TrustError> {
        let secret = self.secret(&authority, version);
        let what = "the Secret of the authority";
        let replaced =
            written(self.secrets.replace(&self.secret, &PostParams::default(), &secret).await, what);
        wipe(secret);
        replaced.map(|stored| {
            wipe(stored);
            authority
        })
    }

    /// The bundle, in a ConfigMap of each namespace that has readers; written only where it differs.
    pub(super) async fn publish(&self, bundle: &str) -> Result<(), TrustError> {
        for config_maps in &self.config_maps {
            let there = config_maps
                .get_opt(&self.config_map)
                .await
                .map_err(ask("read the ConfigMap of the bundle"))?;
            let published = there.and_then(|there| there.data?.remove(file::CERTIFICATE));
            if published.as_deref() == Some(bundle) {
                continue;
            }
            let data = BTreeMap::from([(file::CERTIFICATE, bundle)]);
            let config_map = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": self.config_map}, "data": data,
            });
            config_maps
                .patch(&self.config_map, &apply(), &Patch::Apply(config_map))
                .await
                .map_err(ask("write the ConfigMap of the bundle"))?;
            tracing::info!(config_map = self.config_map, "trust bundle published");
        }
        Ok(())
    }

    /// Only an object that exists is written, and only where it differs; the resourceVersion keeps an object that is
    /// deleted meanwhile from being made again.
    pub(super) async fn restore_ca_bundle(&self, bundle: &str) -> Result<(), TrustError> {
        let found = self.webhooks.get_opt(&self.webhook_configuration).await;
        let Some(found) = found.map_err(ask("read our MutatingWebhookConfiguration"))? else {
            return Ok(());
        };
        let hooks = found.webhooks.as_deref().unwrap_or_default();
        let is_right = |hook: &&_| ca_bundle(hook) == Some(bundle.as_bytes());
        if hooks.iter().all(|hook| is_right(&hook)) {
            return Ok(());
        }
        let hooks: Vec<_> = hooks
            .iter()
            .map(|hook| json!({"name": hook.name, "clientConfig": {"caBundle": STANDARD.encode(bundle)}}))
            .collect();
        let patch = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": self.webhook_configuration, "resourceVersion": found.resource_version()},
            "webhooks": hooks,
        });
        let patched = self.webhooks.patch(&self.webhook_configuration, &apply(), &Patch::Apply(patch)).await;
        written(patched, "our MutatingWebhookConfiguration")?;
        tracing::info!(webhook_configuration = self.webhook_configuration, "caBundle written");
        Ok(())
    }

    /// One item for each change of our webhook configuration. Ends never; troubles of the watch are its own to mend.
    pub(super) fn webhook_changes(&self) -> impl Stream<Item = ()> + use<> {
        let only_ours = format!("metadata.name={}", self.webhook_configuration);
        watcher(self.webhooks.clone(), watcher::Config::default().fields(&only_ours))
            .default_backoff()
            .touched_objects()
            .filter_map(async |touched| match touched {
                Ok(_) => Some(()),
                Err(error) => {
                    tracing::debug!(%error, "the watch of our webhook configuration was interrupted");
                    None
                }
            })
    }

    fn stored(&self, secret: Secret) -> Result<Stored, TrustError> {
        let version = secret.resource_version();
        let data = secret.data.unwrap_or_default();
        let files: Files = data.into_iter().map(|(name, bytes)| (name, Zeroizing::new(bytes.0))).collect();
        let unreadable = |source: PkiError| TrustError::Authority { secret: self.secret.clone(), source };
        Ok(Stored { authority: Authority::parse(&files).map_err(unreadable)?, version })
    }

    fn secret(&self, authority: &Authority, version: Option<String>) -> Secret {
        let files = authority.files();
        let data = files.iter().map(|(name, bytes)| (name.clone(), ByteString(bytes.to_vec()))).collect();
        Secret {
            metadata: ObjectMeta {
                name: Some(self.secret.clone()),
                resource_version: version,
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..Secret::default()
        }
    }
}

fn ca_bundle(hook: &k8s_openapi::api::admissionregistration::v1::MutatingWebhook) -> Option<&[u8]> {
    hook.client_config.ca_bundle.as_ref().map(|bundle| bundle.0.as_slice())
}

/// Keys do not stay in memory longer than the request that carries them.
fn wipe(secret: Secret) {
    for (_, mut bytes) in secret.data.unwrap_or_default() {
        bytes.0.zeroize();
    }
}

fn apply() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

fn ask(what: &'static str) -> impl Fn(kube::Error) -> TrustError {
    move |source| TrustError::Ask { what, source: Box::new(source) }
}

fn written<T>(answer: Result<T, kube::Error>, what: &'static str) -> Result<T, TrustError> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == CONFLICT => Err(TrustError::Outrun(what)),
        answer => answer
            .map_err(|source| TrustError::Ask { what: "write an object of trust", source: Box::new(source) }),
    }
}
