//! Rotation on a real cluster: the sample with a container of one's own, and what goes wrong on its way. One cluster
//! serves all scenarios, one after the other.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "a row of the table of faults that the test run ends with")]

mod edits;
mod tested;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tidelock_e2e::caller::Caller;
use tidelock_e2e::shop::{self, NAMESPACE, Shop};
use tidelock_e2e::{Process, images, install};

const REPORTS: &str = "reports-token";
const TOKEN_FILE: &str = "/run/tidelock/reports-token/value";
const SAMPLES: [&str; 2] = [
    include_str!("../../../config/samples/reports-token.yaml"),
    include_str!("../../../config/samples/reports.yaml"),
];
/// The sample's rotator, which waits in setSecret until somebody lets it go on.
const HELD: &str =
    "[ $TIDELOCK_STEP != setSecret ] || until [ -e /tmp/go ]; do sleep 1; done; exec sh /rotator/rotate.sh";

#[tokio::test(flavor = "multi_thread")]
async fn rotations_end_well_whatever_befalls_them() {
    let shop = Shop::open(1).await.unwrap();
    apply_samples(&shop).await;
    let operator = operator(&shop).await;
    wait_for_a_value(&shop).await;
    let target = target(&shop).await;
    the_sample_runs_its_four_steps(&shop, &target).await;
    tested::a_rotator_is_tested_without_a_rotation(&shop, &operator, &target).await;
    a_secret_of_the_api_is_rotated_by_a_registered_rotator(&shop, &operator).await;
    a_caller_begins_what_a_schedule_describes(&shop, &operator).await;
    a_failed_attempt_is_made_again_under_its_token(&shop, &target).await;
    used_up_retries_are_a_failure_that_a_request_resumes(&shop, &target).await;
    a_value_that_comes_late_lets_the_schedule_go_on(&shop, &operator).await;
    a_suspended_schedule_waits_and_rotates_at_once_when_it_may(&shop).await;
    a_schedule_deleted_in_the_middle_leaves_no_job_and_resumes_under_its_token(&shop, &operator).await;
    edits::an_editor_who_never_stops_loses_nothing_and_gets_no_rotation_twice(&shop, &operator).await;
    hold(&shop).await;
    a_value_written_by_hand_ends_a_rotation(&shop, &operator).await;
    a_killed_server_ends_the_rotation_that_it_began(&shop).await;
    old_jobs_are_cleared_away(&shop).await;
    a_paused_leader_changes_nothing_when_it_goes_on(&shop, &operator).await;
}

/// As in the README, but for the image: no registry can be reached here.
async fn apply_samples(shop: &Shop) {
    let busybox = images::busybox().await.unwrap().name();
    let folder = tempfile::tempdir().unwrap();
    for (number, sample) in SAMPLES.iter().enumerate() {
        let file = folder.path().join(format!("{number}.yaml"));
        std::fs::write(&file, sample.replace("busybox:1.37", &busybox)).unwrap();
        shop.cluster.kubectl(&["apply", "-f", &file.display().to_string()]).await.unwrap();
    }
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "orders-api", "namespace": NAMESPACE}});
    shop.apply(&[account, shop.pod("app", REPORTS, "orders-api", json!({}))]).await.unwrap();
}

/// Somebody who may write values, and read what is known of them.
async fn operator(shop: &Shop) -> Caller {
    let more = [
        json!({"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets"], "verbs": ["get", "create"]}),
        json!({"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets/rotation"], "verbs": ["rotate", "cancel"]}),
    ];
    Caller::operator(shop, &more).await.unwrap()
}

async fn put(operator: &Caller, secret: &str, number: u32) -> String {
    let token = format!("00000000-0000-0000-0000-{number:012}");
    let request =
        json!({"SecretId": format!("shop/{secret}"), "ClientRequestToken": token, "SecretString": "by hand"});
    let (status, body) = operator.call("PutSecretValue", request).await.unwrap();
    assert_eq!(status, 200, "{body}");
    token
}

