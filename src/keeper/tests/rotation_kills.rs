//! The test of a rotator, killed at each of its points: what it began with goes in the end, and never becomes current.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::*;
use crate::rotation::{JobState, Plan, Retries, decide};

const CHILD: &str = "keeper::tests::rotation_kills::a_child_that_tests_a_rotator";
const CHILD_FOLDER: &str = "TIDELOCK_TEST_STORE_FOLDER";
const POINTS: [&str; 4] =
    ["rotate.before-begin", "rotate.begun", "rotate.before-test-end", "rotate.test-ended"];

fn tested() -> Rotate {
    let days = RotationRules { automatically_after_days: Some(30), ..RotationRules::default() };
    Rotate { token: v(2), rotator: Some("generate".to_owned()), rules: Some(days), immediately: false }
}

/// Not a test by itself: the parent runs it as a process of its own.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "how a parent test tells its child what to do")]
async fn a_child_that_tests_a_rotator() {
    let Ok(folder) = std::env::var(CHILD_FOLDER).map(PathBuf::from) else { return };
    let bench = bench_at(&folder).await;
    for operation in [Operation::Create, Operation::Rotate] {
        bench.answers.allow(&app(), operation);
    }
    bench.keeper.create(&app(), &by_api(NAME, 1, Some("old"))).await.unwrap();
    bench.keeper.rotate_secret(&app(), &id(), &tested()).await.unwrap();
    let arn = bench.record(NAME).await.arn;
    bench.keeper.end_rotation_test(&arn, TestEnd::Succeeded).await.unwrap();
}

#[tokio::test]
async fn a_test_that_is_killed_at_any_point_leaves_the_versions_and_labels_of_before() {
    for point in POINTS {
        let folder = tempfile::tempdir().unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args([CHILD, "--exact", "--nocapture"])
            .env(CHILD_FOLDER, folder.path())
            .env("TIDELOCK_TEST_FAILPOINT", point)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.signal(), Some(9), "the point {point} was not reached");

        let bench = bench_at(folder.path()).await;
        let arn = bench.record(NAME).await.arn;
        let view = bench.keeper.rotation(&arn).await.unwrap();
        let is_open = matches!(point, "rotate.begun" | "rotate.before-test-end");
        assert_eq!(view.pending.is_some(), is_open, "{point}");
        if let Some(config) = view.config.as_ref().filter(|_| is_open) {
            // What the loop finds after a start: an attempt that is out, or none yet.
            let mut observed = view.observed(config, None, Retries::default());
            let now = bench.clock.now();
            assert_eq!(decide(&observed, now), Plan::StartJob { attempt: 1 }, "{point}");
            observed.unfinished = view.unfinished(Some((1, JobState::Gone)));
            let failed = Plan::TestFailed { attempt: 1, job: Some(JobState::Gone) };
            assert_eq!(decide(&observed, now), failed, "{point}");
            let end = TestEnd::Failed("TestRotationFailed", "its Job was deleted");
            bench.keeper.end_rotation_test(&arn, end).await.unwrap();
        }
        assert_eq!(bench.stages(NAME).await, [("AWSCURRENT".to_owned(), v(1))], "{point}");
        let versions = bench.keeper.ports.store.versions(&arn).await.unwrap();
        assert_eq!(versions.len(), 1, "{point}");
        let enabled = (point != "rotate.before-begin").then_some(true);
        assert_eq!(bench.record(NAME).await.rotation_enabled, enabled, "{point}");
    }
}
