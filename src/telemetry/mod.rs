//! What operators see of a running process: logs, metrics, readiness.
//! Must not see a value: nothing that is passed here may hold one.

mod readiness;

use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing::dispatcher::SetGlobalDefaultError;
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;

pub use readiness::{Component, Readiness, Unready};

/// The recorder keeps every sample until somebody sorts it in.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

const SECONDS_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error(
        "`{0}` does not say what to log; write error, warn, info, debug or trace, or targets with levels, as in info,tidelock::node=debug"
    )]
    Filter(String),
    #[error("another log is installed already: {0}")]
    Log(#[from] SetGlobalDefaultError),
    #[error("the recorder of metrics cannot be installed: {0}")]
    Metrics(#[from] BuildError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, for collectors.
    Json,
    /// For a terminal.
    Plain,
}

/// What is logged: `debug`, or `info,tidelock::node=debug`. What is asked for holds for our own lines; those of
/// libraries are never below info: at debug and trace they print headers, and with them tokens.
#[derive(Debug, Clone)]
pub struct LogFilter(Targets);

impl FromStr for LogFilter {
    type Err = TelemetryError;

    fn from_str(text: &str) -> Result<LogFilter, TelemetryError> {
        let asked: Targets = text.parse().map_err(|_| TelemetryError::Filter(text.to_owned()))?;
        let level = asked.default_level().unwrap_or(LevelFilter::OFF);
        let mut filter =
            Targets::new().with_default(level.min(LevelFilter::INFO)).with_target("tidelock", level);
        for (target, level) in asked {
            let is_ours = target == "tidelock" || target.starts_with("tidelock::");
            filter = filter.with_target(target, if is_ours { level } else { level.min(LevelFilter::INFO) });
        }
        Ok(LogFilter(filter))
    }
}

/// Changes the filter of a log that is being written.
#[derive(Clone)]
pub struct LogLevel(Arc<dyn Fn(LogFilter) + Send + Sync>);

impl LogLevel {
    pub fn set(&self, filter: LogFilter) {
        (self.0)(filter);
    }
}

/// Starts the log of this process, on standard error.
pub fn start_log(format: LogFormat, filter: LogFilter) -> Result<LogLevel, TelemetryError> {
    let (log, level) = log(format, filter, io::stderr);
    tracing::dispatcher::set_global_default(log)?;
    Ok(level)
}

fn log<W>(format: LogFormat, filter: LogFilter, writer: W) -> (Dispatch, LogLevel)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter.0);
    // The log may be gone by the time somebody turns it up.
    let set = move |filter: LogFilter| drop(handle.reload(filter.0));
    let registry = tracing_subscriber::registry().with(filter);
    let written = tracing_subscriber::fmt::layer().with_writer(writer);
    let log = match format {
        LogFormat::Json => dispatch(registry.with(written.json().flatten_event(true))),
        LogFormat::Plain => dispatch(registry.with(written.with_ansi(false).compact())),
    };
    (log, LogLevel(Arc::new(set)))
}

fn dispatch(log: impl Subscriber + Send + Sync) -> Dispatch {
    Dispatch::new(log)
}

/// The metrics of this process.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Installs the recorder that `metrics::counter!` and its kin write to; once per process.
    pub fn install() -> Result<Metrics, TelemetryError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)?
            .install_recorder()?;
        Ok(Metrics(recorder))
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Keeps the memory of histograms bounded, also when nobody asks for metrics. Runs until `shutdown`.
    pub async fn keep_up(self, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(UPKEEP_INTERVAL)).await.is_some() {
            self.0.run_upkeep();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn writing(format: LogFormat, filter: &str, act: impl FnOnce(&LogLevel)) -> String {
        let written = Written::default();
        let make = {
            let written = written.clone();
            move || written.clone()
        };
        let (log, level) = log(format, filter.parse().unwrap(), make);
        tracing::dispatcher::with_default(&log, || act(&level));
        written.text()
    }

    #[test]
    fn libraries_stay_at_info_when_our_own_lines_are_turned_up_to_trace() {
        let text = writing(LogFormat::Plain, "trace,h2=trace", |_| {
            tracing::trace!(target: "tidelock::keeper", "ours in detail");
            tracing::debug!(target: "h2::codec", "authorization: Bearer canary");
            tracing::info!(target: "kube_client", "theirs in short");
        });
        assert!(text.contains("ours in detail") && text.contains("theirs in short"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }

    #[test]
    fn the_level_changes_while_the_log_is_written() {
        let text = writing(LogFormat::Plain, "warn", |level| {
            tracing::info!(target: "tidelock", "before");
            level.set("info,tidelock=debug".parse().unwrap());
            tracing::debug!(target: "tidelock", "after");
        });
        assert!(!text.contains("before") && text.contains("after"), "{text}");
    }

    #[test]
    fn a_filter_that_says_nothing_is_refused_with_what_is_right() {
        let error = "tidelock=loud".parse::<LogFilter>().unwrap_err().to_string();
        assert!(error.contains("write error, warn, info, debug or trace"), "{error}");
    }

    #[test]
    fn json_lines_carry_fields_and_message_side_by_side() {
        let text = writing(LogFormat::Json, "info", |_| {
            tracing::info!(target: "tidelock", namespace = "shop", "secret created");
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["message"], &line["namespace"]), (&"secret created".into(), &"shop".into()));
    }

    #[tokio::test]
    async fn metrics_are_rendered_with_buckets_for_seconds() {
        let metrics = Metrics::install().unwrap();
        metrics::histogram!("tidelock_test_seconds").record(Duration::from_millis(3));
        let shutdown = CancellationToken::new();
        let upkeep = tokio::spawn(metrics.clone().keep_up(shutdown.clone()));
        let page = metrics.render();
        assert!(page.contains("tidelock_test_seconds_bucket{le=\"0.005\"} 1"), "{page}");
        shutdown.cancel();
        upkeep.await.unwrap();
    }
}
