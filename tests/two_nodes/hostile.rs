//! What a node gets whose root speaks to the server itself: what it is entitled to, and of another node nothing.
//! It has what root on node 2 can have, the agent's own token there, and pods' tokens of node 1 as if it had stolen them.

use futures::StreamExt as _;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tidelock::wire::node::node_stream_client::NodeStreamClient;
use tidelock::wire::node::refused::Reason;
use tidelock::wire::node::{Attach, FromNode, Hello, Mount, PROTOCOL_VERSION, ToNode, to_node};
use tidelock_e2e::install;
use tidelock_e2e::shop::{NAMESPACE, PATIENCE, Shop};
use tonic::{Code, Request, Status, Streaming};

use super::{agent_on, on_node};

type Channel = Client<HttpsConnector<HttpConnector>, tonic::body::Body>;

/// A stream with what the agent says on it, which the test says instead.
struct Stream {
    says: futures::channel::mpsc::UnboundedSender<FromNode>,
    hears: Streaming<ToNode>,
}

impl Stream {
    async fn open(shop: &Shop, token: &str) -> Result<Self, Status> {
        let (says, said) = futures::channel::mpsc::unbounded();
        let mut request = Request::new(said);
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let hears = client(shop).await.connect(request).await?.into_inner();
        Ok(Self { says, hears })
    }

    fn say(&self, message: impl Into<FromNode>) {
        let _ = self.says.unbounded_send(message.into());
    }

    fn hello(&self, node: &str, mounts: Vec<Mount>) {
        self.say(Hello {
            protocol_version: PROTOCOL_VERSION,
            node_name: node.to_owned(),
            agent_version: "test".to_owned(),
            mounts,
            served: Vec::new(),
        });
    }

    /// The next answer that is wanted; `None` when the stream ends before, as when the true agent takes its place.
    async fn hear<T>(&mut self, wanted: impl Fn(to_node::Message) -> Option<T>) -> Option<T> {
        loop {
            let message = self.hears.next().await?.ok()?.message?;
            // Whatever else is heard, a value is not.
            assert!(
                !matches!(message, to_node::Message::Payload(_) | to_node::Message::Place(_)),
                "a node was sent what is another node's: {message:?}"
            );
            if let Some(found) = wanted(message) {
                return Some(found);
            }
        }
    }
}

async fn client(shop: &Shop) -> NodeStreamClient<Channel> {
    let get = async |arguments: &[&str]| {
        let all = [&["-n", install::NAMESPACE, "get"], arguments].concat();
        shop.cluster.kubectl(&all).await.unwrap()
    };
    let address = get(&["service", "tidelock-server", "-o", "jsonpath={.spec.clusterIP}"]).await;
    let authority = get(&["configmap", "tidelock-ca", "-o", "jsonpath={.data.ca\\.crt}"]).await;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let name = format!("tidelock-server.{}.svc", install::NAMESPACE);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
        .https_only()
        .with_server_name_resolver(FixedServerNameResolver::new(ServerName::try_from(name).unwrap()))
        .enable_http2()
        .build();
    let channel = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
    NodeStreamClient::with_origin(channel, format!("https://{address}:8445").parse().unwrap())
}

fn audience(end: &str) -> String {
    format!("tidelock.{}/{end}", install::NAMESPACE)
}

/// A token as TokenRequest makes it, bound to a pod if one is named.
async fn token(shop: &Shop, ns: &str, account: &str, end: &str, pod: Option<&str>) -> String {
    let audience = audience(end);
    let mut words = vec!["-n", ns, "create", "token", account, "--audience", &audience];
    if let Some(pod) = pod {
        words.extend(["--bound-object-kind", "Pod", "--bound-object-name", pod]);
    }
    shop.cluster.kubectl(&words).await.unwrap().trim().to_owned()
}

