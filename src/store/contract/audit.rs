//! The audit's numbers and chain, and the newest time of all records.

use super::Bench;
use super::samples::*;
use crate::store::{AuditEntry, Batch, audit_hash};

pub async fn audit_rows_are_numbered_and_chained(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    let epoch = store.position().await.unwrap().epoch;
    let bare = AuditEntry { secret: None, version: None, pod: None, ..entry(3, "refused") };
    let batches = [vec![entry(1, "one"), entry(1, "one")], vec![], vec![bare]];
    for audit in &batches {
        store.commit(Batch { epoch, changes: Vec::new(), audit: audit.clone() }).await.unwrap();
    }
    let rows = store.audit(0, 10).await.unwrap();
    let mut before = [0; 32];
    for (at, (row, entry)) in rows.iter().zip(batches.concat()).enumerate() {
        let sequence = at as u64 + 1;
        assert_eq!((row.sequence, &row.entry), (sequence, &entry));
        assert_eq!(row.hash, audit_hash(&before, sequence, &entry));
        before = row.hash;
    }
    assert_eq!(rows.len(), 3);
    assert_eq!(store.audit(1, 1).await.unwrap(), rows[1..2]);
    assert_eq!(store.audit(3, 10).await.unwrap(), []);
}

pub async fn the_newest_time_is_that_of_the_newest_record(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    fill(&*store, 1).await;
    // Of all times in `fill` the request of the deletion is the newest; when it is due is no time of writing.
    assert_eq!(store.newest_record_at().await.unwrap(), Some(at(63)));
    let epoch = store.position().await.unwrap().epoch;
    let batch = |seconds| Batch { epoch, changes: Vec::new(), audit: vec![entry(seconds, "read")] };
    store.commit(batch(100)).await.unwrap();
    store.commit(batch(50)).await.unwrap();
    assert_eq!(store.newest_record_at().await.unwrap(), Some(at(100)));
}
