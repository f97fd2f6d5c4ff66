//! The part of `make bench` that no cluster shows: sealing and storing, each beside the library that it is made of.
//! Prints rows as JSON; `tidelock-e2e bench` puts them into its table. Must not judge.

mod plain;
mod samples;
mod seals;
mod storage;

use anyhow::Result;
use tidelock_e2e::bench::Found;

#[tokio::main]
async fn main() -> Result<()> {
    let mut found = Found::default();
    found.add(seals::measure()?);
    found.add(storage::measure().await?);
    print(&serde_json::to_string(&found)?);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the answer, for the program that started this one")]
fn print(text: &str) {
    println!("{text}");
}
