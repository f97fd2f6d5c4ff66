//! The one multi-call binary: picks the role and wires it. Must hold no logic of its own.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;

use tidelock::config::{Cli, Command, CrdsArgs};
use tidelock::crd;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tidelock: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Crds(args) => crds(&args),
    }
}

fn crds(args: &CrdsArgs) -> anyhow::Result<()> {
    let text = if args.chart {
        crd::chart_template()?
    } else {
        let definitions = crd::definitions();
        let wanted = |name: &Option<String>| args.name.is_none() || *name == args.name;
        let documents: Vec<String> = definitions
            .iter()
            .filter(|definition| wanted(&definition.metadata.name))
            .map(crd::yaml)
            .collect::<Result<_, _>>()?;
        if documents.is_empty() {
            let names: Vec<_> = definitions.into_iter().filter_map(|d| d.metadata.name).collect();
            bail!("there is no such definition; there are {}", names.join(" and "));
        }
        documents.join("---\n")
    };
    std::io::stdout().write_all(text.as_bytes()).context("printing failed")
}
