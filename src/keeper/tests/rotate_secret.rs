//! RotateSecret and CancelRotateSecret: what is configured, what begins, and what a journal that is open does to both.

use super::*;
use crate::rotation::Pending;

const FUNCTION: &str = "arn:aws:lambda:eu-west-1:123456789012:function:generate";

fn rotate(token: u8) -> Rotate {
    Rotate { token: v(token), rotator: None, rules: None, immediately: true }
}

fn first(token: u8) -> Rotate {
    Rotate { rotator: Some(FUNCTION.to_owned()), rules: Some(every(30)), ..rotate(token) }
}

fn every(days: i64) -> RotationRules {
    RotationRules { automatically_after_days: Some(days), ..RotationRules::default() }
}

/// A secret that a caller made, who may rotate it.
async fn made_by_api(value: Option<&str>) -> Bench {
    let bench = bench().await;
    let by = app();
    for operation in [
        Operation::Create,
        Operation::Describe,
        Operation::Put,
        Operation::MoveStage,
        Operation::Rotate,
        Operation::CancelRotation,
        Operation::Delete,
    ] {
        bench.answers.allow(&by, operation);
    }
    bench.keeper.create(&by, &by_api(NAME, 1, value)).await.unwrap();
    bench
}

impl Bench {
    async fn rotate(&self, wanted: &Rotate) -> Result<Rotating, KeeperError> {
        self.keeper.rotate_secret(&app(), &id(), wanted).await
    }

    async fn view(&self) -> RotationView {
        self.keeper.rotation(&self.record(NAME).await.arn).await.unwrap()
    }

    /// The first attempt's, whose pod asks from now on.
    fn job_of_attempt(&self) -> JobRecord {
        *self.answers.job.lock().unwrap() =
            Some(RotationJob { namespace: "shop".into(), uid: "job-1".into(), attempt: 1 });
        JobRecord {
            namespace: "shop".into(),
            name: "job".into(),
            uid: "job-1".into(),
            service_account: "api".into(),
            attempt: 1,
            started_at: self.clock.now(),
            gone: false,
        }
    }

    async fn end_test(&self, end: TestEnd<'_>) {
        self.keeper.end_rotation_test(&self.record(NAME).await.arn, end).await.unwrap();
    }

    async fn versions(&self) -> Vec<VersionId> {
        let versions = self.keeper.ports.store.versions(&self.record(NAME).await.arn).await.unwrap();
        versions.into_iter().map(|version| version.id).collect()
    }

    /// As its rotator does it: the value at AWSPENDING, then AWSCURRENT.
    async fn rotator_finishes(&self, token: u8, before: u8) {
        let pending = [Stage::pending()];
        self.keeper.put(&app(), &id(), &v(token), &text("new"), Some(&pending)).await.unwrap();
        let (to, from) = (v(token), v(before));
        self.keeper.move_stage(&app(), &id(), &Stage::current(), Some(&to), Some(&from)).await.unwrap();
    }
}

fn told<T: std::fmt::Debug>(result: Result<T, KeeperError>) -> (&'static str, String) {
    let error = result.unwrap_err();
    (error.aws_type(), error.to_string())
}

#[tokio::test]
async fn configuration_label_and_journal_are_written_at_once_and_told() {
    let bench = made_by_api(Some("old")).await;
    let mut changes = bench.keeper.changes();
    let rotating = bench.rotate(&first(2)).await.unwrap();
    assert_eq!(rotating.version, Some(v(2)));
    assert_eq!(changes.try_recv().unwrap().what, What::Stages);
    let view = bench.view().await;
    assert_eq!((view.pending, view.enabled), (Some(Pending::Empty), Some(true)));
    assert_eq!(view.config.unwrap().rotator, FUNCTION);
    let described = bench.keeper.describe(&app(), &id()).await.unwrap();
    assert_eq!(described.rotation.unwrap().rules, every(30));
    let due = described.next_rotation.unwrap().to_string();
    assert!(due.starts_with("2030-01-31T"), "{due}");
    let rotations = bench.audit().await.into_iter().filter(|(_, verb, _)| verb == "rotate");
    assert_eq!(
        rotations.map(|(who, _, outcome)| (who, outcome)).collect::<Vec<_>>(),
        [(app().to_string(), "done".to_owned())]
    );
}

