//! What kind of cluster a test asks for.

use serde::{Deserialize, Serialize};

use super::parts::Part;
use crate::images::Image;

/// Begin with [`Options::nodes`] or [`Options::api_only`] and add to it.
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) kind: Kind,
    pub(super) nodes: usize,
    pub(super) images: Vec<Image>,
    pub(super) api_server_flags: Vec<String>,
    /// Outlives this process under a name.
    pub(super) persistent: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// Pods run.
    Whole,
    /// An API server and its store.
    Api,
    /// With the controllers that make ServiceAccounts, garbage-collect, finish namespaces.
    ApiAndControllers,
}

impl Options {
    /// A whole cluster of so many nodes; the first is the control plane and runs pods as well.
    pub fn nodes(nodes: usize) -> Self {
        Self { kind: Kind::Whole, nodes, images: Vec::new(), api_server_flags: Vec::new(), persistent: None }
    }

    /// An API server with etcd and nothing else.
    pub fn api_only() -> Self {
        Self { kind: Kind::Api, ..Self::nodes(1) }
    }

    /// Adds the controllers to an API server without nodes.
    #[must_use]
    pub fn with_controllers(mut self) -> Self {
        if self.kind == Kind::Api {
            self.kind = Kind::ApiAndControllers;
        }
        self
    }

    /// Loads an image into each node before the cluster counts as started.
    #[must_use]
    pub fn image(mut self, image: Image) -> Self {
        self.images.push(image);
        self
    }

    /// One more flag for the API server, such as `--event-ttl=5m`.
    #[must_use]
    pub fn api_server_flag(mut self, flag: &str) -> Self {
        self.api_server_flags.push(flag.to_owned());
        self
    }

    /// Lets the cluster outlive this process under a name, until [`super::Cluster::down`].
    #[must_use]
    pub fn persistent(mut self, name: &str) -> Self {
        self.persistent = Some(name.to_owned());
        self
    }
}

impl Kind {
    /// The parts of a node in the order in which they start.
    pub(super) fn parts(self, index: usize) -> Vec<Part> {
        let control_plane = [Part::Etcd, Part::ApiServer].as_slice();
        match (self, index) {
            (Kind::Api, _) => control_plane.to_vec(),
            (Kind::ApiAndControllers, _) => [control_plane, &[Part::ControllerManager]].concat(),
            (Kind::Whole, 1) => {
                let rest =
                    [Part::Containerd, Part::ControllerManager, Part::Scheduler, Part::Kubelet, Part::Proxy];
                [control_plane, &rest].concat()
            }
            (Kind::Whole, _) => vec![Part::Containerd, Part::Kubelet, Part::Proxy],
        }
    }
}
