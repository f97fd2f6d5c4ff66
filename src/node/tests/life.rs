//! What happens to a volume while its pod runs.

use std::io::Write;

use tracing_subscriber::fmt::MakeWriter;

use super::harness::*;
use crate::node::NodeError;
use crate::wire::node::from_node::Message;
use crate::wire::node::{DropPayload, Withdraw};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_changes_the_files_in_place() {
    let mut node = TestNode::start().await;
    let mut stream = node.with_volume().await;
    stream.payload(2, "v2", &[("password", "changed"), ("username", "new")]);
    stream.place(0, 2, "v2");
    stream.send(DropPayload { payload_id: 1 });
    let receipt = stream.receipt().await;
    assert_eq!(receipt.version_id, "v2");
    assert_eq!(node.read("password").as_deref(), Some("changed"));
    assert_eq!(node.read("username").as_deref(), Some("new"));
    assert_eq!(node.read("value"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn former_files_stay_for_a_moment_for_a_reader_who_is_on_his_way_into_them() {
    let mut node = TestNode::start().await;
    let mut stream = node.with_volume().await;
    let folder = |node: &TestNode| {
        let target = node.target();
        target.join(std::fs::read_link(target.join("..data")).unwrap())
    };
    let on_his_way = folder(&node);
    stream.payload(2, "v2", &[("password", "second"), ("value", "{}")]);
    stream.place(0, 2, "v2");
    assert_eq!(stream.receipt().await.version_id, "v2");
    assert_eq!(std::fs::read_to_string(on_his_way.join("password")).unwrap(), "c4nary-value-1");
    assert_eq!(node.read("password").as_deref(), Some("second"));
    until("the former files are gone", || !on_his_way.exists()).await;

    // An agent that stops leaves them to the next.
    let on_his_way = folder(&node);
    stream.payload(3, "v3", &[("password", "third"), ("value", "{}")]);
    stream.place(0, 3, "v3");
    assert_eq!(stream.receipt().await.version_id, "v3");
    node.stop_agent().await;
    assert!(on_his_way.exists());
    node.start_agent().await;
    assert!(!on_his_way.exists());
    assert_eq!(node.read("password").as_deref(), Some("third"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larger_version_gets_a_larger_volume() {
    let mut node = TestNode::start().await;
    let mut stream = node.with_volume().await;
    let large = "x".repeat(1 << 20);
    stream.payload(2, "v2", &[("password", &large)]);
    stream.place(0, 2, "v2");
    assert_eq!(stream.receipt().await.version_id, "v2");
    assert_eq!(node.read("password").map(|text| text.len()), Some(1 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_many_pushes_wins() {
    let mut node = TestNode::start().await;
    let mut stream = node.with_volume().await;
    for round in 2..=50 {
        stream.payload(round, &format!("v{round}"), &[("password", &format!("p{round}"))]);
        stream.place(0, round, &format!("v{round}"));
    }
    while stream.receipt().await.version_id != "v50" {}
    assert_eq!(node.read("password").as_deref(), Some("p50"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_takes_the_files_and_leaves_the_mount() {
    let mut node = TestNode::start().await;
    let mut stream = node.with_volume().await;
    stream.send(Withdraw { mount_id: MOUNT_ID.into(), reason: "the right was taken".into() });
    until("the files are gone", || node.read("password").is_none()).await;
    assert!(node.is_mounted());
    // kubelet after its own restart: the mount was complete once.
    node.publish().await.unwrap();
    // The right comes back.
    stream.payload(3, "v3", &[("password", "again")]);
    stream.place(0, 3, "v3");
    assert_eq!(stream.receipt().await.version_id, "v3");
    assert_eq!(node.read("password").as_deref(), Some("again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_cannot_be_placed_is_reported_and_the_former_files_stay() {
    let mut node = TestNode::start().await;
    let mut stream = node.with_volume().await;
    let large = "x".repeat(5 << 20);
    stream.payload(2, "v2", &[("password", &large)]);
    stream.place(0, 2, "v2");
    match stream.next().await {
        Message::Trouble(trouble) => assert_eq!(trouble.reason, "TooLarge"),
        other => panic!("Trouble was expected: {other:?}"),
    }
    assert_eq!(node.read("password").as_deref(), Some("c4nary-value-1"));
    // A later version that fits is placed although the former one is still being tried.
    stream.payload(3, "v3", &[("password", "fits")]);
    stream.place(0, 3, "v3");
    assert_eq!(stream.receipt().await.version_id, "v3");
    assert_eq!(node.read("password").as_deref(), Some("fits"));
}

#[tokio::test(flavor = "multi_thread")]
async fn something_planted_in_the_volume_is_reported_and_not_followed() {
    let mut node = TestNode::start().await;
    let mut stream = node.with_volume().await;
    let data = node.target().join("..data");
    std::fs::remove_file(&data).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &data).unwrap();
    stream.payload(2, "v2", &[("password", "changed")]);
    stream.place(0, 2, "v2");
    match stream.next().await {
        Message::Trouble(trouble) => assert_eq!(trouble.reason, "ForeignEntry"),
        other => panic!("Trouble was expected: {other:?}"),
    }
    assert_eq!(std::fs::read_link(&data).unwrap().to_str(), Some("/etc/passwd"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_of_the_agent_reaches_the_server_before_the_old_one_ends() {
    let mut node = TestNode::start().await;
    let mut stream = node.server.accept().await;
    stream.welcome();
    stream.hello().await;
    std::fs::write(node.path("next"), "the-next-token\n").unwrap();
    std::fs::rename(node.path("next"), node.path("token")).unwrap();
    match stream.next().await {
        Message::Reauthenticate(next) => assert_eq!(next.token, "the-next-token"),
        other => panic!("Reauthenticate was expected: {other:?}"),
    }
    stream.end_with(tonic::Status::unauthenticated("expired"));
    assert_eq!(node.server.accept().await.authorization, "Bearer the-next-token");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_kubelet_refuses_ends_with_the_reason() {
    let mut node = TestNode::start().await;
    node.register(false).await;
    match node.agent_end().await {
        Err(NodeError::Refused(why)) => assert!(why.contains("already registered"), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// Everything that any thread logs.
#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

const ALONE: &str = "TIDELOCK_TEST_ALONE";

/// In a process of its own: what other tests of a process subscribe to, and when, decides what can be heard in it.
#[test]
#[expect(clippy::disallowed_methods, reason = "how a parent test tells its child what to do")]
fn neither_values_nor_tokens_are_logged_at_trace() {
    if std::env::var_os(ALONE).is_some() {
        return listen_at_trace();
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["node::tests::life::neither_values_nor_tokens_are_logged_at_trace", "--exact"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

/// The threads of this runtime log to one place.
fn listen_at_trace() {
    use base64::Engine;
    let log = Log::default();
    let subscriber =
        tracing_subscriber::fmt().with_writer(log.clone()).with_max_level(tracing::Level::TRACE).finish();
    let dispatch = tracing::Dispatch::new(subscriber);
    let on_thread = dispatch.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(move || {
            // Kept for the life of the thread.
            std::mem::forget(tracing::dispatcher::set_default(&on_thread));
        })
        .build()
        .unwrap();
    tracing::dispatcher::with_default(&dispatch, || {
        runtime.block_on(async {
            tokio::spawn(async {
                let mut node = TestNode::start().await;
                let mut stream = node.with_volume().await;
                stream.payload(2, "v2", &[("password", "c4nary-value-2")]);
                stream.place(0, 2, "v2");
                stream.receipt().await;
                node.unpublish().await.unwrap();
                stream.detach().await;
                let mut bad = node.request();
                bad.volume_context.insert("c4nary".into(), "c4nary-attribute".into());
                node.kubelet().await.node_publish_volume(bad).await.unwrap_err();
            })
            .await
            .unwrap();
        });
    });
    let bytes = log.0.lock().unwrap().clone();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("volume is published") && text.contains("TRACE"), "nothing was heard");
    for canary in ["c4nary-value-1", "c4nary-value-2", STREAM_TOKEN, POD_TOKEN, "c4nary-attribute"] {
        let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(canary);
        let listed = format!("{:?}", canary.as_bytes());
        for form in [canary, encoded.as_str(), listed.as_str()] {
            assert!(!text.contains(form), "{canary} was logged as {form}");
        }
    }
}
