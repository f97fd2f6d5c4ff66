//! Makes the driver known to kubelet, in place of a sidecar.
//! Must not be reachable before the CSI services are, for kubelet calls them at once.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use super::csi::refuse_stranger;
use crate::wire::registration::registration_server::{Registration, RegistrationServer};
use crate::wire::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};

/// What kubelet has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    NotYet,
    Yes,
    Refused(String),
}

pub struct Registrar {
    pub driver: String,
    /// The CSI socket as kubelet sees it.
    pub endpoint: String,
    pub outcome: watch::Sender<Registered>,
}

#[tonic::async_trait]
impl Registration for Registrar {
    async fn get_info(&self, _: tonic::Request<InfoRequest>) -> Result<tonic::Response<PluginInfo>, Status> {
        Ok(tonic::Response::new(PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: self.driver.clone(),
            endpoint: self.endpoint.clone(),
            supported_versions: vec!["1.0.0".to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: tonic::Request<RegistrationStatus>,
    ) -> Result<tonic::Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        let outcome =
            if status.plugin_registered { Registered::Yes } else { Registered::Refused(status.error) };
        self.outcome.send_replace(outcome);
        Ok(tonic::Response::new(RegistrationStatusResponse {}))
    }
}

/// For kubelet, which is root, alone.
#[derive(Clone)]
pub struct RegistrationService(RegistrationServer<Registrar>);

impl RegistrationService {
    pub fn new(registrar: Registrar) -> RegistrationService {
        RegistrationService(RegistrationServer::new(registrar))
    }
}

impl Service<Request<Incoming>> for RegistrationService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        match refuse_stranger(&request) {
            Some(refusal) => refusal.boxed(),
            None => self.0.call(request),
        }
    }
}
