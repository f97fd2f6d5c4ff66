//! Volumes for a cluster without a provisioner: a folder on one node's disk, made by hand.

use std::fs;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use super::Cluster;

/// The default StorageClass of every whole cluster; it provisions nothing.
pub const STORAGE_CLASS: &str = "tidelock-test";

impl Cluster {
    /// Makes a PersistentVolume of the class `tidelock-test`, pinned to a node. The first claim that fits and
    /// whose pod can run there gets it. The files survive the node's reboot.
    pub async fn static_volume(&self, node: usize, name: &str, size: &str) -> Result<PersistentVolume> {
        let node = self.node(node);
        let inside = format!("/var/lib/tidelock-volumes/{name}");
        let folder = node.folder().join(inside.trim_start_matches('/'));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let volume = serde_json::from_value(json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": size},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": STORAGE_CLASS,
                "local": {"path": inside},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name()]},
                ]}]}},
            },
        }))?;
        let volumes: Api<PersistentVolume> = Api::all(self.client());
        volumes
            .create(&PostParams::default(), &volume)
            .await
            .with_context(|| format!("cannot make the volume {name}"))
    }
}
