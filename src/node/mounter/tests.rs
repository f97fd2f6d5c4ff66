//! The mounter over its real socket, with real mounts. Needs root.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};

use super::*;
use crate::node::Target;
use crate::projection::{Files, Layout, replace};

const DRIVER: &str = "csi.tidelock.dev";
const UID: &str = "0b1e7a52-0000-4000-8000-000000000001";
const BYTES: u64 = 64 * 1024;
const INODES: u64 = 64;

/// A mounter on a kubelet directory of its own; what it mounted goes when it is dropped.
struct Running {
    folder: tempfile::TempDir,
    shutdown: CancellationToken,
    mounter: Mounter,
}

impl Running {
    async fn start() -> Running {
        Running::start_for_agent(rustix::process::getuid().as_raw()).await
    }

    async fn start_for_agent(agent_uid: u32) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let kubelet = folder.path().join("kubelet");
        fs::create_dir_all(kubelet.join("pods")).unwrap();
        let socket = folder.path().join("mounter.sock");
        let shutdown = CancellationToken::new();
        let config =
            Config { socket: socket.clone(), kubelet: kubelet.clone(), driver: DRIVER.into(), agent_uid };
        let listening = socket.clone();
        tokio::spawn(run(config, shutdown.clone()));
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        while UnixStream::connect(&listening).is_err() {
            assert!(tokio::time::Instant::now() < deadline, "the mounter does not listen");
            tokio::task::yield_now().await;
        }
        Running { folder, shutdown, mounter: Mounter::new(socket, kubelet) }
    }

    /// As kubelet makes it before it calls the driver.
    fn volume(&self, name: &str) -> Target {
        let target = Target::from_mount_id(&format!("{UID}/{name}")).unwrap();
        fs::create_dir_all(self.mounter.kubelet().join(target.folder())).unwrap();
        target
    }

    async fn ask<T: Send + 'static>(&self, question: impl FnOnce(Mounter) -> T + Send + 'static) -> T {
        let mounter = self.mounter.clone();
        tokio::task::spawn_blocking(move || question(mounter)).await.unwrap()
    }

    fn mounts_beneath(&self) -> Vec<mountinfo::MountEntry> {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let root = self.folder.path().display().to_string();
        mountinfo::parse(&table).filter(|entry| entry.mount_point.starts_with(&root)).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
        for entry in self.mounts_beneath() {
            let _ = rustix::mount::unmount(entry.mount_point, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_mounted_written_through_its_descriptor_and_unmounted() {
    let running = Running::start().await;
    let target = running.volume("orders-db");
    let path = target.path(running.mounter.kubelet());

    let asked = target.clone();
    let folder = running.ask(move |m| m.mount(&asked, Some(2000), BYTES, INODES)).await.unwrap();
    let files = Files::new([("password", &b"hunter2"[..])]).unwrap();
    let layout = Layout::with_default_mode(Some(2000), None);
    replace(folder.as_fd(), &files, layout, "2026-11-22T08:30:00Z".parse().unwrap()).unwrap();
    drop(folder);
    assert_eq!(fs::read_to_string(path.join("password")).unwrap(), "hunter2");

    let root = fs::metadata(&path).unwrap();
    assert_eq!((root.mode() & 0o7777, root.gid()), (0o2750, 2000));
    let found = running.mounts_beneath();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].file_system.as_str(), found[0].source.as_str()), ("tmpfs", DRIVER));
    assert_eq!(found[0].option("size"), Some("64k"));
    let options = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = options.lines().find(|line| line.contains(&path.display().to_string())).unwrap();
    for flag in ["nosuid", "nodev", "noexec"] {
        assert!(line.contains(flag), "{line}");
    }

    let listed = running.ask(|m| m.list()).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].0, listed[0].1.group), (&target, Some(2000)));

    for _ in 0..2 {
        let asked = target.clone();
        running.ask(move |m| m.unmount(&asked)).await.unwrap();
        assert!(!path.exists() && path.parent().unwrap().exists());
        assert!(running.mounts_beneath().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mounting_again_gives_the_same_directory_and_enlarges_it() {
    let running = Running::start().await;
    let target = running.volume("orders-db");
    let (first, second, third) = (target.clone(), target.clone(), target.clone());
    let folder = running.ask(move |m| m.mount(&first, None, BYTES, INODES)).await.unwrap();
    let before = rustix::fs::fstat(&folder).unwrap();
    let folder = running.ask(move |m| m.mount(&second, None, 4 * BYTES, INODES)).await.unwrap();
    let after = rustix::fs::fstat(&folder).unwrap();
    assert_eq!((before.st_dev, before.st_ino), (after.st_dev, after.st_ino));
    assert_eq!(running.mounts_beneath().len(), 1);
    assert_eq!(running.mounts_beneath()[0].option("size"), Some("256k"));
    let root = fs::metadata(target.path(running.mounter.kubelet())).unwrap();
    assert_eq!(root.mode() & 0o7777, 0o755);
    // Asking for less shrinks nothing: what is there must keep its room.
    running.ask(move |m| m.open(&third, BYTES, INODES)).await.unwrap();
    assert_eq!(running.mounts_beneath()[0].option("size"), Some("256k"));
    let line = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = line.lines().find(|line| line.contains("256k")).unwrap().to_owned();
    assert!(line.contains("nosuid") && line.contains("nodev") && line.contains("noexec"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_mounted_cannot_be_opened() {
    let running = Running::start().await;
    let target = running.volume("orders-db");
    let error = running.ask(move |m| m.open(&target, BYTES, INODES)).await.unwrap_err();
    assert!(matches!(error, MounterError::NotMounted), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_symlink_on_the_way_is_refused() {
    let running = Running::start().await;
    let kubelet = running.mounter.kubelet().to_owned();
    let outside = running.folder.path().join("outside");
    fs::create_dir_all(outside.join("mount")).unwrap();

    // The volume's folder is a link.
    let target = running.volume("linked");
    let folder = kubelet.join(target.folder());
    fs::remove_dir(&folder).unwrap();
    symlink(&outside, &folder).unwrap();
    let asked = target.clone();
    let error = running.ask(move |m| m.mount(&asked, None, BYTES, INODES)).await.unwrap_err();
    assert!(matches!(error, MounterError::Failed(_)), "{error}");

    // The mount point is a link.
    let other = running.volume("point");
    symlink(&outside, other.path(&kubelet)).unwrap();
    let asked = other.clone();
    let error = running.ask(move |m| m.mount(&asked, None, BYTES, INODES)).await.unwrap_err();
    assert!(matches!(error, MounterError::Failed(_)), "{error}");
    assert!(running.mounts_beneath().is_empty());

    let asked = target.clone();
    assert!(running.ask(move |m| m.unmount(&asked)).await.is_err());
    assert!(outside.join("mount").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_mount_at_the_target_is_left_alone() {
    let running = Running::start().await;
    let target = running.volume("orders-db");
    let path = target.path(running.mounter.kubelet());
    fs::create_dir(&path).unwrap();
    rustix::mount::mount("somebody", &path, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    let (first, second) = (target.clone(), target.clone());
    assert!(running.ask(move |m| m.mount(&first, None, BYTES, INODES)).await.is_err());
    assert!(running.ask(move |m| m.unmount(&second)).await.is_err());
    assert_eq!(running.mounts_beneath().len(), 1);
    assert!(running.ask(|m| m.list()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_that_was_ours_is_looked_at_anew_once_it_is_another() {
    let running = Running::start().await;
    let (gone, covered) = (running.volume("gone"), running.volume("covered"));
    let foreign = |target: &Target| {
        let path = target.path(running.mounter.kubelet());
        rustix::mount::mount("somebody", path, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    };
    let open = |target: &Target| {
        let asked = target.clone();
        running.ask(move |m| m.open(&asked, BYTES, INODES))
    };
    for target in [&gone, &covered] {
        let asked = target.clone();
        running.ask(move |m| m.mount(&asked, None, BYTES, INODES)).await.unwrap();
        open(target).await.unwrap();
    }

    let path = gone.path(running.mounter.kubelet());
    rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH).unwrap();
    let error = open(&gone).await.unwrap_err();
    assert!(matches!(error, MounterError::NotMounted), "{error}");
    // It gets the number that the kernel gave to ours in its table.
    foreign(&gone);
    foreign(&covered);
    for target in [&gone, &covered] {
        let error = open(target).await.unwrap_err();
        assert!(matches!(error, MounterError::Failed(_)), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_outside_of_its_duty_are_refused() {
    let running = Running::start().await;
    let socket = running.folder.path().join("mounter.sock");
    let kubelet = running.mounter.kubelet().to_owned();
    let target = running.volume("orders-db");
    let path = target.path(&kubelet).display().to_string();
    let mount = |target_path: &str, pod_uid: &str, bytes, inodes| Request::Mount {
        target_path: target_path.into(),
        pod_uid: pod_uid.into(),
        group: None,
        bytes,
        inodes,
    };
    let refused = [
        mount("/etc", UID, BYTES, INODES),
        mount(&path, "0b1e7a52-0000-4000-8000-000000000002", BYTES, INODES),
        mount(&path, UID, 1 << 30, INODES),
        mount(&path, UID, BYTES, 1 << 20),
        mount(&path, UID, 0, INODES),
        Request::Unmount { target_path: "/proc".into() },
        Request::Open { target_path: kubelet.display().to_string(), bytes: BYTES, inodes: INODES },
    ];
    for request in refused {
        let socket = socket.clone();
        let reply = tokio::task::spawn_blocking(move || {
            let mut stream = UnixStream::connect(socket).unwrap();
            protocol::ask(&mut stream, &request).map(|(reply, _)| (request, reply))
        });
        let (request, reply) = reply.await.unwrap().unwrap();
        let is_refused = matches!(reply, Reply::Failed { reason: protocol::Reason::Refused, .. });
        assert!(is_refused, "{request:?}: {reply:?}");
    }
    assert!(running.mounts_beneath().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_is_not_the_agent_gets_no_answer() {
    let running = Running::start_for_agent(54_321).await;
    let target = running.volume("orders-db");
    let error = running.ask(move |m| m.mount(&target, None, BYTES, INODES)).await.unwrap_err();
    assert!(matches!(error, MounterError::Away(_)), "{error}");
    assert!(running.mounts_beneath().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_volume_keeps_the_former_files() {
    let running = Running::start().await;
    let target = running.volume("orders-db");
    let path = target.path(running.mounter.kubelet());
    let folder = running.ask(move |m| m.mount(&target, None, BYTES, INODES)).await.unwrap();
    let layout = Layout::with_default_mode(None, None);
    let at = |second: u8| format!("2026-11-22T08:30:{second:02}Z").parse().unwrap();
    replace(folder.as_fd(), &Files::new([("value", &b"small"[..])]).unwrap(), layout, at(1)).unwrap();
    let large = vec![b'x'; 2 * BYTES as usize];
    let error =
        replace(folder.as_fd(), &Files::new([("value", &large[..])]).unwrap(), layout, at(2)).unwrap_err();
    assert_eq!(error.reason(), "TooLarge");
    assert_eq!(fs::read_to_string(path.join("value")).unwrap(), "small");
    replace(folder.as_fd(), &Files::new([("value", &b"again"[..])]).unwrap(), layout, at(3)).unwrap();
    assert_eq!(fs::read_to_string(path.join("value")).unwrap(), "again");
}
