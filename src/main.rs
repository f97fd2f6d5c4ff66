//! The one multi-call binary: picks the role and wires it. Must hold no logic of its own.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::CommandFactory;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use tidelock::clock::SystemClock;
use tidelock::config::{self, Command, CrdsArgs};
use tidelock::node::args::NodeArgs;
use tidelock::node::{self, mounter};
use tidelock::telemetry::{Metrics, Readiness};
use tidelock::{cli, crd, rotator, server, telemetry};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let cli = config::command_line();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tidelock: {error:#}");
            let said = error.downcast_ref::<cli::CliError>();
            said.map_or(ExitCode::FAILURE, |error| ExitCode::from(error.exit_code()))
        }
    }
}

fn run(cli: config::Cli) -> anyhow::Result<()> {
    no_core_dumps()?;
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        bail!("another provider of TLS is installed already");
    }
    let log = cli.log;
    match cli.command {
        Command::Server(args) => {
            telemetry::start_log(log.log_format.into(), log.log_level)?;
            tokio::runtime::Runtime::new()?.block_on(async {
                let shutdown = shutdown_on_signal()?;
                server::run(*args, shutdown).await
            })
        }
        Command::Dev(args) => {
            telemetry::start_log(log.log_format.into(), log.log_level)?;
            tokio::runtime::Runtime::new()?.block_on(async {
                let shutdown = shutdown_on_signal()?;
                server::dev::run(args, shutdown, &mut std::io::stdout()).await
            })
        }
        Command::Node(args) => {
            telemetry::start_log(log.log_format.into(), log.log_level)?;
            tokio::runtime::Runtime::new()?.block_on(async {
                let shutdown = shutdown_on_signal()?;
                node(*args, shutdown).await
            })
        }
        Command::Mounter(args) => {
            telemetry::start_log(log.log_format.into(), log.log_level)?;
            single_threaded(async {
                let shutdown = shutdown_on_signal()?;
                Ok(mounter::run(args.config(), shutdown).await?)
            })
        }
        Command::Rotator(role) => single_threaded(async {
            telemetry::start_log(log.log_format.into(), log.log_level)?;
            let shutdown = shutdown_on_signal()?;
            Ok(rotator::run(role, shutdown).await?)
        }),
        Command::Crds(args) => crds(&args),
        Command::Hook(hook) => {
            single_threaded(async { Ok(cli::hook::run(&hook, &mut std::io::stdout()).await?) })
        }
        Command::Person(verb) => single_threaded(async {
            let (mut out, mut progress) = (std::io::stdout(), std::io::stderr());
            let settings = config::settings_file();
            Ok(cli::run(verb, config::Cli::command(), &settings, &mut out, &mut progress).await?)
        }),
    }
}

/// The agent, and beside it what kubelet and Prometheus ask it.
async fn node(args: NodeArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let readiness = Readiness::default();
    let component = readiness.component("node");
    let metrics = Metrics::install()?;
    let (stop, address) = (CancellationToken::new(), args.health_listen());
    let health = server::doors::health(address, readiness, &metrics, stop.clone()).await?;
    let (told, mut states) = watch::channel(node::Readiness::Restoring);
    let shown = async move {
        loop {
            match *states.borrow_and_update() {
                node::Readiness::Restoring => {
                    component.not_ready("Restoring", "waits for the mounter to tell what is mounted");
                }
                node::Readiness::Registering => {
                    component.not_ready("Registering", "waits for kubelet to register the driver");
                }
                node::Readiness::Ready => component.ready(),
            }
            if states.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let agent = node::agent::run(args.config(), SystemClock::shared(), told, shutdown);
    tokio::select! {
        ended = agent => Ok(ended?),
        () = health => bail!("the port of health closed"),
        () = metrics.keep_up(stop) => bail!("the upkeep of metrics ended"),
        () = shown => Ok(()),
    }
}

/// Values and keys in memory must not reach a disk by way of a crash, nor be read by another process of this user.
fn no_core_dumps() -> anyhow::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("core dumps cannot be turned off")?;
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .context("the limit of core dumps cannot be set to 0")
}

fn single_threaded(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Cancelled by SIGTERM, as kubelet sends it, or by SIGINT, as a terminal does.
fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let cancel = shutdown.clone();
    // It ends with the runtime; nothing else waits for it.
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancel.cancel();
    });
    Ok(shutdown)
}

fn crds(args: &CrdsArgs) -> anyhow::Result<()> {
    let text = if args.chart {
        crd::chart_template()?
    } else if args.reference {
        crd::reference()
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
