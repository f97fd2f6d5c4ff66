//! Create, read, put, move: idempotency, texts, who may, and what is written down.

use super::*;

#[tokio::test]
async fn a_value_comes_back_as_it_was_put_and_its_reading_is_written_down() {
    let bench = bench().await;
    let created = bench.resource(Some("first"), vec![grant_of(None)]).await;
    let read = bench.keeper.value(&app(), &id(), None, None).await.unwrap();
    assert_eq!(read.value.bytes.expose(), b"first");
    assert_eq!(
        (read.arn, Some(read.version), read.stages),
        (created.arn, created.version, vec![Stage::current()])
    );
    let audit = bench.audit().await;
    assert_eq!(audit.last().unwrap(), &(app().to_string(), "reveal".into(), "done".into()));
    let day = bench.record(NAME).await.accessed_at.unwrap();
    assert_eq!(day.to_string(), "2030-01-01T00:00:00Z");
}

#[tokio::test]
async fn the_date_of_the_last_access_moves_once_a_day() {
    let bench = bench().await;
    bench.resource(Some("first"), vec![grant_of(None)]).await;
    let read = async || bench.keeper.value(&app(), &id(), None, None).await.unwrap();
    bench.clock.advance(Duration::from_secs(3600));
    read().await;
    let revision = bench.record(NAME).await.revision;
    bench.clock.advance(Duration::from_secs(3600));
    read().await;
    assert_eq!(bench.record(NAME).await.revision, revision);
    bench.clock.advance(Duration::from_secs(86_400));
    read().await;
    assert_eq!(bench.record(NAME).await.accessed_at.unwrap().to_string(), "2030-01-02T00:00:00Z");
}

#[tokio::test]
async fn nobody_reads_without_a_right_and_nobody_learns_what_exists() {
    let bench = bench().await;
    bench.resource(Some("first"), vec![grant_of(Some(&["a"]))]).await;
    let other = pod_of("shop", "other");
    for who in [&app(), &other, &Principal::Controller] {
        assert_eq!(reason(bench.keeper.value(who, &id(), None, None).await), "AccessDenied", "{who}");
    }
    let unknown = SecretId::parse("shop/unknown").unwrap();
    assert_eq!(reason(bench.keeper.value(&other, &unknown, None, None).await), "AccessDenied");
    bench.answers.allow(&other, Operation::Reveal);
    assert_eq!(reason(bench.keeper.value(&other, &unknown, None, None).await), "SecretNotFound");
    bench.answers.go_away(true);
    let unanswered = bench.keeper.value(&other, &id(), None, None).await.err().unwrap();
    assert_eq!(unanswered.aws_type(), "InternalServiceError");
    let refused =
        bench.audit().await.into_iter().filter(|(_, verb, outcome)| verb == "reveal" && outcome != "done");
    assert_eq!(refused.count(), 5);
}

#[tokio::test]
async fn a_flood_of_refusals_takes_a_row_and_a_count_and_no_more() {
    let bench = bench().await;
    bench.resource(Some("first"), vec![]).await;
    for _ in 0..500 {
        assert_eq!(reason(bench.keeper.value(&app(), &id(), None, None).await), "AccessDenied");
    }
    let refusals = async || {
        let rows = bench.audit().await.into_iter().filter(|(_, verb, _)| verb == "reveal");
        rows.map(|(_, _, outcome)| outcome).collect::<Vec<_>>()
    };
    assert_eq!(refusals().await, ["AccessDenied"]);
    bench.keeper.write_down_counts(false).await;
    assert_eq!(refusals().await.len(), 1, "the minute is not over");
    bench.clock.advance(Duration::from_secs(60));
    bench.keeper.write_down_counts(false).await;
    let counted = "AccessDenied (499 more since 2030-01-01T00:00:00Z)";
    assert_eq!(refusals().await, ["AccessDenied", counted]);
    bench.keeper.write_down_counts(true).await;
    assert_eq!(refusals().await.len(), 2, "a count is written once");
}

