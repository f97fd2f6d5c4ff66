//! `tidelock get`: one secret, in a line or whole. Shows metadata only.

use std::io::Write;

use clap::Args;

use super::connect::Cluster;
use super::{CliError, Format, list, output};
use crate::clock::{Clock, SystemClock};

#[derive(Args, Debug)]
pub struct GetArgs {
    /// The name of the ManagedSecret.
    name: String,
    /// How to write the answer.
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Format,
}

pub async fn run(args: &GetArgs, cluster: &Cluster, out: &mut (dyn Write + Send)) -> Result<(), CliError> {
    let secret = cluster.secret(&args.name).await?;
    output::write(out, args.output, &secret, || list::rows(std::slice::from_ref(&secret), SystemClock.now()))
}
