//! SHELL. What runs inside a rotation Job's pod: the relay between the steps and the server, the built-in steps of
//! `generate`, and the report at the end. It has the rights of one rotation and nothing else; it must not know the
//! store or a root key, and must not print a value.

mod event;
mod generate;
mod relay;
mod report;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::rotation::{Rules, Step};
use crate::wire::aws::{Api, CallError, Credential, Token};
use generate::Subject;

/// The first try and its repetitions, each twice as long after the last: 1 + 2 + 4 + 8 + 16 seconds.
const TRIES: u32 = 6;

/// `tidelock rotate <role>`: what each container of the pod is told by its arguments.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Role {
    /// Serve the AWS API to the steps on this pod's loopback, with the pod's own token.
    Relay(RelayArguments),
    /// Exit 0 when the relay answers and the server accepts this pod.
    Ready {
        /// Where the relay listens.
        #[arg(long, default_value = "127.0.0.1:8099")]
        relay: SocketAddr,
    },
    /// Run one step of the built-in rotator that has no target.
    Generate {
        /// createSecret, setSecret, testSecret or finishSecret.
        #[arg(long)]
        step: Step,
        /// How a new value is made, as JSON.
        #[arg(long)]
        rules: Rules,
        /// What is tested is a copy of the current value, and not a new one.
        #[arg(long)]
        of_copy: bool,
        #[command(flatten)]
        context: Context,
    },
    /// Check, after the last step, that the new version is the current one.
    Report {
        /// That what was tested still stands at AWSPENDING.
        #[arg(long)]
        of_copy: bool,
        #[command(flatten)]
        context: Context,
    },
}

#[derive(Clone, Debug, clap::Args)]
pub struct RelayArguments {
    /// Where to listen; an address of this pod's loopback.
    #[arg(long, default_value = "127.0.0.1:8099")]
    pub listen: SocketAddr,
    /// The server's AWS API.
    #[arg(long)]
    pub server: String,
    /// PEM file with the server's CA.
    #[arg(long)]
    pub ca_file: PathBuf,
    /// The pod's token.
    #[arg(long)]
    pub token_file: PathBuf,
    /// The secret that is rotated, for the readiness check.
    #[arg(long)]
    pub secret_id: String,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Context {
    /// The file with the event of AWS's rotation contract.
    #[arg(long)]
    pub event: PathBuf,
    /// The relay.
    #[arg(long, default_value = "http://127.0.0.1:8099")]
    pub endpoint: String,
}

#[derive(Debug, thiserror::Error)]
pub enum RotatorError {
    #[error("the event file {path} cannot be read")]
    EventFile { path: PathBuf, source: std::io::Error },
    #[error("the event in {0} is not one of the rotation contract")]
    Event(PathBuf),
    #[error("the relay cannot listen on {0}: take an address of the loopback, such as 127.0.0.1:8099")]
    NotLoopback(SocketAddr),
    #[error("the relay cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("the relay does not answer, or the server does not accept this pod yet")]
    NotReady,
    #[error("{doing}")]
    Call { doing: &'static str, source: CallError },
    #[error("version {0} is not part of this secret's rotation: its stages do not name it")]
    NotPending(String),
    #[error("the secret has no current value to start from")]
    NoCurrentValue,
    #[error(
        "the current value is not a JSON object with the key `{0}`: put such a value first, or leave `key` out"
    )]
    NoKey(String),
    #[error("the current value is bytes, and this rotator makes text: take a rotator of your own")]
    NotText,
    #[error("the new value is not what createSecret makes: {0}")]
    BadPending(&'static str),
    #[error(transparent)]
    Key(crate::secret::symmetric::KeyBytesError),
    #[error("random bytes cannot be had")]
    Random(#[source] std::io::Error),
    #[error("all steps ended well, but AWSCURRENT is not on version {0}: finishSecret must move it")]
    NotPromoted(String),
}

/// Runs one role to its end; the relay's is `shutdown`.
pub async fn run(role: Role, shutdown: CancellationToken) -> Result<(), RotatorError> {
    match role {
        Role::Relay(arguments) => relay::run(arguments, shutdown).await,
        Role::Ready { relay } => relay::ready(relay).await,
        Role::Generate { step, rules, of_copy, context } => {
            let (api, event) = context.open().await?;
            generate::run(&api, &event, step, Subject { rules: &rules, of_copy }).await
        }
        Role::Report { of_copy, context } => {
            let (api, event) = context.open().await?;
            report::run(&api, &event, of_copy).await
        }
    }
}

/// One step of the built-in rotator in this very process, for `tidelock dev`, which has no pods.
pub async fn generate_here(
    endpoint: &str,
    token: Token,
    event: &Path,
    step: Step,
    of_copy: bool,
) -> Result<(), RotatorError> {
    let event = event::read(event).await?;
    let api = Api::new(endpoint, None, Credential::Token(token))
        .map_err(|source| RotatorError::Call { doing: "the server cannot be called", source })?;
    generate::run(&api, &event, step, Subject { rules: &Rules::default(), of_copy }).await
}

impl Context {
    async fn open(&self) -> Result<(Api, event::Event), RotatorError> {
        let event = event::read(&self.event).await?;
        let api = Api::new(&self.endpoint, None, Credential::None)
            .map_err(|source| RotatorError::Call { doing: "the relay cannot be used", source })?;
        Ok((api, event))
    }
}

/// Repeats a call while its failure may pass.
async fn patiently<T, F>(mut call: impl FnMut() -> F) -> Result<T, CallError>
where
    F: Future<Output = Result<T, CallError>>,
{
    for attempt in 1..TRIES {
        match call().await {
            Err(error) if error.is_passing() => {
                tracing::warn!(%error, attempt, "a call failed and is repeated");
                tokio::time::sleep(Duration::from_secs(1 << (attempt - 1))).await;
            }
            ended => return ended,
        }
    }
    call().await
}

#[cfg(test)]
mod tests;
