//! Which image rotation Jobs run: the one that this server runs, unless somebody named another.
//! Must not be asked before the client is there.

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};

use crate::config::ServerArgs;

const CONTAINER: &str = "server";

/// The image that was named, or the one in the server's own pod: whatever renamed it there, such as an overlay, is right.
pub async fn of_jobs(args: &ServerArgs, client: &Client) -> anyhow::Result<String> {
    if let Some(named) = &args.image {
        return Ok(named.clone());
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), &args.namespace);
    let pod = pods.get(&args.pod_name).await.with_context(|| {
        format!(
            "the server's own pod {}/{} cannot be read; name the image of rotation Jobs with --image",
            args.namespace, args.pod_name
        )
    })?;
    image(&pod).with_context(|| {
        format!(
            "pod {} has no container `{CONTAINER}`; name the image of rotation Jobs with --image",
            args.pod_name
        )
    })
}

fn image(pod: &Pod) -> Option<String> {
    let containers = &pod.spec.as_ref()?.containers;
    containers.iter().find(|container| container.name == CONTAINER)?.image.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_that_of_the_server_and_not_of_a_neighbour() {
        let pod = serde_json::from_value(serde_json::json!({
            "spec": {"containers": [{"name": "mesh", "image": "proxy:1"}, {"name": "server", "image": "tidelock:2"}]},
        }));
        assert_eq!(image(&pod.unwrap()), Some("tidelock:2".to_owned()));
        assert_eq!(image(&Pod::default()), None);
    }
}
