//! Openings of stores that something befell, by the code that the server runs, with the reason that readiness shows.
//! The root key and what else a cluster would hold lie in files beside the store.

mod damage;
mod first_start;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use clap::Parser;
use jiff::SignedDuration;
use zeroize::Zeroizing;

use super::*;
use crate::config::{Cli, Command};
use crate::store::contract::{at, entry, secret, version};
use crate::store::{Expected, SecretRecord, VersionRecord, Volume, fault};
use crate::telemetry::Readiness;

/// A store's folder, and beside it what an opening asks for.
struct Site {
    folder: PathBuf,
    around: OnDisk,
    _owned: tempfile::TempDir,
}

struct OnDisk(PathBuf);

#[async_trait]
impl Surroundings for OnDisk {
    async fn root_key(&self) -> Result<Result<Option<KeyFile>, KmsError>, Hindrance> {
        Ok(KeyFile::read(&self.0.join("root-key")))
    }

    async fn keep_root_key(&self, line: Zeroizing<String>) -> Result<(), Hindrance> {
        assert!(!self.0.join("root-key").exists(), "a root key was made beside another");
        std::fs::write(self.0.join("root-key"), line.as_bytes()).unwrap();
        Ok(())
    }

    async fn place(&self) -> Result<Place, Hindrance> {
        Ok(Place { cluster_id: "cluster".into(), crd_uid: "definition".into() })
    }

    async fn some_resource_has_arn(&self) -> Result<bool, Hindrance> {
        Ok(self.0.join("arns").exists())
    }

    async fn loss(&self) -> Result<Option<LossAccepted>, Hindrance> {
        let said = std::fs::read_to_string(self.0.join("loss")).ok();
        Ok(said.map(|installation| LossAccepted { installation }))
    }

    async fn forget_loss(&self) -> Result<(), Hindrance> {
        let _ = std::fs::remove_file(self.0.join("loss"));
        Ok(())
    }
}

fn args(folder: &Path, more: &[&str]) -> ServerArgs {
    let given = ["tidelock", "server", "--namespace=tl", "--pod-name=p", "--installation=tidelock.tl"];
    let folder = format!("--store-dir={}", folder.display());
    match Cli::parse_from(given.into_iter().chain([folder.as_str()]).chain(more.iter().copied())).command {
        Command::Server(args) => *args,
        _ => panic!("these are the server's arguments"),
    }
}

/// All that callers can read.
#[derive(Debug, PartialEq)]
struct Contents {
    secrets: Vec<SecretRecord>,
    versions: Vec<VersionRecord>,
}

async fn contents(store: &dyn Store) -> Result<Contents, StoreError> {
    let secrets = store.secrets(None, usize::MAX).await?;
    let mut versions = Vec::new();
    for record in &secrets {
        for listed in store.versions(&record.arn).await? {
            versions.extend(store.version(&record.arn, &listed.id).await?);
        }
    }
    Ok(Contents { secrets, versions })
}

fn batch(epoch: Epoch, n: u32) -> Batch {
    let changes = vec![Change::PutSecret(secret(n), Expected::Absent), Change::PutVersion(version(n, 1))];
    Batch { epoch, changes, audit: vec![entry(i64::from(n), "done")] }
}

impl Site {
    fn new() -> Self {
        let owned = tempfile::tempdir().unwrap();
        let [folder, around] = ["store", "around"].map(|name| owned.path().join(name));
        [&folder, &around].into_iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
        Self { folder, around: OnDisk(around), _owned: owned }
    }

    /// After its first start, with some secrets, of whose making the cluster knows.
    async fn in_use() -> Self {
        let site = Self::new();
        let opened = site.open().await.unwrap();
        for n in 1..=8 {
            opened.store.commit(batch(opened.epoch, n)).await.unwrap();
        }
        std::fs::write(site.around.0.join("arns"), "").unwrap();
        site
    }

    async fn open(&self) -> Result<Opened, Hindrance> {
        self.open_as(&[], at(1000), None).await
    }

    async fn open_as(
        &self,
        more: &[&str],
        now: Timestamp,
        noted: Option<StorePosition>,
    ) -> Result<Opened, Hindrance> {
        let args = args(&self.folder, more);
        Opening { around: &self.around, settings: (&args).into(), now, noted }
            .run()
            .await
            .map(|(opened, _)| opened)
    }

    /// What readiness says of an opening, with no key made and none changed. `ready` when it went well.
    async fn reason(&self, noted: Option<StorePosition>) -> &'static str {
        let key = || std::fs::read(self.around.0.join("root-key")).ok();
        let (before, readiness) = (key(), Readiness::default());
        let component = readiness.component("store");
        match self.open_as(&[], at(1000), noted).await {
            Ok(_) => component.ready(),
            Err(hindrance) => hindrance.tell(&component),
        }
        assert_eq!(key(), before, "the root key was changed");
        readiness.unready().first().map_or("ready", |unready| unready.reason)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Everything on the volume, to be put back.
    fn volume(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = std::fs::read_dir(&self.folder).unwrap();
        files
            .map(|file| file.unwrap().path())
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect()
    }

    fn put_back(&self, volume: &BTreeMap<PathBuf, Vec<u8>>) {
        self.empty();
        volume.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    }

    fn empty(&self) {
        for file in std::fs::read_dir(&self.folder).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
    }

    fn key(&self) -> PathBuf {
        self.around.0.join("root-key")
    }
}

