//! `tidelock get`: one secret, in a line or whole; its value only with `--reveal`, on standard output and nowhere
//! else, by the rights of a ServiceAccount and with its name in the audit.

use std::io::Write;

use clap::Args;

use super::connect::Cluster;
use super::server::{self, Account, ServerTarget};
use super::settings::SettingsFile;
use super::{CliError, Format, list, output};
use crate::clock::{Clock, SystemClock};
use crate::wire::aws;

#[derive(Args, Debug)]
pub struct GetArgs {
    /// The name of the ManagedSecret.
    name: String,
    /// How to write the answer.
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Format,
    /// Print the value and nothing else.
    #[arg(long, conflicts_with = "output")]
    reveal: bool,
    /// As whom to read the value: namespace/name of a ServiceAccount that you may make tokens for. Default:
    /// `serviceAccount` in tidelock/config.yaml of your configuration folder.
    #[arg(long, value_name = "NAMESPACE/NAME", requires = "reveal", value_parser = Account::flag)]
    service_account: Option<Account>,
    /// The stage of the version to print. Default: AWSCURRENT.
    #[arg(long, requires = "reveal")]
    stage: Option<String>,
    /// The id of the version to print.
    #[arg(long, requires = "reveal")]
    version_id: Option<String>,
    #[command(flatten)]
    server: ServerTarget,
}

pub async fn run(
    args: &GetArgs,
    cluster: &Cluster,
    settings: &SettingsFile,
    out: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let mut secret = cluster.secret(&args.name).await?;
    // As kubectl: who wrote which field is of no use to whoever asks for the secret.
    secret.metadata.managed_fields = None;
    if !args.reveal {
        let rows = || list::rows(std::slice::from_ref(&secret), SystemClock.now());
        return output::write(out, args.output, &secret, rows);
    }
    let account = server::account(args.service_account.as_ref(), settings, "A value is read")?;
    let arn = secret.status.and_then(|status| status.arn).ok_or_else(|| {
        CliError::Refused(format!("{} has not been made yet: `tidelock describe` says why", args.name))
    })?;
    let api = server::connect(&cluster.client, &args.server, &account).await?;
    let request = aws::GetSecretValue {
        secret_id: &arn,
        version_id: args.version_id.as_deref(),
        version_stage: args.stage.as_deref(),
    };
    let value = api.secret_value(&request).await.map_err(|error| CliError::Refused(error.to_string()))?;
    // A binary value is printed in Base64, as the AWS CLI does.
    let text = value.secret_string.as_ref().or(value.secret_binary.as_ref());
    writeln!(out, "{}", text.map_or("", aws::SecretText::expose))?;
    Ok(())
}
