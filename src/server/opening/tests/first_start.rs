//! The very first start, killed at each of its points, on a full and on a read-only volume.

use std::process::Stdio;

use super::*;

const CHILD: &str = "server::opening::tests::first_start::a_child_that_starts_for_the_first_time";
const CHILD_FOLDER: &str = "TIDELOCK_TEST_STORE_FOLDER";
const POINTS: [&str; 8] = [
    "first-start.before-begin",
    "first-start.begun",
    "first-start.before-key",
    "first-start.key-made",
    "first-start.unlocked",
    "first-start.before-ready",
    "first-start.ready",
    "start.epoch-raised",
];

/// Not a test by itself: the parent runs it as a process of its own.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "how a parent test tells its child what to do")]
async fn a_child_that_starts_for_the_first_time() {
    let Ok(root) = std::env::var(CHILD_FOLDER).map(PathBuf::from) else { return };
    let around = OnDisk(root.join("around"));
    let args = args(&root.join("store"), &[]);
    Opening { around: &around, settings: (&args).into(), now: at(0), noted: None }.run().await.unwrap();
}

#[tokio::test]
async fn a_first_start_that_is_killed_at_any_point_resumes_with_the_same_key_and_installation() {
    use std::os::unix::process::ExitStatusExt;
    for point in POINTS {
        let site = Site::new();
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args([CHILD, "--exact", "--nocapture"])
            .env(CHILD_FOLDER, site.folder.parent().unwrap())
            .env("TIDELOCK_TEST_FAILPOINT", point)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.signal(), Some(9), "the point {point} was not reached");
        let key = std::fs::read(site.key()).ok();
        let begun = EmbeddedFile::open(&site.folder).unwrap().installation().unwrap();
        let opened = site.open().await.unwrap();
        let ready = opened.store.installation().await.unwrap().unwrap();
        assert_eq!(ready.state, InstallationState::Ready, "{point}");
        if let Some(begun) = begun {
            assert_eq!(begun.id, ready.id, "{point}");
        }
        let line = std::fs::read(site.key()).unwrap();
        assert!(key.is_none_or(|before| before == line), "{point}: the root key was made twice");
        opened.store.commit(batch(opened.epoch, 1)).await.unwrap();
        drop(opened);
        assert_eq!(site.reason(None).await, "ready", "{point}");
        fault("SIGKILL", &format!("first start, {point}"), "resumes: one key, one installation");
    }
}

/// A site whose store lies on a volume of its own.
fn on(volume: &Volume) -> Site {
    let mut site = Site::new();
    site.folder = volume.path().join("store");
    std::fs::create_dir_all(&site.folder).unwrap();
    site
}

#[tokio::test]
async fn a_full_volume_at_the_first_start_is_told_and_no_key_is_made_for_a_store_that_is_not_there() {
    let volume = Volume::mounted(1);
    let site = on(&volume);
    let filler = volume.fill();
    assert_eq!(site.reason(None).await, "StoreFull");
    assert!(!site.key().exists());
    drop(filler);
    site.open().await.unwrap();
    fault("full disk", "first start", "StoreFull, no key made; starts when there is room");
}

#[tokio::test]
async fn a_full_volume_at_a_later_start_is_told_and_nothing_is_lost() {
    let volume = Volume::mounted(4);
    let site = on(&volume);
    let opened = site.open().await.unwrap();
    opened.store.commit(batch(opened.epoch, 1)).await.unwrap();
    let whole = contents(&*opened.store).await.unwrap();
    drop(opened);
    let filler = volume.fill();
    assert_eq!(site.reason(None).await, "StoreFull");
    drop(filler);
    assert_eq!(contents(&*site.open().await.unwrap().store).await.unwrap(), whole);
    fault("full disk", "start", "StoreFull, nothing lost");
}

#[tokio::test]
async fn a_read_only_volume_is_told_at_the_first_start_and_at_a_later_one() {
    let volume = Volume::mounted(4);
    let site = on(&volume);
    for moment in ["first start", "start"] {
        volume.make_read_only();
        let before = site.key().exists();
        assert_eq!(site.reason(None).await, "StoreReadOnly", "{moment}");
        assert_eq!(site.key().exists(), before);
        volume.make_writable();
        fault("read-only volume", moment, "StoreReadOnly");
        site.open().await.unwrap();
    }
}
