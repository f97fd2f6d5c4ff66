//! `tidelock list`: the secrets of a namespace, or of all. Shows metadata only.

use std::io::Write;

use clap::Args;
use comfy_table::Table;
use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::connect::Cluster;
use super::{CliError, Format, output};
use crate::clock::{Clock, SystemClock};
use crate::crd::ManagedSecret;

#[derive(Args, Debug)]
pub struct ListArgs {
    /// Secrets of all namespaces.
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// How to write the answer.
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Format,
}

const PAGE: u32 = 500;

pub async fn run(args: &ListArgs, cluster: &Cluster, out: &mut (dyn Write + Send)) -> Result<(), CliError> {
    let api = if args.all_namespaces { Api::all(cluster.client.clone()) } else { cluster.secrets() };
    let mut secrets: Vec<ManagedSecret> = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = api.list(&page).await?;
        let more = list.metadata.continue_.clone().filter(|token| !token.is_empty());
        secrets.extend(list.items.into_iter().map(|read| read.object));
        secrets.iter_mut().for_each(|secret| secret.metadata.managed_fields = None);
        match more {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    output::write(out, args.output, &secrets, || rows(&secrets, SystemClock.now()))
}

pub fn rows(secrets: &[ManagedSecret], now: Timestamp) -> Table {
    let mut table = output::table(&["NAMESPACE", "NAME", "READY", "VERSION", "CONSUMERS", "AGE"]);
    for secret in secrets {
        let status = secret.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let ready = conditions.iter().find(|c| c.type_ == "Ready");
        table.add_row([
            secret.namespace().unwrap_or_default(),
            secret.name_any(),
            ready.map_or("Unknown".to_owned(), |c| c.status.clone()),
            status.current_version.unwrap_or_else(|| "-".to_owned()),
            status.consumers.and_then(|c| c.summary).unwrap_or_else(|| "-".to_owned()),
            output::age(secret.creation_timestamp().map(|time| time.0), now),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_without_status_is_listed_as_unknown() {
        let secret = ManagedSecret::new("orders-db", crate::crd::ManagedSecretSpec::default());
        let text = rows(&[secret], Timestamp::UNIX_EPOCH).to_string();
        assert!(text.contains("orders-db") && text.contains("Unknown"), "{text}");
    }
}
