//! Who may open a stream, for which pods it may speak, and how it ends.

use tonic::Code;

use super::*;

const VALUE: &str = "{\"password\":\"one\"}";

#[tokio::test]
async fn only_the_agent_s_own_token_of_a_pod_on_a_node_opens_a_stream() {
    let server = server().await;
    let tokens = &server.bench.tokens;
    tokens.add("no-node", STREAM, &account("tidelock", "tidelock-node", None));
    tokens.add("stranger", STREAM, &account("shop", "orders-api", Some(("orders-0", "node-1"))));
    let agent = account("tidelock", "tidelock-node", Some(("agent", "node-1")));
    tokens.add("mount-audience", MOUNT, &agent);
    let check = async |token: &str, code: Code| {
        let refused = server.connect(token).await.err().expect("no stream is opened");
        assert_eq!(refused.code(), code, "{token}: {refused}");
        assert!(!refused.message().contains(token), "{refused}");
    };
    check("unknown", Code::Unauthenticated).await;
    check("mount-audience", Code::Unauthenticated).await;
    check("stranger", Code::PermissionDenied).await;
    check("no-node", Code::PermissionDenied).await;
    check("cluster-away", Code::Unavailable).await;
}

#[tokio::test]
async fn a_stream_begins_with_one_hello_of_its_own_node_and_protocol() {
    let server = server().await;
    let mut agent = server.connect("agent-node-1").await.unwrap();
    agent.hello("node-2", vec![]).await;
    assert_eq!(agent.end().await.code(), Code::PermissionDenied);

    let mut agent = server.connect("agent-node-1").await.unwrap();
    agent.send(Detach { mount_id: "x".into() }).await;
    assert_eq!(agent.end().await.code(), Code::InvalidArgument);

    let mut agent = server.connect("agent-node-1").await.unwrap();
    agent.send(Hello { protocol_version: 99, node_name: "node-1".into(), ..Hello::default() }).await;
    assert_eq!(agent.end().await.code(), Code::FailedPrecondition);

    let mut agent = server.agent("node-1", vec![]).await;
    agent.hello("node-1", vec![]).await;
    assert_eq!(agent.end().await.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_pod_s_token_is_worth_nothing_on_another_node_s_stream_or_for_another_pod() {
    let server = server().await;
    server.bench.resource("orders-db", Some(VALUE)).await;
    server.pod("orders-0", "node-2");
    server.pod("orders-1", "node-1");
    let mut agent = server.agent("node-1", vec![]).await;
    let mut check = async |request: u64, mount: Mount, token: &str, says: &str| {
        agent.attach(request, mount, token).await;
        let (reason, refused) = agent.refused().await;
        assert_eq!((reason, refused.request_id), (Reason::TokenRejected, request));
        assert!(refused.message.contains(says), "{}", refused.message);
    };
    let own = mount("orders-1", "orders-db");
    check(1, mount("orders-0", "orders-db"), "token-of-orders-0", "not bound to node node-1").await;
    check(2, mount("orders-2", "orders-db"), "token-of-orders-1", "another pod").await;
    let other_namespace = Mount { pod_namespace: "else".into(), ..own.clone() };
    check(3, other_namespace, "token-of-orders-1", "another pod").await;
    let other_account = Mount { service_account: "admin".into(), ..own.clone() };
    check(4, other_account, "token-of-orders-1", "another ServiceAccount").await;
    check(5, own.clone(), "agent-node-1", "does not accept the token").await;
    check(6, own.clone(), "", "does not accept the token").await;
    let no_pod = account("shop", "orders-api", None);
    server.bench.tokens.add("no-pod", MOUNT, &no_pod);
    check(7, own, "no-pod", "not bound to a pod").await;
    assert_eq!(server.consumers("orders-db").await, (0, 0));
}

#[tokio::test]
async fn what_a_node_writes_about_a_mount_is_checked_before_anybody_is_asked() {
    let server = server().await;
    server.pod("orders-0", "node-1");
    let mut agent = server.agent("node-1", vec![]).await;
    let wrong_id = Mount { mount_id: "uid-of-orders-1/orders-db".into(), ..mount("orders-0", "orders-db") };
    agent.attach(1, wrong_id, "token-of-orders-0").await;
    assert_eq!(agent.refused().await.0, Reason::BadRequest);
    let unknown = [("secret".to_owned(), "orders-db".to_owned()), ("root".to_owned(), "yes".to_owned())];
    let attributes = Mount { attributes: unknown.into(), ..mount("orders-0", "orders-db") };
    agent.attach(2, attributes, "token-of-orders-0").await;
    let (reason, refused) = agent.refused().await;
    assert_eq!(reason, Reason::BadRequest);
    assert!(refused.message.contains("root"), "{}", refused.message);
}

#[tokio::test]
async fn a_newer_stream_of_a_node_ends_the_former_one() {
    let server = server().await;
    let mut former = server.agent("node-1", vec![]).await;
    let other_node = server.agent("node-2", vec![]).await;
    let mut newer = server.agent("node-1", vec![]).await;
    assert_eq!(former.end().await.code(), Code::Aborted);
    server.bench.resource("orders-db", Some(VALUE)).await;
    server.pod("orders-0", "node-1");
    newer.mounted(1, "orders-0", "orders-db").await;
    drop(other_node);
}

#[tokio::test]
async fn a_stream_lasts_as_long_as_its_agent_proves_itself_anew() {
    let server = server().await;
    let mut agent = server.agent("node-1", vec![]).await;
    server.bench.clock.advance(Duration::from_secs(4000));
    agent.send(Reauthenticate { token: "agent-node-1".into() }).await;
    // An answer to something said later shows that the token was taken.
    server.bench.resource("orders-db", Some(VALUE)).await;
    server.pod("orders-0", "node-1");
    agent.mounted(1, "orders-0", "orders-db").await;
    server.bench.clock.advance(Duration::from_secs(4499));
    server.pod("orders-1", "node-1");
    agent.attach(2, mount("orders-1", "orders-db"), "token-of-orders-1").await;
    agent.place().await;
    server.bench.clock.advance(Duration::from_secs(1));
    assert_eq!(agent.end().await.code(), Code::Unauthenticated);

    let mut agent = server.agent("node-1", vec![]).await;
    server.bench.tokens.revoke("agent-node-1");
    agent.send(Reauthenticate { token: "agent-node-1".into() }).await;
    assert_eq!(agent.end().await.code(), Code::Unauthenticated);

    let mut agent = server.agent("node-2", vec![]).await;
    let other = account("tidelock", "tidelock-node", Some(("agent", "node-1")));
    server.bench.tokens.add("of-node-1", STREAM, &other);
    agent.send(Reauthenticate { token: "of-node-1".into() }).await;
    assert_eq!(agent.end().await.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_receipt_for_a_mount_of_another_node_counts_for_nothing() {
    let server = server().await;
    server.bench.resource("orders-db", Some(VALUE)).await;
    server.pod("orders-0", "node-1");
    server.pod("orders-1", "node-2");
    let mut own = server.agent("node-1", vec![]).await;
    let mut other = server.agent("node-2", vec![]).await;
    let (_, place) = own.mounted(1, "orders-0", "orders-db").await;
    other.receipt(&place).await;
    other.send(Detach { mount_id: place.mount_id.clone() }).await;
    // An answer to something said later shows that both were heard.
    let (_, others) = other.mounted(2, "orders-1", "orders-db").await;
    assert_eq!(server.consumers("orders-db").await, (2, 0));
    other.receipt(&others).await;
    server.until_consumers("orders-db", (2, 1)).await;
}

#[tokio::test]
async fn when_the_server_stops_every_stream_is_told_and_drained() {
    let server = server().await;
    let mut agent = server.agent("node-1", vec![]).await;
    server.open.stop.cancel();
    assert_eq!(agent.end().await.code(), Code::Unavailable);
    tokio::time::timeout(PATIENCE, server.door.drained()).await.expect("the streams have ended");
    assert!(server.connect("agent-node-1").await.is_err());
}

#[tokio::test]
async fn a_message_that_is_too_large_or_none_at_all_ends_the_stream_with_the_reason() {
    let server = server().await;
    let long = "x".repeat(MESSAGE_BYTES_MAX);
    let mut agent = server.connect("agent-node-1").await.unwrap();
    agent.send(Hello { agent_version: long.clone(), ..Hello::default() }).await;
    let end = agent.end().await;
    assert_eq!(end.code(), Code::ResourceExhausted, "{end}");
    assert!(end.message().contains("at most 4194304 bytes"), "{end}");

    let mut agent = server.agent("node-1", vec![]).await;
    agent.send(Detach { mount_id: long }).await;
    assert_eq!(agent.end().await.code(), Code::ResourceExhausted);

    let mounts = (0..4097).map(|n| mount(&n.to_string(), "orders-db")).collect();
    let mut agent = server.connect("agent-node-1").await.unwrap();
    agent.hello("node-1", mounts).await;
    let end = agent.end().await;
    assert_eq!((end.code(), end.message()), (Code::ResourceExhausted, "a node has at most 4096 mounts"));

    let end = server.raw("agent-node-1", b"\x00\x00\x00\x00\x04nope").await;
    assert_eq!(end.0.as_deref(), Some("3"), "InvalidArgument: {end:?}");
    assert!(end.1.contains("node.proto"), "{end:?}");
    // The server is well: an honest agent is served.
    drop(server.agent("node-1", vec![]).await);
}

#[tokio::test]
async fn messages_out_of_their_order_change_nothing_and_cost_nobody_the_stream() {
    let server = server().await;
    server.bench.resource("orders-db", Some(VALUE)).await;
    server.pod("orders-0", "node-1");
    let mut agent = server.agent("node-1", vec![]).await;
    let arn = server.bench.keeper.secret_of_resource("shop", "orders-db").unwrap().to_string();
    let receipt = |mount_id: &str, version_id: String| Receipt {
        mount_id: mount_id.into(),
        secret_arn: arn.clone(),
        version_id,
    };
    // Before anything was placed, of mounts that are none, with words that are no ids.
    agent.send(receipt("uid-of-orders-0/orders-db", format!("{:032}", 1))).await;
    agent.send(receipt("", "\u{0}".into())).await;
    agent.send(Detach { mount_id: "../..".into() }).await;
    agent.send(Attach { request_id: 1, mount: None, pod_token: "token-of-orders-0".into() }).await;
    let (reason, refused) = agent.refused().await;
    assert_eq!((reason, refused.request_id), (Reason::BadRequest, 1));
    assert!(refused.message.contains("pod_uid must have 1 to 253 bytes"), "{}", refused.message);
    agent.send(FromNode { message: None }).await;

    let (_, place) = agent.mounted(2, "orders-0", "orders-db").await;
    assert_eq!(server.consumers("orders-db").await, (1, 0), "no receipt came from before");
    // The same again, and of a version that never was.
    agent.send(receipt(&place.mount_id, format!("{:032}", 99))).await;
    agent.receipt(&place).await;
    agent.receipt(&place).await;
    server.until_consumers("orders-db", (1, 1)).await;
    agent.send(Detach { mount_id: place.mount_id.clone() }).await;
    agent.receipt(&place).await;
    server.until_consumers("orders-db", (0, 0)).await;
}

#[tokio::test]
async fn a_thousand_connections_of_one_node_leave_one_stream_and_the_others_their_service() {
    let server = server().await;
    server.bench.resource("orders-db", Some(VALUE)).await;
    server.pod("orders-1", "node-2");
    let mut other = server.agent("node-2", vec![]).await;
    let before = resident_kib();
    let mut former = Vec::new();
    for _ in 0..1000 {
        former.push(server.connect("agent-node-1").await.expect("a connection below the limit"));
    }
    other.mounted(1, "orders-1", "orders-db").await;
    let mut last = former.pop().unwrap();
    for mut agent in former {
        let end = agent.end().await;
        assert_eq!((end.code(), end.message()), (Code::Aborted, "a newer stream of this node has begun"));
    }
    last.hello("node-1", vec![]).await;
    assert!(matches!(last.next().await, Message::Welcome(_)));
    // Both ends of a thousand connections lie in this process.
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 256 * 1024, "{grown} KiB more are resident");
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
