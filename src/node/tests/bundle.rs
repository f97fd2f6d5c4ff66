//! Volumes that hold certificate authorities: the agent alone fills them, whatever becomes of server and token.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tonic::{Code, Status};

use super::harness::*;
use crate::wire::csi::volume_capability::{AccessType, MountVolume};
use crate::wire::csi::{NodePublishVolumeRequest, VolumeCapability};
use crate::wire::node::{Keep, Place, Withdraw};

/// As kubelet asks for a bundle in a pod with an fsGroup; without a token, for none is needed.
fn request(node: &TestNode) -> NodePublishVolumeRequest {
    let mut request = node.request();
    request.volume_context.remove("secret");
    request.volume_context.remove("csi.storage.k8s.io/serviceAccount.tokens");
    request.volume_context.insert("bundle".into(), "ca".into());
    let mount = MountVolume { volume_mount_group: "2000".into(), ..MountVolume::default() };
    request.volume_capability = Some(VolumeCapability { access_type: Some(AccessType::Mount(mount)) });
    request
}

async fn publish(node: &TestNode) -> Result<(), Status> {
    let mut kubelet = node.kubelet().await;
    soon("an answer to publish", kubelet.node_publish_volume(request(node))).await.map(|_| ())
}

fn certificates(text: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(text.as_bytes()).map(Result::unwrap).collect()
}

/// What the agent trusts the server by.
fn ours(node: &TestNode) -> Vec<CertificateDer<'static>> {
    certificates(&fs::read_to_string(node.path("ca.crt")).unwrap())
}

fn another_authority() -> String {
    rcgen::generate_simple_self_signed(vec!["another".to_owned()]).unwrap().cert.pem()
}

fn holds_ours_and_the_public_ones(node: &TestNode) -> bool {
    let (all, own) = (node.read("ca-bundle.crt"), node.read("ca.crt"));
    let (Some(all), Some(own)) = (all, own) else { return false };
    let all = certificates(&all);
    let expected = ours(node);
    certificates(&own) == expected && all.starts_with(&expected) && all.len() > 100 + expected.len()
}