async fn described(operator: &Caller, secret: &str) -> Value {
    let request = json!({"SecretId": format!("shop/{secret}")});
    let (status, body) = operator.call("DescribeSecret", request).await.unwrap();
    assert_eq!(status, 200, "{body}");
    body
}

async fn schedule(shop: &Shop, name: &str) -> Option<Value> {
    let arguments = ["-n", NAMESPACE, "get", "rotationschedule", name, "-o", "json"];
    serde_json::from_str(&shop.cluster.kubectl(&arguments).await.ok()?).ok()
}

/// Waits until a schedule's status is as wanted.
async fn schedule_is(shop: &Shop, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let what = format!("the RotationSchedule {name} to say {what}");
    let found = shop.cluster.wait_for(&what, shop::PATIENCE, async || {
        let found = schedule(shop, name).await?;
        let current = found["status"]["conditions"].as_array().into_iter().flatten().all(|condition| {
            condition["type"] != "Ready" || condition["observedGeneration"] == found["metadata"]["generation"]
        });
        Some(found["status"].clone()).filter(|status| current && wanted(status))
    });
    match found.await {
        Ok(status) => status,
        Err(error) => panic!("{error:#}\n{:#}", schedule(shop, name).await.unwrap_or_default()),
    }
}

/// The condition of this type, as status and reason.
fn says(status: &Value, kind: &str) -> (String, String) {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let found = conditions.find(|condition| condition["type"] == kind).cloned().unwrap_or_default();
    let text = |member: &str| found[member].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

fn said(status: &Value, kind: &str, wanted: (&str, &str)) -> bool {
    let (found, reason) = says(status, kind);
    (found.as_str(), reason.as_str()) == wanted
}

async fn patch(shop: &Shop, name: &str, spec: Value) {
    let patch = json!({"spec": spec}).to_string();
    let arguments = ["-n", NAMESPACE, "patch", "rotationschedule", name, "--type=merge", "-p", &patch];
    shop.cluster.kubectl(&arguments).await.unwrap();
}

async fn event_says(shop: &Shop, ns: &str, object: &str, words: &str) {
    let what = format!("an event about {object} to say `{words}`");
    let heard =
        async || shop.cluster.events(ns, object).await.ok().filter(|all| all.contains(words)).map(drop);
    shop.cluster.wait_for(&what, shop::PATIENCE, heard).await.unwrap();
}

async fn current(shop: &Shop, secret: &str) -> String {
    shop.status(secret).await.unwrap()["currentVersion"].as_str().unwrap_or_default().to_owned()
}

/// Waits until a secret's current version is this one.
async fn becomes_current(shop: &Shop, secret: &str, version: &str) {
    shop.status_is(secret, &format!("that {version} is current"), |s| s["currentVersion"] == version)
        .await
        .unwrap();
}

fn versions(status: &Value) -> BTreeSet<String> {
    let all = status["versions"].as_array().into_iter().flatten();
    all.map(|version| version["id"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The Jobs that rotate one of the shop's secrets, wherever they run: names with namespaces.
async fn jobs_of(shop: &Shop, schedule: &str) -> Vec<Value> {
    let arguments = ["get", "jobs", "-A", "-l", "tidelock.dev/rotation", "-o", "json"];
    let list: Value = serde_json::from_str(&shop.cluster.kubectl(&arguments).await.unwrap()).unwrap();
    let of = format!("{NAMESPACE}/{schedule}");
    let all = list["items"].as_array().cloned().unwrap_or_default();
    all.into_iter().filter(|job| job["metadata"]["annotations"]["tidelock.dev/schedule"] == of).collect()
}

/// The stand-in's pod.
async fn target(shop: &Shop) -> String {
    let arguments = ["-n", NAMESPACE, "rollout", "status", "deployment/reports", "--timeout=100s"];
    shop.cluster.kubectl(&arguments).await.unwrap();
    let arguments =
        ["-n", NAMESPACE, "get", "pods", "-l", "app=reports", "-o", "jsonpath={.items[0].metadata.name}"];
    shop.cluster.kubectl(&arguments).await.unwrap()
}

async fn at_target(shop: &Shop, target: &str, script: &str) -> String {
    let output = shop.cluster.exec(NAMESPACE, target, None, &["sh", "-c", script]).await.unwrap();
    assert!(output.success, "{script}: {}", output.stderr);
    output.stdout
}

async fn break_target(shop: &Shop, target: &str) {
    at_target(shop, target, "mv /data/token /data/kept && mkdir /data/token").await;
}

async fn mend_target(shop: &Shop, target: &str) {
    at_target(shop, target, "rmdir /data/token && mv /data/kept /data/token").await;
}

async fn the_sample_runs_its_four_steps(shop: &Shop, target: &str) {
    shop.running("app").await.unwrap();
    let (old_version, old) = (current(shop, REPORTS).await, shop.file("app", TOKEN_FILE).await.unwrap());
    shop.rotate(REPORTS, "first").await.unwrap();
    let new = shop.changed("app", TOKEN_FILE, &old, shop::PATIENCE).await.unwrap();
    let succeeded = ("True", "RotationSucceeded");
    schedule_is(shop, REPORTS, "that it rotated", |s| said(s, "Succeeded", succeeded)).await;
    assert_eq!(at_target(shop, target, "cat /data/token").await, format!("token={new}"));
    let version = current(shop, REPORTS).await;
    let status = shop.status(REPORTS).await.unwrap();
    let stages = |id: &str| {
        let mut all = status["versions"].as_array().unwrap().iter();
        all.find(|version| version["id"] == id).unwrap()["stages"].clone()
    };
    // As AWS leaves it: AWSPENDING stays on the version that was promoted.
    assert_eq!(stages(&version), json!(["AWSCURRENT", "AWSPENDING"]));
    assert_eq!(stages(&old_version), json!(["AWSPREVIOUS"]));
    let [job] = &jobs_of(shop, REPORTS).await[..] else { panic!("one attempt is one Job") };
    let pods = pods_of(shop, job["metadata"]["name"].as_str().unwrap()).await;
    let [pod] = &pods[..] else { panic!("one attempt is one pod") };
    let ended = pod["status"]["initContainerStatuses"].as_array().unwrap().iter();
    let ended = ended.filter(|status| status["state"]["terminated"]["exitCode"] == 0);
    let names: Vec<_> = ended.map(|status| status["name"].as_str().unwrap()).collect();
    for step in ["create-secret", "set-secret", "test-secret", "finish-secret"] {
        assert!(names.contains(&step), "{step} is not among {names:?}");
    }
}

/// A call that is refused: its error's type and words.
async fn refused(operator: &Caller, operation: &str, request: Value) -> (String, String) {
    let (status, body) = operator.call(operation, request).await.unwrap();
    assert_eq!(status, 400, "{body}");
    let text = |member: &str| body[member].as_str().unwrap_or_default().to_owned();
    (text("__type"), text("Message"))
}

async fn a_secret_of_the_api_is_rotated_by_a_registered_rotator(shop: &Shop, operator: &Caller) {
    let call = async |operation: &str, request: Value| {
        let (status, body) = operator.call(operation, request).await.unwrap();
        assert_eq!(status, 200, "{operation}: {body}");
        body
    };
    let (first, second) = ("00000000-0000-0000-0001-000000000001", "00000000-0000-0000-0001-000000000002");
    let value = json!({"user": "orders", "password": "old"}).to_string();
    let made = json!({"Name": "shop/by-api", "ClientRequestToken": first, "SecretString": value});
    call("CreateSecret", made).await;
    let function = |name: &str| format!("arn:aws:lambda:local-1:000000000000:function:{name}");
    let rotate = |name: &str| {
        json!({"SecretId": "shop/by-api", "ClientRequestToken": second, "RotationLambdaARN": function(name),
               "RotationRules": {"AutomaticallyAfterDays": 30}})
    };
    let (kind, words) = refused(operator, "RotateSecret", rotate("nobody")).await;
    assert!(kind == "AccessDeniedException" && words.contains("cannot invoke"), "{kind}: {words}");
    assert_eq!(call("RotateSecret", rotate("generate")).await["VersionId"], second);
    let done = async || {
        let found = described(operator, "by-api").await;
        found["VersionIdsToStages"][second].to_string().contains("AWSCURRENT").then_some(found)
    };
    let what = "the API's secret to be rotated";
    let found = shop.cluster.wait_for(what, shop::PATIENCE, done).await.unwrap();
    assert_eq!(found["VersionIdsToStages"][first], json!(["AWSPREVIOUS"]), "{found}");
    assert!(found["NextRotationDate"].is_number() && found["RotationLambdaARN"] == function("generate"));
    event_says(shop, NAMESPACE, NAMESPACE, "RotationSucceeded").await;
    call("CancelRotateSecret", json!({"SecretId": "shop/by-api"})).await;
    assert_eq!(described(operator, "by-api").await["RotationEnabled"], false);
}

async fn a_caller_begins_what_a_schedule_describes(shop: &Shop, operator: &Caller) {
    let token = "00000000-0000-0000-0001-000000000003";
    let mut request = json!({"SecretId": format!("shop/{REPORTS}"), "ClientRequestToken": token});
    let (status, body) = operator.call("RotateSecret", request.clone()).await.unwrap();
    assert_eq!((status, body["VersionId"].as_str()), (200, Some(token)), "{body}");
    becomes_current(shop, REPORTS, token).await;
    request["RotationLambdaARN"] = json!("generate");
    let (kind, words) = refused(operator, "RotateSecret", request).await;
    let named = format!("ManagedSecret shop/{REPORTS}");
    assert!(kind == "InvalidRequestException" && words.contains(&named), "{kind}: {words}");
    let ended = |s: &Value| said(s, "Succeeded", ("True", "RotationSucceeded"));
    schedule_is(shop, REPORTS, "that it rotated", ended).await;
}

async fn pods_of(shop: &Shop, job: &str) -> Vec<Value> {
    let label = format!("batch.kubernetes.io/job-name={job}");
    let arguments = ["get", "pods", "-A", "-l", &label, "-o", "json"];
    let list: Value = serde_json::from_str(&shop.cluster.kubectl(&arguments).await.unwrap()).unwrap();
    list["items"].as_array().cloned().unwrap_or_default()
}

async fn a_failed_attempt_is_made_again_under_its_token(shop: &Shop, target: &str) {
    let before = current(shop, REPORTS).await;
    break_target(shop, target).await;
    patch(shop, REPORTS, json!({"retries": {"limit": 1, "backoff": {"min": "5s", "max": "5s"}}})).await;
    shop.rotate(REPORTS, "second").await.unwrap();
    let retrying = ("True", "RotationRetrying");
    let waiting = schedule_is(shop, REPORTS, "that it tries again", |s| said(s, "Rotating", retrying)).await;
    assert!(said(&waiting, "Succeeded", ("False", "RotationRetrying")), "{waiting}");
    let token = waiting["inProgress"]["versionId"].as_str().unwrap().to_owned();
    assert_eq!(current(shop, REPORTS).await, before, "AWSCURRENT is untouched");
    mend_target(shop, target).await;
    event_says(shop, NAMESPACE, REPORTS, "setSecret ended with exit code 1; it is tried again").await;
    becomes_current(shop, REPORTS, &token).await;
    let done = ("True", "RotationSucceeded");
    schedule_is(shop, REPORTS, "that it rotated", |s| said(s, "Succeeded", done)).await;
}

async fn used_up_retries_are_a_failure_that_a_request_resumes(shop: &Shop, target: &str) {
    let before = shop.status(REPORTS).await.unwrap();
    break_target(shop, target).await;
    patch(shop, REPORTS, json!({"retries": {"limit": 0}})).await;
    shop.rotate(REPORTS, "third").await.unwrap();
    let failed = ("False", "RotationFailed");
    let status = schedule_is(shop, REPORTS, "that it failed", |s| said(s, "Succeeded", failed)).await;
    assert!(said(&status, "Rotating", ("False", "Idle")) && status["inProgress"].is_null(), "{status}");
    event_says(shop, NAMESPACE, REPORTS, "no retry is left").await;
    let after = shop.status(REPORTS).await.unwrap();
    assert_eq!(after["currentVersion"], before["currentVersion"], "AWSCURRENT is untouched");
    let made: Vec<_> = versions(&after).difference(&versions(&before)).cloned().collect();
    let [token] = &made[..] else { panic!("one rotation makes one version: {made:?}") };
    mend_target(shop, target).await;
    shop.rotate(REPORTS, "fourth").await.unwrap();
    becomes_current(shop, REPORTS, token).await;
    schedule_is(shop, REPORTS, "that it rotated", |s| said(s, "Succeeded", ("True", "RotationSucceeded")))
        .await;
}

/// A secret that has no value yet, with a schedule that would rotate at once.
async fn wait_for_a_value(shop: &Shop) {
    let metadata = json!({"name": "partner", "namespace": NAMESPACE});
    let mut rotator = schedule(shop, REPORTS).await.unwrap()["spec"]["rotator"].clone();
    rotator["job"]["command"] = json!(["sh", "-c", "sleep 600"]);
    let spec = json!({"secret": "partner", "schedule": "rate(30 days)", "rotateImmediately": true, "rotator": rotator});
    shop.apply(&[
        json!({"apiVersion": "tidelock.dev/v1alpha1", "kind": "ManagedSecret", "metadata": metadata, "spec": {"value": {"external": {}}}}),
        json!({"apiVersion": "tidelock.dev/v1alpha1", "kind": "RotationSchedule", "metadata": metadata, "spec": spec}),
    ])
    .await
    .unwrap();
}

async fn a_value_that_comes_late_lets_the_schedule_go_on(shop: &Shop, operator: &Caller) {
    let waits = ("False", "WaitingForValue");
    schedule_is(shop, "partner", "that it waits for a value", |s| said(s, "Ready", waits)).await;
    event_says(shop, NAMESPACE, "partner", "write it with PutSecretValue").await;
    assert_eq!(jobs_of(shop, "partner").await.len(), 0);
    put(operator, "partner", 1).await;
    let goes_on = |s: &Value| said(s, "Ready", ("True", "Scheduled")) && s["inProgress"]["job"].is_string();
    schedule_is(shop, "partner", "that it rotates", goes_on).await;
    // A user's Job goes with its schedule.
    shop.cluster.kubectl(&["-n", NAMESPACE, "delete", "rotationschedule", "partner"]).await.unwrap();
    no_job_is_left(shop, "partner").await;
}

async fn no_job_is_left(shop: &Shop, schedule: &str) {
    let gone = async || jobs_of(shop, schedule).await.is_empty().then_some(());
    shop.cluster.wait_for(&format!("the Jobs of {schedule} to go"), shop::PATIENCE, gone).await.unwrap();
}

fn generated(more: Value) -> Value {
    let mut spec = json!({"secret": "billing", "schedule": "rate(30 days)", "rotator": {"generate": {}}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"apiVersion": "tidelock.dev/v1alpha1", "kind": "RotationSchedule",
        "metadata": {"name": "billing", "namespace": NAMESPACE}, "spec": spec})
}

async fn a_suspended_schedule_waits_and_rotates_at_once_when_it_may(shop: &Shop) {
    shop.login("billing").await.unwrap();
    shop.status_is("billing", "a version", |s| s["currentVersion"].is_string()).await.unwrap();
    let before = current(shop, "billing").await;
    shop.apply(&[generated(json!({"suspend": true, "rotateImmediately": true}))]).await.unwrap();
    let suspended = ("True", "Suspended");
    let status = schedule_is(shop, "billing", "that it is suspended", |s| said(s, "Ready", suspended)).await;
    assert!(status["nextRotation"].is_null() && status["inProgress"].is_null(), "{status}");
    assert!(said(&status, "Succeeded", ("Unknown", "NeverRotated")), "{status}");
    assert_eq!((jobs_of(shop, "billing").await.len(), current(shop, "billing").await), (0, before.clone()));
    patch(shop, "billing", json!({"suspend": false})).await;
    schedule_is(shop, "billing", "that it rotated", |s| said(s, "Succeeded", ("True", "RotationSucceeded")))
        .await;
    shop.status_is("billing", "another version", |s| s["currentVersion"] != before.as_str()).await.unwrap();
}

async fn a_schedule_deleted_in_the_middle_leaves_no_job_and_resumes_under_its_token(
    shop: &Shop,
    operator: &Caller,
) {
    assert_eq!(described(operator, "billing").await["RotationEnabled"], true);
    // No node takes the pod: the rotation stands still in its middle.
    shop.cluster.kubectl(&["cordon", "node1"]).await.unwrap();
    shop.rotate("billing", "cut-off").await.unwrap();
    let status =
        schedule_is(shop, "billing", "that a Job is out", |s| s["inProgress"]["job"].is_string()).await;
    let token = status["inProgress"]["versionId"].as_str().unwrap();
    shop.cluster.kubectl(&["-n", NAMESPACE, "delete", "rotationschedule", "billing"]).await.unwrap();
    let off = async || (described(operator, "billing").await["RotationEnabled"] == false).then_some(());
    shop.cluster.wait_for("RotationEnabled to be false", shop::PATIENCE, off).await.unwrap();
    let unfinished = jobs_of(shop, "billing").await;
    let unfinished = unfinished.iter().filter(|job| job["status"]["completionTime"].is_null());
    assert_eq!(unfinished.count(), 0, "its Job went with it");
    event_says(shop, NAMESPACE, "billing", "RotationCancelled").await;
    let stages = described(operator, "billing").await["VersionIdsToStages"].clone();
    assert_eq!(stages[token], json!(["AWSPENDING"]), "labels are left as they are: {stages}");
    shop.cluster.kubectl(&["uncordon", "node1"]).await.unwrap();

    shop.apply(&[generated(json!({"rotateImmediately": true}))]).await.unwrap();
    becomes_current(shop, "billing", token).await;
    assert_eq!(described(operator, "billing").await["RotationEnabled"], true);
}

/// From here on the sample's rotations stop in setSecret, and retries are quick.
async fn hold(shop: &Shop) {
    let job = json!({"job": {"command": ["sh", "-c", HELD]}});
    let retries = json!({"limit": 5, "backoff": {"min": "1s", "max": "2s"}});
    patch(shop, REPORTS, json!({"rotator": job, "retries": retries})).await;
}

/// Begins a rotation and waits until it is held. Says its token and its Job.
async fn held(shop: &Shop, request: &str) -> (String, String) {
    shop.rotate(REPORTS, request).await.unwrap();
    let is_held = |s: &Value| s["inProgress"]["step"] == "setSecret";
    let status = schedule_is(shop, REPORTS, "that it is in setSecret", is_held).await;
    let job = status["inProgress"]["job"].as_str().unwrap().split_once('/').unwrap().1.to_owned();
    (status["inProgress"]["versionId"].as_str().unwrap().to_owned(), job)
}

async fn let_go(shop: &Shop, job: &str) {
    let pods = pods_of(shop, job).await;
    let pod = pods[0]["metadata"]["name"].as_str().unwrap();
    let output = shop.cluster.exec(NAMESPACE, pod, Some("set-secret"), &["touch", "/tmp/go"]).await.unwrap();
    assert!(output.success, "{}", output.stderr);
}

async fn a_value_written_by_hand_ends_a_rotation(shop: &Shop, operator: &Caller) {
    let (token, job) = held(shop, "overtaken").await;
    let by_hand = put(operator, REPORTS, 2).await;
    schedule_is(shop, REPORTS, "that it was abandoned", |s| {
        said(s, "Succeeded", ("False", "RotationAbandoned"))
    })
    .await;
    event_says(shop, NAMESPACE, REPORTS, "RotationAbandoned").await;
    becomes_current(shop, REPORTS, &by_hand).await;
    let stages = described(operator, REPORTS).await["VersionIdsToStages"].clone();
    assert!(stages[&token].is_null() && stages[&by_hand] == json!(["AWSCURRENT"]), "{stages}");
    let left =
        async || jobs_of(shop, REPORTS).await.iter().all(|j| j["metadata"]["name"] != *job).then_some(());
    shop.cluster.wait_for("the abandoned Job to go", shop::PATIENCE, left).await.unwrap();
}

fn server(shop: &Shop, pod: &str) -> Process {
    shop.cluster.node(1).process(&["tidelock", "server", &format!("--pod-name={pod}")]).unwrap()
}

async fn a_killed_server_ends_the_rotation_that_it_began(shop: &Shop) {
    let before = shop.status(REPORTS).await.unwrap();
    let (token, job) = held(shop, "killed").await;
    // Only this attempt is held, not one that follows.
    patch(shop, REPORTS, json!({"rotator": {"job": {"command": ["sh", "/rotator/rotate.sh"]}}})).await;
    server(shop, "tidelock-server-0").kill().unwrap();
    // The steps go on meanwhile, and find nobody.
    let_go(shop, &job).await;
    one_version_more(shop, &before, &token).await;
}

/// Waits until the rotation under this token has ended well, and looks what it left behind.
async fn one_version_more(shop: &Shop, before: &Value, token: &str) {
    becomes_current(shop, REPORTS, token).await;
    schedule_is(shop, REPORTS, "that it rotated", |s| said(s, "Succeeded", ("True", "RotationSucceeded")))
        .await;
    let after = shop.status(REPORTS).await.unwrap();
    let made: Vec<_> = versions(&after).difference(&versions(before)).cloned().collect();
    assert_eq!(made, [token], "exactly one new version");
}

async fn old_jobs_are_cleared_away(shop: &Shop) {
    let ended = |jobs: &[Value], how: &str| {
        let conditions = |job: &Value| job["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is = |job: &&Value| conditions(job).iter().any(|c| c["type"] == how && c["status"] == "True");
        jobs.iter().filter(is).count()
    };
    // Four have succeeded, and two or more have failed: three of each kind stay.
    let cleared = async || {
        let jobs = jobs_of(shop, REPORTS).await;
        (ended(&jobs, "Complete") == 3 && ended(&jobs, "Failed") <= 3).then_some(jobs)
    };
    let jobs = shop.cluster.wait_for("old Jobs to be cleared away", shop::PATIENCE, cleared).await.unwrap();
    let names: BTreeSet<_> =
        jobs.iter().map(|job| job["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    let orphans = async || {
        let arguments = ["-n", NAMESPACE, "get", "pods", "-l", "tidelock.dev/rotation", "-o", "json"];
        let list: Value = serde_json::from_str(&shop.cluster.kubectl(&arguments).await.ok()?).ok()?;
        let job = |pod: &Value| {
            pod["metadata"]["labels"]["batch.kubernetes.io/job-name"].as_str().map(str::to_owned)
        };
        list["items"].as_array()?.iter().filter_map(job).all(|job| names.contains(&job)).then_some(())
    };
    shop.cluster.wait_for("their pods to go with them", shop::PATIENCE, orphans).await.unwrap();
}

/// The lock on the store's folder keeps two servers of one node apart. What it cannot do is reach another node's kernel,
/// as when a volume is attached elsewhere while its old node stands still: without the lock's file it is as there.
async fn a_paused_leader_changes_nothing_when_it_goes_on(shop: &Shop, operator: &Caller) {
    hold(shop).await;
    let before = shop.status(REPORTS).await.unwrap();
    let (token, job) = held(shop, "paused").await;
    start_spare(shop).await;
    let old = server(shop, "tidelock-server-0");
    let to_old = caller_of_old(shop).await;
    let restarts = restarts(shop).await;
    old.stop().unwrap();
    let late = json!({"SecretId": "shop/partner", "SecretString": "late", "ClientRequestToken": "00000000-0000-0000-0000-00000000000f"});
    let late = tokio::spawn(async move { to_old.call("PutSecretValue", late).await });
    let store = shop.cluster.node(1).inside("/var/lib/tidelock-volumes/tidelock-store").unwrap();
    std::fs::remove_file(store.join("lock")).unwrap();
    let ready =
        ["-n", install::NAMESPACE, "wait", "--for=condition=Ready", "pod/tidelock-spare", "--timeout=100s"];
    shop.cluster.kubectl(&ready).await.unwrap();
    old.cont().unwrap();

    let ended = async || (restarts_now(shop).await? > restarts).then_some(());
    shop.cluster.wait_for("the old leader to end", shop::PATIENCE, ended).await.unwrap();
    let last_words = ["-n", install::NAMESPACE, "logs", "tidelock-server-0", "--previous"];
    let last_words = shop.cluster.kubectl(&last_words).await.unwrap();
    assert!(last_words.contains("Fenced") || last_words.contains("the Lease was lost"), "{last_words}");
    let late = late.await.unwrap();
    assert!(late.as_ref().map_or(true, |(status, _)| *status != 200), "the old leader wrote: {late:?}");
    let stages = described(operator, "partner").await["VersionIdsToStages"].clone();
    assert!(stages["00000000-0000-0000-0000-00000000000f"].is_null(), "{stages}");
    let_go(shop, &job).await;
    one_version_more(shop, &before, &token).await;
}

/// Another server on the same volume, as the StatefulSet would make it.
async fn start_spare(shop: &Shop) {
    let arguments = ["-n", install::NAMESPACE, "get", "statefulset", "tidelock-server", "-o", "json"];
    let set: Value = serde_json::from_str(&shop.cluster.kubectl(&arguments).await.unwrap()).unwrap();
    let mut pod = set["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("tidelock-spare");
    pod["metadata"]["namespace"] = json!(install::NAMESPACE);
    pod["spec"]["volumes"] =
        json!([{"name": "store", "persistentVolumeClaim": {"claimName": "store-tidelock-server-0"}}]);
    shop.apply(&[pod]).await.unwrap();
    let running = [
        "-n",
        install::NAMESPACE,
        "wait",
        "--for=jsonpath={.status.phase}=Running",
        "pod/tidelock-spare",
        "--timeout=100s",
    ];
    shop.cluster.kubectl(&running).await.unwrap();
}

/// A connection to the pod that leads, warm from a first call.
async fn caller_of_old(shop: &Shop) -> Caller {
    let token =
        ["-n", NAMESPACE, "create", "token", "operator", "--audience", "tidelock.tidelock-system/api"];
    let token = shop.cluster.kubectl(&token).await.unwrap();
    let address =
        ["-n", install::NAMESPACE, "get", "pod", "tidelock-server-0", "-o", "jsonpath={.status.podIP}"];
    let address = shop.cluster.kubectl(&address).await.unwrap();
    let caller = Caller::at(shop, &address, token.trim()).await.unwrap();
    described(&caller, "partner").await;
    caller
}

async fn restarts(shop: &Shop) -> u64 {
    restarts_now(shop).await.unwrap()
}

async fn restarts_now(shop: &Shop) -> Option<u64> {
    let count = "jsonpath={.status.containerStatuses[0].restartCount}";
    let arguments = ["-n", install::NAMESPACE, "get", "pod", "tidelock-server-0", "-o", count];
    shop.cluster.kubectl(&arguments).await.ok()?.trim().parse().ok()
}
