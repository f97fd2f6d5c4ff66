//! The test of a rotator, which RotateSecret asks for when it is not to rotate at once: its step testSecret on a copy of
//! the current version, which is gone afterwards, whatever came of it.

use super::*;

pub async fn a_rotator_is_tested_without_a_rotation(shop: &Shop, operator: &Caller, target: &str) {
    let (before, file) = (stages(operator).await, shop.file("app", TOKEN_FILE).await.unwrap());
    let jobs = names(shop).await;
    ask(operator, 4).await;
    result_is(shop, ("True", "TestRotationSucceeded")).await;
    assert_eq!(stages(operator).await, before);
    let made: Vec<_> = names(shop).await.difference(&jobs).cloned().collect();
    let [job] = &made[..] else { panic!("one test is one Job: {made:?}") };
    let [pod] = &pods_of(shop, job).await[..] else { panic!("one test is one pod") };
    let containers = pod["spec"]["initContainers"].as_array().unwrap().iter();
    let containers: Vec<_> = containers.map(|container| container["name"].as_str().unwrap()).collect();
    assert_eq!(containers, ["relay", "test-secret"]);
    event_says(shop, NAMESPACE, REPORTS, "TestRotationSucceeded").await;

    break_target(shop, target).await;
    ask(operator, 5).await;
    result_is(shop, ("False", "TestRotationFailed")).await;
    mend_target(shop, target).await;
    assert_eq!(stages(operator).await, before);
    event_says(shop, NAMESPACE, REPORTS, "testSecret ended with exit code 1").await;
    // Nothing of all this is for pods.
    assert_eq!(shop.file("app", TOKEN_FILE).await.unwrap(), file);
}

async fn ask(operator: &Caller, number: u32) {
    let token = format!("00000000-0000-0000-0002-{number:012}");
    let request = json!({
        "SecretId": format!("shop/{REPORTS}"), "ClientRequestToken": token, "RotateImmediately": false,
    });
    let (status, body) = operator.call("RotateSecret", request).await.unwrap();
    assert_eq!(status, 200, "{body}");
    assert!(body["VersionId"].is_null(), "a test makes no version: {body}");
}

async fn result_is(shop: &Shop, wanted: (&str, &str)) {
    let status = schedule_is(shop, REPORTS, wanted.1, |status| said(status, "Succeeded", wanted)).await;
    assert!(said(&status, "Rotating", ("False", "Idle")) && status["inProgress"].is_null(), "{status}");
}

/// Which versions there are, and the stages that clients ask for. AWSPENDING was the copy's, and is gone with it.
async fn stages(operator: &Caller) -> Value {
    let mut found = described(operator, REPORTS).await["VersionIdsToStages"].take();
    for stages in found.as_object_mut().unwrap().values_mut() {
        stages.as_array_mut().unwrap().retain(|stage| stage != "AWSPENDING");
    }
    found
}

async fn names(shop: &Shop) -> BTreeSet<String> {
    let jobs = jobs_of(shop, REPORTS).await;
    jobs.iter().map(|job| job["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}
