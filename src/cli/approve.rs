//! `tidelock approve`: a person's yes to what Tidelock holds back. Writes annotations that the cluster's policies
//! guard: who lacks the verb `restore` is refused by the API server.

use std::io::Write;

use clap::{Args, ValueEnum};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::CliError;
use super::connect::Cluster;
use crate::crd::ANNOTATION_APPROVE_RESTORE;

#[derive(Args, Debug)]
pub struct ApproveArgs {
    /// What is approved.
    #[arg(value_enum)]
    what: What,
    /// The name of the ManagedSecret.
    name: String,
}

#[derive(ValueEnum, Debug, Clone, Copy)]
enum What {
    /// Let this namespace have the versions that a secret of the same name had when the namespace was another one.
    Restore,
}

pub async fn run(
    args: &ApproveArgs,
    cluster: &Cluster,
    progress: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let What::Restore = args.what;
    let name = &args.name;
    let secret = cluster.secret(name).await?;
    let waiting = secret.status.unwrap_or_default().conditions.unwrap_or_default();
    if !waiting.iter().any(|condition| condition.reason == "RestoreNeedsApproval") {
        return Err(CliError::Refused(format!("{name} does not wait for an approval: nothing was changed")));
    }
    let arn = waiting.iter().find_map(|condition| arn_in(&condition.message)).unwrap_or_default();
    let patch = json!({"metadata": {"annotations": {ANNOTATION_APPROVE_RESTORE: arn}}});
    cluster.secrets().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    writeln!(progress, "approved: {}/{name} gets back its versions", cluster.namespace)?;
    Ok(())
}

/// The ARN that a condition's message names.
fn arn_in(message: &str) -> Option<&str> {
    message
        .split_whitespace()
        .find(|word| word.starts_with("arn:aws:secretsmanager:"))
        .map(|word| word.trim_end_matches(['.', ',', ':', ';']))
}