pub async fn a_node_has_no_say_over_another_node_s_pods(shop: &Shop) {
    shop.apply(&[shop.pod("theirs", "orders-db", "orders-db", on_node(shop, 1, json!({})))]).await.unwrap();
    let uid = shop.running("theirs").await.unwrap();
    let agent = agent_on(shop, 2).await;
    streams_are_for_the_agent_s_own_token(shop, &agent).await;

    let ours = token(shop, install::NAMESPACE, "tidelock-node", "stream", Some(&agent)).await;
    let stolen = token(shop, NAMESPACE, "orders-db", "node", Some("theirs")).await;
    let node = shop.cluster.node(2).name();
    let mount = mount_of(shop, &uid).await;

    // In another node's name.
    let mut stream = Stream::open(shop, &ours).await.unwrap();
    stream.hello(&shop.cluster.node(1).name(), Vec::new());
    let refused = stream.hears.next().await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("another node"), "{refused}");

    // The true agent of the node comes back at once and ends a stream in its name: then again.
    let presented = async || {
        let mut stream = Stream::open(shop, &ours).await.ok()?;
        stream.hello(&node, Vec::new());
        stream.say(Attach { request_id: 1, mount: Some(mount.clone()), pod_token: stolen.clone() });
        stream
            .hear(|message| match message {
                to_node::Message::Refused(refused) => Some(refused),
                _ => None,
            })
            .await
    };
    let refused = shop.cluster.wait_for("the stolen token to be refused", PATIENCE, presented).await.unwrap();
    assert_eq!(refused.reason(), Reason::TokenRejected, "{refused:?}");
    assert!(refused.message.contains(&format!("not bound to node {node}")), "{}", refused.message);

    let claimed = async || {
        let mut stream = Stream::open(shop, &ours).await.ok()?;
        stream.hello(&node, vec![mount.clone()]);
        stream
            .hear(|message| match message {
                to_node::Message::Withdraw(withdraw) => Some(withdraw),
                _ => None,
            })
            .await
    };
    let withdrawn = shop.cluster.wait_for("the claim to be refused", PATIENCE, claimed).await.unwrap();
    assert_eq!(withdrawn.mount_id, mount.mount_id);
    println!("a pod of another node in the Hello: {}", withdrawn.reason);
    assert!(withdrawn.reason.contains("node"), "{}", withdrawn.reason);
    // Nothing of it touched the pod's true mount.
    shop.file("theirs", super::VALUE).await.unwrap();
    shop.status_is("orders-db", "its one consumer", |status| status["consumers"]["total"] == 1)
        .await
        .unwrap();
    super::delete(shop, &["theirs"]).await;
}

async fn streams_are_for_the_agent_s_own_token(shop: &Shop, agent: &str) {
    let refused = async |token: &str, code: Code| {
        let status = Stream::open(shop, token).await.err().expect("no stream is opened");
        assert_eq!(status.code(), code, "{status}");
        status.message().to_owned()
    };
    for wrong in ["node", "api"] {
        let wrong = token(shop, install::NAMESPACE, "tidelock-node", wrong, Some(agent)).await;
        refused(&wrong, Code::Unauthenticated).await;
    }
    let stranger = token(shop, NAMESPACE, "orders-db", "stream", Some("theirs")).await;
    let told = refused(&stranger, Code::PermissionDenied).await;
    assert!(told.contains("tidelock-node") && told.contains("orders-db"), "{told}");
    let nowhere = token(shop, install::NAMESPACE, "tidelock-node", "stream", None).await;
    let told = refused(&nowhere, Code::PermissionDenied).await;
    assert!(told.contains("names no node"), "{told}");
}

/// What the agent of node 1 says of its pod, word for word.
async fn mount_of(shop: &Shop, uid: &str) -> Mount {
    let words = ["-n", NAMESPACE, "get", "pod", "theirs", "-o", "json"];
    let pod: serde_json::Value = serde_json::from_str(&shop.cluster.kubectl(&words).await.unwrap()).unwrap();
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["csi"]["driver"] == "csi.tidelock.dev").unwrap();
    let attributes = volume["csi"]["volumeAttributes"].as_object().unwrap();
    let name = volume["name"].as_str().unwrap();
    Mount {
        mount_id: format!("{uid}/{name}"),
        pod_namespace: NAMESPACE.to_owned(),
        pod_name: "theirs".to_owned(),
        pod_uid: uid.to_owned(),
        volume: name.to_owned(),
        service_account: "orders-db".to_owned(),
        attributes: attributes
            .iter()
            .map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()))
            .collect(),
        ..Mount::default()
    }
}
