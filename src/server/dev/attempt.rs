//! One attempt at a rotation in `tidelock dev`: the four steps one after the other, each as a child process with the
//! contract of a rotation's pod, or in this process for the built-in rotator. Must not read what a child prints: it may
//! be a value, and goes to the terminal as it is.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use crate::keeper::{AccessKey, Keeper};
use crate::rotation::{GENERATE, Step};
use crate::rotator;
use crate::secret::Arn;
use crate::wire::aws::Token;

/// One attempt that takes longer has failed, as in a cluster.
const ATTEMPT_MAX: Duration = Duration::from_secs(15 * 60);
/// What a shell was told earlier must not lead a step elsewhere.
const FORGOTTEN: [&str; 4] = ["AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_DEFAULT_PROFILE"];

/// What the steps are run with.
pub(super) struct Rotator {
    pub endpoint: String,
    pub region: String,
    pub key: AccessKey,
    /// For the built-in rotator.
    pub token: Token,
    /// By the name that they are registered under.
    pub commands: BTreeMap<String, String>,
    pub temporary: PathBuf,
}

/// What is rotated, and by whom.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub rotator: String,
    pub arn: Arn,
    pub version: String,
    /// Only the rotator's test, on a copy of the current version.
    pub is_test: bool,
}

/// Why an attempt failed: words of our own.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("no rotator `{0}` is registered any more: start tidelock dev with --rotator '{0}=COMMAND'")]
    Unregistered(String),
    #[error("the event of {0} cannot be written: {1}")]
    Event(&'static str, std::io::Error),
    #[error("the command of {0} cannot be run: {1}")]
    Start(&'static str, std::io::Error),
    #[error("{0} ended with {1}")]
    Ended(&'static str, std::process::ExitStatus),
    #[error("{0} failed: {1}")]
    Generate(&'static str, rotator::RotatorError),
    #[error("it took longer than it may")]
    TimedOut,
}

impl Rotator {
    /// Runs the steps to the end of the last or of the first that fails; the journal tells which.
    pub async fn attempt(&self, keeper: &Keeper, work: &Work) -> Result<(), Failed> {
        let steps = async {
            for &step in Step::of(work.is_test) {
                if let Err(error) = keeper.rotation_step_seen(&work.arn, step).await {
                    tracing::warn!(reason = error.reason(), %error, "a rotation's step could not be noted");
                }
                self.step(work, step).await?;
            }
            Ok(())
        };
        tokio::time::timeout(ATTEMPT_MAX, steps).await.unwrap_or(Err(Failed::TimedOut))
    }

    async fn step(&self, work: &Work, step: Step) -> Result<(), Failed> {
        let word = step.as_str();
        let event = self.event(work, step).map_err(|error| Failed::Event(word, error))?;
        if work.rotator == GENERATE {
            let token = self.token.clone();
            let made = rotator::generate_here(&self.endpoint, token, event.path(), step, work.is_test).await;
            return made.map_err(|error| Failed::Generate(word, error));
        }
        let command = self.commands.get(&work.rotator);
        let command = command.ok_or_else(|| Failed::Unregistered(work.rotator.clone()))?;
        let started = self.command(command, step, event.path()).spawn().map(Whole);
        let mut child = started.map_err(|error| Failed::Start(word, error))?;
        let status = child.0.wait().await.map_err(|error| Failed::Start(word, error))?;
        if status.success() { Ok(()) } else { Err(Failed::Ended(word, status)) }
    }

    /// AWS's event, readable by its owner alone.
    fn event(&self, work: &Work, step: Step) -> std::io::Result<tempfile::NamedTempFile> {
        let event = serde_json::json!({
            "Step": step.as_str(),
            "SecretId": work.arn.as_str(),
            "ClientRequestToken": work.version,
        });
        let mut file = tempfile::Builder::new().prefix("tidelock-event-").tempfile_in(&self.temporary)?;
        file.write_all(event.to_string().as_bytes())?;
        Ok(file)
    }

    fn command(&self, command: &str, step: Step, event: &Path) -> Command {
        let mut shell = Command::new("/bin/sh");
        for name in FORGOTTEN {
            shell.env_remove(name);
        }
        shell
            .args(["-c", command])
            .env("TIDELOCK_STEP", step.as_str())
            .env("TIDELOCK_EVENT", event)
            .env("AWS_ENDPOINT_URL_SECRETS_MANAGER", &self.endpoint)
            .env("AWS_ENDPOINT_URL_STS", &self.endpoint)
            .env("AWS_REGION", &self.region)
            .env("AWS_DEFAULT_REGION", &self.region)
            .env("AWS_ACCESS_KEY_ID", &self.key.id)
            .env("AWS_SECRET_ACCESS_KEY", self.key.secret.as_str())
            .stdin(Stdio::null())
            // Our own standard output is for lines that a shell reads.
            .stdout(std::io::stderr())
            .stderr(Stdio::inherit())
            .process_group(0)
            .kill_on_drop(true);
        shell
    }
}

/// A child that does not outlive its attempt, nor do those that it started.
struct Whole(Child);

impl Drop for Whole {
    fn drop(&mut self) {
        let group = self.0.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
