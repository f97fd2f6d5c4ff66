//! `tidelock access-key`: keys for programs outside of the cluster, each of which acts as one ServiceAccount. The server
//! decides, and writes it down. Must not write a secret anywhere but where the answer goes, and not twice.

use std::io::Write;
use std::time::Duration;

use clap::{Args, Subcommand};
use comfy_table::Table;

use super::connect::{self, Cluster};
use super::server::{self, Account, ServerTarget};
use super::settings::SettingsFile;
use super::{CliError, Format, On, output};
use crate::clock;
use crate::wire::aws::{AccessKey, AccessKeys, Api, CallError, CreateAccessKey, CreatedAccessKey};

/// What can be done with access keys.
#[derive(Subcommand, Debug)]
pub enum Keys {
    /// Make a key for a program outside, and show its secret this once.
    Create(On<CreateArgs>),
    /// List the keys of a namespace's ServiceAccounts, and when each was used last.
    List(On<ListArgs>),
    /// Revoke a key: it is refused from then on.
    Revoke(On<RevokeArgs>),
}

#[derive(Args, Debug)]
pub struct CreateArgs {
    /// As whom the holder of the key acts: namespace/name of a ServiceAccount.
    #[arg(value_name = "SERVICEACCOUNT", value_parser = Account::flag)]
    holder: Account,
    /// How long the key is good: a whole number and one of d, h or m, at most 365d. Default: 90d.
    #[arg(long, value_name = "TIME", value_parser = length)]
    expires_in: Option<Duration>,
    /// How to write the answer.
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    asker: Asker,
}

#[derive(Args, Debug)]
pub struct ListArgs {
    /// How to write the answer.
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    asker: Asker,
}

#[derive(Args, Debug)]
pub struct RevokeArgs {
    /// The id of the key: AKIA and 16 characters.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    asker: Asker,
}

/// As whom the server is asked, and where it is.
#[derive(Args, Debug)]
pub struct Asker {
    /// As whom to ask: namespace/name of a ServiceAccount that may do so and that you may make tokens for. Default:
    /// `serviceAccount` in tidelock/config.yaml of your configuration folder.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = Account::flag)]
    service_account: Option<Account>,
    #[command(flatten)]
    server: ServerTarget,
}

impl Asker {
    async fn api(&self, cluster: &Cluster, settings: &SettingsFile) -> Result<Api, CliError> {
        let account = server::account(self.service_account.as_ref(), settings, "The server is asked")?;
        server::connect(&cluster.client, &self.server, &account).await
    }
}

fn length(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    let length = match days {
        Some(days) => days.checked_mul(86_400).map(Duration::from_secs),
        None => clock::length_of_time(text),
    };
    let length = length.filter(|length| length.as_secs() > 0);
    length.ok_or_else(|| "write a whole number and one of d, h or m, such as 30d".to_owned())
}

pub async fn run(
    keys: &Keys,
    settings: &SettingsFile,
    out: &mut (dyn Write + Send),
    progress: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    match keys {
        Keys::Create(on) => {
            create(&on.args, &connect::connect(&on.target).await?, settings, out, progress).await
        }
        Keys::List(on) => {
            let cluster = connect::connect(&on.target).await?;
            let listed =
                on.args.asker.api(&cluster, settings).await?.list_access_keys(&cluster.namespace).await;
            let listed = listed.map_err(refused)?;
            output::write(out, on.args.output, &listed, || rows(&listed))
        }
        Keys::Revoke(on) => {
            let cluster = connect::connect(&on.target).await?;
            let revoked = on.args.asker.api(&cluster, settings).await?.revoke_access_key(&on.args.id).await;
            let revoked = revoked.map_err(refused)?;
            writeln!(progress, "revoked: {} of {}", revoked.access_key_id, revoked.service_account)?;
            Ok(())
        }
    }
}

async fn create(
    args: &CreateArgs,
    cluster: &Cluster,
    settings: &SettingsFile,
    out: &mut (dyn Write + Send),
    progress: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let api = args.asker.api(cluster, settings).await?;
    let holder = format!("{}/{}", args.holder.namespace, args.holder.name);
    let expires_in_seconds = args.expires_in.map(|length| length.as_secs());
    let created =
        api.create_access_key(&CreateAccessKey { service_account: &holder, expires_in_seconds }).await;
    let created = created.map_err(refused)?;
    output::write(out, args.output, &created, || secret_row(&created))?;
    writeln!(progress, "the secret is shown this once: nobody can read it again")?;
    Ok(())
}

fn refused(error: CallError) -> CliError {
    CliError::Refused(error.to_string())
}

fn secret_row(created: &CreatedAccessKey) -> Table {
    let mut table = output::table(&["FIELD", "VALUE"]);
    table.add_row(["access key id", &created.access_key_id]);
    table.add_row(["secret access key", created.secret_access_key.expose()]);
    table.add_row(["serviceaccount", &created.service_account]);
    table.add_row(["expires", &created.expires]);
    table
}

fn rows(listed: &AccessKeys) -> Table {
    let mut table = output::table(&["ID", "SERVICEACCOUNT", "CREATED", "EXPIRES", "LAST USED"]);
    for AccessKey { access_key_id, service_account, created, expires, last_used } in &listed.access_keys {
        let last_used = last_used.as_deref().unwrap_or("never");
        table.add_row([access_key_id, service_account, created, expires, last_used]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_their_keys_and_the_secret_of_a_new_one() {
        let answer = r#"{"AccessKeyId": "AKIA2", "SecretAccessKey": "s3", "ServiceAccount": "shop/ci",
            "Created": "2030-01-01T00:00:00Z", "Expires": "2030-04-01T00:00:00Z"}"#;
        let created: CreatedAccessKey = serde_json::from_str(answer).unwrap();
        let written = |format, table: Table, object: &dyn Fn(&mut Vec<u8>, Format, Table)| {
            let mut out = Vec::new();
            object(&mut out, format, table);
            String::from_utf8(out).unwrap()
        };
        let of_created =
            |out: &mut Vec<u8>, format, table| output::write(out, format, &created, || table).unwrap();
        assert_eq!(
            written(Format::Table, secret_row(&created), &of_created),
            "FIELD               VALUE\n\
             access key id       AKIA2\n\
             secret access key   s3\n\
             serviceaccount      shop/ci\n\
             expires             2030-04-01T00:00:00Z\n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&written(Format::Json, Table::new(), &of_created)).unwrap();
        assert_eq!((&json["accessKeyId"], &json["secretAccessKey"]), (&"AKIA2".into(), &"s3".into()));

        let listed = r#"{"AccessKeys": [{"AccessKeyId": "AKIA2", "ServiceAccount": "shop/ci", "Created": "c",
            "Expires": "e"}]}"#;
        let listed: AccessKeys = serde_json::from_str(listed).unwrap();
        let of_listed =
            |out: &mut Vec<u8>, format, table| output::write(out, format, &listed, || table).unwrap();
        assert_eq!(
            written(Format::Table, rows(&listed), &of_listed),
            "ID      SERVICEACCOUNT   CREATED   EXPIRES   LAST USED\nAKIA2   shop/ci          c         e         never\n"
        );
    }

    #[test]
    fn a_length_is_a_number_and_its_unit() {
        assert_eq!(length("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(length("12h"), Ok(Duration::from_secs(12 * 3600)));
        for wrong in ["", "d", "30", "-1d", "0d", "0h", "1 d", "9999999999999999999d"] {
            assert!(length(wrong).is_err(), "{wrong}");
        }
    }
}
