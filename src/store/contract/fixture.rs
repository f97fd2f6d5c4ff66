//! What files of older schemas hold, kept as fixtures: one of each record. Must never change.

use super::samples::*;
use crate::secret::ValueKind;
use crate::store::{AuditEntry, Batch, Change, Epoch, Expected, RotationRecord, SecretRecord, Store};

/// What files of older schemas hold, kept as fixtures: one of each record. Of rotations that the AWS API configures they
/// know nothing.
pub fn fixture(epoch: Epoch) -> Batch {
    let changes = vec![
        Change::PutVersion(version(1, 1)),
        Change::PutVersion(empty_version(1, 2)),
        Change::PutSecret(unconfigured(1), Expected::Absent),
        Change::PutSecret(secret(2), Expected::Absent),
        Change::PutRotation(rotation(1), Expected::Absent),
        Change::PutMount(mount("mount-1", 1, "node-a")),
    ];
    let bare = AuditEntry { secret: None, version: None, pod: None, ..entry(7, "refused") };
    Batch { epoch, changes, audit: vec![entry(6, "done"), bare] }
}

pub async fn holds_the_fixture(store: &dyn Store) {
    let wanted = fixture(Epoch(1));
    let secrets =
        [SecretRecord { revision: 1, ..unconfigured(1) }, SecretRecord { revision: 1, ..secret(2) }];
    assert_eq!(store.installation().await.unwrap(), Some(installation()));
    assert_eq!(store.secrets(None, 10).await.unwrap(), secrets);
    assert_eq!(store.version(&arn(1), &id(2)).await.unwrap(), Some(empty_version(1, 2)));
    let filled = store.version(&arn(1), &id(1)).await.unwrap().unwrap();
    assert_eq!((filled.created_at, filled.kind, filled.sealed.is_some()), (at(1), ValueKind::Binary, true));
    let rotation = RotationRecord { revision: 1, ..rotation(1) };
    assert_eq!(store.rotations().await.unwrap(), [rotation]);
    assert_eq!(store.mounts_on_node("node-a").await.unwrap(), [mount("mount-1", 1, "node-a")]);
    let audit = store.audit(0, 10).await.unwrap();
    assert_eq!(audit.into_iter().map(|row| row.entry).collect::<Vec<_>>(), wanted.audit);
    assert_eq!(store.newest_record_at().await.unwrap(), Some(at(63)));
    // And it goes on from there.
    let epoch = store.raise_epoch().await.unwrap();
    assert_eq!(epoch, Epoch(2));
    let changes = vec![Change::PutSecret(secret(2), Expected::Revision(1))];
    store.commit(Batch { epoch, changes, audit: vec![entry(8, "done")] }).await.unwrap();
}

fn unconfigured(n: u32) -> SecretRecord {
    SecretRecord { rotation: None, ..full_secret(n) }
}
