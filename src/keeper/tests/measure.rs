//! Every counter moves, and the one duration is measured.

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
