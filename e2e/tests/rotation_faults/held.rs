//! One round: all secrets rotate at once, each held at a moment of its own; and what must be true when they have ended.
//! Must not cause what befalls them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tidelock_e2e::shop::{NAMESPACE, Shop, has_condition};

use super::tenant::{Moment, always_logged_in, forget, objects, said, set_gate};

/// Twelve pods of six containers each on a busy machine, twice.
pub const PATIENCE: Duration = Duration::from_secs(400);

/// A rotation that stands at its moment.
#[derive(Debug)]
pub struct Held {
    pub moment: Moment,
    pub name: String,
    /// The version that is being made.
    pub token: String,
    /// The version that was current before.
    pub old: String,
    known: BTreeSet<String>,
    /// `<namespace>/<name>` of the attempt that is held.
    pub job: String,
}

/// Lets all secrets rotate and waits until each is held, with all rotation pods on `node3`. Attempts that follow are not
/// held, and may run on any node.
pub async fn hold_all(shop: &Shop, round: &str) -> Vec<Held> {
    let before = objects(shop, "managedsecrets").await.unwrap();
    forget(shop).await;
    set_gate(shop, "hold").await;
    shop.cluster.kubectl(&["cordon", "node1", "node2"]).await.unwrap();
    let annotation = format!("tidelock.dev/rotate={round}");
    let words = ["-n", NAMESPACE, "annotate", "managedsecret", "--all", "--overwrite", &annotation];
    shop.cluster.kubectl(&words).await.unwrap();
    let all_here = async || {
        let said = said(shop).await;
        Moment::all().all(|moment| said.contains(&format!("here-{}", moment.secret()))).then_some(())
    };
    shop.cluster.wait_for("each rotation to be held at its moment", PATIENCE, all_here).await.unwrap();
    set_gate(shop, "later").await;
    shop.cluster.kubectl(&["uncordon", "node1", "node2"]).await.unwrap();
    let shown = async || {
        let schedules = objects(shop, "rotationschedules").await?;
        Moment::all().map(|moment| of(moment, &before, &schedules)).collect::<Option<Vec<_>>>()
    };
    let held = shop.cluster.wait_for("the schedules to show what they do", PATIENCE, shown).await.unwrap();
    let now = objects(shop, "managedsecrets").await.unwrap();
    for one in &held {
        let current = if one.moment.is_promoted() { &one.token } else { &one.old };
        assert_eq!(now[&one.name]["status"]["currentVersion"], **current, "{round}: {}", one.name);
    }
    held
}

fn of(
    moment: Moment,
    secrets: &BTreeMap<String, Value>,
    schedules: &BTreeMap<String, Value>,
) -> Option<Held> {
    let name = moment.secret();
    let status = &secrets[&name]["status"];
    let progress = &schedules[&name]["status"]["inProgress"];
    Some(Held {
        moment,
        token: progress["versionId"].as_str()?.to_owned(),
        job: progress["job"].as_str()?.to_owned(),
        old: status["currentVersion"].as_str()?.to_owned(),
        known: versions(status),
        name,
    })
}

/// Waits until these rotations have ended well, each with the version that it had begun; nothing was lost, made twice or
/// left over, and the current password has logged in at every moment.
pub async fn all_end_well(shop: &Shop, held: &[Held]) {
    let mut left = String::new();
    let done = async || {
        let secrets = objects(shop, "managedsecrets").await?;
        let schedules = objects(shop, "rotationschedules").await?;
        let unfinished = held.iter().filter(|one| {
            let schedule = &schedules[&one.name]["status"];
            let rotated = has_condition(schedule, "Succeeded", "True") && schedule["inProgress"].is_null();
            !rotated || secrets[&one.name]["status"]["currentVersion"] != *one.token
        });
        left = unfinished.map(|one| format!("{}: {}\n", one.name, schedules[&one.name]["status"])).collect();
        left.is_empty().then_some(())
    };
    if let Err(late) = shop.cluster.wait_for("the rotations to end well", PATIENCE, done).await {
        panic!("{late}\nunfinished:\n{left}");
    }
    let secrets = objects(shop, "managedsecrets").await.unwrap();
    for one in held {
        let status = &secrets[&one.name]["status"];
        let made: Vec<String> = versions(status).difference(&one.known).cloned().collect();
        assert_eq!(
            made,
            std::slice::from_ref(&one.token),
            "{}: one rotation makes one version: {status}",
            one.name
        );
        assert_eq!(bearers(status, "AWSPREVIOUS"), std::slice::from_ref(&one.old), "{}: {status}", one.name);
        assert_eq!(bearers(status, "AWSPENDING"), std::slice::from_ref(&one.token), "{}: {status}", one.name);
    }
    no_job_is_orphaned(shop).await;
    always_logged_in(shop).await;
}

/// Every Job has ended, and each rotation pod belongs to a Job and has ended.
async fn no_job_is_orphaned(shop: &Shop) {
    let mut left = String::new();
    let none = async || {
        let jobs = objects(shop, "jobs").await?;
        let pods = objects(shop, "pods").await?;
        let active = jobs.values().filter(|job| job["status"]["active"].as_u64().unwrap_or(0) > 0);
        let rotating =
            pods.values().filter(|pod| !pod["metadata"]["labels"]["tidelock.dev/rotation"].is_null());
        let running = rotating.filter(|pod| {
            let job = pod["metadata"]["labels"]["batch.kubernetes.io/job-name"].as_str().unwrap_or_default();
            let ended = pod["status"]["phase"] == "Succeeded" || pod["status"]["phase"] == "Failed";
            !ended || !jobs.contains_key(job)
        });
        left = active.chain(running).map(|object| format!("{}\n", object["metadata"]["name"])).collect();
        left.is_empty().then_some(())
    };
    if let Err(late) =
        shop.cluster.wait_for("no Job and no rotation pod to be left over", PATIENCE, none).await
    {
        panic!("{late}\nleft over:\n{left}");
    }
}

/// Waits until each of these has been told in an event of its schedule.
pub async fn events_say(shop: &Shop, told: &[(&Held, String)]) {
    let mut missing = String::new();
    let all_told = async || {
        let events = objects(shop, "events").await?;
        let is_told = |(one, words): &&(&Held, String)| {
            events.values().any(|event| {
                event["involvedObject"]["name"] == *one.name
                    && event["message"].as_str().is_some_and(|message| message.contains(words.as_str()))
            })
        };
        missing = told
            .iter()
            .filter(|wanted| !is_told(wanted))
            .map(|(one, words)| format!("{}: {words}\n", one.name))
            .collect();
        missing.is_empty().then_some(())
    };
    if let Err(late) = shop.cluster.wait_for("events to tell what happened", PATIENCE, all_told).await {
        panic!("{late}\nmissing:\n{missing}");
    }
}

pub fn versions(status: &Value) -> BTreeSet<String> {
    let all = status["versions"].as_array().into_iter().flatten();
    all.filter_map(|version| Some(version["id"].as_str()?.to_owned())).collect()
}

fn bearers(status: &Value, stage: &str) -> Vec<String> {
    let all = status["versions"].as_array().into_iter().flatten();
    let bears =
        |version: &&Value| version["stages"].as_array().is_some_and(|stages| stages.contains(&json!(stage)));
    all.filter(bears).filter_map(|version| Some(version["id"].as_str()?.to_owned())).collect()
}