#[tokio::test]
async fn a_root_key_that_is_missing_wrong_or_no_key_is_never_made_anew() {
    let site = Site::in_use().await;
    let whole = contents(&*site.open().await.unwrap().store).await.unwrap();
    let line = std::fs::read_to_string(site.key()).unwrap();
    std::fs::remove_file(site.key()).unwrap();
    assert_eq!(site.reason(None).await, "RootKeyLost");
    fault("root key missing", "start", "RootKeyLost, none made");
    let id = line.split(':').nth(1).unwrap();
    for (other, of) in [(id, "of the same installation"), ("other", "of another installation")] {
        std::fs::write(site.key(), KeyFile::generate(other, &mut SystemRandom).as_bytes()).unwrap();
        assert_eq!(site.reason(None).await, "RootKeyMismatch");
        fault("another root key", &format!("start, {of}"), "RootKeyMismatch");
    }
    std::fs::write(site.key(), &line[..40]).unwrap();
    assert_eq!(site.reason(None).await, "RootKeyMalformed");
    fault("root key cut short", "start", "RootKeyMalformed, not replaced");
    std::fs::write(site.key(), line).unwrap();
    assert_eq!(contents(&*site.open().await.unwrap().store).await.unwrap(), whole);
}

#[tokio::test]
async fn a_volume_that_was_emptied_is_a_lost_store_until_somebody_accepts_the_loss() {
    let site = Site::in_use().await;
    let volume = site.volume();
    site.empty();
    assert_eq!(site.reason(None).await, "StoreLost");
    fault("volume emptied", "start", "StoreLost, nothing generated");
    let line = std::fs::read(site.key()).unwrap();
    std::fs::remove_file(site.key()).unwrap();
    assert_eq!(site.reason(None).await, "StoreLost");
    assert!(!site.key().exists());
    fault("volume and root key both gone", "start, with ARNs in the cluster", "StoreLost, no key made");
    std::fs::write(site.key(), line).unwrap();
    // As a look at it left it: nothing but empty tables may have been made there.
    site.put_back(&volume);
    assert_eq!(site.reason(None).await, "ready");

    site.empty();
    std::fs::write(site.around.0.join("loss"), "some-other-installation").unwrap();
    assert_eq!(site.reason(None).await, "StoreLost", "a word for another loss does not serve for this one");
}

#[tokio::test]
async fn a_file_of_another_installation_or_program_is_not_served_from() {
    let (site, other) = (Site::in_use().await, Site::in_use().await);
    std::fs::copy(other.file("tidelock.db"), site.file("tidelock.db")).unwrap();
    assert_eq!(site.reason(None).await, "RootKeyMismatch");
    fault("file of another installation", "start", "RootKeyMismatch");
    site.empty();
    let connection = rusqlite::Connection::open(site.file("tidelock.db")).unwrap();
    connection.execute_batch("CREATE TABLE t (x)").unwrap();
    drop(connection);
    assert_eq!(site.reason(None).await, "StoreOfOtherInstallation");
    fault("file of another program", "start", "StoreOfOtherInstallation");
}

#[tokio::test]
async fn an_older_copy_of_the_volume_is_known_by_the_position_on_the_lease() {
    let site = Site::in_use().await;
    let volume = site.volume();
    let opened = site.open().await.unwrap();
    let position = opened.store.commit(batch(opened.epoch, 9)).await.unwrap();
    drop(opened);
    let newest = site.volume();
    site.put_back(&volume);
    assert_eq!(site.reason(Some(noted(position))).await, "StoreRolledBack");
    // Asking must not have raised the epoch of the older copy past what was noted.
    assert_eq!(site.reason(Some(noted(position))).await, "StoreRolledBack");
    fault("older copy of the volume", "start", "StoreRolledBack, at each attempt");
    site.put_back(&newest);
    assert_eq!(site.reason(Some(noted(position))).await, "ready");
    // A person's word for this very store lets an older copy go on, as the refusal says.
    site.put_back(&volume);
    let refused = site.open_as(&[], at(1000), Some(noted(position))).await.err().unwrap().to_string();
    let id = refused.split("--accept-loss=").nth(1).unwrap().split('`').next().unwrap().to_owned();
    std::fs::write(site.around.0.join("loss"), "some-other-installation").unwrap();
    assert_eq!(site.reason(Some(noted(position))).await, "StoreRolledBack");
    std::fs::write(site.around.0.join("loss"), id).unwrap();
    assert_eq!(site.reason(Some(noted(position))).await, "ready");
    fault("older copy of the volume", "start, its loss accepted", "served from, as it is");
}

#[tokio::test]
async fn a_clock_behind_the_store_is_not_served_by_unless_somebody_says_so() {
    let site = Site::in_use().await;
    let newest = site.open().await.unwrap().store.newest_record_at().await.unwrap().unwrap();
    let behind = newest - SignedDuration::from_secs(301);
    let reason = async |more: &[&str]| {
        let opened = site.open_as(more, behind, None).await;
        opened.map_or_else(|hindrance| hindrance.reason(), |_| "ready")
    };
    assert_eq!(reason(&[]).await, "ClockBehindStore");
    assert_eq!(reason(&["--allow-clock-behind-store"]).await, "ready");
    fault("clock behind the store", "start", "ClockBehindStore, unless allowed");
}

#[tokio::test]
async fn a_store_of_another_region_or_account_is_refused() {
    let site = Site::in_use().await;
    for more in ["--region=local-2", "--account=111111111111"] {
        let opened = site.open_as(&[more], at(1000), None).await;
        assert_eq!(opened.map_or_else(|hindrance| hindrance.reason(), |_| "ready"), "StoreOfOtherRegion");
    }
    fault("other region or account configured", "start", "StoreOfOtherRegion");
}
