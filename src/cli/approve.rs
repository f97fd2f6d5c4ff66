//! `tidelock approve`: a person's yes to what Tidelock holds back. Writes annotations that the cluster's rights and
//! policies guard: who lacks them is refused by the API server.

use std::io::Write;

use clap::Subcommand;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::connect::{self, Cluster};
use super::{CliError, On};
use crate::crd::{ANNOTATION_APPROVE_DELETIONS, ANNOTATION_APPROVE_RESTORE, held_deletions_name};

#[derive(Subcommand, Debug)]
pub enum Approve {
    /// Let a namespace have the versions that a secret of the same name had when the namespace was another one.
    Restore(On<RestoreArgs>),
    /// Let the many secrets be deleted whose ManagedSecrets vanished at once.
    Deletions(On<DeletionsArgs>),
}

#[derive(clap::Args, Debug)]
pub struct RestoreArgs {
    /// The name of the ManagedSecret.
    name: String,
}

#[derive(clap::Args, Debug)]
pub struct DeletionsArgs {
    /// The namespace that Tidelock is installed in.
    #[arg(long, default_value = "tidelock-system", value_name = "NAMESPACE")]
    server_namespace: String,
    /// The name of the installation's objects.
    #[arg(long, default_value = "tidelock", value_name = "NAME")]
    release: String,
}

pub async fn run(approve: &Approve, progress: &mut (dyn Write + Send)) -> Result<(), CliError> {
    match approve {
        Approve::Restore(on) => restore(&on.args, &connect::connect(&on.target).await?, progress).await,
        Approve::Deletions(on) => deletions(&on.args, &connect::connect(&on.target).await?, progress).await,
    }
}

async fn restore(
    args: &RestoreArgs,
    cluster: &Cluster,
    progress: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let name = &args.name;
    let status = cluster.secret(name).await?.status.unwrap_or_default();
    let waits = |reason: &str| reason == "RestoreNeedsApproval";
    let conditions = status.conditions.unwrap_or_default();
    let Some(held) = conditions.iter().find(|condition| waits(&condition.reason)) else {
        return Err(CliError::Refused(format!("{name} does not wait for an approval: nothing was changed")));
    };
    let arn = status.arn.as_deref().or_else(|| arn_in(&held.message)).ok_or_else(|| {
        CliError::Refused(format!(
            "the status of {name} does not say which secret would be restored: {}",
            held.message
        ))
    })?;
    let patch = json!({"metadata": {"annotations": {ANNOTATION_APPROVE_RESTORE: arn}}});
    cluster.secrets().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    writeln!(progress, "approved: {}/{name} gets back the versions of {arn}", cluster.namespace)?;
    Ok(())
}

/// The ARN that a condition's message names.
fn arn_in(message: &str) -> Option<&str> {
    let word = message.split_whitespace().find(|word| word.starts_with("arn:aws:secretsmanager:"))?;
    Some(word.trim_end_matches(['.', ',', ':', ';', ')']))
}

async fn deletions(
    args: &DeletionsArgs,
    cluster: &Cluster,
    progress: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), &args.server_namespace);
    let name = held_deletions_name(&args.release);
    let nothing = || CliError::Refused("no deletions are held: nothing was changed".to_owned());
    let data = maps.get_opt(&name).await?.and_then(|map| map.data).ok_or_else(nothing)?;
    let token = data.get("token").ok_or_else(nothing)?;
    let patch = json!({"metadata": {"annotations": {ANNOTATION_APPROVE_DELETIONS: token}}});
    maps.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    let count = data.get("count").map_or("the", String::as_str);
    writeln!(
        progress,
        "approved: {count} secrets are scheduled for deletion; applying them again restores them"
    )?;
    writeln!(progress, "{}", data.get("secrets").map_or("", String::as_str))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arn_of_a_message_is_read_without_its_full_stop() {
        let message = "the secret arn:aws:secretsmanager:local-1:0:secret:shop/db-AbCdEf. Approve it";
        assert_eq!(arn_in(message), Some("arn:aws:secretsmanager:local-1:0:secret:shop/db-AbCdEf"));
        assert_eq!(arn_in("nothing here"), None);
    }
}
