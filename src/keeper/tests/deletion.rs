//! Scheduled deletion, restore, purge.

use super::*;

const MARKED: &str = "You can't perform this operation on the secret because it was marked for deletion.";

#[tokio::test]
async fn a_scheduled_secret_is_described_and_not_read_and_comes_back_whole() {
    let bench = bench().await;
    let created = bench.resource(Some("first"), vec![grant_of(None)]).await;
    let by = Principal::Controller;
    let scheduled = bench.keeper.schedule_deletion(&by, &id(), DeletionMode::OwnWindow).await.unwrap();
    assert_eq!(scheduled.due_at.to_string(), "2030-01-31T00:00:00Z");
    let read = bench.keeper.value(&app(), &id(), None, None).await.err().unwrap();
    assert_eq!((read.aws_type(), read.to_string().as_str()), ("InvalidRequestException", MARKED));
    let put = bench.keeper.put(&by, &id(), &v(2), &text("2"), None).await.unwrap_err();
    assert_eq!(put.to_string(), MARKED);
    assert!(bench.keeper.describe(&by, &id()).await.unwrap().deletion.is_some());
    let create = bench.keeper.create(&by, &of_resource("cr-1", Some("x"), vec![])).await;
    assert_eq!(reason(create), "NameMarkedForDeletion");
    bench.clock.advance(Duration::from_secs(3600));
    let again = bench.keeper.schedule_deletion(&by, &id(), DeletionMode::OwnWindow).await.unwrap();
    assert_eq!(again, scheduled, "the window does not begin anew");

    let resource = |uid, namespace_uid, approved| Restoration::Resource { uid, namespace_uid, approved };
    let foreign = bench.keeper.restore(&by, &id(), resource("cr-2", "ns-2", false)).await;
    assert_eq!(reason(foreign), "RestoreNeedsApproval");
    let restored = bench.keeper.restore(&by, &id(), resource("cr-2", "ns-1", false)).await.unwrap();
    assert_eq!(restored.arn, created.arn);
    assert_eq!(bench.keeper.value(&app(), &id(), None, None).await.unwrap().value.bytes.expose(), b"first");
    let adopted = bench.keeper.create(&by, &of_resource("cr-2", Some("x"), vec![])).await.unwrap();
    assert_eq!(adopted, created, "it is the new resource's own now");
}

#[tokio::test]
async fn an_approved_restore_gives_the_secret_to_the_new_namespace() {
    let bench = bench().await;
    bench.resource(Some("first"), vec![]).await;
    let by = Principal::Controller;
    bench.keeper.schedule_deletion(&by, &id(), DeletionMode::Days(7)).await.unwrap();
    let restoration = Restoration::Resource { uid: "cr-9", namespace_uid: "ns-9", approved: true };
    bench.keeper.restore(&by, &id(), restoration).await.unwrap();
    let Origin::CustomResource { uid, namespace_uid, .. } = bench.record(NAME).await.origin else { panic!() };
    assert_eq!((uid.as_str(), namespace_uid.as_str()), ("cr-9", "ns-9"));
}

#[tokio::test]
async fn windows_out_of_range_and_restores_without_a_right_are_refused() {
    let bench = bench().await;
    bench.resource(Some("first"), vec![grant_of(None)]).await;
    let deletion = bench.keeper.schedule_deletion(&Principal::Controller, &id(), DeletionMode::Days(6)).await;
    assert_eq!(reason(deletion), "InvalidParameter");
    assert_eq!(reason(bench.keeper.restore(&app(), &id(), Restoration::Caller).await), "AccessDenied");
    assert_eq!(
        reason(bench.keeper.schedule_deletion(&app(), &id(), DeletionMode::Force).await),
        "AccessDenied"
    );
}

#[tokio::test]
async fn a_secret_is_purged_when_its_window_ends_and_not_before() {
    let bench = bench().await;
    let created = bench.resource(Some("first"), vec![]).await;
    bench.keeper.schedule_deletion(&Principal::Controller, &id(), DeletionMode::Days(7)).await.unwrap();
    bench.clock.advance(Duration::from_secs(7 * 86_400 - 1));
    assert!(bench.keeper.purge_due().await.unwrap().is_empty());
    let mut changes = bench.keeper.changes();
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.keeper.purge_due().await.unwrap(), vec![created.arn.clone()]);
    assert_eq!(changes.try_recv().unwrap(), Changed { arn: created.arn.clone(), what: What::Removed });
    assert_eq!(bench.keeper.secret_of_resource("shop", "orders-db"), None);
    let fresh = bench.resource(Some("second"), vec![]).await;
    assert_ne!(fresh.arn, created.arn, "a new secret has a new ARN");
    assert!(bench.audit().await.iter().any(|(_, verb, _)| verb == "purge"));
}

#[tokio::test]
async fn secrets_of_resources_are_found_again_after_a_restart() {
    let bench = bench().await;
    let created = bench.resource(Some("first"), vec![]).await;
    let restarted = bench.restarted().await;
    assert_eq!(restarted.secret_of_resource("shop", "orders-db"), Some(created.arn));
    assert_eq!(restarted.secret_of_resource("shop", "other"), None);
}