#[tokio::test]
async fn the_same_token_again_begins_nothing_and_another_waits_for_the_end() {
    let bench = made_by_api(Some("old")).await;
    let answer = bench.rotate(&first(2)).await.unwrap();
    let journal = bench.view().await.journal;
    assert_eq!(bench.rotate(&first(2)).await.unwrap(), answer);
    assert_eq!(bench.view().await.journal, journal);
    let unfinished = (
        "InvalidRequestException",
        "A previous rotation isn't complete. That rotation will be reattempted.".to_owned(),
    );
    assert_eq!(told(bench.rotate(&rotate(3)).await), unfinished);
    assert_eq!(told(bench.rotate(&Rotate { immediately: false, ..first(3) }).await), unfinished);
    bench.rotator_finishes(2, 1).await;
    // Whether or not the journal says so yet: AWSPENDING stands where AWSCURRENT does.
    bench.rotate(&rotate(3)).await.unwrap();
    assert_eq!(bench.view().await.journal.unwrap().version, v(3));
    let used = told(bench.rotate(&rotate(1)).await);
    assert!(used.0 == "InvalidRequestException" && used.1.contains("already in use"), "{used:?}");
}

#[tokio::test]
async fn a_rotation_that_gave_up_is_reattempted_under_its_own_token() {
    let bench = made_by_api(Some("old")).await;
    bench.rotate(&first(2)).await.unwrap();
    let arn = bench.record(NAME).await.arn;
    let failure = AttemptFailure { attempt: 1, reason: "x", message: "x".into(), gives_up: true };
    bench.keeper.rotation_attempt_failed(&arn, &failure).await.unwrap();
    assert_eq!(reason(bench.rotate(&rotate(3)).await), "InvalidRequest");
    let journal = bench.view().await.journal.unwrap();
    assert_eq!((journal.state, journal.version, journal.failures), (RotationState::Running, v(2), 0));
}

