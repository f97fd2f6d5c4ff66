//! `tidelock rotate`: asks for one rotation by a new token in the annotation, and waits until it has ended.
//! Must not rotate by itself: the server does, if the person may write that annotation.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::CliError;
use super::connect::Cluster;
use crate::crd::condition::SUCCEEDED;
use crate::crd::{ANNOTATION_ROTATE, RotationSchedule};

#[derive(Args, Debug)]
pub struct RotateArgs {
    /// The name of the ManagedSecret.
    name: String,
    /// Return at once instead of waiting for the end.
    #[arg(long)]
    no_wait: bool,
    /// How many seconds to wait for the end.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    timeout: u64,
}

const POLL: Duration = Duration::from_millis(500);

pub async fn run(
    args: &RotateArgs,
    cluster: &Cluster,
    progress: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let secret = cluster.secret(&args.name).await?;
    let before = secret.status.and_then(|status| status.current_version);
    if schedule_of(cluster, &args.name).await?.is_none() {
        return Err(CliError::Refused(format!(
            "no RotationSchedule in namespace {} names the secret {}: it says how to rotate it; apply one first",
            cluster.namespace, args.name
        )));
    }
    let token = uuid::Uuid::new_v4().to_string();
    let patch = json!({"metadata": {"annotations": {ANNOTATION_ROTATE: token}}});
    cluster.secrets().patch(&args.name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    writeln!(progress, "asked for a rotation of {}/{}", cluster.namespace, args.name)?;
    if args.no_wait {
        return Ok(());
    }
    let waiting = wait(args, cluster, before, progress);
    let late = |_| CliError::TimedOut { seconds: args.timeout, name: args.name.clone() };
    tokio::time::timeout(Duration::from_secs(args.timeout), waiting).await.map_err(late)?
}

async fn wait(
    args: &RotateArgs,
    cluster: &Cluster,
    before: Option<String>,
    progress: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let mut said = String::new();
    let mut began = false;
    loop {
        let secret = cluster.secret(&args.name).await?;
        let status = secret.status.unwrap_or_default();
        let schedule = schedule_of(cluster, &args.name).await?;
        let running = schedule.as_ref().and_then(|s| s.status.as_ref()).and_then(|s| s.in_progress.as_ref());
        let now = match running {
            Some(run) => format!(
                "version {}, attempt {}, {}",
                run.version_id,
                run.attempt,
                run.step.as_deref().unwrap_or("waiting for its pod")
            ),
            None => "waiting for the server".to_owned(),
        };
        if status.current_version != before && running.is_none() {
            let version = status.current_version.unwrap_or_default();
            writeln!(progress, "rotated: version {version} is AWSCURRENT")?;
            return Ok(());
        }
        began |= running.is_some();
        if began
            && running.is_none()
            && let Some(why) = schedule.as_ref().and_then(failure)
        {
            return Err(CliError::Refused(format!("not rotated: {why}")));
        }
        if said != now {
            writeln!(progress, "{now}")?;
            said = now;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Why the rotation that ran last came to nothing.
fn failure(schedule: &RotationSchedule) -> Option<String> {
    let conditions = schedule.status.as_ref()?.conditions.as_ref()?;
    let succeeded = conditions.iter().find(|condition| condition.type_ == SUCCEEDED)?;
    (succeeded.status == "False").then(|| succeeded.message.clone())
}

pub async fn schedule_of(cluster: &Cluster, secret: &str) -> Result<Option<RotationSchedule>, CliError> {
    let list = cluster.schedules().list(&kube::api::ListParams::default()).await?;
    let mut schedules = list.items.into_iter().map(|read| read.object);
    Ok(schedules.find(|schedule| schedule.spec.secret == secret))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ended(status: &str) -> RotationSchedule {
        let message =
            "attempt 4 (Job shop/orders-db-1-4) failed: set ended with exit code 1; no retry is left";
        serde_json::from_value(json!({
            "apiVersion": "tidelock.dev/v1alpha1", "kind": "RotationSchedule", "metadata": {"name": "orders-db"},
            "spec": {"secret": "orders-db", "schedule": "rate(1 day)", "rotator": {"generate": {}}},
            "status": {"conditions": [{
                "type": "Succeeded", "status": status, "reason": "RotationFailed", "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]},
        }))
        .unwrap()
    }

    #[test]
    fn a_rotation_that_came_to_nothing_is_told_in_the_words_of_its_schedule() {
        let why = failure(&ended("False")).unwrap();
        assert!(why.contains("set ended with exit code 1"), "{why}");
        assert_eq!(failure(&ended("Unknown")), None, "one that still runs has not failed");
        assert_eq!(failure(&ended("True")), None);
    }
}
