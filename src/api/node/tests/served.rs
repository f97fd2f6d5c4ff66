//! What a node is told for its trust window, and what the server makes of what it did in it.

use super::*;
use crate::keeper::{Configure, DeletionMode};
use crate::secret::SecretId;
use crate::wire::node::{FirstMounts, Keep, Recorded};

const VALUE: &str = "{\"user\":\"orders\",\"password\":\"one\"}";

fn keep(mount: &Mount, first_mounts: FirstMounts) -> Message {
    Message::Keep(Keep { mount_id: mount.mount_id.clone(), first_mounts: first_mounts.into() })
}

/// What the first pod of the node has, as its agent tells of it.
async fn held_by_one(server: &Server) -> Mount {
    server.bench.resource("orders-db", Some(VALUE)).await;
    server.pod("orders-0", "node-1");
    let mut agent = server.agent("node-1", vec![]).await;
    let (payload, place) = agent.mounted(1, "orders-0", "orders-db").await;
    assert_eq!(
        (place.first_mounts(), place.account_uid.as_str()),
        (FirstMounts::Served, "uid-of-orders-api")
    );
    agent.receipt(&place).await;
    server.until_consumers("orders-db", (1, 1)).await;
    held(mount("orders-0", "orders-db"), &payload)
}

/// The node has served these while the server was away.
async fn returned(server: &Server, mounts: Vec<Mount>, served: &[&Mount]) -> Agent {
    let mut agent = server.connect("agent-node-1").await.unwrap();
    let served =
        served.iter().map(|mount| Served { mount: Some((*mount).clone()), at_seconds: 1_893_456_000 });
    agent.hello_that_served("node-1", mounts, served.collect()).await;
    assert!(matches!(agent.next().await, Message::Welcome(_)));
    agent
}

#[tokio::test]
async fn what_was_served_while_the_server_was_away_is_written_down_and_then_checked_as_any_mount() {
    let server = server().await;
    let first = held_by_one(&server).await;
    let of = |pod: &str| Mount {
        mount_id: format!("uid-of-{pod}/orders-db"),
        pod_name: pod.into(),
        pod_uid: format!("uid-of-{pod}"),
        ..first.clone()
    };
    let (there, gone) = (of("orders-1"), of("orders-2"));
    server.pod("orders-1", "node-1");
    // The right was taken away meanwhile.
    let id = SecretId::parse("shop/orders-db").unwrap();
    let none = Configure { description: None, grants: vec![], recovery_window_days: 30 };
    server.bench.keeper.configure(&Principal::Controller, &id, &none).await.unwrap();

    let mut agent = returned(&server, vec![first.clone(), there.clone()], &[&there, &gone]).await;
    let mut recorded = Vec::new();
    let mut withdrawn = Vec::new();
    while recorded.len() + withdrawn.len() < 4 {
        match agent.next().await {
            Message::Recorded(Recorded { mount_id }) => recorded.push(mount_id),
            Message::Withdraw(withdraw) => withdrawn.push(withdraw.mount_id),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(recorded, [there.mount_id.clone(), gone.mount_id.clone()]);
    withdrawn.sort();
    assert_eq!(withdrawn, [first.mount_id, there.mount_id]);
    let row = |pod: &str| {
        let outcome = "served to system:serviceaccount:shop:orders-api at 2030-01-01T00:00:00Z";
        ("system:node:node-1".to_owned(), format!("shop/{pod}/uid-of-{pod}"), outcome.to_owned())
    };
    assert_eq!(server.bench.audit("trust-window").await, [row("orders-1"), row("orders-2")]);
    assert_eq!(server.bench.audit("withdraw").await.len(), 2);
}

#[tokio::test]
async fn a_mount_that_was_served_rightly_becomes_a_consumer() {
    let server = server().await;
    let first = held_by_one(&server).await;
    let second = Mount {
        mount_id: "uid-of-orders-1/orders-db".into(),
        pod_name: "orders-1".into(),
        pod_uid: "uid-of-orders-1".into(),
        ..first.clone()
    };
    server.pod("orders-1", "node-1");
    let mut agent = returned(&server, vec![first.clone(), second.clone()], &[&second]).await;
    assert_eq!(agent.next().await, Message::Recorded(Recorded { mount_id: second.mount_id.clone() }));
    assert_eq!(agent.next().await, keep(&first, FirstMounts::Served));
    assert_eq!(agent.next().await, keep(&second, FirstMounts::Served));
    server.until_consumers("orders-db", (2, 2)).await;
}

#[tokio::test]
async fn a_node_learns_at_once_that_other_pods_would_be_refused() {
    let server = server().await;
    let first = held_by_one(&server).await;
    let mut agent = server.agent("node-1", vec![first.clone()]).await;
    assert_eq!(agent.next().await, keep(&first, FirstMounts::Served));
    let id = SecretId::parse("shop/orders-db").unwrap();
    let mode = DeletionMode::OwnWindow;
    server.bench.keeper.schedule_deletion(&Principal::Controller, &id, mode).await.unwrap();
    assert_eq!(agent.next().await, keep(&first, FirstMounts::Refused));
    // Once; and a stream that begins afterwards hears it as well.
    drop(agent);
    let mut agent = server.agent("node-1", vec![Mount { copy_wanted: true, ..first.clone() }]).await;
    assert_eq!(agent.next().await, keep(&first, FirstMounts::Refused));
}

#[tokio::test]
async fn a_node_without_a_copy_is_sent_one_and_its_files_stay() {
    let server = server().await;
    let first = held_by_one(&server).await;
    let mut agent = server.agent("node-1", vec![Mount { copy_wanted: true, ..first.clone() }]).await;
    assert_eq!(content(&agent.payload().await, "password"), "one");
    let place = agent.place().await;
    assert!(place.copy_only && place.first_mounts() == FirstMounts::Served);
    agent.receipt(&place).await;
    // The next version is a change of the files again.
    server.bench.put("orders-db", 2, "{\"password\":\"two\"}").await;
    agent.payload().await;
    assert!(!agent.place().await.copy_only);
}

#[tokio::test]
async fn a_hello_that_tells_of_too_much_or_of_nothing_is_answered() {
    let server = server().await;
    let agent = server.connect("agent-node-1").await.unwrap();
    let mut agent = agent;
    let many = vec![Served::default(); 1025];
    agent.hello_that_served("node-1", vec![], many).await;
    assert_eq!(agent.end().await.code(), tonic::Code::ResourceExhausted);
    let first = held_by_one(&server).await;
    let odd = Mount { pod_uid: "another".into(), ..first.clone() };
    let mut agent = returned(&server, vec![first.clone()], &[&odd]).await;
    assert_eq!(agent.next().await, keep(&first, FirstMounts::Served));
    assert!(server.bench.audit("trust-window").await.is_empty());
}