#[tokio::test]
async fn a_label_that_somebody_put_stands_in_the_way_until_it_is_removed() {
    let bench = made_by_api(Some("old")).await;
    let pending = [Stage::pending()];
    bench.keeper.put(&app(), &id(), &v(2), &text("mine"), Some(&pending)).await.unwrap();
    assert_eq!(reason(bench.rotate(&first(3)).await), "InvalidRequest");
    assert_eq!(bench.record(NAME).await.rotation, None, "nothing is configured");
    bench.keeper.move_stage(&app(), &id(), &Stage::pending(), None, Some(&v(2))).await.unwrap();
    bench.rotate(&first(3)).await.unwrap();
    // Unstuck by its label: the one that was open is over, and another begins.
    bench.keeper.move_stage(&app(), &id(), &Stage::pending(), None, Some(&v(3))).await.unwrap();
    assert_eq!(bench.rotate(&rotate(4)).await.unwrap().version, Some(v(4)));
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_changes_nothing() {
    let bench = made_by_api(Some("old")).await;
    let before = bench.record(NAME).await;
    let no_rotator = "No Lambda rotation function ARN is associated with this secret.";
    assert_eq!(told(bench.rotate(&rotate(2)).await), ("InvalidRequestException", no_rotator.to_owned()));
    let unknown = Rotate { rotator: Some(FUNCTION.replace("generate", "nobody")), ..first(2) };
    let (kind, words) = told(bench.rotate(&unknown).await);
    assert_eq!(kind, "AccessDeniedException");
    assert!(words.starts_with("Secrets Manager cannot invoke the specified Lambda function."), "{words}");
    let both = RotationRules { schedule_expression: Some("rate(1 day)".into()), ..every(1) };
    let often =
        RotationRules { schedule_expression: Some("rate(1 hour)".into()), ..RotationRules::default() };
    for rules in [both, often, every(0)] {
        let (kind, words) = told(bench.rotate(&Rotate { rules: Some(rules), ..first(2) }).await);
        assert!(kind == "InvalidParameterException" && words.starts_with("RotationRules: "), "{words}");
    }
    assert_eq!(bench.record(NAME).await, before);
    bench.answers.disallow(&app(), Operation::Rotate);
    assert_eq!(reason(bench.rotate(&first(2)).await), "AccessDenied");
    bench.answers.allow(&app(), Operation::Rotate);
    bench.keeper.schedule_deletion(&app(), &id(), DeletionMode::OwnWindow).await.unwrap();
    assert_eq!(reason(bench.rotate(&first(2)).await), "MarkedForDeletion");
    assert_eq!(reason(bench.keeper.cancel_rotation(&app(), &id()).await), "MarkedForDeletion");
}

#[tokio::test]
async fn rules_alone_are_kept_and_counted_from_when_they_changed() {
    let bench = made_by_api(Some("old")).await;
    let later = |rules| Rotate { immediately: false, rules, ..first(2) };
    assert_eq!(bench.rotate(&later(Some(every(10)))).await.unwrap().version, None);
    let config = async || bench.record(NAME).await.rotation.unwrap();
    let since = config().await.since;
    bench.end_test(TestEnd::Succeeded).await;
    bench.clock.advance(Duration::from_secs(3600));
    bench.rotate(&Rotate { token: v(3), ..later(None) }).await.unwrap();
    bench.end_test(TestEnd::Succeeded).await;
    assert_eq!((config().await.rules, config().await.since), (every(10), since));
    bench.rotate(&Rotate { token: v(4), ..later(Some(every(20))) }).await.unwrap();
    assert!(config().await.since > since);
    // Without rules there is no date, and a rotation all the same.
    let bench = made_by_api(Some("old")).await;
    bench.rotate(&Rotate { rules: None, ..first(2) }).await.unwrap();
    let described = bench.keeper.describe(&app(), &id()).await.unwrap();
    assert_eq!((described.next_rotation, described.rotation_enabled), (None, Some(true)));
}

#[tokio::test]
async fn a_cancelled_rotation_loses_its_rights_and_keeps_labels_and_configuration() {
    let bench = made_by_api(Some("old")).await;
    let cancel = async || bench.keeper.cancel_rotation(&app(), &id()).await.unwrap().version;
    assert_eq!(cancel().await, None);
    assert_eq!(bench.record(NAME).await.rotation_enabled, None, "it never was on");
    bench.rotate(&first(2)).await.unwrap();
    let arn = bench.record(NAME).await.arn;
    let job = bench.job_of_attempt();
    assert!(bench.keeper.rotation_job_started(&arn, &job).await.unwrap());
    bench.answers.disallow(&app(), Operation::Put);
    let pending = [Stage::pending()];
    let put = async |value| bench.keeper.put(&app(), &id(), &v(2), &text(value), Some(&pending)).await;
    put("by its Job").await.unwrap();
    assert_eq!(cancel().await, Some(v(2)));
    assert_eq!(reason(put("by its Job").await), "AccessDenied");
    let record = bench.record(NAME).await;
    assert_eq!((record.rotation_enabled, record.rotation.is_some()), (Some(false), true));
    assert_eq!(record.stages.get(&Stage::pending()), Some(&v(2)));
    let journal = bench.view().await.journal.unwrap();
    assert_eq!((journal.state, journal.attempt), (RotationState::Failed, 2));
    assert_eq!(bench.keeper.describe(&app(), &id()).await.unwrap().next_rotation, None);
    assert_eq!(reason(bench.keeper.begin_rotation(&arn, None).await), "InvalidRequest");
    // Asked again, it goes on where it was.
    assert_eq!(reason(bench.rotate(&rotate(3)).await), "InvalidRequest");
    let view = bench.view().await;
    assert_eq!((view.enabled, view.journal.unwrap().state), (Some(true), RotationState::Running));
}

#[tokio::test]
async fn what_a_schedule_of_git_rotates_is_begun_by_a_caller_and_configured_by_git_alone() {
    let bench = bench().await;
    let arn = bench.resource(Some("old"), vec![]).await.arn;
    for operation in [Operation::Rotate, Operation::CancelRotation] {
        bench.answers.allow(&app(), operation);
    }
    for wanted in [first(2), rotate(2)] {
        let refused = bench.rotate(&wanted).await.unwrap_err();
        assert_eq!(refused.reason(), "OwnedByResource");
        assert!(refused.to_string().contains("ManagedSecret shop/orders-db"), "{refused}");
    }
    assert_eq!(reason(bench.keeper.cancel_rotation(&app(), &id()).await), "OwnedByResource");
    bench.keeper.set_rotation_enabled(&arn, true).await.unwrap();
    assert_eq!(reason(bench.rotate(&first(2)).await), "OwnedByResource");
    assert_eq!(bench.rotate(&rotate(2)).await.unwrap().version, Some(v(2)));
    assert_eq!(bench.view().await.journal.unwrap().version, v(2));
}

/// Configures a rotation that is not due, and so begins a test.
fn tested(token: u8) -> Rotate {
    Rotate { immediately: false, ..first(token) }
}

#[tokio::test]
async fn a_test_runs_on_a_copy_that_goes_however_it_ends_and_the_schedule_stays() {
    let failed = TestEnd::Failed("TestRotationFailed", "test-secret ended with exit code 1");
    for (end, state) in [(TestEnd::Succeeded, RotationState::Succeeded), (failed, RotationState::Failed)] {
        let bench = made_by_api(Some("old")).await;
        bench.answers.allow(&app(), Operation::Reveal);
        let before = bench.record(NAME).await.stages;
        assert_eq!(bench.rotate(&tested(2)).await.unwrap().version, None, "no version stays");
        let view = bench.view().await;
        assert_eq!((view.pending, view.enabled), (Some(Pending::Written), Some(true)));
        assert!(view.journal.as_ref().unwrap().is_test);
        let copy = bench.keeper.value(&app(), &id(), Some(&v(2)), Some(&Stage::pending())).await.unwrap();
        assert_eq!(copy.value.bytes.expose(), b"old");
        // The same call again is one call; to rotate under its token is another.
        assert_eq!(bench.rotate(&tested(2)).await.unwrap().version, None);
        assert_eq!(bench.view().await.journal, view.journal);
        assert!(told(bench.rotate(&first(2)).await).1.contains("already in use"));

        bench.end_test(end).await;
        let record = bench.record(NAME).await;
        assert_eq!((record.stages, bench.versions().await), (before, vec![v(1)]));
        assert!(!record.versions_accessed_at.contains_key(&v(2)));
        assert_eq!((record.rotation_enabled, record.rotation.unwrap().rules), (Some(true), every(30)));
        let view = bench.view().await;
        assert_eq!((view.journal.as_ref().unwrap().state, view.pending), (state, None));
        assert_eq!(view.last_rotation, None);
        assert!(bench.keeper.describe(&app(), &id()).await.unwrap().next_rotation.is_some());
        let journal = view.journal;
        bench.end_test(TestEnd::HINDERED).await;
        bench.rotate(&tested(2)).await.unwrap();
        assert_eq!(bench.view().await.journal, journal, "it has ended once, and is not made again");
        assert_eq!(bench.rotate(&rotate(3)).await.unwrap().version, Some(v(3)));
    }
}

#[tokio::test]
async fn while_a_test_runs_no_rotation_begins_and_no_label_goes_to_its_version() {
    let bench = made_by_api(Some("old")).await;
    bench.rotate(&tested(2)).await.unwrap();
    let before = bench.record(NAME).await;
    for wanted in [rotate(3), tested(3)] {
        assert!(told(bench.rotate(&wanted).await).1.starts_with("A previous rotation isn't complete."));
    }
    assert_eq!(reason(bench.keeper.begin_rotation(&before.arn, None).await), "InvalidRequest");
    for stage in [Stage::current(), Stage::parse("mine").unwrap()] {
        let from = Some(&v(1)).filter(|_| stage == Stage::current()).cloned();
        let moved = bench.keeper.move_stage(&app(), &id(), &stage, Some(&v(2)), from.as_ref()).await;
        assert!(told(moved).1.contains("only there while the rotation is tested"));
    }
    assert_eq!(bench.record(NAME).await, before);
}

#[tokio::test]
async fn a_value_that_somebody_writes_ends_a_test_and_takes_its_version_away() {
    for stage in [Stage::current(), Stage::pending()] {
        let bench = made_by_api(Some("old")).await;
        bench.rotate(&tested(2)).await.unwrap();
        bench.clock.advance(Duration::from_secs(1));
        let stages = [stage.clone()];
        bench.keeper.put(&app(), &id(), &v(3), &text("by hand"), Some(&stages)).await.unwrap();
        assert_eq!(bench.versions().await, [v(1), v(3)]);
        let record = bench.record(NAME).await;
        assert_eq!(record.stages.get(&stage), Some(&v(3)));
        let expected = Some(v(3)).filter(|_| stage == Stage::pending());
        assert_eq!(record.stages.get(&Stage::pending()), expected.as_ref());
        let view = bench.view().await;
        assert_eq!(view.journal.unwrap().state, RotationState::Abandoned);
        assert_eq!((view.last_rotation, view.enabled), (None, Some(true)));
    }
}

#[tokio::test]
async fn a_test_ends_when_it_is_cancelled_and_when_its_label_is_taken_away() {
    let unlabelled = async || {
        let bench = made_by_api(Some("old")).await;
        bench.rotate(&tested(2)).await.unwrap();
        bench.keeper.move_stage(&app(), &id(), &Stage::pending(), None, Some(&v(2))).await.unwrap();
        assert_eq!(bench.view().await.pending, Some(Pending::Overtaken));
        bench
    };
    let bench = made_by_api(Some("old")).await;
    bench.rotate(&tested(2)).await.unwrap();
    assert_eq!(bench.keeper.cancel_rotation(&app(), &id()).await.unwrap().version, None);
    let record = bench.record(NAME).await;
    assert_eq!((record.rotation_enabled, record.rotation.is_some()), (Some(false), true));
    assert_eq!((record.stages.get(&Stage::pending()), bench.versions().await), (None, vec![v(1)]));
    assert_eq!(bench.view().await.journal.unwrap().state, RotationState::Abandoned);

    let bench = unlabelled().await;
    bench.keeper.abandon_rotation(&bench.record(NAME).await.arn).await.unwrap();
    assert_eq!(bench.versions().await, [v(1)]);
    // A rotation that begins before anybody has noted it takes the version away as well.
    let bench = unlabelled().await;
    bench.rotate(&rotate(3)).await.unwrap();
    assert_eq!(bench.versions().await, [v(1), v(3)]);
    // As does the end of its schedule.
    let bench = made_by_api(Some("old")).await;
    bench.rotate(&tested(2)).await.unwrap();
    bench.keeper.halt_rotation(&bench.record(NAME).await.arn, "RotationCancelled", "x").await.unwrap();
    assert_eq!((bench.versions().await, bench.view().await.pending), (vec![v(1)], None));
}

#[tokio::test]
async fn a_secret_without_a_value_has_nothing_to_test() {
    let bench = made_by_api(None).await;
    assert_eq!(bench.rotate(&tested(2)).await.unwrap().version, None);
    assert_eq!((bench.view().await.journal, bench.versions().await), (None, vec![]));
    assert_eq!(bench.record(NAME).await.rotation.unwrap().rules, every(30));
}

#[tokio::test]
async fn the_pod_of_a_test_reads_and_changes_nothing() {
    let bench = made_by_api(Some("old")).await;
    bench.rotate(&tested(2)).await.unwrap();
    let arn = bench.record(NAME).await.arn;
    let job = bench.job_of_attempt();
    assert!(bench.keeper.rotation_job_started(&arn, &job).await.unwrap());
    bench.answers.disallow(&app(), Operation::Put);
    bench.answers.disallow(&app(), Operation::MoveStage);
    let read = async || bench.keeper.value(&app(), &id(), Some(&v(2)), Some(&Stage::pending())).await;
    assert!(read().await.is_ok());
    let pending = Stage::pending();
    let put = bench.keeper.put(&app(), &id(), &v(2), &text("x"), Some(&[Stage::pending()])).await;
    assert_eq!(reason(put), "AccessDenied");
    let unlabelled = bench.keeper.move_stage(&app(), &id(), &pending, None, Some(&v(2))).await;
    assert_eq!(reason(unlabelled), "AccessDenied");
    bench.end_test(TestEnd::Succeeded).await;
    assert!(read().await.is_err(), "its right ends with the test");
}
