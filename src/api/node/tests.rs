//! The node stream over real gRPC, in this process: agents that speak the protocol, a keeper over a real store.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::api::tests::{Bench, Open, account, bench, door};
use crate::serve::{Limits, Protocol};
use crate::wire::node::node_stream_client::NodeStreamClient;
use crate::wire::node::refused::Reason;
use crate::wire::node::to_node::Message;
use crate::wire::node::{
    Attach, Detach, Hello, Mount, PROTOCOL_VERSION, Payload, Place, Reauthenticate, Receipt, Refused, Served,
};

mod herd;
mod mounts;
mod served;
mod streams;

const STREAM: &str = "tidelock.t/stream";
const MOUNT: &str = "tidelock.t/node";
const PATIENCE: Duration = Duration::from_secs(20);

/// The pods' objects, in place of a cluster's.
#[derive(Default)]
struct Pods {
    known: Mutex<BTreeMap<String, Result<Principal, PodRefused>>>,
    asked_at_once: AtomicUsize,
    asked_at_once_most: AtomicUsize,
}

impl Pods {
    fn say(&self, uid: &str, what: Result<Principal, PodRefused>) {
        self.known.lock().unwrap().insert(uid.to_owned(), what);
    }
}

#[async_trait]
impl Vouch for Pods {
    async fn vouch(&self, claim: &MountClaim) -> Result<Principal, PodRefused> {
        let now = self.asked_at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.asked_at_once_most.fetch_max(now, Ordering::SeqCst);
        // What an API server takes to answer.
        tokio::time::sleep(Duration::from_millis(2)).await;
        self.asked_at_once.fetch_sub(1, Ordering::SeqCst);
        let known = self.known.lock().unwrap().get(&claim.pod_uid).cloned();
        known.unwrap_or_else(|| Err(PodRefused::Gone(claim.pod_name.clone())))
    }
}

struct Server {
    bench: Bench,
    pods: Arc<Pods>,
    open: Open,
    door: NodeDoor,
}

async fn server() -> Server {
    let bench = bench().await;
    let pods = Arc::new(Pods::default());
    let (open, behind) = door("stream", Protocol::Grpc, Limits::grpc()).await;
    let settings = NodeSettings {
        keeper: bench.keeper.clone(),
        tokens: bench.tokens.clone(),
        pods: pods.clone(),
        clock: bench.clock.clone(),
        stream_audience: STREAM.into(),
        mount_audience: MOUNT.into(),
        agent: ServiceAccount { namespace: "tidelock".into(), name: "tidelock-node".into() },
        recheck_every: Duration::from_secs(60),
        token_lasts: Duration::from_secs(4500),
    };
    let door = NodeDoor::new(settings, open.stop.child_token());
    tokio::spawn(crate::serve::run(behind, door.service(), open.stop.clone()));
    for node in ["node-1", "node-2"] {
        let agent = account("tidelock", "tidelock-node", Some((&format!("agent-{node}"), node)));
        bench.tokens.add(&format!("agent-{node}"), STREAM, &agent);
    }
    Server { bench, pods, open, door }
}

/// The other end of a stream.
struct Agent {
    say: mpsc::Sender<FromNode>,
    hear: Streaming<ToNode>,
}

impl Server {
    async fn connect(&self, token: &str) -> Result<Agent, Status> {
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        let origin = format!("http://{}", self.open.address).parse().unwrap();
        let mut client = NodeStreamClient::with_origin(client, origin);
        let (say, said) = mpsc::channel(64);
        let mut request = Request::new(ReceiverStream::new(said));
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let hear = client.connect(request).await?.into_inner();
        Ok(Agent { say, hear })
    }

