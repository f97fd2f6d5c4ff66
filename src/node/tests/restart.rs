//! What survives the agent, the server and their absence.

use std::fs;

use tonic::Code;

use super::harness::*;
use crate::wire::node::{Keep, Mount, Place};

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_mount_is_confirmed_whatever_the_server_does() {
    let mut node = TestNode::start().await;
    let stream = node.with_volume().await;
    drop(stream);
    node.server.stop().await;
    node.publish().await.unwrap();
    node.kill_agent().await;
    node.start_agent().await;
    node.publish().await.unwrap();
    assert_eq!(node.read("password").as_deref(), Some("c4nary-value-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_ends_after_the_next_has_begun_takes_nothing_from_it() {
    let mut node = TestNode::start().await;
    drop(node.with_volume().await);
    node.replace_agent().await;
    let socket = node.path("registry").join(format!("{DRIVER}@localhost"));
    assert!(socket.exists(), "kubelet would take the driver for gone");
    node.register(true).await;
    node.publish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_tells_what_it_holds_and_gets_what_it_missed() {
    let mut node = TestNode::start().await;
    let stream = node.with_volume().await;
    node.kill_agent().await;
    drop(stream);
    assert_eq!(node.read("password").as_deref(), Some("c4nary-value-1"), "files do not need the agent");
    for entry in fs::read_dir(node.path("manifests")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!text.contains("c4nary"), "a manifest holds no value: {text}");
    }

    node.start_agent().await;
    let mut stream = node.server.accept().await;
    let hello = stream.hello().await;
    let [mount] = hello.mounts.as_slice() else { panic!("{hello:?}") };
    assert_eq!(mount.mount_id, MOUNT_ID);
    assert_eq!((mount.secret_arn.as_str(), mount.version_id.as_str()), (ARN, "v1"));
    assert_eq!(mount.file_names, ["password", "value"]);
    assert_eq!((mount.pod_name.as_str(), mount.manifest_lost), ("web-0", false));
    assert_eq!(mount.attributes["secret"], "orders-db");
    stream.welcome();
    stream.payload(1, "v2", &[("password", "missed")]);
    stream.place(0, 1, "v2");
    assert_eq!(stream.receipt().await.version_id, "v2");
    assert_eq!(node.read("password").as_deref(), Some("missed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_right_are_kept_and_receipted_anew() {
    let mut node = TestNode::start().await;
    let stream = node.with_volume().await;
    stream.end_with(tonic::Status::unavailable("restarting"));
    let mut stream = node.server.accept().await;
    assert_eq!(stream.hello().await.mounts.len(), 1);
    stream.welcome();
    stream.send(Keep { mount_id: MOUNT_ID.into(), ..Keep::default() });
    assert_eq!(stream.receipt().await.version_id, "v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_without_its_manifest_is_taken_over_and_filled_in_by_the_server() {
    let mut node = TestNode::start().await;
    drop(node.with_volume().await);
    node.kill_agent().await;
    fs::remove_dir_all(node.path("manifests")).unwrap();
    node.start_agent().await;
    let mut stream = node.server.accept().await;
    let hello = stream.hello().await;
    let [mount] = hello.mounts.as_slice() else { panic!("{hello:?}") };
    assert!(mount.manifest_lost && mount.pod_name.is_empty());
    assert_eq!((mount.mount_id.as_str(), mount.pod_uid.as_str()), (MOUNT_ID, POD_UID));
    assert_eq!(mount.file_names, ["password", "value"]);
    stream.welcome();
    stream.payload(1, "v2", &[("password", "rebuilt")]);
    let record = Mount {
        mount_id: MOUNT_ID.into(),
        pod_namespace: "shop".into(),
        pod_name: "web-0".into(),
        service_account: "orders-api".into(),
        attributes: [("secret".to_owned(), "orders-db".to_owned())].into(),
        ..Mount::default()
    };
    stream.send(Place {
        mount_id: MOUNT_ID.into(),
        payload_id: 1,
        secret_arn: ARN.into(),
        version_id: "v2".into(),
        mount: Some(record),
        ..Place::default()
    });
    assert_eq!(stream.receipt().await.version_id, "v2");
    assert_eq!(node.read("password").as_deref(), Some("rebuilt"));
    // Now the manifest is there again.
    stream.end_with(tonic::Status::unavailable("restarting"));
    let hello = node.server.accept().await.hello().await;
    assert!(!hello.mounts[0].manifest_lost);
    assert_eq!(hello.mounts[0].pod_name, "web-0");
}

#[tokio::test(flavor = "multi_thread")]
async fn kubelet_s_own_words_replace_a_lost_manifest() {
    let mut node = TestNode::start().await;
    drop(node.with_volume().await);
    node.server.stop().await;
    node.kill_agent().await;
    fs::remove_dir_all(node.path("manifests")).unwrap();
    node.start_agent().await;
    node.publish().await.unwrap();
    node.server.start_again().await;
    let hello = node.server.accept().await.hello().await;
    assert!(!hello.mounts[0].manifest_lost);
    assert_eq!(hello.mounts[0].service_account, "orders-api");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_that_is_gone_is_not_called_complete() {
    let mut node = TestNode::start().await;
    let mut stream = node.with_volume().await;
    rustix::mount::unmount(node.target(), rustix::mount::UnmountFlags::DETACH).unwrap();
    let call = node.publish_in_background().await;
    let attach = stream.attach().await;
    stream.place(attach.request_id, 1, "v1");
    soon("publish", call).await.unwrap().unwrap();
    assert_eq!(node.read("password").as_deref(), Some("c4nary-value-1"));

    // The same while the agent is down: its manifest goes with the mount.
    node.kill_agent().await;
    rustix::mount::unmount(node.target(), rustix::mount::UnmountFlags::DETACH).unwrap();
    node.start_agent().await;
    let hello = node.server.accept().await.hello().await;
    assert!(hello.mounts.is_empty(), "{hello:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_mount_that_was_cut_off_is_undone_at_the_next_start() {
    let mut node = TestNode::without_agent().await;
    let target = crate::node::Target::from_mount_id(MOUNT_ID).unwrap();
    fs::create_dir_all(node.target().parent().unwrap()).unwrap();
    let mounter = crate::node::mounter::Mounter::new(node.path("mounter.sock"), node.path("kubelet"));
    until("the mounter", || mounter.list().is_ok()).await;
    tokio::task::spawn_blocking(move || mounter.mount(&target, None, 65536, 64)).await.unwrap().unwrap();
    assert!(node.is_mounted());
    node.start_agent().await;
    assert!(!node.is_mounted());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_agent_lets_go_and_takes_nothing_new() {
    let mut node = TestNode::start().await;
    drop(node.with_volume().await);
    node.stop_agent().await;
    assert!(node.is_mounted(), "files stay when the agent stops");
    let socket = node.path("registry").join(format!("{DRIVER}@localhost"));
    assert!(!socket.exists(), "kubelet is told that the driver is gone");
    node.server.stop().await;
    node.is_draining = true;
    node.start_agent().await;
    node.publish().await.unwrap();
    node.unpublish().await.unwrap();
    assert!(!node.is_mounted());
    let error = node.publish().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("--drain-only"), "{}", error.message());
}
