//! A store on a volume of its own that fills up, and one whose file is changed, while they are served from.

use std::path::Path;

use super::super::watched::WatchedStore;
use super::*;
use crate::store::contract::{arn, id, installation, secret, version};
use crate::store::{Change, Expected, HELD_FOR, ROW_MAC, Volume, fault, open_for_tests};
use crate::telemetry::Readiness;

struct Served {
    store: Arc<dyn Store>,
    readiness: Readiness,
    epoch: Epoch,
}

async fn served(folder: &Path) -> Served {
    let key = crate::seal::RootSecret::from_bytes(&[1; 32]).unwrap().derive(ROW_MAC);
    let store = open_for_tests(folder, installation(), key).await.unwrap();
    let epoch = store.raise_epoch().await.unwrap();
    let (troubles, seen) = watch::channel(None);
    let fenced = tokio_util::sync::CancellationToken::new();
    let store: Arc<dyn Store> = Arc::new(WatchedStore {
        store: Arc::new(store),
        positions: watch::channel(None).0,
        troubles,
        fenced,
    });
    let readiness = Readiness::default();
    let component = readiness.component("store");
    tokio::spawn(tell(Arc::clone(&store), epoch, seen, component, Duration::from_millis(20)));
    until(&readiness, None).await;
    Served { store, readiness, epoch }
}

/// Waits until the store's component has that reason, or is ready.
async fn until(readiness: &Readiness, reason: Option<&str>) {
    let end = std::time::Duration::from_secs(30);
    let same = async {
        while readiness.unready().first().map(|unready| unready.reason) != reason {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let late = tokio::time::timeout(end, same).await.is_err();
    assert!(!late, "waited for {reason:?}, it is {:?}", readiness.unready());
}

impl Served {
    async fn put(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.store.commit(Batch { epoch: self.epoch, changes, audit: Vec::new() }).await.map(drop)
    }
}

#[tokio::test]
async fn a_volume_that_fills_up_is_told_and_serving_goes_on_when_there_is_room_again() {
    let volume = Volume::mounted(4);
    let served = served(volume.path()).await;
    served.put(vec![Change::PutSecret(secret(1), Expected::Absent)]).await.unwrap();
    let room = volume.fill();
    let mut written = 0;
    let error = loop {
        match served.put(vec![Change::PutVersion(version(1, written))]).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, StoreError::Full);
    until(&served.readiness, Some("StoreFull")).await;
    assert_eq!(served.store.versions(&arn(1)).await.unwrap().len(), written as usize);
    drop(room);
    until(&served.readiness, None).await;
    served.put(vec![Change::PutVersion(version(1, written))]).await.unwrap();
    assert!(served.store.version(&arn(1), &id(written)).await.unwrap().is_some());
    fault("full disk", "while serving", "StoreFull, nothing half written, ready again when there is room");
}

#[tokio::test]
async fn a_row_that_is_changed_while_serving_is_told_and_never_read() {
    let folder = tempfile::tempdir().unwrap();
    let served = served(folder.path()).await;
    served.put(vec![Change::PutSecret(secret(1), Expected::Absent)]).await.unwrap();
    let written = version(1, 1);
    served.put(vec![Change::PutVersion(written.clone())]).await.unwrap();
    assert_eq!(served.store.version(&arn(1), &id(1)).await, Ok(Some(written.clone())));
    let connection = rusqlite::Connection::open(folder.path().join("tidelock.db")).unwrap();
    let sql = "UPDATE version SET sealed = CAST(x'01' || substr(sealed, 2) AS BLOB), created_at = created_at || ' '";
    assert_eq!(connection.execute(sql, []), Ok(1));
    // What was read before is held in memory.
    assert_eq!(served.store.version(&arn(1), &id(1)).await, Ok(Some(written)));
    // It is not held for long, so that the change is noticed.
    tokio::time::sleep(HELD_FOR).await;
    let read = served.store.version(&arn(1), &id(1)).await;
    assert!(matches!(read, Err(StoreError::Tampered { table: "version", .. })), "{read:?}");
    until(&served.readiness, Some("StoreTampered")).await;
    // A write that goes well does not make it good.
    served.put(vec![Change::PutSecret(secret(2), Expected::Absent)]).await.unwrap();
    assert_eq!(served.readiness.unready()[0].reason, "StoreTampered");
    fault("flipped byte in a row", "while serving", "StoreTampered within 10 s of use, the row is not read");
}
