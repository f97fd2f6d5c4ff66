//! What files of older schemas hold, kept as fixtures: one of each record. Must never change.

use super::samples::*;
use crate::seal::{KeyPlace, RootSecret, open_access_key};
use crate::secret::ValueKind;
use crate::store::{
    AccessKeyRecord, AuditEntry, Batch, Change, Epoch, Expected, RotationRecord, SecretRecord, Store,
};

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

/// From schema 3 on the second secret was given a policy, by a write of its own; `policy` is that policy's number. From
/// schema 4 on there is an access key.
pub async fn holds_the_fixture(store: &dyn Store, policy: Option<u64>, has_key: bool) {
    let wanted = fixture(Epoch(1));
    let second = SecretRecord { revision: policy.unwrap_or(1), policy, ..secret(2) };
    let secrets = [SecretRecord { revision: 1, ..unconfigured(1) }, second.clone()];
    assert_eq!(store.installation().await.unwrap(), Some(installation()));
    assert_eq!(store.secrets(None, 10).await.unwrap(), secrets);
    assert_eq!(store.version(&arn(1), &id(2)).await.unwrap(), Some(empty_version(1, 2)));
    let filled = store.version(&arn(1), &id(1)).await.unwrap().unwrap();
    assert_eq!((filled.created_at, filled.kind, filled.sealed.is_some()), (at(1), ValueKind::Binary, true));
    let kept = store.policy(&arn(2)).await.unwrap();
    assert_eq!(kept, policy.map(|number| super::samples::policy(2, number)));
    let keys = store.access_keys(Some("shop")).await.unwrap();
    assert_eq!(keys.len(), usize::from(has_key));
    for key in keys {
        let sealed = key.sealed.clone();
        let root = RootSecret::from_bytes(&[1; 32]).unwrap();
        let place = KeyPlace { installation: "0190-installation", id: &key.id };
        let data = root.unwrap(sealed.wrapped_key(), &place.of_key()).unwrap();
        assert_eq!(open_access_key(place, &data, &sealed).unwrap().len(), 40);
        assert_eq!(key, AccessKeyRecord { sealed, revision: 1, ..access_key(1) });
    }
    let rotation = RotationRecord { revision: 1, ..rotation(1) };
    assert_eq!(store.rotations().await.unwrap(), [rotation]);
    assert_eq!(store.mounts_on_node("node-a").await.unwrap(), [mount("mount-1", 1, "node-a")]);
    let audit = store.audit(0, 10).await.unwrap();
    assert_eq!(audit.into_iter().map(|row| row.entry).collect::<Vec<_>>(), wanted.audit);
    assert_eq!(store.newest_record_at().await.unwrap(), Some(at(63)));
    // And it goes on from there.
    let epoch = store.raise_epoch().await.unwrap();
    assert_eq!(epoch, Epoch(2));
    let expected = Expected::Revision(second.revision);
    let changes = vec![Change::PutSecret(second, expected)];
    store.commit(Batch { epoch, changes, audit: vec![entry(8, "done")] }).await.unwrap();
}

fn unconfigured(n: u32) -> SecretRecord {
    SecretRecord { rotation: None, ..full_secret(n) }
}
