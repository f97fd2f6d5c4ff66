//! The CSI services that kubelet calls, over a Unix socket.
//! Must not hold state: it reads a request, hands it on, and words the answer.

use std::convert::Infallible;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use super::cause::Cause;
use super::config::PodTokens;
use super::publish::Publisher;
use super::request::Publication;
use super::target::Target;
use super::volumes::Volumes;
use crate::serve::Peer;
use crate::wire::csi::identity_server::{Identity, IdentityServer};
use crate::wire::csi::node_server::{Node, NodeServer};
use crate::wire::csi::node_service_capability::{Rpc, Type, rpc};
use crate::wire::csi::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest, GetPluginInfoResponse,
    NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse,
    NodePublishVolumeRequest, NodePublishVolumeResponse, NodeServiceCapability, NodeUnpublishVolumeRequest,
    NodeUnpublishVolumeResponse, ProbeRequest, ProbeResponse,
};

/// What the services answer from.
pub struct Plugin {
    pub driver: String,
    pub agent_version: String,
    pub node_name: String,
    pub kubelet: PathBuf,
    pub pod_tokens: PodTokens,
    pub publisher: Arc<Publisher>,
    pub volumes: Arc<Volumes>,
}

#[tonic::async_trait]
impl Identity for Plugin {
    async fn get_plugin_info(
        &self,
        _: tonic::Request<GetPluginInfoRequest>,
    ) -> Result<tonic::Response<GetPluginInfoResponse>, Status> {
        let (name, vendor_version) = (self.driver.clone(), self.agent_version.clone());
        Ok(tonic::Response::new(GetPluginInfoResponse { name, vendor_version }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: tonic::Request<GetPluginCapabilitiesRequest>,
    ) -> Result<tonic::Response<GetPluginCapabilitiesResponse>, Status> {
        Ok(tonic::Response::new(GetPluginCapabilitiesResponse {}))
    }

    async fn probe(&self, _: tonic::Request<ProbeRequest>) -> Result<tonic::Response<ProbeResponse>, Status> {
        Ok(tonic::Response::new(ProbeResponse { ready: Some(true) }))
    }
}

#[tonic::async_trait]
impl Node for Plugin {
    async fn node_publish_volume(
        &self,
        request: tonic::Request<NodePublishVolumeRequest>,
    ) -> Result<tonic::Response<NodePublishVolumeResponse>, Status> {
        let called = Instant::now();
        let request = request.into_inner();
        let publication = match Publication::parse(&request, &self.kubelet, &self.pod_tokens) {
            Ok(publication) => publication,
            Err(error) => {
                count_publish("InvalidArgument");
                tracing::info!(%error, "a volume is refused");
                return Err(Status::invalid_argument(error.to_string()));
            }
        };
        drop(request);
        let mount = publication.target.clone();
        let (namespace, pod) = (publication.pod.namespace.clone(), publication.pod.name.clone());
        let what = publication.asked.to_string();
        let outcome = self.publisher.publish(publication).await;
        let took_ms = called.elapsed().as_millis() as u64;
        match outcome {
            Ok(()) => {
                count_publish("Ok");
                tracing::info!(%mount, namespace, pod, what, took_ms, "volume is published");
                Ok(tonic::Response::new(NodePublishVolumeResponse {}))
            }
            Err(cause) => {
                count_publish(cause.reason());
                let reason = cause.reason();
                tracing::info!(%mount, namespace, pod, what, reason, took_ms, "volume has to wait");
                Err(cause.status(&what))
            }
        }
    }

    async fn node_unpublish_volume(
        &self,
        request: tonic::Request<NodeUnpublishVolumeRequest>,
    ) -> Result<tonic::Response<NodeUnpublishVolumeResponse>, Status> {
        let target = Target::parse(&self.kubelet, &request.get_ref().target_path)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let volumes = Arc::clone(&self.volumes);
        let unpublished = target.clone();
        // Its own task, so that kubelet's giving up does not cut it short.
        let outcome = tokio::task::spawn_blocking(move || volumes.unpublish(&unpublished)).await;
        let error = match outcome {
            Ok(Ok(())) => {
                metrics::counter!("tidelock_node_unpublishes_total", "outcome" => "Ok").increment(1);
                tracing::info!(mount = %target, "volume is unpublished");
                return Ok(tonic::Response::new(NodeUnpublishVolumeResponse {}));
            }
            Ok(Err(error)) => Cause::from(&error),
            Err(_) => Cause::Volume("Bug", "the call failed inside the agent".to_owned()),
        };
        metrics::counter!("tidelock_node_unpublishes_total", "outcome" => error.reason()).increment(1);
        let status = error.status("volume");
        tracing::error!(mount = %target, reason = error.reason(), error = status.message(), "unpublishing failed");
        Err(status)
    }

    async fn node_get_capabilities(
        &self,
        _: tonic::Request<NodeGetCapabilitiesRequest>,
    ) -> Result<tonic::Response<NodeGetCapabilitiesResponse>, Status> {
        let mount_group = Type::Rpc(Rpc { r#type: rpc::Type::VolumeMountGroup.into() });
        let capabilities = vec![NodeServiceCapability { r#type: Some(mount_group) }];
        Ok(tonic::Response::new(NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn node_get_info(
        &self,
        _: tonic::Request<NodeGetInfoRequest>,
    ) -> Result<tonic::Response<NodeGetInfoResponse>, Status> {
        Ok(tonic::Response::new(NodeGetInfoResponse { node_id: self.node_name.clone() }))
    }
}

fn count_publish(outcome: &'static str) {
    metrics::counter!("tidelock_node_publishes_total", "outcome" => outcome).increment(1);
}

/// Both services of a plugin, told apart by the path, for root alone.
#[derive(Clone)]
pub struct Services {
    identity: IdentityServer<Plugin>,
    node: NodeServer<Plugin>,
}

impl Services {
    pub fn new(plugin: Plugin) -> Services {
        let plugin = Arc::new(plugin);
        Services {
            identity: IdentityServer::from_arc(Arc::clone(&plugin)),
            node: NodeServer::from_arc(plugin),
        }
    }
}

impl Service<Request<Incoming>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        if let Some(refusal) = refuse_stranger(&request) {
            return refusal.boxed();
        }
        match request.uri().path().split('/').nth(1) {
            Some("csi.v1.Identity") => self.identity.call(request),
            Some("csi.v1.Node") => self.node.call(request),
            _ => answer(Status::new(Code::Unimplemented, "this driver does not serve that call")).boxed(),
        }
    }
}

/// kubelet is root; nobody else has a reason to call.
pub fn refuse_stranger(
    request: &Request<Incoming>,
) -> Option<impl Future<Output = Result<Response<Body>, Infallible>> + Send + use<>> {
    match request.extensions().get::<Peer>() {
        Some(Peer::Unix { uid: 0, .. }) => None,
        _ => Some(answer(Status::permission_denied("only kubelet may call, as root"))),
    }
}

pub async fn answer(status: Status) -> Result<Response<Body>, Infallible> {
    Ok(status.into_http())
}