/// The folder of the version in force: another one after each swap.
fn version_in_force(node: &TestNode) -> std::path::PathBuf {
    fs::read_link(node.target().join("..data")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_needs_neither_server_nor_token_and_everybody_may_read_it() {
    let mut node = TestNode::start().await;
    node.server.stop().await;
    publish(&node).await.unwrap();
    assert!(holds_ours_and_the_public_ones(&node));
    for name in ["ca-bundle.crt", "ca.crt"] {
        let file = fs::metadata(node.target().join(name)).unwrap();
        assert_eq!((file.mode() & 0o7777, file.uid(), file.gid()), (0o444, 0, 0), "{name}");
    }
    publish(&node).await.unwrap();
    node.unpublish().await.unwrap();
    assert!(!node.is_mounted() && !node.target().exists());
    assert_eq!(fs::read_dir(node.path("manifests")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_hears_nothing_of_bundles_and_cannot_take_them_away() {
    let mut node = TestNode::start().await;
    let mut stream = node.server.accept().await;
    stream.hello().await;
    stream.welcome();
    publish(&node).await.unwrap();
    stream.end_with(Status::unavailable("restarting"));
    let mut stream = node.server.accept().await;
    let hello = stream.hello().await;
    assert!(hello.mounts.is_empty(), "{hello:?}");
    stream.welcome();
    stream.send(Withdraw { mount_id: MOUNT_ID.into(), reason: "NotAllowed".into() });
    stream.send(Keep { mount_id: MOUNT_ID.into(), ..Keep::default() });
    // The first thing that is heard afterwards is of another volume.
    let mut request = node.request();
    request.target_path = request.target_path.replace("/orders/", "/others/");
    fs::create_dir_all(std::path::Path::new(&request.target_path).parent().unwrap()).unwrap();
    let mut kubelet = node.kubelet().await;
    let call = tokio::spawn(async move { kubelet.node_publish_volume(request).await });
    let attach = stream.attach().await;
    stream.payload(1, "v1", &[("password", "hunter2")]);
    let mount_id = MOUNT_ID.replace("/orders", "/others");
    let (request_id, secret_arn, version_id) = (attach.request_id, ARN.into(), "v1".into());
    let place = Place { mount_id, request_id, payload_id: 1, secret_arn, version_id, ..Place::default() };
    stream.send(place);
    soon("publish", call).await.unwrap().unwrap();
    assert!(stream.receipt().await.mount_id.ends_with("/others"));
    assert!(holds_ours_and_the_public_ones(&node));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_leaves_a_bundle_as_it_is_and_a_changed_authority_comes_into_it() {
    let mut node = TestNode::start().await;
    publish(&node).await.unwrap();
    let first = version_in_force(&node);
    for entry in fs::read_dir(node.path("manifests")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!text.contains("CERTIFICATE"), "a manifest does not hold what the files hold: {text}");
    }
    node.kill_agent().await;
    assert!(holds_ours_and_the_public_ones(&node), "files do not need the agent");
    node.start_agent().await;
    publish(&node).await.unwrap();
    assert_eq!(version_in_force(&node), first, "nothing has changed");

    // While the agent runs, with both for a while, as the server does it.
    let both = fs::read_to_string(node.path("ca.crt")).unwrap() + &another_authority();
    fs::write(node.path("ca.crt"), both).unwrap();
    until("the next authority", || holds_ours_and_the_public_ones(&node)).await;
    assert_eq!(ours(&node).len(), 2);

    // A file that is being written takes nothing away.
    fs::write(node.path("ca.crt"), "-----BEGIN CERTIFICATE-----\n").unwrap();
    let second = version_in_force(&node);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(version_in_force(&node), second);

    // And while it does not run.
    node.kill_agent().await;
    fs::write(node.path("ca.crt"), another_authority()).unwrap();
    assert!(!holds_ours_and_the_public_ones(&node));
    node.start_agent().await;
    until("what changed meanwhile", || holds_ours_and_the_public_ones(&node)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_without_its_manifest_is_known_by_what_it_holds() {
    let mut node = TestNode::start().await;
    publish(&node).await.unwrap();
    node.kill_agent().await;
    fs::remove_dir_all(node.path("manifests")).unwrap();
    fs::write(node.path("ca.crt"), fs::read_to_string(node.path("ca.crt")).unwrap() + &another_authority())
        .unwrap();
    node.start_agent().await;
    let hello = node.server.accept().await.hello().await;
    assert!(hello.mounts.is_empty(), "{hello:?}");
    until("the renewed files", || holds_ours_and_the_public_ones(&node)).await;
    // kubelet's words bring the manifest back.
    publish(&node).await.unwrap();
    assert_eq!(fs::read_dir(node.path("manifests")).unwrap().count(), 1);
    node.unpublish().await.unwrap();
    assert!(!node.is_mounted());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_authority_a_bundle_waits_and_says_why() {
    let mut node = TestNode::without_agent().await;
    let authority = fs::read_to_string(node.path("ca.crt")).unwrap();
    fs::write(node.path("ca.crt"), "").unwrap();
    node.start_agent().await;
    let error = publish(&node).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    assert!(error.message().starts_with("NoAuthority: bundle of CAs: "), "{}", error.message());
    assert!(!node.is_mounted());
    fs::write(node.path("ca.crt"), authority).unwrap();
    soon("a bundle", async { while publish(&node).await.is_err() {} }).await;
    assert!(holds_ours_and_the_public_ones(&node));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_agent_confirms_a_bundle_and_makes_no_new_one() {
    let mut node = TestNode::start().await;
    publish(&node).await.unwrap();
    node.stop_agent().await;
    node.is_draining = true;
    node.start_agent().await;
    publish(&node).await.unwrap();
    assert!(holds_ours_and_the_public_ones(&node));
    node.unpublish().await.unwrap();
    assert!(!node.is_mounted());
    let error = publish(&node).await.unwrap_err();
    assert!(error.message().contains("--drain-only"), "{}", error.message());
}
