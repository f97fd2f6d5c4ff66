//! `tidelock versions`: the versions of one secret and the stages they carry. Shows no values.

use std::io::Write;

use clap::Args;
use comfy_table::Table;
use jiff::Timestamp;

use super::connect::Cluster;
use super::{CliError, Format, output};
use crate::clock::{Clock, SystemClock};
use crate::crd::VersionStatus;

#[derive(Args, Debug)]
pub struct VersionsArgs {
    /// The name of the ManagedSecret.
    name: String,
    /// How to write the answer.
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Format,
}

pub async fn run(
    args: &VersionsArgs,
    cluster: &Cluster,
    out: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let status = cluster.secret(&args.name).await?.status.unwrap_or_default();
    let versions = status.versions.unwrap_or_default();
    output::write(out, args.output, &versions, || rows(&versions, SystemClock.now()))
}

pub fn rows(versions: &[VersionStatus], now: Timestamp) -> Table {
    let mut table = output::table(&["VERSION", "STAGES", "AGE"]);
    for version in versions {
        let made = version.created_at.as_ref().map(|time| time.0);
        table.add_row([version.id.clone(), version.stages.join(","), output::age(made, now)]);
    }
    table
}
