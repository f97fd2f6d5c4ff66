//! Every counter and gauge moves, and the one duration is measured.

use jiff::SignedDuration;
use metrics_exporter_prometheus::PrometheusBuilder;

use super::*;

#[tokio::test]
async fn what_happens_is_counted_and_the_way_to_the_pods_is_measured() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let shown = recorder.handle();
    let _here = metrics::set_default_local_recorder(&recorder);
    let bench = bench().await;
    let arn = bench.resource(Some("one"), vec![grant_of(None)]).await.arn;
    let mount = MountRequest {
        mount_id: "pod-1/v".into(),
        pod_namespace: "shop".into(),
        pod_name: "pod".into(),
        pod_uid: "pod-1".into(),
        attributes: BTreeMap::from([("secret".to_owned(), "orders-db".to_owned())]),
    };
    let first = bench.keeper.attach(&app(), "node-1", mount).await.unwrap().version;
    bench.receipt("node-1", "pod-1/v", &arn, &first).await;
    bench.keeper.put(&Principal::Controller, &id(), &v(2), &text("two"), None).await.unwrap();
    bench.clock.advance(Duration::from_millis(250));
    bench.receipt("node-1", "pod-1/v", &arn, &v(2)).await;
    bench.keeper.value(&pod_of("shop", "other"), &id(), None, None).await.err().unwrap();
    bench.keeper.schedule_deletion(&Principal::Controller, &id(), DeletionMode::Days(7)).await.unwrap();
    bench.clock.advance(Duration::from_secs(8 * 86_400));
    bench.keeper.purge_due().await.unwrap();
    bench.keeper.refresh("node-1", &arn).await;
    let shown = shown.render();
    for line in [
        r#"tidelock_operations_total{verb="create",outcome="done"} 1"#,
        r#"tidelock_operations_total{verb="project",outcome="done"} 1"#,
        r#"tidelock_operations_total{verb="put",outcome="done"} 1"#,
        r#"tidelock_operations_total{verb="delete",outcome="done"} 1"#,
        r#"tidelock_operations_total{verb="reveal",outcome="AccessDenied"} 1"#,
        "tidelock_secrets_purged_total 1",
        "tidelock_projection_receipts_total 2",
        r#"tidelock_projection_withdrawals_total{reason="SecretRemoved"} 1"#,
        r#"tidelock_projection_commit_to_receipt_seconds_count{node="node-1"} 1"#,
        r#"tidelock_projection_commit_to_receipt_seconds_sum{node="node-1"} 0.25"#,
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is not in\n{shown}");
    }
}

#[tokio::test]
async fn access_keys_are_counted_by_what_is_to_be_done_about_them() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let recorder = PrometheusBuilder::new().build_recorder();
    let shown = recorder.handle();
    let _here = metrics::set_default_local_recorder(&recorder);
    let bench = bench().await;
    bench.answers.allow_keys(&app(), KeyOperation::Create);
    for (name, days) in [("a", 1), ("b", 4), ("c", 4), ("d", 90), ("e", 90), ("f", 90)] {
        let account = ServiceAccount { namespace: "shop".into(), name: name.into() };
        let lasts = Some(SignedDuration::try_from(days * DAY).unwrap());
        bench.keeper.create_access_key(&app(), &CreateAccessKey { account, lasts }).await.unwrap();
    }
    for (day, good, expiring, expired) in [(2, 3, 2, 1), (9, 3, 0, 2), (12, 3, 0, 0), (83, 0, 3, 0)] {
        let since = bench.clock.now().duration_since("2030-01-01T00:00:00Z".parse().unwrap());
        bench.clock.advance(day * DAY - Duration::try_from(since).unwrap() + Duration::from_secs(1));
        bench.keeper.purge_access_keys().await.unwrap();
        let shown = shown.render();
        for (state, count) in [("good", good), ("expiring", expiring), ("expired", expired)] {
            let line = format!("tidelock_access_keys{{state=\"{state}\"}} {count}");
            assert!(shown.lines().any(|shown| shown == line), "day {day}: {line} is not in\n{shown}");
        }
    }
}
