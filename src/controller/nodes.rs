//! Nodes that are gone: their pods run no more, and count as consumers no more. And nodes that fell silent.
//! Must not take a node for gone because it does not answer: only its deletion or the out-of-service taint says so.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::keeper::{Keeper, KeeperError};

/// By this taint somebody vouches that the node is off.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// Finer than the silence after which a node is unknown.
const LISTEN_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
enum NodesError {
    #[error("nodes could not be asked for: {0}")]
    Cluster(#[from] Box<kube::Error>),
    #[error(transparent)]
    Keeper(#[from] KeeperError),
}

pub async fn run(client: Client, keeper: Arc<Keeper>, stop: CancellationToken) {
    let nodes: Api<Node> = Api::all(client);
    tokio::select! {
        () = stop.cancelled() => {}
        () = watch(&nodes, &keeper) => {}
        () = listen(&keeper) => {}
    }
}

async fn watch(nodes: &Api<Node>, keeper: &Keeper) {
    let events = kube::runtime::watcher(nodes.clone(), watcher::Config::default()).default_backoff();
    let mut events = std::pin::pin!(events);
    loop {
        let outcome = match events.try_next().await {
            Ok(Some(Event::Apply(node) | Event::InitApply(node))) if is_out_of_service(&node) => {
                keeper.node_gone(&node.name_any()).await.map_err(NodesError::from)
            }
            Ok(Some(Event::Delete(node))) => confirm_gone(nodes, keeper, &node.name_any()).await,
            // What vanished while nobody watched.
            Ok(Some(Event::InitDone)) => confirm_all(nodes, keeper).await,
            Ok(Some(Event::Apply(_) | Event::InitApply(_) | Event::Init)) => Ok(()),
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "the watch of nodes was interrupted");
                Ok(())
            }
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, "the mounts of a node that is gone could not be ended");
        }
    }
}

async fn confirm_all(nodes: &Api<Node>, keeper: &Keeper) -> Result<(), NodesError> {
    let with_mounts: BTreeSet<String> = keeper.nodes_with_mounts().await?;
    for name in with_mounts {
        confirm_gone(nodes, keeper, &name).await?;
    }
    Ok(())
}

async fn confirm_gone(nodes: &Api<Node>, keeper: &Keeper, name: &str) -> Result<(), NodesError> {
    if nodes.get_metadata_opt(name).await.map_err(Box::new)?.is_none() {
        tracing::info!(node = name, "a node is gone, and its mounts with it");
        keeper.node_gone(name).await?;
    }
    Ok(())
}

async fn listen(keeper: &Keeper) {
    loop {
        tokio::time::sleep(LISTEN_EVERY).await;
        if let Err(error) = keeper.tell_of_silence().await {
            tracing::warn!(%error, "which nodes fell silent could not be told");
        }
    }
}

fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_taint_that_vouches_for_it_makes_a_node_gone() {
        let node = |key: &str| {
            let taints = json!([{"key": key, "effect": "NoExecute"}]);
            serde_json::from_value::<Node>(json!({"spec": {"taints": taints}})).unwrap()
        };
        assert!(is_out_of_service(&node(OUT_OF_SERVICE)));
        assert!(!is_out_of_service(&node("node.kubernetes.io/unreachable")));
        assert!(!is_out_of_service(&Node::default()));
    }
}
