//! A RotationSchedule in the hands of somebody who never stops editing it, and now and then makes it anew: nothing is
//! lost, nothing is made that was not asked for, and the server does no more than the edits are worth.

use std::time::Instant;

use super::*;

const RESTLESS: &str = "restless";
const EDITS: usize = 120;
/// From time to time the schedule is deleted and made again, which asks for a rotation at once each time.
const MADE_ANEW_EVERY: usize = 40;
/// What an edit costs the API server: the editor's own two requests, and a look at the rotation and its Job.
const REQUESTS_PER_EDIT_MAX: u64 = 40;
const GROWTH_MIB_MAX: u64 = 24;

pub async fn an_editor_who_never_stops_loses_nothing_and_gets_no_rotation_twice(
    shop: &Shop,
    operator: &Caller,
) {
    shop.login(RESTLESS).await.unwrap();
    shop.status_is(RESTLESS, "a version", |s| s["currentVersion"].is_string()).await.unwrap();
    let reader = Caller::of_api(shop, RESTLESS).await.unwrap();
    let first = stored(operator).await;
    let (memory, requests, began) = (memory(shop), requests(shop).await, Instant::now());
    let mut made_anew = 0;
    for number in 0..EDITS {
        if number.is_multiple_of(MADE_ANEW_EVERY) {
            remove(shop).await;
            made_anew += 1;
        }
        shop.apply(&[edited(number)]).await.unwrap();
        assert_eq!(reader.reveals(&format!("{NAMESPACE}/{RESTLESS}")).await.unwrap().0, 200, "edit {number}");
        one_bearer_of_each_stage(&described(operator, RESTLESS).await);
    }
    let (seconds, requests) = (began.elapsed().as_secs_f32(), self::requests(shop).await - requests);
    let grown = self::memory(shop).saturating_sub(memory);
    comes_to_rest(shop).await;

    let made: BTreeSet<String> = stored(operator).await.difference(&first).cloned().collect();
    assert_eq!(told(shop).await, made, "each new version has its event, and each event its version");
    assert!((1..=made_anew).contains(&made.len()), "{} rotations of {made_anew} schedules", made.len());
    assert!(grown <= GROWTH_MIB_MAX, "the server grew by {grown} MiB");
    assert!(requests <= REQUESTS_PER_EDIT_MAX * EDITS as u64, "{requests} requests for {EDITS} edits");

    let before = current(shop, RESTLESS).await;
    shop.rotate(RESTLESS, "after-the-edits").await.unwrap();
    shop.status_is(RESTLESS, "another version", |s| s["currentVersion"] != before.as_str()).await.unwrap();
    schedule_is(shop, RESTLESS, "that it rotated", |s| said(s, "Succeeded", ("True", "RotationSucceeded")))
        .await;
    one_bearer_of_each_stage(&described(operator, RESTLESS).await);
    no_job_runs(shop).await;
    println!(
        "fault: schedule edited {EDITS} times in {seconds:.0} s, made anew {made_anew} times | rotating meanwhile | current \
         always read, {} rotations, each told, {} requests an edit, server {grown} MiB larger; then one clean rotation",
        made.len(),
        requests / EDITS as u64
    );
}

/// The schedule as it is after so many edits: each field has a rhythm of its own.
fn edited(number: usize) -> Value {
    let pick = |all: &[Value]| all[number % all.len()].clone();
    let spec = json!({
        "secret": RESTLESS,
        "rotator": {"generate": {}},
        // As it is made it asks for a rotation, and never again until it is made anew.
        "rotateImmediately": number.is_multiple_of(2),
        "suspend": pick(&[json!(false), json!(false), json!(true)]),
        "schedule": pick(&[json!("rate(30 days)"), json!("rate(365 days)"), json!("rate(60 days)"), json!("rate(90 days)")]),
        // One of them is no zone, which no schema can know.
        "timeZone": pick(&[json!("UTC"), json!("Europe/Berlin"), json!("UTC"), json!("UTC"), json!("Nowhere/Town")]),
        "window": pick(&[json!("2h"), json!("3h"), json!("4h"), json!("5h"), json!("6h"), json!("7h"), json!("8h")]),
        "retries": {"limit": 5, "backoff": {"min": "1s", "max": format!("{}s", 2 + number % 9)}},
    });
    json!({"apiVersion": "tidelock.dev/v1alpha1", "kind": "RotationSchedule",
        "metadata": {"name": RESTLESS, "namespace": NAMESPACE}, "spec": spec})
}

