//! The commands of people, one file per verb.
//! Must not import store, kms, seal or keeper: it asks the cluster and the server.

mod approve;
mod completion;
mod connect;
mod describe;
mod error;
mod get;
mod list;
mod output;
mod rotate;
mod versions;

use std::io::Write;

use clap::{Args, Subcommand};

pub use error::CliError;
pub use output::Format;

/// Where to find the cluster; the same words as kubectl's.
#[derive(Args, Debug, Clone, Default)]
pub struct Target {
    /// The kubeconfig file. Default: as kubectl finds it.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<std::path::PathBuf>,
    /// The context in the kubeconfig. Default: the current one.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace of the secret. Default: the context's.
    #[arg(long, short = 'n', global = true, value_name = "NAME")]
    pub namespace: Option<String>,
}

/// What a person can ask for.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// List the secrets of a namespace, or of all.
    List(list::ListArgs),
    /// Show one secret in a line, or whole with `-o yaml`.
    Get(get::GetArgs),
    /// Show all that is known of one secret: versions, consumers, rotation, conditions, events.
    Describe(describe::DescribeArgs),
    /// List the versions of one secret and the stages they carry.
    Versions(versions::VersionsArgs),
    /// Rotate a secret now, and wait until that is done.
    Rotate(rotate::RotateArgs),
    /// Approve what Tidelock holds back until a person has looked.
    #[command(subcommand)]
    Approve(approve::Approve),
    /// Print the completion script for a shell.
    Completion(completion::CompletionArgs),
}

/// Does what was asked, and writes the answer to `out` and progress to `progress`.
pub async fn run(
    verb: Verb,
    target: &Target,
    command: clap::Command,
    out: &mut (dyn Write + Send),
    progress: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    if let Verb::Completion(args) = &verb {
        return completion::run(args, command, out);
    }
    let cluster = connect::connect(target).await?;
    match verb {
        Verb::List(args) => list::run(&args, &cluster, out).await,
        Verb::Get(args) => get::run(&args, &cluster, out).await,
        Verb::Describe(args) => describe::run(&args, &cluster, out).await,
        Verb::Versions(args) => versions::run(&args, &cluster, out).await,
        Verb::Rotate(args) => rotate::run(&args, &cluster, progress).await,
        Verb::Approve(args) => approve::run(&args, &cluster, progress).await,
        Verb::Completion(_) => Ok(()),
    }
}
