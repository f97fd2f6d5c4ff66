//! What is refused because somebody was first, or because it would leave something that refers to nothing.

use std::collections::BTreeMap;

use super::Bench;
use super::samples::*;
use crate::access::ServiceAccount;
use crate::secret::Stage;
use crate::store::{AccessKeyRecord, Change, Expected, SecretRecord, StoreError};

pub async fn a_secret_is_written_only_where_it_is_expected(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    let put = |expected| write(&*store, vec![Change::PutSecret(secret(1), expected)]);
    assert_eq!(put(Expected::Revision(0)).await, Err(StoreError::Conflict));
    put(Expected::Absent).await.unwrap();
    assert_eq!(put(Expected::Absent).await, Err(StoreError::Conflict));
    put(Expected::Revision(1)).await.unwrap();
    assert_eq!(put(Expected::Revision(1)).await, Err(StoreError::Conflict));
    assert_eq!(put(Expected::Revision(3)).await, Err(StoreError::Conflict));
    assert_eq!(store.secret(&arn(1)).await.unwrap().unwrap().revision, 2);
    let remove = |expected| write(&*store, vec![Change::RemoveSecret(arn(1), expected)]);
    assert_eq!(remove(Expected::Revision(1)).await, Err(StoreError::Conflict));
    assert_eq!(remove(Expected::Absent).await, Err(StoreError::Conflict));
    remove(Expected::Revision(2)).await.unwrap();
    assert_eq!(remove(Expected::Revision(2)).await, Err(StoreError::Conflict));
}

pub async fn a_rotation_is_written_only_where_it_is_expected(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    write(&*store, vec![Change::PutSecret(secret(1), Expected::Absent)]).await.unwrap();
    let put = |expected| write(&*store, vec![Change::PutRotation(rotation(1), expected)]);
    assert_eq!(put(Expected::Revision(0)).await, Err(StoreError::Conflict));
    put(Expected::Absent).await.unwrap();
    assert_eq!(put(Expected::Absent).await, Err(StoreError::Conflict));
    put(Expected::Revision(1)).await.unwrap();
    assert_eq!(put(Expected::Revision(1)).await, Err(StoreError::Conflict));
    assert_eq!(store.rotation(&arn(1)).await.unwrap().unwrap().revision, 2);
}

pub async fn a_name_is_taken_once(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    let one = vec![Change::PutSecret(secret(1), Expected::Absent)];
    write(&*store, one).await.unwrap();
    let same_name = SecretRecord { name: name(1), ..secret(2) };
    let same_arn = SecretRecord { arn: arn(1), ..secret(2) };
    for other in [same_name, same_arn] {
        for expected in [Expected::Absent, Expected::Revision(1)] {
            let put = write(&*store, vec![Change::PutSecret(other.clone(), expected)]).await;
            assert_eq!(put, Err(StoreError::Conflict), "{other:?}");
        }
    }
}

pub async fn a_value_is_written_once_and_an_empty_version_filled_once(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    write(&*store, vec![Change::PutSecret(secret(1), Expected::Absent)]).await.unwrap();
    let put = |record| write(&*store, vec![Change::PutVersion(record)]);
    put(empty_version(1, 1)).await.unwrap();
    let first = version(1, 1);
    put(first.clone()).await.unwrap();
    assert_eq!(put(version(1, 1)).await, Err(StoreError::Conflict));
    assert_eq!(put(empty_version(1, 1)).await, Err(StoreError::Conflict));
    assert_eq!(store.version(&arn(1), &id(1)).await.unwrap(), Some(first));
    assert_eq!(store.versions(&arn(1)).await.unwrap().len(), 1);
}

pub async fn nothing_is_written_beside_a_secret_that_is_not_there(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    for change in [
        Change::PutVersion(version(1, 1)),
        Change::PutRotation(rotation(1), Expected::Absent),
        Change::PutMount(mount("mount-1", 1, "node-a")),
        Change::PutPolicy(policy(1, 1)),
        Change::RemovePolicy(arn(1)),
    ] {
        let described = format!("{change:?}");
        assert_eq!(write(&*store, vec![change]).await, Err(StoreError::Conflict), "{described}");
    }
    // What a batch removes that is not there is no conflict: it is gone.
    let gone = vec![Change::RemoveMount("mount-1".into()), Change::RemoveVersion(arn(1), id(1))];
    write(&*store, gone).await.unwrap();
}