#[tokio::test]
async fn a_missing_version_is_named_with_the_words_of_aws() {
    let bench = bench().await;
    bench.resource(None, vec![]).await;
    bench.answers.allow(&app(), Operation::Reveal);
    let read = async |version: Option<VersionId>, stage: Option<Stage>| {
        let read = bench.keeper.value(&app(), &id(), version.as_ref(), stage.as_ref()).await;
        read.err().map(|error| error.to_string())
    };
    let none = "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT";
    assert_eq!(read(None, None).await.unwrap(), none);
    bench.keeper.put(&Principal::Controller, &id(), &v(1), &text("1"), None).await.unwrap();
    bench.keeper.put(&Principal::Controller, &id(), &v(2), &text("2"), None).await.unwrap();
    let unknown = format!("Secrets Manager can't find the specified secret value for VersionId: {}", v(9));
    assert_eq!(read(Some(v(9)), None).await.unwrap(), unknown);
    let mismatch = "You provided a VersionStage that is not associated to the provided VersionId.";
    assert_eq!(read(Some(v(1)), Some(Stage::current())).await.unwrap(), mismatch);
    assert_eq!(read(Some(v(1)), Some(Stage::previous())).await, None);
}

#[tokio::test]
async fn a_grant_of_the_current_stage_does_not_open_the_pending_value() {
    let bench = bench().await;
    bench.resource(Some("first"), vec![grant_of(None)]).await;
    let pending = [Stage::pending()];
    bench.keeper.put(&Principal::Controller, &id(), &v(2), &text("2"), Some(&pending)).await.unwrap();
    for (version, stage) in [(Some(v(2)), None), (None, Some(Stage::pending()))] {
        let read = bench.keeper.value(&app(), &id(), version.as_ref(), stage.as_ref()).await;
        assert_eq!(reason(read), "AccessDenied");
    }
}

#[tokio::test]
async fn the_same_create_again_succeeds_and_another_does_not() {
    let bench = bench().await;
    bench.answers.allow(&app(), Operation::Create);
    let create = async |token: u8, value: Option<&str>| {
        bench.keeper.create(&app(), &by_api("shop/x", token, value)).await
    };
    let first = create(1, Some("a")).await.unwrap();
    assert_eq!(create(1, Some("a")).await.unwrap(), first);
    let used = create(1, Some("b")).await.unwrap_err();
    assert_eq!(
        (used.aws_type(), used.to_string()),
        (
            "ResourceExistsException",
            format!(
                "You can't use ClientRequestToken {} because that value is already in use for a version of secret {}.",
                v(1),
                first.arn
            )
        )
    );
    let exists = "The operation failed because the secret shop/x already exists.";
    assert_eq!(create(2, Some("a")).await.unwrap_err().to_string(), exists);
    assert_eq!(create(1, None).await.unwrap_err().to_string(), exists);
    assert_eq!(bench.stages("shop/x").await.len(), 1);
}

