//! What mounts get and when: at first, after a change, after a restart, and when a right is gone.

use super::*;
use crate::access::Operation;
use crate::keeper::Configure;
use crate::secret::SecretId;
use crate::wire::node::{DropPayload, FirstMounts, Keep, Withdraw};

const VALUE: &str = "{\"user\":\"orders\",\"password\":\"one\"}";

#[tokio::test]
async fn a_first_mount_gets_its_files_and_its_receipt_counts() {
    let server = server().await;
    server.bench.resource("orders-db", Some(VALUE)).await;
    server.pod("orders-0", "node-1");
    let mut agent = server.agent("node-1", vec![]).await;
    let (payload, place) = agent.mounted(1, "orders-0", "orders-db").await;
    assert_eq!(content(&payload, "password"), "one");
    assert_eq!(content(&payload, "value"), VALUE);
    assert_eq!((place.request_id, place.payload_id), (1, payload.payload_id));
    assert_eq!(server.consumers("orders-db").await, (1, 0));
    agent.receipt(&place).await;
    server.until_consumers("orders-db", (1, 1)).await;
    agent.send(Detach { mount_id: place.mount_id }).await;
    assert_eq!(agent.next().await, Message::DropPayload(DropPayload { payload_id: payload.payload_id }));
    server.until_consumers("orders-db", (0, 0)).await;
}

#[tokio::test]
async fn a_new_version_is_pushed_once_to_a_node_and_placed_in_each_of_its_mounts() {
    let server = server().await;
    server.bench.resource("orders-db", Some(VALUE)).await;
    server.pod("orders-0", "node-1");
    server.pod("orders-1", "node-1");
    let mut agent = server.agent("node-1", vec![]).await;
    let (first, _) = agent.mounted(1, "orders-0", "orders-db").await;
    agent.attach(2, mount("orders-1", "orders-db"), "token-of-orders-1").await;
    assert_eq!(agent.place().await.payload_id, first.payload_id);

    server.bench.put("orders-db", 2, "{\"password\":\"two\"}").await;
    let second = agent.payload().await;
    assert_eq!(content(&second, "password"), "two");
    let (one, other) = (agent.place().await, agent.place().await);
    assert_eq!((one.request_id, one.payload_id, other.payload_id), (0, second.payload_id, second.payload_id));
    assert_ne!(one.mount_id, other.mount_id);
    assert_eq!(agent.next().await, Message::DropPayload(DropPayload { payload_id: first.payload_id }));
    agent.receipt(&one).await;
    agent.receipt(&other).await;
    server.until_consumers("orders-db", (2, 2)).await;
}

#[tokio::test]
async fn a_mount_waits_for_its_secret_its_value_and_its_right_and_is_answered_when_each_comes() {
    let server = server().await;
    server.pod("orders-0", "node-1");
    let mut agent = server.agent("node-1", vec![]).await;
    agent.attach(1, mount("orders-0", "orders-db"), "token-of-orders-0").await;
    let (reason, refused) = agent.refused().await;
    assert_eq!((reason, refused.request_id), (Reason::UnknownSecret, 1));
    assert!(refused.message.contains("orders-db"), "{}", refused.message);

    server.bench.resource("orders-db", None).await;
    assert_eq!(agent.refused().await.0, Reason::NoValue);

    let id = SecretId::parse("shop/orders-db").unwrap();
    let configure = |grants| Configure { description: None, grants, recovery_window_days: 30 };
    server.bench.keeper.configure(&Principal::Controller, &id, &configure(vec![])).await.unwrap();
    assert_eq!(agent.refused().await.0, Reason::NotAllowed);

    server.bench.put("orders-db", 2, VALUE).await;
    let granted = configure(vec![crate::api::tests::grant()]);
    server.bench.keeper.configure(&Principal::Controller, &id, &granted).await.unwrap();
    assert_eq!(content(&agent.payload().await, "password"), "one");
    assert_eq!(agent.place().await.request_id, 1);
}

