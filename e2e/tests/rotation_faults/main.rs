//! What rotations live through: the death of their pod, of the node agents, of the server's node and of their own node,
//! and a node that is cut off and comes back. Each at twelve moments: before, in and after each of the four steps. One
//! cluster for all; the server lives on its second node, rotations on the third. Must not look into Tidelock.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "rows of the table of faults that the test run ends with")]

mod held;
mod tenant;

use std::time::Instant;

use serde_json::json;
use tidelock_e2e::caller::Caller;
use tidelock_e2e::shop::{NAMESPACE, Shop};
use tidelock_e2e::{Options, install};

use held::{Held, PATIENCE, all_end_well, events_say, hold_all};
use tenant::{Moment, always_logged_in, in_pod, objects, said, set_gate};

#[tokio::test(flavor = "multi_thread")]
async fn rotations_outlive_pods_agents_and_nodes_at_every_step() {
    let shop = Shop::with_store_on(2, Options::nodes(3)).await.unwrap();
    install::install(&shop.cluster, &shop.image, &[]).await.unwrap();
    tenant::moves_in(&shop).await;
    let begun = Instant::now();
    let mark = |what: &str| println!("{:5.1} s: {what}", begun.elapsed().as_secs_f32());
    the_pod_is_deleted(&shop).await;
    mark("pods deleted");
    the_agents_are_killed(&shop).await;
    mark("agents killed");
    the_server_s_node_loses_its_power(&shop).await;
    mark("the server's node killed");
    the_node_is_cut_off_and_comes_back(&shop).await;
    mark("the rotations' node cut off");
    the_node_loses_its_power(&shop).await;
    mark("the rotations' node killed");
}

fn row(what: &str, held: &[Held], outcome: impl Fn(Moment) -> &'static str) {
    for one in held {
        println!("fault: {what} | {} {} | {}", one.moment.when, one.moment.step, outcome(one.moment));
    }
}

/// What is told of those whose attempt failed.
fn failed_attempts(held: &[Held]) -> Vec<(&Held, String)> {
    let failed = held.iter().filter(|one| !one.moment.is_promoted());
    failed.map(|one| (one, format!("(Job {}) failed", one.job))).collect()
}

async fn the_pod_is_deleted(shop: &Shop) {
    let held = hold_all(shop, "pod-deleted").await;
    let words = ["-n", NAMESPACE, "delete", "pod", "-l", "tidelock.dev/rotation", "--grace-period=1"];
    shop.cluster.kubectl(&words).await.unwrap();
    all_end_well(shop, &held).await;
    events_say(shop, &failed_attempts(&held)).await;
    row("rotation pod deleted", &held, |moment| match moment {
        moment if moment.is_promoted() => "told as succeeded; current logged in throughout",
        moment if moment.has_value() => {
            "the same value taken up by another attempt; current logged in throughout"
        }
        _ => "another attempt under the same token; current logged in throughout",
    });
}

/// Of all nodes, that of the rotations and that of the reader among them.
async fn the_agents_are_killed(shop: &Shop) {
    let held = hold_all(shop, "agents-killed").await;
    for node in shop.cluster.nodes() {
        node.process(&["tidelock node --"]).unwrap().kill().unwrap();
    }
    set_gate(shop, "go").await;
    all_end_well(shop, &held).await;
    let schedules = objects(shop, "jobs").await.unwrap();
    for one in &held {
        let job = &schedules[one.job.split_once('/').unwrap().1];
        assert_eq!(job["status"]["succeeded"], 1, "{}: the attempt itself went on", one.name);
    }
    the_reader_has_the_new_files(shop, &held).await;
    row("all node agents killed", &held, |_| "the attempt went on; current logged in throughout");
}

async fn the_reader_has_the_new_files(shop: &Shop, held: &[Held]) {
    let all_current = async || {
        let secrets = objects(shop, "managedsecrets").await?;
        held.iter().all(|one| secrets[&one.name]["status"]["consumers"]["current"] == 1).then_some(())
    };
    shop.cluster.wait_for("the reader to hold each new version", PATIENCE, all_current).await.unwrap();
}

async fn the_server_s_node_loses_its_power(shop: &Shop) {
    let held = hold_all(shop, "server-node-killed").await;
    shop.cluster.node(2).kill().await.unwrap();
    // The steps go on meanwhile, and find no server. The pod's own end is what the last one waits for.
    set_gate(shop, "go").await;
    let ended = async || {
        let jobs = objects(shop, "jobs").await?;
        let of =
            |one: &Held| jobs[one.job.split_once('/').unwrap().1]["status"]["active"].as_u64().unwrap_or(0);
        held.iter().all(|one| of(one) == 0).then_some(())
    };
    shop.cluster.wait_for("the attempts to end without a server", PATIENCE, ended).await.unwrap();
    always_logged_in(shop).await;
    shop.cluster.start_node(2).await.unwrap();
    all_end_well(shop, &held).await;
    the_reader_has_the_new_files(shop, &held).await;
    row(
        "server's node killed",
        &held,
        |_| "completed by itself when it was back; current logged in throughout",
    );
}

