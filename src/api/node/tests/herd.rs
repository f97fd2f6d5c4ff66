//! All nodes come back at once, with what they hold and with pods that wait.

use futures::future::join_all;

use super::*;
use crate::wire::node::{FirstMounts, Keep};

const NODES: usize = 200;
const VALUE: &str = "{\"password\":\"one\"}";

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_nodes_that_return_at_once_are_all_served_without_a_rush_on_the_api_server() {
    let server = server().await;
    server.bench.resource("orders-db", Some(VALUE)).await;
    let version = {
        server.pod("first", "node-1");
        let mut agent = server.agent("node-1", vec![]).await;
        agent.mounted(1, "first", "orders-db").await.1.version_id
    };
    let arn = server.bench.keeper.secret_of_resource("shop", "orders-db").unwrap().to_string();
    let names: Vec<String> = (0..NODES).map(|n| format!("node-of-many-{n}")).collect();
    for node in &names {
        let agent = account("tidelock", "tidelock-node", Some((&format!("agent-{node}"), node)));
        server.bench.tokens.add(&format!("agent-{node}"), STREAM, &agent);
        server.pod(&format!("{node}-runs"), node);
        server.pod(&format!("{node}-waits"), node);
    }
    // Twice: as after a restart of the server, and while streams of before are not known to be dead.
    let mut before = Vec::new();
    for round in 1..=2 {
        let returns = names.iter().map(|node| {
            let (runs, waits) = (format!("{node}-runs"), format!("{node}-waits"));
            let held = Mount {
                secret_arn: arn.clone(),
                version_id: version.clone(),
                file_names: vec!["password".into(), "value".into()],
                ..mount(&runs, "orders-db")
            };
            let server = &server;
            async move {
                let mut agent = server.agent(node, vec![held.clone()]).await;
                agent.attach(round, mount(&waits, "orders-db"), &format!("token-of-{waits}")).await;
                let (mut kept, mut placed) = (false, false);
                while !(kept && placed) {
                    match agent.next().await {
                        Message::Payload(_) => {}
                        Message::Place(place) => placed = place.request_id == round,
                        Message::Keep(Keep { mount_id, first_mounts }) => {
                            kept =
                                mount_id == held.mount_id && first_mounts == i32::from(FirstMounts::Served);
                        }
                        other => panic!("{node}: {other:?}"),
                    }
                }
                agent
            }
        });
        // Those of the round before are dropped when all have come anew.
        before = tokio::time::timeout(6 * PATIENCE, join_all(returns)).await.expect("all are served");
        assert_eq!(before.len(), NODES);
    }
    drop(before);
    let most = server.pods.asked_at_once_most.load(Ordering::SeqCst);
    assert!(most <= 64, "{most} pods were asked about at once");
}
