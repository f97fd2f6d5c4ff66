//! What the tests of the agent stand on.

use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::clock::SystemClock;
use crate::node::uplink::Channel;
use crate::node::{
    Config, NodeError, Patience, PodTokens, Readiness, ServerConfig, TokenSource, agent, mounter,
};
use crate::serve::{self, Door, Limits, Listener, Protocol};
use crate::wire::csi::node_client::NodeClient;
use crate::wire::csi::{NodePublishVolumeRequest, NodeUnpublishVolumeRequest};
use crate::wire::node::from_node::Message;
use crate::wire::node::node_stream_server::{NodeStream, NodeStreamServer};
use crate::wire::node::{
    Attach, File, FromNode, Hello, PROTOCOL_VERSION, Payload, Place, Receipt, ToNode, Welcome,
};
use crate::wire::registration::registration_client::RegistrationClient;

pub(super) const DRIVER: &str = "csi.tidelock.dev";
pub(super) const ARN: &str = "arn:aws:secretsmanager:local-1:000000000000:secret:shop/orders-db-AbCdEf";
pub(super) const POD_UID: &str = "0b1e7a52-0000-4000-8000-000000000001";
pub(super) const MOUNT_ID: &str = "0b1e7a52-0000-4000-8000-000000000001/orders";
pub(super) const STREAM_TOKEN: &str = "c4nary-token-of-the-agent";
pub(super) const POD_TOKEN: &str = "c4nary-token-of-the-pod";
const AUDIENCE: &str = "tidelock.test/node";
const SECONDS: Duration = Duration::from_secs(20);

/// Waits for something that must happen.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SECONDS, future).await {
        Ok(done) => done,
        Err(_) => panic!("{what} did not happen within 20 s"),
    }
}

/// Looks again until the condition holds.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A node of its own: kubelet's directory, the mounter, and, once started, an agent.
pub(super) struct TestNode {
    pub(super) folder: tempfile::TempDir,
    pub(super) server: TestServer,
    pub(super) patience: Patience,
    pub(super) node_bytes_max: u64,
    pub(super) is_draining: bool,
    pub(super) trust_window: Duration,
    agent: Option<(CancellationToken, JoinHandle<Result<(), NodeError>>)>,
    mounter: CancellationToken,
}

impl TestNode {
    pub(super) async fn start() -> TestNode {
        let mut node = TestNode::without_agent().await;
        node.start_agent().await;
        node
    }