#[tokio::test]
async fn a_name_in_another_namespace_is_refused() {
    let bench = bench().await;
    bench.answers.allow(&app(), Operation::Create);
    let refused = bench.keeper.create(&app(), &by_api("billing/x", 1, Some("a"))).await.unwrap_err();
    assert!(refused.to_string().ends_with("names here start with `shop/`"), "{refused}");
    assert!(bench.keeper.inventory(None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_resource_gets_one_first_value_however_often_it_is_tried() {
    let bench = bench().await;
    let first = bench.resource(Some("first"), vec![grant_of(None)]).await;
    let again = bench.resource(Some("another draw"), vec![grant_of(None)]).await;
    assert_eq!(again, first);
    assert_eq!(bench.keeper.value(&app(), &id(), None, None).await.unwrap().value.bytes.expose(), b"first");
    let other = of_resource("cr-2", Some("x"), vec![]);
    assert_eq!(reason(bench.keeper.create(&Principal::Controller, &other).await), "SecretExists");
}

#[tokio::test]
async fn values_have_1_to_65536_bytes() {
    let bench = bench().await;
    bench.resource(None, vec![]).await;
    for (bytes, outcome) in [(0, "InvalidParameter"), (65_536, "done"), (65_537, "InvalidParameter")] {
        let value = SecretValue::binary(vec![7; bytes]);
        let put = bench.keeper.put(&Principal::Controller, &id(), &v(1), &value, None).await;
        assert_eq!(reason(put), outcome, "{bytes}");
    }
}

#[tokio::test]
async fn the_same_put_again_succeeds_and_another_value_does_not() {
    let bench = bench().await;
    bench.resource(Some("first"), vec![]).await;
    let put =
        async |value: &SecretValue| bench.keeper.put(&Principal::Controller, &id(), &v(2), value, None).await;
    let one = put(&text("a")).await.unwrap();
    assert_eq!(one.stages, [Stage::current()]);
    let revision = bench.record(NAME).await.revision;
    assert_eq!(put(&text("a")).await.unwrap(), one);
    assert_eq!(bench.record(NAME).await.revision, revision, "nothing was written");
    assert_eq!(reason(put(&text("b")).await), "TokenInUse");
    assert_eq!(reason(put(&SecretValue::binary(b"a".to_vec())).await), "TokenInUse");
    let grants = bench.stages(NAME).await;
    assert_eq!(grants[0], (Stage::CURRENT.to_owned(), v(2)));
    assert_eq!(grants[1].0, Stage::PREVIOUS);
}

#[tokio::test]
async fn current_moves_as_asked_and_never_to_an_empty_version() {
    let bench = bench().await;
    bench.resource(None, vec![]).await;
    bench.keeper.put(&Principal::Controller, &id(), &v(1), &text("1"), None).await.unwrap();
    bench.keeper.put(&Principal::Controller, &id(), &v(2), &text("2"), None).await.unwrap();
    let to = async |to: u8, from: u8| {
        let stage = Stage::current();
        bench.keeper.move_stage(&Principal::Controller, &id(), &stage, Some(&v(to)), Some(&v(from))).await
    };
    to(1, 2).await.unwrap();
    let swapped = [(Stage::CURRENT.to_owned(), v(1)), (Stage::PREVIOUS.to_owned(), v(2))];
    assert_eq!(bench.stages(NAME).await, swapped);
    assert_eq!(reason(to(9, 1).await), "NoValueForVersion");
    begin_rotation(&bench, 3).await;
    assert_eq!(reason(to(3, 1).await), "InvalidRequest");
    assert_eq!(bench.stages(NAME).await[0], (Stage::CURRENT.to_owned(), v(1)));
}

/// What a rotation begins with: its journal and an empty version with AWSPENDING.
async fn begin_rotation(bench: &Bench, token: u8) {
    let mut record = bench.record(NAME).await;
    let (arn, revision) = (record.arn.clone(), record.revision);
    record.stages.insert(Stage::pending(), v(token));
    let now = bench.clock.now();
    let job = JobRecord {
        namespace: "shop".into(),
        name: "rotate".into(),
        uid: "job-1".into(),
        service_account: "rotator".into(),
        attempt: 1,
        started_at: now,
        gone: false,
    };
    let journal = RotationRecord {
        arn: arn.clone(),
        version: v(token),
        is_test: false,
        state: RotationState::Running,
        step: None,
        attempt: 1,
        jobs: vec![job],
        begun_at: now,
        ended_at: None,
        failed_at: None,
        failure: None,
        failures: 0,
        handled_trigger: None,
        revision: 0,
    };
    let version = crate::store::VersionRecord {
        arn,
        id: v(token),
        created_at: now,
        kind: crate::secret::ValueKind::String,
        sealed: None,
    };
    let changes = vec![
        Change::PutSecret(record, Expected::Revision(revision)),
        Change::PutVersion(version),
        Change::PutRotation(journal, Expected::Absent),
    ];
    bench.keeper.commit(changes, Vec::new()).await.unwrap();
}

#[tokio::test]
async fn a_rotation_s_own_pod_fills_its_version_and_makes_it_current() {
    let bench = bench().await;
    bench.resource(None, vec![]).await;
    bench.keeper.put(&Principal::Controller, &id(), &v(1), &text("1"), None).await.unwrap();
    begin_rotation(&bench, 2).await;
    let (pod, pending) = (pod_of("shop", "rotator"), [Stage::pending()]);
    let put = async |token: u8, stages: Option<&[Stage]>| {
        bench.keeper.put(&pod, &id(), &v(token), &text("2"), stages).await
    };
    assert_eq!(reason(put(2, Some(&pending)).await), "AccessDenied", "no Job is proved");
    let job = RotationJob { namespace: "shop".into(), uid: "job-1".into(), attempt: 1 };
    for wrong in [
        RotationJob { uid: "job-2".into(), ..job.clone() },
        RotationJob { attempt: 2, ..job.clone() },
        RotationJob { namespace: "billing".into(), ..job.clone() },
    ] {
        *bench.answers.job.lock().unwrap() = Some(wrong);
        assert_eq!(reason(put(2, Some(&pending)).await), "AccessDenied");
    }
    *bench.answers.job.lock().unwrap() = Some(job);
    let empty = bench.keeper.value(&pod, &id(), Some(&v(2)), Some(&Stage::pending())).await;
    assert_eq!(empty.err().unwrap().aws_type(), "ResourceNotFoundException", "templates branch on it");
    assert_eq!(bench.keeper.value(&pod, &id(), None, None).await.unwrap().value.bytes.expose(), b"1");
    assert_eq!(reason(put(3, Some(&pending)).await), "AccessDenied", "another version");
    assert_eq!(reason(put(2, None).await), "AccessDenied", "straight to current");
    put(2, Some(&pending)).await.unwrap();
    bench.keeper.move_stage(&pod, &id(), &Stage::current(), Some(&v(2)), Some(&v(1))).await.unwrap();
    let stages = bench.stages(NAME).await;
    let expected = [(Stage::CURRENT, v(2)), (Stage::PENDING, v(2)), (Stage::PREVIOUS, v(1))];
    assert_eq!(stages, expected.map(|(stage, version)| (stage.to_owned(), version)));
    assert!(bench.record(NAME).await.rotated_at.is_some());
    let other = pod_of("shop", "other");
    assert_eq!(
        reason(bench.keeper.value(&other, &id(), None, None).await),
        "AccessDenied",
        "another account"
    );
}

#[tokio::test]
async fn a_value_put_by_hand_abandons_the_rotation() {
    let bench = bench().await;
    bench.resource(Some("first"), vec![]).await;
    begin_rotation(&bench, 2).await;
    bench.keeper.put(&Principal::Controller, &id(), &v(3), &text("by hand"), None).await.unwrap();
    let journal = bench.keeper.ports.store.rotation(&bench.record(NAME).await.arn).await.unwrap().unwrap();
    assert_eq!(journal.state, RotationState::Abandoned);
    assert!(bench.stages(NAME).await.iter().all(|(stage, _)| stage != Stage::PENDING));
}

#[tokio::test]
async fn old_versions_without_a_stage_go_above_a_hundred_but_none_younger_than_a_day() {
    let bench = bench().await;
    bench.resource(None, vec![]).await;
    let put = async |n: u8| {
        bench.keeper.put(&Principal::Controller, &id(), &v(n), &text("x"), None).await.unwrap();
    };
    for n in 0..105 {
        put(n).await;
    }
    let count = async || bench.keeper.describe(&Principal::Controller, &id()).await.unwrap().versions.len();
    assert_eq!(count().await, 105, "all are young");
    bench.clock.advance(Duration::from_secs(86_401));
    put(105).await;
    assert_eq!(count().await, 100);
    let described = bench.keeper.describe(&Principal::Controller, &id()).await.unwrap();
    assert_eq!(described.stages.keys().collect::<Vec<_>>(), [&v(104), &v(105)]);
    assert_eq!(described.versions[0].id, v(6), "the oldest went first");
}

#[tokio::test]
async fn two_who_put_at_once_are_both_heard() {
    let bench = bench().await;
    bench.resource(Some("first"), vec![]).await;
    let (controller, id) = (Principal::Controller, id());
    let values: Vec<_> = (0..8).map(|n| (v(n), text(&n.to_string()))).collect();
    let puts = values.iter().map(|(token, value)| bench.keeper.put(&controller, &id, token, value, None));
    for put in futures::future::join_all(puts).await {
        put.unwrap();
    }
    assert_eq!(bench.keeper.describe(&controller, &id).await.unwrap().versions.len(), 9);
    assert_eq!(bench.stages(NAME).await.len(), 2);
}

#[tokio::test]
async fn what_is_configured_already_is_not_written_again() {
    let bench = bench().await;
    bench.resource(Some("first"), vec![]).await;
    let mut changes = bench.keeper.changes();
    let wanted =
        Configure { description: Some("d".into()), grants: vec![grant_of(None)], recovery_window_days: 7 };
    for _ in 0..2 {
        bench.keeper.configure(&Principal::Controller, &id(), &wanted).await.unwrap();
    }
    assert_eq!(changes.try_recv().unwrap().what, What::Configuration);
    assert!(changes.try_recv().is_err(), "once");
    assert!(bench.keeper.value(&app(), &id(), None, None).await.is_ok(), "the grant is in force");
    let wrong = Configure { recovery_window_days: 6, ..wanted };
    assert_eq!(
        reason(bench.keeper.configure(&Principal::Controller, &id(), &wrong).await),
        "InvalidParameter"
    );
}

#[tokio::test]
async fn a_former_leader_writes_nothing() {
    let bench = bench().await;
    bench.resource(Some("first"), vec![grant_of(None)]).await;
    bench.keeper.ports.store.raise_epoch().await.unwrap();
    assert_eq!(
        reason(bench.keeper.put(&Principal::Controller, &id(), &v(2), &text("2"), None).await),
        "Fenced"
    );
    assert_eq!(
        reason(bench.keeper.value(&app(), &id(), None, None).await),
        "Fenced",
        "a reading must be written down"
    );
}