async fn remove(shop: &Shop) {
    let words = ["-n", NAMESPACE, "delete", "rotationschedule", RESTLESS, "--ignore-not-found"];
    shop.cluster.kubectl(&words).await.unwrap();
}

/// The last word: whatever has begun ends by itself.
async fn comes_to_rest(shop: &Shop) {
    let quiet = json!({"rotateImmediately": false, "suspend": false, "timeZone": "UTC", "schedule": "rate(365 days)"});
    patch(shop, RESTLESS, quiet).await;
    let rests = |s: &Value| {
        said(s, "Ready", ("True", "Scheduled"))
            && said(s, "Rotating", ("False", "Idle"))
            && s["inProgress"].is_null()
    };
    schedule_is(shop, RESTLESS, "that it rests", rests).await;
    no_job_runs(shop).await;
}

/// Every Job of the schedule has ended, and every pod of one belongs to a Job that is there.
async fn no_job_runs(shop: &Shop) {
    let mut left = String::new();
    let none = async || {
        let jobs = jobs_of(shop, RESTLESS).await;
        left = jobs
            .iter()
            .filter(|job| job["status"]["active"].as_u64().unwrap_or(0) > 0)
            .map(Value::to_string)
            .collect();
        let names: BTreeSet<&str> = jobs.iter().filter_map(|job| job["metadata"]["name"].as_str()).collect();
        let words = ["get", "pods", "-A", "-l", "tidelock.dev/rotation", "-o", "json"];
        let pods: Value = serde_json::from_str(&shop.cluster.kubectl(&words).await.ok()?).ok()?;
        for pod in pods["items"].as_array()? {
            let metadata = &pod["metadata"];
            let ours = metadata["annotations"]["tidelock.dev/schedule"] == format!("{NAMESPACE}/{RESTLESS}");
            let job = metadata["labels"]["batch.kubernetes.io/job-name"].as_str().unwrap_or_default();
            if ours && !names.contains(job) {
                left.push_str(&metadata.to_string());
            }
        }
        left.is_empty().then_some(())
    };
    if let Err(late) =
        shop.cluster.wait_for("the Jobs of the edited schedule to end", shop::PATIENCE, none).await
    {
        panic!("{late}\nleft: {left}");
    }
}

/// AWSCURRENT is somewhere, and neither it nor AWSPENDING is on two versions.
fn one_bearer_of_each_stage(described: &Value) {
    let stages = described["VersionIdsToStages"].as_object().unwrap();
    let bearers = |stage: &str| {
        let bears = |all: &&Value| all.as_array().is_some_and(|all| all.iter().any(|found| found == stage));
        stages.values().filter(bears).count()
    };
    assert!(bearers("AWSCURRENT") == 1 && bearers("AWSPENDING") <= 1, "{stages:?}");
}

/// All versions that the store has, also those without a stage.
async fn stored(operator: &Caller) -> BTreeSet<String> {
    let request = json!({"SecretId": format!("{NAMESPACE}/{RESTLESS}"), "IncludeDeprecated": true});
    let (status, body) = operator.call("ListSecretVersionIds", request).await.unwrap();
    assert_eq!(status, 200, "{body}");
    let all = body["Versions"].as_array().unwrap().iter();
    all.map(|version| version["VersionId"].as_str().unwrap().to_owned()).collect()
}

/// The versions whose rotation an event said to begin.
async fn told(shop: &Shop) -> BTreeSet<String> {
    let events = shop.cluster.events(NAMESPACE, RESTLESS).await.unwrap();
    let begun =
        events.lines().filter_map(|line| line.split_once("rotation to version ")?.1.split_once(" begins"));
    begun.map(|(version, _)| version.to_owned()).collect()
}

/// What the server's process has for itself, in MiB.
fn memory(shop: &Shop) -> u64 {
    server(shop, "tidelock-server-0").memory().unwrap().anonymous / (1024 * 1024)
}

/// Requests for our objects and for Jobs, whoever made them. A watch is one, however long it lasts.
async fn requests(shop: &Shop) -> u64 {
    let page = shop.cluster.kubectl(&["get", "--raw", "/metrics"]).await.unwrap();
    let counted =
        page.lines().filter_map(|line| line.strip_prefix("apiserver_request_total{")?.rsplit_once("} "));
    let ours = counted.filter(|(labels, _)| {
        ["group=\"tidelock.dev\"", "group=\"batch\""].iter().any(|group| labels.contains(group))
    });
    ours.filter_map(|(_, count)| count.parse::<f64>().ok()).sum::<f64>() as u64
}
