//! The trust window: what a node may do for new pods while the server is away, and how it tells of that.

use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tonic::Status;

use super::harness::*;
use crate::wire::csi::{NodePublishVolumeRequest, NodeUnpublishVolumeRequest};
use crate::wire::node::from_node::Message;
use crate::wire::node::{FirstMounts, Keep, Mount, Place, Receipt, Recorded, Withdraw};

const ACCOUNT_UID: &str = "uid-of-orders-api";
const SECOND_UID: &str = "0b1e7a52-0000-4000-8000-000000000002";
const SECOND_MOUNT: &str = "0b1e7a52-0000-4000-8000-000000000002/orders";
const LONG: Duration = Duration::from_secs(3600);

/// Another pod of the same ServiceAccount.
struct Pod<'a> {
    uid: &'a str,
    namespace: &'a str,
    account: &'a str,
    account_uid: &'a str,
    attributes: &'a [(&'a str, &'a str)],
}

const SECOND: Pod<'static> = Pod {
    uid: SECOND_UID,
    namespace: "shop",
    account: "orders-api",
    account_uid: ACCOUNT_UID,
    attributes: &[],
};

impl Pod<'_> {
    fn request(&self, node: &TestNode) -> NodePublishVolumeRequest {
        let mut request = node.request();
        request.target_path = request.target_path.replace(POD_UID, self.uid);
        fs::create_dir_all(std::path::Path::new(&request.target_path).parent().unwrap()).unwrap();
        let claims = serde_json::json!({"kubernetes.io": {
            "namespace": self.namespace,
            "pod": {"name": "web-1", "uid": self.uid},
            "serviceaccount": {"name": self.account, "uid": self.account_uid},
        }});
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let tokens = serde_json::json!({"tidelock.test/node": {"token": token, "expirationTimestamp": "x"}});
        for (name, value) in [
            ("pod.uid", self.uid),
            ("pod.name", "web-1"),
            ("pod.namespace", self.namespace),
            ("serviceAccount.name", self.account),
            ("serviceAccount.tokens", &tokens.to_string()),
        ] {
            request.volume_context.insert(format!("csi.storage.k8s.io/{name}"), value.into());
        }
        for (name, value) in self.attributes {
            request.volume_context.insert((*name).to_owned(), (*value).to_owned());
        }
        request
    }

    async fn publish(&self, node: &TestNode) -> Result<(), Status> {
        let mut kubelet = node.kubelet().await;
        soon("an answer to publish", kubelet.node_publish_volume(self.request(node))).await.map(|_| ())
    }

    async fn reason(&self, node: &TestNode) -> String {
        let error = self.publish(node).await.expect_err("must wait");
        error.message().split(':').next().unwrap().to_owned()
    }
}

async fn unpublish_second(node: &TestNode) {
    let target_path = SECOND.request(node).target_path.clone();
    let request = NodeUnpublishVolumeRequest { volume_id: "csi-0124".into(), target_path };
    node.kubelet().await.node_unpublish_volume(request).await.unwrap();
}

/// Of the second pod, as it sees it.
fn second_file(node: &TestNode, name: &str) -> Option<String> {
    fs::read_to_string(std::path::Path::new(&SECOND.request(node).target_path).join(name)).ok()
}

fn place(mount_id: &str, request_id: u64, payload_id: u64, version: &str) -> Place {
    Place {
        mount_id: mount_id.into(),
        request_id,
        payload_id,
        secret_arn: ARN.into(),
        version_id: version.into(),
        first_mounts: FirstMounts::Served.into(),
        account_uid: ACCOUNT_UID.into(),
        ..Place::default()
    }
}

/// A node with a window, one pod that has v1, and the stream that brought it.
async fn node(window: Duration) -> (TestNode, TestStream) {
    let mut node = TestNode::without_agent().await;
    node.trust_window = window;
    node.start_agent().await;
    let mut stream = node.server.accept().await;
    stream.welcome();
    let call = node.publish_in_background().await;
    let attach = stream.attach().await;
    stream.payload(1, "v1", &[("password", "c4nary-value-1")]);
    stream.send(place(MOUNT_ID, attach.request_id, 1, "v1"));
    soon("publish", call).await.unwrap().unwrap();
    assert_eq!(stream.receipt().await.version_id, "v1");
    (node, stream)
}

