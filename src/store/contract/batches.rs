//! A batch is written whole or not at all, by the newest leader only.

use std::collections::BTreeSet;

use super::Bench;
use super::samples::*;
use crate::store::{Batch, Change, Epoch, Expected, StoreError};

pub async fn a_batch_that_fails_changes_nothing(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    fill(&*store, 1).await;
    let (position, audit) = (store.position().await.unwrap(), store.audit(0, 10).await.unwrap());
    let changes = vec![
        Change::PutSecret(secret(2), Expected::Absent),
        Change::PutVersion(version(2, 1)),
        Change::RemoveMount("mount-1".into()),
        Change::RemoveSecret(arn(1), Expected::Revision(1)),
        Change::PutSecret(secret(2), Expected::Absent),
    ];
    assert_eq!(write(&*store, changes).await, Err(StoreError::Conflict));
    assert_eq!(store.position().await.unwrap(), position);
    assert_eq!(store.audit(0, 10).await.unwrap(), audit);
    assert_eq!(store.secret(&arn(2)).await.unwrap(), None);
    assert_eq!(store.versions(&arn(2)).await.unwrap(), []);
    assert_eq!(store.versions(&arn(1)).await.unwrap().len(), 2);
    assert!(store.mount("mount-1").await.unwrap().is_some());
}

pub async fn a_writer_of_an_earlier_epoch_is_fenced(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    let old = store.raise_epoch().await.unwrap();
    let batch = |epoch, n| Batch {
        epoch,
        changes: vec![Change::PutSecret(secret(n), Expected::Absent)],
        audit: vec![entry(1, "done")],
    };
    store.commit(batch(old, 1)).await.unwrap();
    // The old leader is paused here; a new one begins.
    let new = store.raise_epoch().await.unwrap();
    assert!(new > old);
    store.commit(batch(new, 2)).await.unwrap();
    assert_eq!(store.commit(batch(old, 3)).await, Err(StoreError::Fenced));
    assert_eq!(store.commit(batch(Epoch(new.0 + 1), 3)).await, Err(StoreError::Fenced));
    assert_eq!(store.secret(&arn(3)).await.unwrap(), None);
    assert_eq!(store.audit(0, 10).await.unwrap().len(), 2);
    let empty = Batch { epoch: old, changes: Vec::new(), audit: vec![entry(2, "read")] };
    assert_eq!(store.commit(empty).await, Err(StoreError::Fenced), "reads are fenced as well");
}

pub async fn an_epoch_survives_reopening(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    let before = store.raise_epoch().await.unwrap();
    drop(store);
    let store = bench.open().await.unwrap();
    assert_eq!(store.position().await.unwrap().epoch, before);
    assert_eq!(store.raise_epoch().await.unwrap(), Epoch(before.0 + 1));
}

pub async fn batches_that_wait_together_fail_alone(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    let before = store.position().await.unwrap();
    // Each name is wanted by two batches: one of each pair must win, whole, and the other lose.
    let batches = (0..200u32).map(|n| Batch {
        epoch: before.epoch,
        changes: vec![
            Change::PutMount(mount(&format!("mount-{n}"), n / 2, "node-a")),
            Change::PutSecret(secret(n / 2), Expected::Absent),
        ],
        audit: vec![entry(1, &n.to_string())],
    });
    let outcomes = futures::future::join_all(batches.map(|batch| store.commit(batch))).await;
    let won: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
    assert_eq!(won.len(), 100);
    assert!(outcomes.iter().all(|outcome| outcome.is_ok() || *outcome == Err(StoreError::Conflict)));
    let commits: BTreeSet<u64> = won.iter().map(|position| position.commit).collect();
    assert_eq!(commits, (before.commit + 1..=before.commit + 100).collect());
    let winners: BTreeSet<String> =
        (0..200).filter(|n| outcomes[*n].is_ok()).map(|n| n.to_string()).collect();
    let audited = store.audit(0, 1000).await.unwrap().into_iter().map(|row| row.entry.outcome).collect();
    assert_eq!(winners, audited, "a loser left an audit row, or a winner none");
    let mounts: BTreeSet<String> =
        store.mounts_on_node("node-a").await.unwrap().into_iter().map(|m| m.id[6..].to_owned()).collect();
    assert_eq!(winners, mounts, "a loser left a mount, or a winner none");
}
