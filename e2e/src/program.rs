//! Runs other programs and makes their failures readable: which command, how it ended, what it said last.
//! Must not interpret what they print.

use std::path::Path;
use std::process::{Output, Stdio};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// How much of a log goes into an error.
const TAIL_LINES: usize = 25;

/// Runs to the end and returns standard output; anything but exit 0 is an error with the end of what was printed.
pub(crate) async fn run(command: &mut Command) -> Result<String> {
    let shown = shown(command.as_std());
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot start `{shown}`"))?;
    judge(&shown, &output)
}

/// The same for places that cannot wait, such as `Drop`; only for programs that take milliseconds.
pub(crate) fn run_blocking(command: &mut std::process::Command) -> Result<String> {
    let shown = shown(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{shown}`"))?;
    judge(&shown, &output)
}

fn judge(shown: &str, output: &Output) -> Result<String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let said = if stderr.trim().is_empty() { &stdout } else { stderr.as_ref() };
    bail!("`{shown}` ended with {}:\n{}", output.status, tail(said))
}

/// The same for a program that prints too much for a person: everything goes to `log`.
pub(crate) async fn run_logged(command: &mut Command, log: &Path) -> Result<()> {
    let shown = shown(command.as_std());
    let file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write the log {}", log.display()))?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("cannot start `{shown}`"))?;
    if status.success() {
        return Ok(());
    }
    bail!("`{shown}` ended with {status}; the end of {}:\n{}", log.display(), tail_of(log))
}

/// The last lines of a file, or why there are none.
pub(crate) fn tail_of(log: &Path) -> String {
    match std::fs::read(log) {
        Ok(bytes) if bytes.is_empty() => "    (the log is empty)".to_owned(),
        Ok(bytes) => tail(&String::from_utf8_lossy(&bytes)),
        Err(error) => format!("    (no log: {error})"),
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|line| format!("    {line}\n")).collect()
}

fn shown(command: &std::process::Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_names_the_command_its_exit_and_its_last_words() {
        let error = run(Command::new("sh").args(["-c", "echo gone wrong >&2; exit 3"]))
            .await
            .unwrap_err()
            .to_string();
        for part in ["sh -c", "exit status: 3", "gone wrong"] {
            assert!(error.contains(part), "{part:?} is missing in {error:?}");
        }
    }

    #[test]
    fn only_the_end_of_a_long_log_is_shown() {
        let long: String = (0..100).map(|i| format!("line {i}\n")).collect();
        let shown = tail(&long);
        assert_eq!(shown.lines().count(), TAIL_LINES);
        assert!(shown.contains("line 99") && !shown.contains("line 1\n"));
    }
}
