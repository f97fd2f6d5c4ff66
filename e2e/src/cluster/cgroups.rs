//! Takes away the cgroups of dead containers. The kernel ends everything else of a node with its namespaces,
//! but cgroups belong to the machine, and stay as empty folders.

use std::fs;
use std::path::{Path, PathBuf};

const MOUNT: &str = "/sys/fs/cgroup";

/// Removes the cgroups of every container that the node in this folder ever remembered. Only by name: an empty
/// cgroup that we do not know may be another cluster's, about to be filled.
pub(super) fn remove_of(node: &Path) {
    for id in ["sandboxes", "containers"].iter().flat_map(|kind| names(&containers(node).join(kind))) {
        for hierarchy in hierarchies() {
            // Mostly gone already, with the container.
            let _ = fs::remove_dir(hierarchy.join(&id));
        }
    }
}

fn containers(node: &Path) -> PathBuf {
    node.join("var/lib/containerd/io.containerd.grpc.v1.cri")
}

/// The folders in which containerd makes cgroups: one per controller with version 1, one in all with version 2.
fn hierarchies() -> Vec<PathBuf> {
    let mount = Path::new(MOUNT);
    let mut found = vec![mount.join("k8s.io")];
    found.extend(names(mount).iter().map(|name| mount.join(name).join("k8s.io")));
    found.retain(|folder| folder.is_dir());
    found
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
