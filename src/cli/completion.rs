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
    mut command: clap::Command,
    out: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    out.write_all(&script)?;
    Ok(())
}