#[tokio::test]
async fn a_right_in_rbac_alone_is_asked_for_again_while_a_mount_waits() {
    let server = server().await;
    let stranger = account("shop", "stranger", Some(("stranger-0", "node-1")));
    server.bench.tokens.add("token-of-stranger", MOUNT, &stranger);
    server.bench.resource("orders-db", Some(VALUE)).await;
    let mut agent = server.agent("node-1", vec![]).await;
    let wanted = Mount { service_account: "stranger".into(), ..mount("stranger-0", "orders-db") };
    agent.attach(1, wanted, "token-of-stranger").await;
    assert_eq!(agent.refused().await.0, Reason::NotAllowed);
    server.bench.rights.allow(&stranger, Operation::Project);
    server.bench.clock.advance(Duration::from_secs(5));
    agent.payload().await;
    assert_eq!(agent.place().await.request_id, 1);
}

#[tokio::test]
async fn a_right_that_rbac_takes_away_withdraws_the_files_at_the_next_check() {
    let server = server().await;
    let stranger = account("shop", "stranger", Some(("stranger-0", "node-1")));
    server.bench.tokens.add("token-of-stranger-0", MOUNT, &stranger);
    server.bench.rights.allow(&stranger, Operation::Project);
    server.bench.resource("orders-db", Some(VALUE)).await;
    let mut agent = server.agent("node-1", vec![]).await;
    let wanted = Mount { service_account: "stranger".into(), ..mount("stranger-0", "orders-db") };
    agent.attach(1, wanted, "token-of-stranger-0").await;
    let payload = agent.payload().await;
    agent.place().await;
    server.bench.rights.disallow(&stranger, Operation::Project);
    server.bench.clock.advance(Duration::from_secs(60));
    match agent.next().await {
        Message::Withdraw(Withdraw { reason, .. }) => {
            assert!(reason.starts_with("AccessDenied:"), "{reason}")
        }
        other => panic!("not withdrawn: {other:?}"),
    }
    assert_eq!(agent.next().await, Message::DropPayload(DropPayload { payload_id: payload.payload_id }));
    // Once the right is back, so are the files.
    server.bench.rights.allow(&stranger, Operation::Project);
    server.bench.clock.advance(Duration::from_secs(60));
    assert!(agent.payload().await.payload_id > payload.payload_id);
    agent.place().await;
}

#[tokio::test]
async fn after_a_restart_a_mount_keeps_its_files_or_gets_what_changed_meanwhile() {
    let server = server().await;
    server.bench.resource("orders-db", Some(VALUE)).await;
    for pod in ["orders-0", "orders-1", "orders-2"] {
        server.pod(pod, "node-1");
    }
    let mut agent = server.agent("node-1", vec![]).await;
    let (payload, place) = agent.mounted(1, "orders-0", "orders-db").await;
    agent.receipt(&place).await;
    for (request, pod) in [(2, "orders-1"), (3, "orders-2")] {
        agent.attach(request, mount(pod, "orders-db"), &format!("token-of-{pod}")).await;
        agent.place().await;
    }
    drop(agent);
    let manifest = held(mount("orders-0", "orders-db"), &payload);
    let mut agent = server.agent("node-1", vec![manifest.clone()]).await;
    let first_mounts = FirstMounts::Served.into();
    assert_eq!(agent.next().await, Message::Keep(Keep { mount_id: manifest.mount_id.clone(), first_mounts }));
    // What the agent does not name has been unpublished.
    server.until_consumers("orders-db", (1, 1)).await;
    drop(agent);

    server.bench.put("orders-db", 2, "{\"password\":\"two\"}").await;
    let mut agent = server.agent("node-1", vec![manifest.clone()]).await;
    assert_eq!(content(&agent.payload().await, "password"), "two");
    assert_eq!(agent.place().await.mount_id, manifest.mount_id);
}

