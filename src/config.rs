//! Every flag and environment variable of every role, typed. The only place that reads the environment.
//! Must not act on what it reads, and must not read secrets from the environment: those come from files or the cluster.

use clap::{Args, Parser, Subcommand};

/// AWS Secrets Manager for any Kubernetes cluster.
#[derive(Debug, Parser)]
#[command(name = "tidelock", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the CustomResourceDefinitions
    Crds(CrdsArgs),
}

/// What of the definitions is printed.
#[derive(Debug, Args)]
pub struct CrdsArgs {
    /// Print only the definition of this name, such as managedsecrets.tidelock.dev
    #[arg(conflicts_with = "chart")]
    pub name: Option<String>,
    /// Print the template of the chart
    #[arg(long)]
    pub chart: bool,
}
