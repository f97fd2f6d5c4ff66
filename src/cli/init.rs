//! `tidelock init --accept-loss`: a person's word that the values of a lost store are gone for good, after which the
//! server begins a new one. Must not be possible by accident: it names the store that is lost.

use std::io::Write;

use clap::Args;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::PostParams;

use super::CliError;
use super::connect::Cluster;
use crate::crd::{ACCEPT_LOSS_KEY, accept_loss_name};

#[derive(Args, Debug)]
pub struct InitArgs {
    /// The id of the store whose loss is accepted, as the server's refusal names it.
    #[arg(long, value_name = "INSTALLATION", required = true)]
    accept_loss: String,
    /// The namespace that Tidelock is installed in.
    #[arg(long, default_value = "tidelock-system", value_name = "NAMESPACE")]
    server_namespace: String,
    /// The name of the installation's objects.
    #[arg(long, default_value = "tidelock", value_name = "NAME")]
    release: String,
    /// Say that what the volume does not hold is gone for good; secrets without a value are made anew.
    #[arg(long)]
    yes: bool,
}

pub async fn run(
    args: &InitArgs,
    cluster: &Cluster,
    progress: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    if !args.yes {
        return Err(CliError::Refused(format!(
            "what the volume of the store {} does not hold any more would be given up: of an emptied one every value, \
             and each password made anew, unknown to the databases that it opens. Restore the volume and its root key \
             instead if there is a newer backup; else add --yes",
            args.accept_loss
        )));
    }
    let mut map = ConfigMap::default();
    map.metadata.name = Some(accept_loss_name(&args.release));
    map.data = Some([(ACCEPT_LOSS_KEY.to_owned(), args.accept_loss.clone())].into());
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), &args.server_namespace);
    maps.create(&PostParams::default(), &map).await?;
    writeln!(
        progress,
        "the loss of {} is accepted: the server goes on with what its volume holds at its next look",
        args.accept_loss
    )?;
    Ok(())
}
