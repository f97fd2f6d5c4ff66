//! The way to the cluster, as kubectl would go it. Must not ask for more than the person's own rights.

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use super::{CliError, Target};
use crate::crd::{ManagedSecret, Readable, RotationSchedule};

pub struct Cluster {
    pub client: Client,
    pub namespace: String,
}

impl Cluster {
    /// As far as each can be read: one that cannot must not hide the others.
    pub fn secrets(&self) -> Api<Readable<ManagedSecret>> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn schedules(&self) -> Api<Readable<RotationSchedule>> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub async fn secret(&self, name: &str) -> Result<ManagedSecret, CliError> {
        let not_found = || CliError::NotFound { namespace: self.namespace.clone(), name: name.to_owned() };
        Ok(self.secrets().get_opt(name).await?.ok_or_else(not_found)?.object)
    }
}

pub async fn connect(target: &Target) -> Result<Cluster, CliError> {
    let options = KubeConfigOptions { context: target.context.clone(), ..KubeConfigOptions::default() };
    let unusable = |error: kube::config::KubeconfigError| CliError::Kubeconfig(error.to_string());
    let config = match &target.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(unusable)?;
            Config::from_custom_kubeconfig(file, &options).await.map_err(unusable)?
        }
        None => Config::from_kubeconfig(&options).await.map_err(unusable)?,
    };
    let namespace = target.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config)?;
    Ok(Cluster { client, namespace })
}
