//! `tidelock completion`: the script that makes a shell complete our words. Must not touch the cluster.

use std::io::Write;

use clap::Args;
use clap_complete::Shell;

use super::CliError;

#[derive(Args, Debug)]
pub struct CompletionArgs {
    /// The shell to write for.
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(
    args: &CompletionArgs,
    command: clap::Command,
    out: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let name = command.get_name().to_owned();
    let mut command = visible(&command);
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    out.write_all(&script)?;
    Ok(())
}

/// Without the roles that only the chart starts: the scripts for bash would offer them.
fn visible(command: &clap::Command) -> clap::Command {
    let shown = command.get_subcommands().filter(|role| !role.is_hide_set()).cloned();
    clap::Command::new("tidelock")
        .disable_help_subcommand(true)
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .args(command.get_arguments().cloned())
        .subcommands(shown)
}