#[tokio::test]
async fn a_mount_without_a_manifest_is_rebuilt_from_the_server_s_record() {
    let server = server().await;
    server.bench.resource("orders-db", Some(VALUE)).await;
    server.pod("orders-0", "node-1");
    let mut agent = server.agent("node-1", vec![]).await;
    let (_, place) = agent.mounted(1, "orders-0", "orders-db").await;
    agent.receipt(&place).await;
    server.until_consumers("orders-db", (1, 1)).await;
    drop(agent);
    let lost = |pod: &str| Mount {
        mount_id: format!("uid-of-{pod}/orders-db"),
        pod_uid: format!("uid-of-{pod}"),
        volume: "orders-db".into(),
        manifest_lost: true,
        ..Mount::default()
    };
    let mut agent = server.agent("node-1", vec![lost("orders-9"), lost("orders-0")]).await;
    match agent.next().await {
        Message::Withdraw(withdraw) => assert!(withdraw.reason.starts_with("UnknownMount"), "{withdraw:?}"),
        other => panic!("not withdrawn: {other:?}"),
    }
    agent.payload().await;
    let place = agent.place().await;
    assert_eq!(place.mount.unwrap(), mount("orders-0", "orders-db"));
}

#[tokio::test]
async fn a_restarted_mount_is_believed_only_when_the_pod_s_object_agrees() {
    let server = server().await;
    server.bench.resource("orders-db", Some(VALUE)).await;
    let claimed = || "shop/orders-0".to_owned();
    let other_node =
        PodRefused::OtherNode { pod: claimed(), runs_on: "node-2".into(), claimed: "node-1".into() };
    server.pods.say("uid-of-orders-0", Err(other_node));
    let mut agent = server.agent("node-1", vec![mount("orders-0", "orders-db")]).await;
    match agent.next().await {
        Message::Withdraw(withdraw) => assert!(withdraw.reason.starts_with("PodOnOtherNode"), "{withdraw:?}"),
        other => panic!("not withdrawn: {other:?}"),
    }
    drop(agent);
    // Nobody could be asked: the files stay, and the question is asked again.
    server.pods.say("uid-of-orders-0", Err(PodRefused::Unavailable("the API server is away".into())));
    let mut agent = server.agent("node-1", vec![mount("orders-0", "orders-db")]).await;
    server.pod("orders-0", "node-1");
    server.bench.clock.advance(Duration::from_secs(5));
    agent.payload().await;
    assert_eq!(agent.place().await.mount_id, "uid-of-orders-0/orders-db");
}

#[tokio::test]
async fn a_secret_that_is_removed_for_good_takes_its_files_and_a_scheduled_deletion_does_not() {
    let server = server().await;
    server.bench.resource("orders-db", Some(VALUE)).await;
    server.pod("orders-0", "node-1");
    server.pod("orders-1", "node-1");
    let mut agent = server.agent("node-1", vec![]).await;
    agent.mounted(1, "orders-0", "orders-db").await;
    let id = SecretId::parse("shop/orders-db").unwrap();
    let mode = crate::keeper::DeletionMode::OwnWindow;
    server.bench.keeper.schedule_deletion(&Principal::Controller, &id, mode).await.unwrap();
    agent.attach(2, mount("orders-1", "orders-db"), "token-of-orders-1").await;
    loop {
        match agent.next().await {
            // The running pod keeps its files; the node learns that others would get none.
            Message::Keep(keep) => assert_eq!(keep.first_mounts(), FirstMounts::Refused),
            Message::Refused(refused) => break assert_eq!(refused.reason(), Reason::ScheduledForDeletion),
            other => panic!("neither kept nor refused: {other:?}"),
        }
    }
    server.bench.clock.advance(Duration::from_secs(31 * 24 * 3600 - 60));
    server.bench.keeper.purge_due().await.unwrap();
    let mut withdrawn = false;
    while !withdrawn {
        match agent.next().await {
            Message::Withdraw(withdraw) => {
                assert_eq!(withdraw.mount_id, "uid-of-orders-0/orders-db");
                withdrawn = true;
            }
            Message::Refused(refused) => assert_eq!(refused.reason(), Reason::UnknownSecret),
            Message::Keep(keep) => assert_eq!(keep.first_mounts(), FirstMounts::Refused),
            other => panic!("neither withdrawn nor refused: {other:?}"),
        }
    }
}
