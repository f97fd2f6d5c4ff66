//! Measures what needs a client or a library of its own: the AWS API under load, and, from inside, sealing and storing,
//! each beside the library that it is made of. Must not judge.

mod api;
mod plain;
mod samples;
mod seals;
mod storage;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use tidelock_e2e::bench::Found;

/// The parts of the benchmarks that are compiled with Tidelock's library.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Sealing and storing, as rows of JSON that `tidelock-e2e bench` puts into its table
    Inside,
    /// The AWS API under load, as one table
    Api {
        /// At once, one number after the other
        #[arg(long, value_delimiter = ',', default_values_t = [1, 50, 500])]
        connections: Vec<usize>,
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Markdown, for people
    Table,
    Json,
}

#[tokio::main]
async fn main() -> Result<()> {
    let text = match Arguments::parse().verb {
        Verb::Inside => {
            let mut found = Found::default();
            found.add(seals::measure()?);
            found.add(storage::measure().await?);
            serde_json::to_string(&found)?
        }
        Verb::Api { connections, output } => {
            let report = api::measure(&connections).await?;
            match output {
                Format::Table => report.table(),
                Format::Json => serde_json::to_string_pretty(&report)?,
            }
        }
    };
    print(&text);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the answer, for people or for the program that started this one")]
fn print(text: &str) {
    println!("{text}");
}
