//! The commands of people, one file per verb.
//! Must not import store, kms, seal or keeper: it asks the cluster and the server.

mod access_key;
mod approve;
mod completion;
mod connect;
mod describe;
mod doctor;
mod error;
mod explain;
mod get;
pub mod hook;
mod init;
mod list;
mod output;
mod rotate;
mod server;
mod settings;
mod versions;

use std::io::Write;

use clap::{Args, Subcommand};

pub use error::CliError;
pub use output::Format;
pub use settings::SettingsFile;

/// Where to find the cluster; the same words as kubectl's.
#[derive(Args, Debug, Clone, Default)]
pub struct Target {
    /// The kubeconfig file. Default: as kubectl finds it.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<std::path::PathBuf>,
    /// The context in the kubeconfig. Default: the current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace of the secret. Default: the context's.
    #[arg(long, short = 'n', value_name = "NAME")]
    pub namespace: Option<String>,
}

/// A verb together with where it is meant.
#[derive(Args, Debug)]
pub struct On<T: Args> {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub args: T,
}

/// What a person can ask for.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// List the secrets of a namespace, or of all.
    List(On<list::ListArgs>),
    /// Show one secret in a line, or whole with `-o yaml`.
    Get(On<get::GetArgs>),
    /// Show all that is known of one secret: versions, consumers, rotation, conditions, events.
    Describe(On<describe::DescribeArgs>),
    /// Say whether a ServiceAccount may do something to a secret, and why.
    Explain(On<explain::ExplainArgs>),
    /// List the versions of one secret and the stages they carry.
    Versions(On<versions::VersionsArgs>),
    /// Rotate a secret now, and wait until that is done.
    Rotate(On<rotate::RotateArgs>),
    /// Make, list and revoke keys for programs outside of the cluster.
    #[command(subcommand)]
    AccessKey(access_key::Keys),
    /// Approve what Tidelock holds back until a person has looked.
    #[command(subcommand)]
    Approve(approve::Approve),
    /// Look at an installation and say what to mend.
    ///
    /// A pod is tried, in a dry run, in the namespace that -n names. Ends with 0 when all is well, 3 when something
    /// needs mending, 4 when nothing does as far as could be looked, and 1 when the cluster could not be asked at all.
    Doctor(On<doctor::DoctorArgs>),
    /// Begin a new store after the old one was lost for good.
    Init(On<init::InitArgs>),
    /// Print the completion script for a shell.
    Completion(completion::CompletionArgs),
}

/// Does what was asked, and writes the answer to `out` and progress to `progress`.
pub async fn run(
    verb: Verb,
    command: clap::Command,
    settings: &SettingsFile,
    out: &mut (dyn Write + Send),
    progress: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    match verb {
        Verb::List(on) => list::run(&on.args, &connect::connect(&on.target).await?, out).await,
        Verb::Get(on) => get::run(&on.args, &connect::connect(&on.target).await?, settings, out).await,
        Verb::Describe(on) => describe::run(&on.args, &connect::connect(&on.target).await?, out).await,
        Verb::Explain(on) => {
            explain::run(&on.args, &connect::connect(&on.target).await?, settings, out).await
        }
        Verb::Versions(on) => versions::run(&on.args, &connect::connect(&on.target).await?, out).await,
        Verb::Rotate(on) => rotate::run(&on.args, &connect::connect(&on.target).await?, progress).await,
        Verb::AccessKey(keys) => access_key::run(&keys, settings, out, progress).await,
        Verb::Approve(approve) => approve::run(&approve, progress).await,
        Verb::Doctor(on) => doctor::run(&on.args, &connect::connect(&on.target).await?, out).await,
        Verb::Init(on) => init::run(&on.args, &connect::connect(&on.target).await?, progress).await,
        Verb::Completion(args) => completion::run(&args, command, out),
    }
}
