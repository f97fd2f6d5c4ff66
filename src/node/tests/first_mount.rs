//! From kubelet's first call to the files.

use std::time::Duration;

use tonic::Code;

use super::harness::*;
use crate::wire::csi::volume_capability::{AccessType, MountVolume};
use crate::wire::csi::{NodeGetCapabilitiesRequest, NodeGetInfoRequest, VolumeCapability};
use crate::wire::node::{Refused, Withdraw, refused};

fn refusal(request_id: u64, reason: refused::Reason, message: &str) -> Refused {
    Refused { request_id, mount_id: MOUNT_ID.into(), reason: reason.into(), message: message.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_its_files_and_the_server_its_receipt() {
    let mut node = TestNode::start().await;
    let mut stream = node.server.accept().await;
    assert_eq!(stream.authorization, format!("Bearer {STREAM_TOKEN}"));
    let hello = stream.hello().await;
    assert_eq!((hello.node_name.as_str(), hello.mounts.len()), ("node-1", 0));
    stream.welcome();

    let call = node.publish_in_background().await;
    let attach = stream.attach().await;
    assert_eq!(attach.pod_token, POD_TOKEN);
    let mount = attach.mount.clone().unwrap();
    assert_eq!(mount.mount_id, MOUNT_ID);
    assert_eq!((mount.pod_namespace.as_str(), mount.pod_name.as_str()), ("shop", "web-0"));
    assert_eq!((mount.volume.as_str(), mount.service_account.as_str()), ("orders", "orders-api"));
    assert_eq!(mount.attributes.len(), 1, "what kubelet adds is not the author's: {:?}", mount.attributes);
    assert!(!node.is_mounted());

    stream.payload(1, "v1", &[("password", "hunter2")]);
    stream.place(attach.request_id, 1, "v1");
    soon("publish", call).await.unwrap().unwrap();
    assert_eq!(node.read("password").as_deref(), Some("hunter2"));
    let receipt = stream.receipt().await;
    assert_eq!((receipt.mount_id.as_str(), receipt.version_id.as_str()), (MOUNT_ID, "v1"));
    assert_eq!(receipt.secret_arn, ARN);

    node.unpublish().await.unwrap();
    stream.detach().await;
    assert!(!node.is_mounted() && !node.target().exists());
    assert_eq!(std::fs::read_dir(node.path("manifests")).unwrap().count(), 0);
    node.unpublish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn kubelet_learns_that_we_apply_the_group() {
    let node = TestNode::start().await;
    let mut kubelet = node.kubelet().await;
    let answer = kubelet.node_get_capabilities(NodeGetCapabilitiesRequest {}).await.unwrap();
    assert_eq!(answer.into_inner().capabilities.len(), 1);
    let info = kubelet.node_get_info(NodeGetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.node_id, "node-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pods_group_and_the_asked_mode_are_on_the_files() {
    use std::os::unix::fs::MetadataExt;
    let mut node = TestNode::start().await;
    let mut stream = node.server.accept().await;
    stream.welcome();
    let mut request = node.request();
    let mount = MountVolume { volume_mount_group: "2000".into(), ..MountVolume::default() };
    request.volume_capability = Some(VolumeCapability { access_type: Some(AccessType::Mount(mount)) });
    let mut kubelet = node.kubelet().await;
    let call = tokio::spawn(async move { kubelet.node_publish_volume(request).await });
    let attach = stream.attach().await;
    stream.payload(1, "v1", &[("password", "hunter2")]);
    stream.place(attach.request_id, 1, "v1");
    soon("publish", call).await.unwrap().unwrap();
    let check = || {
        let file = std::fs::metadata(node.target().join("password")).unwrap();
        assert_eq!((file.mode() & 0o7777, file.uid(), file.gid()), (0o440, 0, 2000));
    };
    check();
    stream.receipt().await;
    stream.payload(2, "v2", &[("password", "hunter3")]);
    stream.place(0, 2, "v2");
    stream.receipt().await;
    assert_eq!(node.read("password").as_deref(), Some("hunter3"));
    check();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reason_is_told_once_and_then_the_call_is_held_until_the_value_comes() {
    let mut node = TestNode::start().await;
    let mut stream = node.server.accept().await;
    stream.welcome();

    let call = node.publish_in_background().await;
    let first = stream.attach().await;
    stream.send(refusal(first.request_id, refused::Reason::UnknownSecret, "there is no secret orders-db"));
    let error = soon("the first reason", call).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().contains("UnknownSecret") && error.message().contains("there is no secret"));
    stream.detach().await;

    // Another reason is news.
    let call = node.publish_in_background().await;
    let second = stream.attach().await;
    assert!(second.request_id > first.request_id);
    stream.send(refusal(second.request_id, refused::Reason::NoValue, "it has no value yet"));
    let error = soon("the second reason", call).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    stream.detach().await;

    // The same reason again: held, and answered the moment the value is there.
    let call = node.publish_in_background().await;
    let third = stream.attach().await;
    stream.send(refusal(third.request_id, refused::Reason::NoValue, "it has no value yet"));
    tokio::time::timeout(Duration::from_millis(300), async {
        while !call.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect_err("the call must be held");
    assert!(!node.is_mounted());
    stream.payload(1, "v1", &[("password", "hunter2")]);
    stream.place(third.request_id, 1, "v1");
    soon("the held call", call).await.unwrap().unwrap();
    assert_eq!(node.read("password").as_deref(), Some("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_call_ends_after_its_time_with_the_reason() {
    let mut node = TestNode::without_agent().await;
    node.patience.hold = Duration::from_millis(300);
    node.start_agent().await;
    let mut stream = node.server.accept().await;
    stream.welcome();
    for _ in 0..2 {
        let call = node.publish_in_background().await;
        let attach = stream.attach().await;
        stream.send(refusal(attach.request_id, refused::Reason::NotAllowed, "no right"));
        let error = soon("the end of the call", call).await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_wait_can_mend_is_answered_at_once_each_time() {
    let mut node = TestNode::start().await;
    let mut stream = node.server.accept().await;
    stream.welcome();
    for _ in 0..2 {
        let call = node.publish_in_background().await;
        let attach = stream.attach().await;
        stream.send(refusal(attach.request_id, refused::Reason::BadRequest, "there is no key `passwort`"));
        let error = soon("the refusal", call).await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_told_and_waited_for() {
    let mut node = TestNode::without_agent().await;
    node.server.stop().await;
    node.start_agent().await;
    let error = node.publish().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("ServerAway"), "{}", error.message());
    assert!(error.message().contains("onnect"), "the reason is part of it: {}", error.message());

    let call = node.publish_in_background().await;
    node.server.start_again().await;
    let mut stream = node.server.accept().await;
    stream.welcome();
    let attach = stream.attach().await;
    stream.payload(1, "v1", &[("password", "hunter2")]);
    stream.place(attach.request_id, 1, "v1");
    soon("the held call", call).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_asks_again_on_the_next_stream() {
    let mut node = TestNode::without_agent().await;
    node.patience = crate::node::Patience::default();
    node.start_agent().await;
    let mut stream = node.server.accept().await;
    stream.welcome();
    let call = node.publish_in_background().await;
    let before = stream.attach().await.request_id;
    // The payload of this stream dies with it.
    stream.payload(1, "v1", &[("password", "old-stream")]);
    stream.end_with(tonic::Status::unavailable("restarting"));

    let mut stream = node.server.accept().await;
    stream.welcome();
    let attach = stream.attach().await;
    assert!(attach.request_id > before);
    assert_eq!(attach.pod_token, POD_TOKEN);
    stream.payload(1, "v1", &[("password", "hunter2")]);
    stream.place(attach.request_id, 1, "v1");
    soon("publish", call).await.unwrap().unwrap();
    assert_eq!(node.read("password").as_deref(), Some("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_an_earlier_call_does_not_count() {
    let mut node = TestNode::start().await;
    let mut stream = node.server.accept().await;
    stream.welcome();
    let call = node.publish_in_background().await;
    let attach = stream.attach().await;
    stream.send(refusal(attach.request_id + 7, refused::Reason::NotAllowed, "of another call"));
    stream.payload(1, "v1", &[("password", "hunter2")]);
    stream.place(attach.request_id, 1, "v1");
    soon("publish", call).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_does_not_fit_is_refused_and_nothing_stays_mounted() {
    let mut node = TestNode::start().await;
    let mut stream = node.server.accept().await;
    stream.welcome();
    let call = node.publish_in_background().await;
    let attach = stream.attach().await;
    let large = "x".repeat(5 << 20);
    stream.payload(1, "v1", &[("password", &large)]);
    stream.place(attach.request_id, 1, "v1");
    let error = soon("the refusal", call).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("TooLarge"), "{}", error.message());
    assert!(!node.is_mounted());
    stream.detach().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_node_refuses_and_says_which_setting() {
    let mut node = TestNode::without_agent().await;
    node.node_bytes_max = 8 * 1024;
    node.start_agent().await;
    let mut stream = node.server.accept().await;
    stream.welcome();
    let call = node.publish_in_background().await;
    let attach = stream.attach().await;
    stream.payload(1, "v1", &[("password", "hunter2")]);
    stream.place(attach.request_id, 1, "v1");
    let error = soon("the refusal", call).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(error.message().contains("node.capacityMiB"), "{}", error.message());
    assert!(!node.is_mounted());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writable_volume_is_refused() {
    let node = TestNode::start().await;
    let mut request = node.request();
    request.readonly = false;
    let error = node.kubelet().await.node_publish_volume(request).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("readOnly: true"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_and_a_withdrawal_that_overtake_the_first_placing_are_not_lost() {
    let mut node = TestNode::start().await;
    let mut stream = node.server.accept().await;
    stream.welcome();
    let call = node.publish_in_background().await;
    let attach = stream.attach().await;
    stream.payload(1, "v1", &[("password", "one")]);
    stream.payload(2, "v2", &[("password", "two")]);
    stream.place(attach.request_id, 1, "v1");
    stream.place(0, 2, "v2");
    soon("publish", call).await.unwrap().unwrap();
    until("the newer version", || node.read("password").as_deref() == Some("two")).await;
    node.unpublish().await.unwrap();

    let call = node.publish_in_background().await;
    let attach = loop {
        if let crate::wire::node::from_node::Message::Attach(attach) = stream.next().await {
            break attach;
        }
    };
    stream.place(attach.request_id, 1, "v1");
    stream.send(Withdraw { mount_id: MOUNT_ID.into(), reason: "the right was taken".into() });
    match soon("publish", call).await.unwrap() {
        Ok(()) => until("the withdrawal", || node.read("password").is_none()).await,
        Err(error) => assert_eq!(error.code(), Code::PermissionDenied),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_kubelet_gives_up_leaves_nothing_waiting() {
    let mut node = TestNode::start().await;
    let mut stream = node.server.accept().await;
    stream.welcome();
    let call = node.publish_in_background().await;
    stream.attach().await;
    call.abort();
    stream.detach().await;
    // And the next one can begin.
    let call = node.publish_in_background().await;
    let attach = stream.attach().await;
    stream.payload(1, "v1", &[("password", "hunter2")]);
    stream.place(attach.request_id, 1, "v1");
    soon("publish", call).await.unwrap().unwrap();
}
