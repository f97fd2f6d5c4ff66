//! `tidelock explain`: whether a ServiceAccount may do something to a secret, and who says what about it. Shows no values;
//! the server answers whoever may read the secret's policy, and writes it down.

use std::io::Write;

use clap::Args;
use comfy_table::Table;

use super::connect::Cluster;
use super::server::{self, Account, ServerTarget};
use super::settings::SettingsFile;
use super::{CliError, Format, output};
use crate::wire::aws::{ExplainAccess, Explained};

#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// Whom it is about: namespace/name of a ServiceAccount.
    #[arg(value_name = "PRINCIPAL", value_parser = Account::flag)]
    principal: Account,
    /// What is to be done, by its name in the AWS API, such as GetSecretValue; Project for files in a pod.
    operation: String,
    /// The name of the ManagedSecret; with --api-name, a secret's name or ARN in the AWS API.
    secret: String,
    /// Take SECRET for a name or an ARN of the AWS API: that of a secret without a ManagedSecret.
    #[arg(long)]
    api_name: bool,
    /// How to write the answer.
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Format,
    /// As whom to ask: namespace/name of a ServiceAccount that may read the secret's policy and that you may make tokens
    /// for. Default: `serviceAccount` in tidelock/config.yaml of your configuration folder.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = Account::flag)]
    service_account: Option<Account>,
    #[command(flatten)]
    server: ServerTarget,
}

pub async fn run(
    args: &ExplainArgs,
    cluster: &Cluster,
    settings: &SettingsFile,
    out: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let account = server::account(args.service_account.as_ref(), settings, "The server is asked")?;
    let secret_id = match args.api_name {
        true => args.secret.clone(),
        false => {
            let status = cluster.secret(&args.secret).await?.status;
            status.and_then(|status| status.arn).ok_or_else(|| {
                CliError::Refused(format!(
                    "{} has not been made yet: `tidelock describe` says why",
                    args.secret
                ))
            })?
        }
    };
    let api = server::connect(&cluster.client, &args.server, &account).await?;
    let principal = format!("{}/{}", args.principal.namespace, args.principal.name);
    let request = ExplainAccess { secret_id: &secret_id, principal: &principal, operation: &args.operation };
    let explained = api.explain(&request).await.map_err(|error| CliError::Refused(error.to_string()))?;
    output::write(out, args.output, &explained, || rows(&explained))
}

fn rows(explained: &Explained) -> Table {
    let mut table = output::table(&["SIDE", "SAYS"]);
    for side in &explained.sides {
        table.add_row([side.side.as_str(), side.says.as_str()]);
    }
    table.add_row(["decision", explained.decision.as_str()]);
    if !explained.refusal.is_empty() {
        table.add_row(["refusal", explained.refusal.as_str()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_what_each_side_says_and_the_decision_last() {
        let answer = r#"{"ARN": "arn", "Name": "shop/db", "Decision": "Denied", "Refusal": "User: x is not authorized",
            "Sides": [{"Side": "rbac", "Says": "the cluster allows reveal on managedsecrets/value"},
                      {"Side": "policy", "Says": "statement \"no\" denies it"}]}"#;
        let explained: Explained = serde_json::from_str(answer).unwrap();
        let mut out = Vec::new();
        output::write(&mut out, Format::Table, &explained, || rows(&explained)).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "SIDE       SAYS\n\
             rbac       the cluster allows reveal on managedsecrets/value\n\
             policy     statement \"no\" denies it\n\
             decision   Denied\n\
             refusal    User: x is not authorized\n"
        );
        let mut out = Vec::new();
        output::write(&mut out, Format::Json, &explained, Table::new).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&json["decision"], &json["sides"][1]["side"]), (&"Denied".into(), &"policy".into()));
    }
}
