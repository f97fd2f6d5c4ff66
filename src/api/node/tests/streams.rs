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