pub async fn a_stage_names_a_version_that_exists(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    let staged = |v| SecretRecord { stages: BTreeMap::from([(Stage::current(), id(v))]), ..secret(1) };
    let put = |v, expected| Change::PutSecret(staged(v), expected);
    assert_eq!(write(&*store, vec![put(1, Expected::Absent)]).await, Err(StoreError::Conflict));
    let both =
        vec![put(1, Expected::Absent), Change::PutVersion(version(1, 1)), Change::PutVersion(version(1, 2))];
    write(&*store, both).await.unwrap();
    let remove = || Change::RemoveVersion(arn(1), id(1));
    assert_eq!(write(&*store, vec![remove()]).await, Err(StoreError::Conflict));
    write(&*store, vec![remove(), put(2, Expected::Revision(1))]).await.unwrap();
    assert_eq!(store.versions(&arn(1)).await.unwrap().len(), 1);
}

pub async fn a_secret_names_the_policy_that_it_has(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    let named = |policy| SecretRecord { policy, ..secret(1) };
    let put = |policy, expected| Change::PutSecret(named(policy), expected);
    let conflict = Err(StoreError::Conflict);
    assert_eq!(write(&*store, vec![put(Some(1), Expected::Absent)]).await, conflict);
    write(&*store, vec![put(Some(1), Expected::Absent), Change::PutPolicy(policy(1, 1))]).await.unwrap();
    assert_eq!(write(&*store, vec![Change::PutPolicy(policy(1, 2))]).await, conflict);
    assert_eq!(write(&*store, vec![Change::RemovePolicy(arn(1))]).await, conflict);
    assert_eq!(write(&*store, vec![put(None, Expected::Revision(1))]).await, conflict);
    assert_eq!(store.policy(&arn(1)).await.unwrap(), Some(policy(1, 1)));
    let other = vec![put(Some(2), Expected::Revision(1)), Change::PutPolicy(policy(1, 2))];
    write(&*store, other).await.unwrap();
    assert_eq!(store.policy(&arn(1)).await.unwrap(), Some(policy(1, 2)));
    write(&*store, vec![put(None, Expected::Revision(2)), Change::RemovePolicy(arn(1))]).await.unwrap();
    assert_eq!(store.policy(&arn(1)).await.unwrap(), None);
}

pub async fn an_access_key_is_written_only_where_it_is_expected(bench: &dyn Bench) {
    let mut store = bench.open().await.unwrap();
    let (key, conflict) = (access_key(1), Err(StoreError::Conflict));
    let put = |expected| vec![Change::PutAccessKey(key.clone(), expected)];
    let elsewhere = AccessKeyRecord {
        account: ServiceAccount { namespace: "other".into(), ..account("ci") },
        ..access_key(2)
    };
    write(&*store, vec![Change::PutAccessKey(elsewhere, Expected::Absent)]).await.unwrap();
    assert_eq!(write(&*store, put(Expected::Revision(1))).await, conflict);
    write(&*store, put(Expected::Absent)).await.unwrap();
    assert_eq!(write(&*store, put(Expected::Absent)).await, conflict);
    write(&*store, put(Expected::Revision(1))).await.unwrap();
    assert_eq!(write(&*store, put(Expected::Revision(1))).await, conflict);
    for _ in ["before", "after"] {
        let wanted = AccessKeyRecord { revision: 2, ..key.clone() };
        assert_eq!(store.access_key(&key.id).await.unwrap().as_ref(), Some(&wanted));
        assert_eq!(store.access_keys(Some("shop")).await.unwrap(), std::slice::from_ref(&wanted));
        assert_eq!(store.access_keys(None).await.unwrap().len(), 2);
        assert!(store.access_keys(None).await.unwrap().contains(&wanted));
        drop(store);
        store = bench.open().await.unwrap();
    }
    // One that was removed does not come back with a use that was on its way.
    write(&*store, vec![Change::RemoveAccessKey(key.id.clone())]).await.unwrap();
    assert_eq!(write(&*store, put(Expected::Revision(2))).await, conflict);
    assert_eq!(store.access_key(&key.id).await.unwrap(), None);
}

pub async fn removing_a_secret_removes_all_of_it_and_no_other(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    fill(&*store, 1).await;
    fill(&*store, 2).await;
    write(&*store, vec![Change::RemoveSecret(arn(1), Expected::Revision(1))]).await.unwrap();
    for (n, count) in [(1, 0), (2, 1)] {
        assert_eq!(store.secret(&arn(n)).await.unwrap().iter().count(), count);
        assert_eq!(store.version(&arn(n), &id(1)).await.unwrap().iter().count(), count);
        assert_eq!(store.versions(&arn(n)).await.unwrap().len(), 2 * count);
        assert_eq!(store.rotation(&arn(n)).await.unwrap().iter().count(), count);
        assert_eq!(store.mounts_of_secret(&arn(n)).await.unwrap().len(), count);
        assert_eq!(store.policy(&arn(n)).await.unwrap().iter().count(), count);
    }
    // The name is free again, under a new ARN.
    let again = SecretRecord { arn: arn(3), ..secret(1) };
    write(&*store, vec![Change::PutSecret(again, Expected::Absent)]).await.unwrap();
}