    /// Sends these bytes as the body of a call; gives back the status and message of its trailers.
    async fn raw(&self, token: &str, body: &'static [u8]) -> (Option<String>, String) {
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        let uri = format!("http://{}/tidelock.node.v1.NodeStream/Connect", self.open.address);
        let request = http::Request::post(uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {token}"))
            .body(http_body_util::Full::new(bytes::Bytes::from_static(body)))
            .unwrap();
        let answer = client.request(request).await.unwrap();
        let whole = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap();
        let trailers = whole.trailers().cloned().unwrap_or_default();
        let said = |name: &str| trailers.get(name).map(|value| value.to_str().unwrap().to_owned());
        (said("grpc-status"), said("grpc-message").unwrap_or_default())
    }

    /// An agent that has said Hello with these mounts and was welcomed.
    async fn agent(&self, node: &str, mounts: Vec<Mount>) -> Agent {
        let mut agent = self.connect(&format!("agent-{node}")).await.unwrap();
        agent.hello(node, mounts).await;
        match agent.next().await {
            Message::Welcome(welcome) => assert_eq!(welcome.protocol_version, PROTOCOL_VERSION),
            other => panic!("not a welcome: {other:?}"),
        }
        agent
    }

    /// A pod of `shop/orders-api` with a token for its mounts.
    fn pod(&self, name: &str, node: &str) {
        let who = account("shop", "orders-api", Some((name, node)));
        self.bench.tokens.add(&format!("token-of-{name}"), MOUNT, &who);
        self.pods.say(&format!("uid-of-{name}"), Ok(who));
    }

    async fn consumers(&self, name: &str) -> (usize, usize) {
        let arn = self.bench.keeper.secret_of_resource("shop", name).unwrap();
        let consumers = self.bench.keeper.consumers(&arn).await.unwrap();
        (consumers.total, consumers.current)
    }

    /// Waits for what comes of a message that has no answer.
    async fn until_consumers(&self, name: &str, wanted: (usize, usize)) {
        let mut changes = self.bench.keeper.changes();
        let reached = async {
            while self.consumers(name).await != wanted {
                changes.recv().await.unwrap();
            }
        };
        let found = tokio::time::timeout(PATIENCE, reached).await;
        assert!(found.is_ok(), "consumers are {:?}, not {wanted:?}", self.consumers(name).await);
    }
}

impl Agent {
    async fn send(&self, message: impl Into<FromNode>) {
        self.say.send(message.into()).await.unwrap();
    }

    async fn hello(&self, node: &str, mounts: Vec<Mount>) {
        self.hello_that_served(node, mounts, Vec::new()).await;
    }

    async fn hello_that_served(&self, node: &str, mounts: Vec<Mount>, served: Vec<Served>) {
        let hello = Hello {
            protocol_version: PROTOCOL_VERSION,
            node_name: node.into(),
            agent_version: "test".into(),
            mounts,
            served,
        };
        self.send(hello).await;
    }

    async fn attach(&self, request_id: u64, mount: Mount, token: &str) {
        let attach = Attach { request_id, mount: Some(mount), pod_token: token.into() };
        self.send(attach).await;
    }

    async fn receipt(&self, place: &Place) {
        let receipt = Receipt {
            mount_id: place.mount_id.clone(),
            secret_arn: place.secret_arn.clone(),
            version_id: place.version_id.clone(),
        };
        self.send(receipt).await;
    }

    async fn heard(&mut self) -> Result<Option<ToNode>, Status> {
        tokio::time::timeout(PATIENCE, self.hear.message()).await.expect("the server says something in time")
    }

    async fn next(&mut self) -> Message {
        self.heard().await.unwrap().expect("the stream goes on").message.unwrap()
    }

    async fn end(&mut self) -> Status {
        loop {
            match self.heard().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("ended"),
                Err(status) => return status,
            }
        }
    }

    async fn payload(&mut self) -> Payload {
        match self.next().await {
            Message::Payload(payload) => payload,
            other => panic!("not a payload: {other:?}"),
        }
    }

    async fn place(&mut self) -> Place {
        match self.next().await {
            Message::Place(place) => place,
            other => panic!("not a place: {other:?}"),
        }
    }

    async fn refused(&mut self) -> (Reason, Refused) {
        match self.next().await {
            Message::Refused(refused) => (refused.reason(), refused),
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Attaches a pod's mount and takes payload and place.
    async fn mounted(&mut self, request_id: u64, pod: &str, secret: &str) -> (Payload, Place) {
        self.attach(request_id, mount(pod, secret), &format!("token-of-{pod}")).await;
        (self.payload().await, self.place().await)
    }
}

fn mount(pod: &str, secret: &str) -> Mount {
    Mount {
        mount_id: format!("uid-of-{pod}/{secret}"),
        pod_namespace: "shop".into(),
        pod_name: pod.into(),
        pod_uid: format!("uid-of-{pod}"),
        volume: secret.into(),
        service_account: "orders-api".into(),
        attributes: [("secret".to_owned(), secret.to_owned())].into(),
        ..Mount::default()
    }
}

/// The mount as the agent's manifest tells of it after a place.
fn held(mount: Mount, payload: &Payload) -> Mount {
    let mut file_names: Vec<_> = payload.files.iter().map(|file| file.name.clone()).collect();
    file_names.sort();
    Mount {
        secret_arn: payload.secret_arn.clone(),
        version_id: payload.version_id.clone(),
        file_names,
        ..mount
    }
}

fn content<'a>(payload: &'a Payload, name: &str) -> &'a str {
    let file = payload.files.iter().find(|file| file.name == name).expect("the file is there");
    std::str::from_utf8(&file.content).unwrap()
}
