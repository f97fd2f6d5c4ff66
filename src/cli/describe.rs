//! `tidelock describe`: all that is known of one secret. Shows metadata only.

use std::io::Write;

use clap::Args;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::connect::Cluster;
use super::{CliError, rotate, versions};
use crate::clock::{Clock, SystemClock};
use crate::crd::{ManagedSecret, RotationSchedule};

#[derive(Args, Debug)]
pub struct DescribeArgs {
    /// The name of the ManagedSecret.
    name: String,
}

const EVENTS_MAX: usize = 20;

pub async fn run(
    args: &DescribeArgs,
    cluster: &Cluster,
    out: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let secret = cluster.secret(&args.name).await?;
    let schedule = rotate::schedule_of(cluster, &args.name).await?;
    let events = events_of(cluster, &secret).await?;
    out.write_all(text(&secret, schedule.as_ref(), &events, SystemClock.now()).as_bytes())?;
    Ok(())
}

async fn events_of(cluster: &Cluster, secret: &ManagedSecret) -> Result<Vec<Event>, CliError> {
    let api: Api<Event> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let of = format!("involvedObject.uid={}", secret.uid().unwrap_or_default());
    let mut events = api.list(&ListParams::default().fields(&of)).await?.items;
    events.sort_by_key(|event| {
        event.last_timestamp.as_ref().map(|t| t.0).or(event.event_time.as_ref().map(|t| t.0))
    });
    let skip = events.len().saturating_sub(EVENTS_MAX);
    Ok(events.split_off(skip))
}

fn text(
    secret: &ManagedSecret,
    schedule: Option<&RotationSchedule>,
    events: &[Event],
    now: jiff::Timestamp,
) -> String {
    let status = secret.status.clone().unwrap_or_default();
    let mut lines = vec![
        field("Name", &secret.name_any()),
        field("Namespace", &secret.namespace().unwrap_or_default()),
        field("ARN", status.arn.as_deref().unwrap_or("-")),
    ];
    if let Some(effective) = &status.effective {
        lines.push(field("API name", &effective.name));
        lines.push(field("Value from", &effective.value));
        lines.push(field("Recovery", &format!("{} days", effective.recovery_window_days)));
        for grant in &effective.access {
            let keys = grant.keys.as_ref().map_or("whole value".to_owned(), |keys| keys.join(", "));
            lines.push(field(
                "Access",
                &format!("{}: {keys} of {}", grant.service_account, grant.stages.join(", ")),
            ));
        }
    }
    if let Some(consumers) = &status.consumers {
        let counts = format!(
            "{} in all: {} current, {} stale, {} unknown",
            consumers.total, consumers.current, consumers.stale, consumers.unknown
        );
        lines.push(field("Consumers", &counts));
    }
    lines.push("Versions:".to_owned());
    let listed = versions::rows(&status.versions.unwrap_or_default(), now).to_string();
    lines.extend(listed.lines().map(|line| format!("  {}", line.trim_end())));
    lines.extend(rotation(schedule));
    lines.push("Conditions:".to_owned());
    lines.extend(status.conditions.unwrap_or_default().iter().map(condition));
    lines.push("Events:".to_owned());
    lines.extend(events.iter().map(event));
    lines.join("\n") + "\n"
}

fn field(name: &str, value: &str) -> String {
    format!("{:<13}{value}", format!("{name}:"))
}

fn rotation(schedule: Option<&RotationSchedule>) -> Vec<String> {
    let Some(schedule) = schedule else {
        return vec![field("Rotation", "none: no RotationSchedule names it")];
    };
    let status = schedule.status.clone().unwrap_or_default();
    let time = |time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
        time.map_or("-".to_owned(), |time| time.0.to_string())
    };
    let mut lines = vec![
        field("Rotation", &format!("by RotationSchedule {}", schedule.name_any())),
        field("  Last", &time(status.last_rotation)),
        field("  Next", &time(status.next_rotation)),
    ];
    if let Some(run) = status.in_progress {
        let step = run.step.unwrap_or_else(|| "waiting".to_owned());
        lines.push(field(
            "  Running",
            &format!("version {}, attempt {}, {step}", run.version_id, run.attempt),
        ));
    }
    lines
}

fn condition(condition: &Condition) -> String {
    format!("  {}={} ({}) {}", condition.type_, condition.status, condition.reason, condition.message)
}

fn event(event: &Event) -> String {
    let words = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("  {} {} {}", words(&event.type_), words(&event.reason), words(&event.message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{Consumers, ManagedSecretSpec, ManagedSecretStatus};

    #[test]
    fn a_description_tells_the_consumers_and_that_nothing_rotates_it() {
        let mut secret = ManagedSecret::new("orders-db", ManagedSecretSpec::default());
        let consumers = Consumers { total: 3, current: 2, stale: 1, unknown: 0, summary: None };
        secret.status = Some(ManagedSecretStatus { consumers: Some(consumers), ..Default::default() });
        let text = text(&secret, None, &[], jiff::Timestamp::UNIX_EPOCH);
        assert!(text.contains("3 in all: 2 current, 1 stale, 0 unknown"), "{text}");
        assert!(text.contains("no RotationSchedule names it"), "{text}");
    }
}