    pub(super) async fn without_agent() -> TestNode {
        let folder = tempfile::tempdir().unwrap();
        for name in ["kubelet/pods", "plugin", "registry"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let server = TestServer::new(&folder);
        fs::write(folder.path().join("token"), format!("{STREAM_TOKEN}\n")).unwrap();
        let mounter = CancellationToken::new();
        tokio::spawn(mounter::run(
            mounter::Config {
                socket: folder.path().join("mounter.sock"),
                kubelet: folder.path().join("kubelet"),
                driver: DRIVER.into(),
                agent_uid: 0,
            },
            mounter.clone(),
        ));
        let away = Duration::from_millis(100);
        let patience = Patience { away, ..Patience::default() };
        TestNode {
            folder,
            server,
            patience,
            node_bytes_max: 64 << 20,
            is_draining: false,
            trust_window: Duration::ZERO,
            agent: None,
            mounter,
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> Config {
        let server = ServerConfig {
            url: format!("https://localhost:{}", self.server.address.port()).parse().unwrap(),
            ca_file: self.path("ca.crt"),
            ca_look: Duration::from_millis(20),
            token_file: self.path("token"),
            token_look: Duration::from_millis(20),
        };
        Config {
            node_name: "node-1".into(),
            agent_version: "0.0.0".into(),
            driver: DRIVER.into(),
            kubelet: self.path("kubelet"),
            plugin_socket: self.path("plugin/csi.sock"),
            plugin_socket_on_host: "/var/lib/kubelet/plugins/csi.tidelock.dev/csi.sock".into(),
            registration_socket: self.path("registry").join(format!("{DRIVER}@localhost")),
            manifests: self.path("manifests"),
            mounter_socket: self.path("mounter.sock"),
            pod_tokens: PodTokens { audience: AUDIENCE.into(), source: TokenSource::Attributes },
            node_bytes_max: self.node_bytes_max,
            server: (!self.is_draining).then_some(server),
            patience: self.patience,
            trust_window: self.trust_window,
        }
    }

    pub(super) async fn start_agent(&mut self) {
        let shutdown = CancellationToken::new();
        let readiness = watch::Sender::new(Readiness::Restoring);
        let mut ready = readiness.subscribe();
        let run = agent::run(self.config(), SystemClock::shared(), readiness, shutdown.clone());
        self.agent = Some((shutdown, tokio::spawn(run)));
        soon("looking at what is mounted", ready.wait_for(|now| *now != Readiness::Restoring)).await.unwrap();
        until("listening", || self.path("registry").join(format!("{DRIVER}@localhost")).exists()).await;
        let told = |now: &Readiness| *now == Readiness::Ready;
        self.register(true).await;
        soon("readiness", ready.wait_for(told)).await.unwrap();
    }

    /// As kubelet does when it sees the registration socket.
    pub(super) async fn register(&self, plugin_registered: bool) {
        use crate::wire::registration::{InfoRequest, RegistrationStatus};
        let socket = self.path("registry").join(format!("{DRIVER}@localhost"));
        let mut client = RegistrationClient::with_origin(channel(socket).await, localhost());
        let info = client.get_info(InfoRequest {}).await.unwrap().into_inner();
        assert_eq!((info.r#type.as_str(), info.name.as_str()), ("CSIPlugin", DRIVER));
        assert!(info.endpoint.starts_with("/var/lib/kubelet/plugins/"));
        assert_eq!(info.supported_versions, ["1.0.0"]);
        let error = if plugin_registered { "" } else { "already registered" }.to_owned();
        client.notify_registration_status(RegistrationStatus { plugin_registered, error }).await.unwrap();
    }

    pub(super) async fn stop_agent(&mut self) {
        let (shutdown, running) = self.agent.take().unwrap();
        shutdown.cancel();
        soon("the agent's end", running).await.unwrap().unwrap();
    }

    /// As a forced deletion of the agent's pod does: the next one begins before this one has ended.
    pub(super) async fn replace_agent(&mut self) {
        let (shutdown, running) = self.agent.take().unwrap();
        // What is there from now on is the next one's.
        fs::remove_file(self.path("registry").join(format!("{DRIVER}@localhost"))).unwrap();
        self.start_agent().await;
        shutdown.cancel();
        soon("the former agent's end", running).await.unwrap().unwrap();
    }

    /// As SIGKILL: no farewell, sockets and files stay as they are.
    pub(super) async fn kill_agent(&mut self) {
        let (_, running) = self.agent.take().unwrap();
        running.abort();
        let _ = running.await;
    }

    pub(super) async fn agent_end(&mut self) -> Result<(), NodeError> {
        let (_, running) = self.agent.take().unwrap();
        soon("the agent's end", running).await.unwrap()
    }

    pub(super) async fn kubelet(&self) -> NodeClient<Channel> {
        NodeClient::with_origin(channel(self.path("plugin/csi.sock")).await, localhost())
    }

    /// The file of the volume as the pod sees it.
    pub(super) fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.target().join(name)).ok()
    }

    pub(super) fn target(&self) -> PathBuf {
        self.path("kubelet").join("pods").join(POD_UID).join("volumes/kubernetes.io~csi/orders/mount")
    }

    pub(super) fn is_mounted(&self) -> bool {
        let target = self.target().display().to_string();
        fs::read_to_string("/proc/self/mountinfo").unwrap().lines().any(|line| line.contains(&target))
    }

    pub(super) fn request(&self) -> NodePublishVolumeRequest {
        fs::create_dir_all(self.target().parent().unwrap()).unwrap();
        let token = format!(r#"{{"{AUDIENCE}":{{"token":"{POD_TOKEN}","expirationTimestamp":"x"}}}}"#);
        let context = [
            ("secret", "orders-db"),
            ("csi.storage.k8s.io/ephemeral", "true"),
            ("csi.storage.k8s.io/pod.uid", POD_UID),
            ("csi.storage.k8s.io/pod.name", "web-0"),
            ("csi.storage.k8s.io/pod.namespace", "shop"),
            ("csi.storage.k8s.io/serviceAccount.name", "orders-api"),
            ("csi.storage.k8s.io/serviceAccount.tokens", token.as_str()),
        ];
        let volume_context = context.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut request = NodePublishVolumeRequest::default();
        request.volume_id = "csi-0123".into();
        request.target_path = self.target().display().to_string();
        request.readonly = true;
        request.volume_context = volume_context;
        request
    }

    pub(super) async fn publish(&self) -> Result<(), Status> {
        let mut kubelet = self.kubelet().await;
        soon("an answer to publish", kubelet.node_publish_volume(self.request())).await.map(|_| ())
    }

    /// A call that is expected to be held.
    pub(super) async fn publish_in_background(&self) -> JoinHandle<Result<(), Status>> {
        let mut kubelet = self.kubelet().await;
        let request = self.request();
        tokio::spawn(async move { kubelet.node_publish_volume(request).await.map(|_| ()) })
    }

    pub(super) async fn unpublish(&self) -> Result<(), Status> {
        let target_path = self.target().display().to_string();
        let request = NodeUnpublishVolumeRequest { volume_id: "csi-0123".into(), target_path };
        let mut kubelet = self.kubelet().await;
        soon("an answer to unpublish", kubelet.node_unpublish_volume(request)).await.map(|_| ())
    }

    /// A volume with its first version in place, and the stream that brought it.
    pub(super) async fn with_volume(&mut self) -> TestStream {
        let mut stream = self.server.accept().await;
        stream.welcome();
        let call = self.publish_in_background().await;
        let attach = stream.attach().await;
        stream.payload(1, "v1", &[("password", "c4nary-value-1"), ("value", "{}")]);
        stream.place(attach.request_id, 1, "v1");
        soon("publish", call).await.unwrap().unwrap();
        assert_eq!(stream.receipt().await.version_id, "v1");
        stream
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.mounter.cancel();
        if let Some((_, running)) = self.agent.take() {
            running.abort();
        }
        let root = self.folder.path().display().to_string();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for point in table.lines().filter_map(|line| line.split(' ').nth(4)) {
            if point.starts_with(&root) {
                let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
            }
        }
    }
}

/// kubelet sets the authority `localhost` on its sockets.
fn localhost() -> http::Uri {
    http::Uri::from_static("http://localhost")
}

async fn channel(socket: PathBuf) -> Channel {
    let stream = soon("connecting", async {
        loop {
            match UnixStream::connect(&socket).await {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await;
    Channel::over(stream).await.unwrap()
}

/// The server's end of the wire, played by the test.
pub(super) struct TestServer {
    pub(super) address: SocketAddr,
    listener: Option<std::net::TcpListener>,
    tls: Arc<rustls::ServerConfig>,
    streams: mpsc::UnboundedReceiver<TestStream>,
    service: Peer,
    running: CancellationToken,
}

#[derive(Clone)]
struct Peer(mpsc::UnboundedSender<TestStream>);

type Outbound = Pin<Box<dyn tokio_stream::Stream<Item = Result<ToNode, Status>> + Send>>;

#[tonic::async_trait]
impl NodeStream for Peer {
    type ConnectStream = Outbound;

    async fn connect(&self, request: Request<Streaming<FromNode>>) -> Result<Response<Outbound>, Status> {
        let authorization = request.metadata().get("authorization").unwrap().to_str().unwrap().to_owned();
        let (to, outbound) = mpsc::unbounded_channel();
        let stream = TestStream { authorization, from: request.into_inner(), to };
        let _ = self.0.send(stream);
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(outbound))))
    }
}

impl TestServer {
    fn new(folder: &tempfile::TempDir) -> TestServer {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let _ = provider.clone().install_default();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(folder.path().join("ca.crt"), made.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let certified = CertifiedKey::from_der(vec![made.cert.der().clone()], key, &provider).unwrap();
        let tls = serve::tls(Protocol::Grpc, Arc::new(SingleCertAndKey::from(certified)));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, streams) = mpsc::unbounded_channel();
        let mut server = TestServer {
            address,
            listener: None,
            tls,
            streams,
            service: Peer(sender),
            running: CancellationToken::new(),
        };
        server.serve(listener);
        server
    }

    fn serve(&mut self, listener: std::net::TcpListener) {
        self.running = CancellationToken::new();
        let door = Door {
            name: "stream",
            listener: Listener::Tcp(TcpListener::from_std(listener).unwrap()),
            tls: Some(Arc::clone(&self.tls)),
            protocol: Protocol::Grpc,
            limits: Limits { drain_timeout: Duration::ZERO, ..Limits::grpc() },
        };
        tokio::spawn(serve::run(door, NodeStreamServer::new(self.service.clone()), self.running.clone()));
    }

    /// Refuses connections from now on.
    pub(super) async fn stop(&mut self) {
        self.running.cancel();
        self.listener = None;
        let address = self.address;
        soon("the server's end", async move {
            while tokio::net::TcpStream::connect(address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    pub(super) async fn start_again(&mut self) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(64).unwrap().into_std().unwrap();
        self.serve(listener);
    }

    pub(super) async fn accept(&mut self) -> TestStream {
        soon("a stream", self.streams.recv()).await.unwrap()
    }
}

/// One stream, seen from the server.
pub(super) struct TestStream {
    pub(super) authorization: String,
    from: Streaming<FromNode>,
    to: mpsc::UnboundedSender<Result<ToNode, Status>>,
}

impl TestStream {
    pub(super) fn send(&self, message: impl Into<ToNode>) {
        self.to.send(Ok(message.into())).unwrap();
    }

    pub(super) fn end_with(self, status: Status) {
        let _ = self.to.send(Err(status));
    }

    pub(super) fn welcome(&self) {
        self.send(Welcome { protocol_version: PROTOCOL_VERSION, payload_bytes_max: 1 << 20 });
    }

    pub(super) fn payload(&self, payload_id: u64, version: &str, files: &[(&str, &str)]) {
        let file = |(name, content): &(&str, &str)| File {
            name: (*name).to_owned(),
            content: content.as_bytes().to_vec(),
        };
        let files = files.iter().map(file).collect();
        let (secret_arn, version_id) = (ARN.to_owned(), version.to_owned());
        self.send(Payload { payload_id, secret_arn, version_id, files });
    }

    pub(super) fn place(&self, request_id: u64, payload_id: u64, version: &str) {
        self.send(Place {
            mount_id: MOUNT_ID.into(),
            request_id,
            payload_id,
            secret_arn: ARN.into(),
            version_id: version.into(),
            ..Place::default()
        });
    }

    pub(super) async fn next(&mut self) -> Message {
        let message = soon("a message of the agent", self.from.next()).await;
        message.expect("the stream has ended").unwrap().message.unwrap()
    }

    pub(super) async fn hello(&mut self) -> Hello {
        match self.next().await {
            Message::Hello(hello) => hello,
            other => panic!("Hello was expected: {other:?}"),
        }
    }

    /// The next Attach, perhaps after the Hello.
    pub(super) async fn attach(&mut self) -> Attach {
        loop {
            match self.next().await {
                Message::Attach(attach) => return attach,
                Message::Hello(_) | Message::Detach(_) | Message::Reauthenticate(_) => {}
                other => panic!("Attach was expected: {other:?}"),
            }
        }
    }

    pub(super) async fn receipt(&mut self) -> Receipt {
        match self.next().await {
            Message::Receipt(receipt) => receipt,
            other => panic!("Receipt was expected: {other:?}"),
        }
    }

    /// The agent lets go of the mount.
    pub(super) async fn detach(&mut self) {
        match self.next().await {
            Message::Detach(detach) => assert_eq!(detach.mount_id, MOUNT_ID),
            other => panic!("Detach was expected: {other:?}"),
        }
    }
}
