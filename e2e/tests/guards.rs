//! Takes one guard after the other out of a build for tests, and demands that the test named for it fails. A guard whose
//! test passes without it is guarded by nobody. Needs no cluster but an API server for one of them.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tidelock_e2e::images;
use tokio::process::Command;
use tokio::time::timeout;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const OFF: &str = "TIDELOCK_TEST_GUARD_OFF";
/// A test that hangs without its guard has not failed.
const ENDS_WITHIN: Duration = Duration::from_secs(180);

/// The guard as the source names it, and the test that must fail without it: in the library, or `file::name` in `tests/`.
const GUARDS: [(&str, &str, &str); 23] = [
    ("fencing", "lib", "store::embedded::tests::a_writer_of_an_earlier_epoch_is_fenced"),
    ("fsync", "lib", "store::embedded::folder::tests::a_commit_waits_for_the_disk"),
    ("aad", "lib", "seal::tests::a_sealed_version_opens_at_its_own_place_and_nowhere_else"),
    ("row-mac", "lib", "store::embedded::tests::no_changed_column_is_read"),
    ("rollback-check", "lib", "store::start::tests::a_store_behind_its_noted_position_was_put_back"),
    (
        "row-tally",
        "lib",
        "store::embedded::tests::put_back::a_row_put_back_from_an_older_copy_of_itself_is_noticed",
    ),
    (
        "structure-check",
        "lib",
        "store::embedded::tests::put_back::an_index_that_lost_an_entry_is_noticed_before_anything_is_looked_up",
    ),
    (
        "clock-check",
        "lib",
        "server::opening::tests::a_clock_behind_the_store_is_not_served_by_unless_somebody_says_so",
    ),
    (
        "pod-bound-token",
        "lib",
        "api::node::tests::streams::a_pod_s_token_is_worth_nothing_on_another_node_s_stream_or_for_another_pod",
    ),
    (
        "node-bound-stream",
        "lib",
        "api::node::tests::streams::a_pod_s_token_is_worth_nothing_on_another_node_s_stream_or_for_another_pod",
    ),
    (
        "stream-audience",
        "lib",
        "api::node::tests::streams::only_the_agent_s_own_token_of_a_pod_on_a_node_opens_a_stream",
    ),
    ("read-only-volume", "lib", "node::tests::first_mount::a_writable_volume_is_refused"),
    ("beneath-only", "lib", "projection::folder::tests::no_lookup_leaves_the_folder_or_follows_a_link"),
    (
        "policy-deny",
        "lib",
        "access::decision::tests::a_resource_policy_allows_by_itself_and_its_deny_wins_over_every_yes",
    ),
    ("own-verbs", "reviews", "reading_everything_does_not_reveal_a_value_and_the_verb_reveal_does"),
    (
        "author-checks",
        "lib",
        "controller::managed_secret::decide::tests::a_source_is_read_only_while_its_author_is_asked_for_his_rights",
    ),
    (
        "rotation-label",
        "lib",
        "cluster::rotation_pod::tests::a_pod_that_lacks_any_part_of_the_proof_is_nobody_s",
    ),
    (
        "receipt-before-current",
        "lib",
        "keeper::tests::projection::a_new_version_reaches_the_mount_once_and_receipts_count",
    ),
    (
        "silence-is-unknown",
        "lib",
        "keeper::tests::projection::a_silent_node_s_pods_are_unknown_and_a_gone_node_s_are_none",
    ),
    (
        "mass-deletion-hold",
        "lib",
        "controller::managed_secret::vanished::tests::ten_or_a_fifth_may_vanish_at_once_and_no_more",
    ),
    (
        "restore-approval",
        "lib",
        "keeper::tests::deletion::a_scheduled_secret_is_described_and_not_read_and_comes_back_whole",
    ),
    (
        "first-start-order",
        "lib",
        "store::start::tests::a_first_start_that_is_killed_between_any_two_steps_resumes",
    ),
    (
        "audit-before-answer",
        "lib",
        "keeper::tests::values::a_value_comes_back_as_it_was_put_and_its_reading_is_written_down",
    ),
];

/// Builds the tests with guards that can be taken out, and says where the programs of these two are.
async fn test_programs() -> [(&'static str, PathBuf); 2] {
    let words = ["test", "--package", "tidelock", "--features", "test-guards", "--lib", "--test", "reviews"];
    let build = Command::new("cargo")
        .current_dir(ROOT)
        .args(words)
        .args(["--no-run", "--quiet", "--message-format=json"])
        .stderr(Stdio::inherit())
        .output()
        .await
        .unwrap();
    assert!(build.status.success(), "the tests do not build with the feature test-guards");
    let messages: Vec<Value> = String::from_utf8(build.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let program = |name: &str| {
        let of = messages.iter().filter(|message| message["target"]["name"] == name);
        of.filter_map(|message| message["executable"].as_str()).map(PathBuf::from).next_back().unwrap()
    };
    [("lib", program("tidelock")), ("reviews", program("reviews"))]
}

async fn run(program: &Path, test: &str, off: Option<&str>) -> Output {
    let mut command = Command::new(program);
    command.current_dir(ROOT).args(["--exact", test, "--test-threads=1"]).env_remove(OFF).kill_on_drop(true);
    if let Some(guard) = off {
        command.env(OFF, guard);
    }
    timeout(ENDS_WITHIN, command.output()).await.unwrap_or_else(|_| panic!("{test} does not end")).unwrap()
}

/// The guards that the source asks for.
fn asked_in_the_source() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![PathBuf::from(ROOT).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                let names = text.split("failpoint::guard(\"").skip(1);
                found.extend(names.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn each_guard_switched_off_makes_its_test_fail() {
    let named: BTreeSet<String> = GUARDS.iter().map(|(guard, _, _)| (*guard).to_owned()).collect();
    assert_eq!(
        asked_in_the_source(),
        named,
        "each guard of the source has its test, and each test its guard"
    );
    let programs = test_programs().await;
    let mut unguarded = Vec::new();
    for (guard, target, test) in GUARDS {
        let program = &programs.iter().find(|(name, _)| *name == target).unwrap().1;
        let whole = run(program, test, None).await;
        let text = String::from_utf8_lossy(&whole.stdout).into_owned();
        assert!(whole.status.success() && text.contains("1 passed"), "{test} fails with all guards:\n{text}");
        let without = run(program, test, Some(guard)).await;
        let text = String::from_utf8_lossy(&without.stdout).into_owned();
        let fails = !without.status.success() && text.contains("1 failed");
        println!(
            "fault: guard {guard} | taken out | {}",
            if fails { "its test fails" } else { "NO TEST FAILS" }
        );
        if !fails {
            unguarded.push(format!("{guard} ({test}):\n{text}"));
        }
    }
    assert!(unguarded.is_empty(), "these tests pass without their guards:\n{}", unguarded.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_program_knows_neither_guards_nor_failpoints() {
    let program = images::release_program().await.unwrap();
    let bytes = std::fs::read(program).unwrap();
    for word in ["TIDELOCK_TEST_", "mass-deletion-hold", "create.before-commit"] {
        let there = bytes.windows(word.len()).any(|window| window == word.as_bytes());
        assert!(!there, "the program as it ships holds {word:?}");
    }
}
