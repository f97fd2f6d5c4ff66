//! Sealing and storing, measured by a program of its own that is built with Tidelock's library (`bench/`): from outside
//! nothing of it can be seen. Must not measure anything itself.

use anyhow::{Context, Result};
use tokio::process::Command;

use super::Found;
use crate::program::run;
use crate::{images, progress};

const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

pub(super) async fn measure() -> Result<Found> {
    let profile = images::profile();
    let words = ["--quiet", "--package", "tidelock-bench", "--profile", &profile];
    let step = progress::step("build what measures inside", "minutes when cold, then seconds");
    run(Command::new("cargo").current_dir(WORKSPACE).arg("build").args(words)).await?;
    step.done();
    let step = progress::step("seal, open, write and read beside the libraries alone", "half a minute");
    let verb = ["--", "inside"];
    let printed = run(Command::new("cargo").current_dir(WORKSPACE).arg("run").args(words).args(verb)).await?;
    step.done();
    serde_json::from_str(&printed).context("the program that measures inside printed no rows")
}