async fn receipt_of(stream: &mut TestStream, mount_id: &str) -> Receipt {
    loop {
        match stream.next().await {
            Message::Receipt(receipt) if receipt.mount_id == mount_id => return receipt,
            _ => {}
        }
    }
}

async fn lose(node: &mut TestNode, stream: TestStream) {
    drop(stream);
    node.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_pod_of_the_same_account_gets_the_copy_and_the_server_is_told_when_it_is_back() {
    let (mut node, stream) = node(LONG).await;
    lose(&mut node, stream).await;
    SECOND.publish(&node).await.unwrap();
    assert_eq!(second_file(&node, "password").as_deref(), Some("c4nary-value-1"));
    for entry in fs::read_dir(node.path("manifests")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!text.contains("c4nary"), "no value is written down: {text}");
    }

    node.server.start_again().await;
    let mut stream = node.server.accept().await;
    let hello = stream.hello().await;
    let mut ids: Vec<&str> = hello.mounts.iter().map(|mount| mount.mount_id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [MOUNT_ID, SECOND_MOUNT], "it is checked as any mount");
    let [served] = hello.served.as_slice() else { panic!("{:?}", hello.served) };
    let mount = served.mount.as_ref().unwrap();
    assert_eq!((mount.mount_id.as_str(), mount.version_id.as_str()), (SECOND_MOUNT, "v1"));
    assert_eq!((mount.pod_name.as_str(), mount.service_account.as_str()), ("web-1", "orders-api"));
    assert!(served.at_seconds > 1_700_000_000);
    stream.welcome();
    stream.send(Recorded { mount_id: SECOND_MOUNT.into() });
    // And when access says no, the files go.
    stream.send(Keep { mount_id: MOUNT_ID.into(), first_mounts: FirstMounts::Served.into() });
    stream.send(Withdraw { mount_id: SECOND_MOUNT.into(), reason: "AccessDenied: no".into() });
    until("the files to go", || second_file(&node, "password").is_none()).await;
    assert_eq!(node.read("password").as_deref(), Some("c4nary-value-1"));

    // What the audit has is told no more; and what was withdrawn is given no more.
    lose(&mut node, stream).await;
    unpublish_second(&node).await;
    assert_eq!(SECOND.reason(&node).await, "NoTrustedCopy");
    node.server.start_again().await;
    let mut stream = node.server.accept().await;
    assert!(stream.hello().await.served.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_that_is_gone_before_the_server_is_back_is_told_also_by_the_next_agent() {
    let (mut node, stream) = node(LONG).await;
    lose(&mut node, stream).await;
    SECOND.publish(&node).await.unwrap();
    unpublish_second(&node).await;
    assert_eq!(second_file(&node, "password"), None);
    node.kill_agent().await;
    node.start_agent().await;
    // Its memory is empty, and what lies in pods' files is not read.
    assert_eq!(SECOND.reason(&node).await, "NoTrustedCopy");
    for _ in 0..2 {
        node.server.start_again().await;
        let mut stream = node.server.accept().await;
        let hello = stream.hello().await;
        assert_eq!(hello.served.len(), 1, "told until it is recorded");
        assert_eq!(hello.mounts.len(), 1);
        lose(&mut node, stream).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_gets_it_and_each_wait_says_why() {
    let (mut node, stream) = node(LONG).await;
    lose(&mut node, stream).await;
    for other in [
        Pod { uid: "uid-1", account: "default", ..SECOND },
        Pod { uid: "uid-2", namespace: "shop-2", ..SECOND },
        Pod { uid: "uid-3", account_uid: "a-namesake", ..SECOND },
        Pod { uid: "uid-4", attributes: &[("keys", "password")], ..SECOND },
        Pod { uid: "uid-5", attributes: &[("mode", "0444")], ..SECOND },
        Pod { uid: "uid-6", attributes: &[("secret", "payments-db")], ..SECOND },
    ] {
        assert_eq!(other.reason(&node).await, "NoTrustedCopy");
        assert!(!std::path::Path::new(&other.request(&node).target_path).exists(), "nothing is mounted");
    }
    // A token that says otherwise than pod info.
    let mut request = SECOND.request(&node);
    request.volume_context.insert("csi.storage.k8s.io/pod.name".into(), "web-7".into());
    let error = node.kubelet().await.node_publish_volume(request).await.unwrap_err();
    assert!(error.message().contains("NoTrustedCopy"), "{}", error.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_window_and_without_one_pods_wait_for_the_server() {
    let (mut node, stream) = node(Duration::from_millis(1)).await;
    lose(&mut node, stream).await;
    assert_eq!(SECOND.reason(&node).await, "TrustWindowOver");
    let call = {
        let (mut kubelet, request) = (node.kubelet().await, SECOND.request(&node));
        tokio::spawn(async move { kubelet.node_publish_volume(request).await.map(|_| ()) })
    };
    node.server.start_again().await;
    let mut stream = node.server.accept().await;
    stream.welcome();
    let attach = stream.attach().await;
    stream.payload(1, "v1", &[("password", "asked-for")]);
    stream.send(place(SECOND_MOUNT, attach.request_id, 1, "v1"));
    soon("the held call", call).await.unwrap().unwrap();
    assert_eq!(second_file(&node, "password").as_deref(), Some("asked-for"));

    let (mut node, stream) = self::node(Duration::ZERO).await;
    lose(&mut node, stream).await;
    assert_eq!(SECOND.reason(&node).await, "ServerAway");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_or_closed_while_there_is_a_stream_is_not_given_afterwards() {
    let (mut node, mut stream) = node(LONG).await;
    stream.send(Keep { mount_id: MOUNT_ID.into(), first_mounts: FirstMounts::Refused.into() });
    receipt_of(&mut stream, MOUNT_ID).await;
    lose(&mut node, stream).await;
    assert_eq!(SECOND.reason(&node).await, "NoTrustedCopy");
    assert_eq!(node.read("password").as_deref(), Some("c4nary-value-1"), "whoever runs keeps the files");

    let (mut node, mut stream) = self::node(LONG).await;
    stream.payload(2, "v2", &[("password", "c4nary-value-2")]);
    stream.send(place(MOUNT_ID, 0, 2, "v2"));
    receipt_of(&mut stream, MOUNT_ID).await;
    lose(&mut node, stream).await;
    SECOND.publish(&node).await.unwrap();
    assert_eq!(second_file(&node, "password").as_deref(), Some("c4nary-value-2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_restarted_asks_for_copies_without_touching_the_files() {
    use std::os::unix::fs::MetadataExt;
    let (mut node, stream) = node(LONG).await;
    node.kill_agent().await;
    drop(stream);
    node.start_agent().await;
    let mut stream = node.server.accept().await;
    let wanted = |mounts: &[Mount]| mounts.iter().all(|mount| mount.copy_wanted);
    assert!(wanted(&stream.hello().await.mounts));
    stream.welcome();
    let file = || fs::metadata(node.target().join("password")).unwrap().ino();
    let before = file();
    stream.payload(1, "v1", &[("password", "c4nary-value-1")]);
    stream.send(Place { copy_only: true, ..place(MOUNT_ID, 0, 1, "v1") });
    assert_eq!(receipt_of(&mut stream, MOUNT_ID).await.version_id, "v1");
    assert_eq!(file(), before, "a reader that watches the folder sees no change");
    lose(&mut node, stream).await;
    SECOND.publish(&node).await.unwrap();
    assert_eq!(second_file(&node, "password").as_deref(), Some("c4nary-value-1"));
    node.server.start_again().await;
    let mut stream = node.server.accept().await;
    assert!(!wanted(&stream.hello().await.mounts), "it has one");
}