/// The server goes on without the node; what ran there must change nothing when it comes back.
async fn the_node_is_cut_off_and_comes_back(shop: &Shop) {
    let operator = operator(shop).await;
    let held = hold_all(shop, "cut-off").await;
    shop.cluster.node(3).partition().unwrap();
    let (with_value, without): (Vec<Held>, Vec<Held>) =
        held.into_iter().partition(|one| one.moment.has_value());
    all_values_are_taken_up(shop, &with_value).await;
    waits_for_node(shop, &without).await;
    // Someone writes a value by hand: a pod that moved AWSCURRENT now would undo it.
    let by_hand = "00000000-0000-0000-0000-00000000cafe";
    let last =
        with_value.iter().find(|one| one.moment == Moment { step: "finishSecret", when: "in" }).unwrap();
    let learn = format!(
        "printf byhand | wget -q -O /dev/null --post-file /dev/stdin $TARGET/cgi-bin/token?{}",
        last.name
    );
    in_pod(shop, "reader", &learn).await;
    let request = json!({"SecretId": format!("{NAMESPACE}/{}", last.name), "ClientRequestToken": by_hand, "SecretString": "byhand"});
    let (status, body) = operator.call("PutSecretValue", request).await.unwrap();
    assert_eq!(status, 200, "{body}");
    let before = objects(shop, "managedsecrets").await.unwrap();

    set_gate(shop, "go").await;
    shop.cluster.node(3).heal().unwrap();
    let tried = async || {
        let said = said(shop).await;
        let word = format!("ended-{}.finishSecret.", last.name);
        let codes: Vec<String> =
            said.iter().filter_map(|one| one.strip_prefix(&word).map(str::to_owned)).collect();
        codes.iter().any(|code| code != "0").then_some(codes)
    };
    let tried =
        shop.cluster.wait_for("the pod that was cut off to try to finish", PATIENCE, tried).await.unwrap();
    println!("the pod that comes back ended with {tried:?}");
    all_end_well(shop, &without).await;
    let after = objects(shop, "managedsecrets").await.unwrap();
    for one in &with_value {
        let of = |all: &std::collections::BTreeMap<String, serde_json::Value>| {
            all[&one.name]["status"]["versions"].clone()
        };
        assert_eq!(of(&before), of(&after), "{}: a pod that comes back changes nothing", one.name);
    }
    assert_eq!(after[&last.name]["status"]["currentVersion"], by_hand);
    row("rotation's node cut off, and back", &with_value, |moment| match moment {
        moment if moment.is_promoted() => "told as succeeded; the old pod changed nothing when it came back",
        _ => "taken up by another attempt; the old pod changed nothing when it came back",
    });
    row(
        "rotation's node cut off, and back",
        &without,
        |_| "waited for the node (WaitingForNode), then one version",
    );
}

async fn the_node_loses_its_power(shop: &Shop) {
    let held = hold_all(shop, "node-killed").await;
    shop.cluster.node(3).kill().await.unwrap();
    let (with_value, without): (Vec<Held>, Vec<Held>) =
        held.into_iter().partition(|one| one.moment.has_value());
    all_values_are_taken_up(shop, &with_value).await;
    waits_for_node(shop, &without).await;
    shop.cluster.start_node(3).await.unwrap();
    all_end_well(shop, &without).await;
    all_end_well(shop, &with_value).await;
    row("rotation's node killed", &with_value, |moment| match moment {
        moment if moment.is_promoted() => "told as succeeded; current logged in throughout",
        _ => "the value taken up on another node; current logged in throughout",
    });
    row("rotation's node killed", &without, |_| "waited for the node (WaitingForNode), then one version");
}

/// Those whose value stands are finished while their node is away.
async fn all_values_are_taken_up(shop: &Shop, held: &[Held]) {
    let current = async || {
        let secrets = objects(shop, "managedsecrets").await?;
        let schedules = objects(shop, "rotationschedules").await?;
        let done = held.iter().all(|one| {
            secrets[&one.name]["status"]["currentVersion"] == *one.token
                && schedules[&one.name]["status"]["inProgress"].is_null()
        });
        done.then_some(())
    };
    shop.cluster.wait_for("the values that stand to be taken up", PATIENCE, current).await.unwrap();
    events_say(shop, &failed_attempts(held)).await;
    always_logged_in(shop).await;
}

/// Those without a value make none while their first pod may still be making one.
async fn waits_for_node(shop: &Shop, held: &[Held]) {
    let waiting = async || {
        let schedules = objects(shop, "rotationschedules").await?;
        let waits = |one: &Held| {
            let conditions =
                schedules[&one.name]["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|found| found["type"] == "Rotating" && found["reason"] == "WaitingForNode")
        };
        held.iter().all(waits).then_some(())
    };
    shop.cluster.wait_for("the condition WaitingForNode", PATIENCE, waiting).await.unwrap();
    let told: Vec<_> =
        held.iter().map(|one| (one, "may still run on a node that does not answer".to_owned())).collect();
    events_say(shop, &told).await;
    let secrets = objects(shop, "managedsecrets").await.unwrap();
    for one in held {
        assert_eq!(secrets[&one.name]["status"]["currentVersion"], *one.old, "{}: no new value", one.name);
    }
}

/// Somebody who may write values.
async fn operator(shop: &Shop) -> Caller {
    let group = "rbac.authorization.k8s.io";
    let metadata = json!({"name": "operator", "namespace": NAMESPACE});
    shop.apply(&[
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata, "rules": [
            {"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets/value"], "verbs": ["put"]},
        ]}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "operator"},
            "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": NAMESPACE}]}),
    ])
    .await
    .unwrap();
    Caller::of_api(shop, "operator").await.unwrap()
}
