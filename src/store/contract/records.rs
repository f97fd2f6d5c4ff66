//! Every record reads back as it was written, by every way in. Must not try conflicts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Bench;
use super::samples::*;
use crate::store::{
    BeforePut, Change, Expected, Installation, InstallationState, MountRecord, RotationRecord, SecretRecord,
    Store, VersionSummary,
};

pub async fn an_empty_store_holds_nothing(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    assert_eq!(store.installation().await.unwrap(), Some(installation()));
    assert_eq!(store.secret(&arn(1)).await.unwrap(), None);
    assert_eq!(store.secret_named(&name(1)).await.unwrap(), None);
    assert_eq!(store.secrets(None, 10).await.unwrap(), []);
    assert_eq!(store.version(&arn(1), &id(1)).await.unwrap(), None);
    assert_eq!(store.versions(&arn(1)).await.unwrap(), []);
    let nothing = BeforePut { version: None, rotation: None, versions: Arc::default() };
    assert_eq!(store.before_put(&arn(1), &id(1)).await.unwrap(), nothing);
    assert_eq!(store.rotations().await.unwrap(), []);
    assert_eq!(store.policy(&arn(1)).await.unwrap(), None);
    assert_eq!(store.access_key(&access_key_id(1)).await.unwrap(), None);
    assert_eq!(store.access_keys(Some("shop")).await.unwrap(), []);
    assert_eq!(store.mount("mount-1").await.unwrap(), None);
    assert_eq!(store.audit(0, 10).await.unwrap(), []);
    assert_eq!(store.newest_record_at().await.unwrap(), None);
}

pub async fn records_read_back_whole_also_after_reopening(bench: &dyn Bench) {
    let mut store = bench.open().await.unwrap();
    let sealed = version(1, 1);
    let tags = Some(BTreeMap::from([("team".to_owned(), "orders \u{1f511}".to_owned())]));
    let versions_accessed_at = BTreeMap::from([(id(1), at(61))]);
    let tagged = SecretRecord { tags, policy: Some(1), versions_accessed_at, ..full_secret(1) };
    fill(&*store, 2).await;
    let changes = vec![
        Change::PutSecret(tagged.clone(), Expected::Absent),
        Change::PutPolicy(policy(1, 1)),
        Change::PutVersion(sealed.clone()),
        Change::PutVersion(empty_version(1, 2)),
        Change::PutRotation(rotation(1), Expected::Absent),
        Change::PutMount(mount("mount-1", 1, "node-a")),
    ];
    let position = write(&*store, changes).await.unwrap();
    for round in ["before", "after"] {
        assert_eq!(store.position().await.unwrap(), position, "{round}");
        let wanted = SecretRecord { revision: 1, ..tagged.clone() };
        assert_eq!(store.secret(&arn(1)).await.unwrap(), Some(wanted.clone()), "{round}");
        assert_eq!(store.secret_named(&name(1)).await.unwrap(), Some(wanted));
        assert_eq!(store.version(&arn(1), &id(1)).await.unwrap(), Some(sealed.clone()));
        assert_eq!(store.version(&arn(1), &id(2)).await.unwrap(), Some(empty_version(1, 2)));
        let summary = |n, has_value| VersionSummary { id: id(n), created_at: at(1), has_value };
        assert_eq!(store.versions(&arn(1)).await.unwrap(), [summary(1, true), summary(2, false)]);
        let wanted = RotationRecord { revision: 1, ..rotation(1) };
        assert_eq!(store.rotation(&arn(1)).await.unwrap(), Some(wanted.clone()));
        let before = |version| {
            let versions = Arc::new(vec![summary(1, true), summary(2, false)]);
            BeforePut { version, rotation: Some(wanted.clone()), versions }
        };
        assert_eq!(store.before_put(&arn(1), &id(2)).await.unwrap(), before(Some(empty_version(1, 2))));
        assert_eq!(store.before_put(&arn(1), &id(3)).await.unwrap(), before(None));
        assert!(store.rotation(&arn(2)).await.unwrap().is_some_and(|rotation| rotation.is_test));
        assert_eq!(store.rotations().await.unwrap().len(), 2);
        assert_eq!(store.policy(&arn(1)).await.unwrap(), Some(policy(1, 1)));
        assert_eq!(store.mount("mount-1").await.unwrap(), Some(mount("mount-1", 1, "node-a")));
        drop(store);
        store = bench.open().await.unwrap();
    }
}

pub async fn secrets_are_listed_by_name_in_pages(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    for n in [3, 1, 5, 4, 2] {
        write(&*store, vec![Change::PutSecret(secret(n), Expected::Absent)]).await.unwrap();
    }
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = store.secrets(after.as_ref(), 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        pages.push(page.into_iter().map(|record| record.name).collect::<Vec<_>>());
    }
    assert_eq!(pages, [vec![name(1), name(2)], vec![name(3), name(4)], vec![name(5)]]);
    assert_eq!(store.secrets(None, 0).await.unwrap(), []);
}

pub async fn mounts_are_found_by_id_secret_and_node(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    let changes = vec![
        Change::PutSecret(secret(1), Expected::Absent),
        Change::PutSecret(secret(2), Expected::Absent),
        Change::PutMount(mount("b", 1, "node-b")),
        Change::PutMount(mount("a", 1, "node-a")),
        Change::PutMount(mount("c", 2, "node-a")),
    ];
    write(&*store, changes).await.unwrap();
    let ids = |mounts: Vec<MountRecord>| mounts.into_iter().map(|mount| mount.id).collect::<Vec<_>>();
    assert_eq!(ids(store.mounts_of_secret(&arn(1)).await.unwrap()), ["a", "b"]);
    assert_eq!(ids(store.mounts_on_node("node-a").await.unwrap()), ["a", "c"]);
    let moved = MountRecord { holds: None, holds_since: None, ..mount("a", 1, "node-b") };
    let changes = vec![Change::PutMount(moved.clone()), Change::RemoveMount("c".into())];
    write(&*store, changes).await.unwrap();
    assert_eq!(store.mount("a").await.unwrap(), Some(moved));
    assert_eq!(ids(store.mounts_on_node("node-a").await.unwrap()), [""; 0]);
    assert_eq!(ids(store.mounts_on_node("node-b").await.unwrap()), ["a", "b"]);
}

pub async fn an_installation_keeps_what_is_in_its_arns(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    let moved = Installation { crd_uid: "uid-9".into(), cluster_id: "other".into(), ..installation() };
    write(&*store, vec![Change::PutInstallation(moved.clone())]).await.unwrap();
    assert_eq!(store.installation().await.unwrap(), Some(moved.clone()));
    for wrong in [
        Installation { id: "other".into(), ..installation() },
        Installation { region: "local-2".into(), ..installation() },
        Installation { account: "111111111111".into(), ..installation() },
        Installation { created_at: at(0), ..installation() },
        Installation { state: InstallationState::Initialising, ..installation() },
        Installation { root_key: None, ..installation() },
    ] {
        let put = write(&*store, vec![Change::PutInstallation(wrong.clone())]).await;
        assert_eq!(put.map_err(|error| error.reason()), Err("StoreOfOtherInstallation"), "{wrong:?}");
    }
    assert_eq!(store.installation().await.unwrap(), Some(moved));
}

pub async fn what_was_read_before_a_write_is_not_read_after_it(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    fill(&*store, 1).await;
    fill(&*store, 2).await;
    let versions = async || {
        let read = [store.version(&arn(1), &id(1)).await, store.version(&arn(1), &id(2)).await];
        read.map(Result::unwrap)
    };
    let [full, empty] = versions().await;
    assert!(
        store.rotation(&arn(1)).await.unwrap().is_some() && store.versions(&arn(1)).await.unwrap().len() == 2
    );
    let before = store.secret_named(&name(1)).await.unwrap().unwrap();
    assert_eq!(store.secret(&arn(1)).await.unwrap().as_ref(), Some(&before));
    // Read again: now at the latest from memory.
    assert_eq!(store.secret_named(&name(1)).await.unwrap().as_ref(), Some(&before));
    assert_eq!(versions().await, [full.clone(), empty]);

    // What fails changes nothing.
    let mut changed = SecretRecord { description: Some("changed".into()), ..before.clone() };
    changed.stages.retain(|_, version| *version != id(2));
    let stale = Expected::Revision(before.revision + 7);
    assert!(write(&*store, vec![Change::PutSecret(changed.clone(), stale)]).await.is_err());
    assert_eq!(store.secret_named(&name(1)).await.unwrap().as_ref(), Some(&before));

    let expected = Expected::Revision(before.revision);
    let changes = vec![Change::PutSecret(changed.clone(), expected), Change::PutVersion(version(1, 2))];
    write(&*store, changes).await.unwrap();
    let wanted = SecretRecord { revision: before.revision + 1, ..changed };
    assert_eq!(store.secret_named(&name(1)).await.unwrap().as_ref(), Some(&wanted));
    let [_, filled] = versions().await;
    assert!(filled.unwrap().sealed.is_some());
    let listed = async || {
        let listed = store.versions(&arn(1)).await.unwrap().into_iter();
        listed.map(|version| (version.id, version.has_value)).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [(id(1), true), (id(2), true)]);
    write(&*store, vec![Change::PutVersion(empty_version(1, 3))]).await.unwrap();
    assert_eq!(listed().await, [(id(1), true), (id(2), true), (id(3), false)]);
    let journal = store.rotation(&arn(1)).await.unwrap().unwrap();
    let ended = RotationRecord { step: Some("finishSecret".into()), ..journal.clone() };
    let expected = Expected::Revision(journal.revision);
    write(&*store, vec![Change::PutRotation(ended.clone(), expected)]).await.unwrap();
    let ended = RotationRecord { revision: journal.revision + 1, ..ended };
    assert_eq!(store.rotation(&arn(1)).await.unwrap(), Some(ended));

    write(&*store, vec![Change::RemoveVersion(arn(1), id(2))]).await.unwrap();
    assert_eq!(versions().await, [full, None]);
    assert_eq!(listed().await, [(id(1), true), (id(3), false)]);
    let removed = Change::RemoveSecret(arn(1), Expected::Revision(wanted.revision));
    write(&*store, vec![removed]).await.unwrap();
    assert_eq!(store.secret_named(&name(1)).await.unwrap(), None);
    assert_eq!(versions().await, [None, None]);
    assert_eq!((listed().await, store.rotation(&arn(1)).await.unwrap()), (vec![], None));
    // And nothing of any other.
    assert!(store.secret_named(&name(2)).await.unwrap().is_some());
    assert!(store.version(&arn(2), &id(1)).await.unwrap().is_some());
}

/// Whoever hears that his write succeeded never reads what was there before, however many read at the same time.
pub async fn nobody_reads_what_an_answered_write_replaced(bench: &dyn Bench) {
    let store: Arc<dyn Store> = bench.open().await.unwrap().into();
    fill(&*store, 1).await;
    let done = Arc::new(AtomicU64::new(0));
    let readers = (0..4).map(|_| {
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        tokio::spawn(async move {
            while done.load(Ordering::SeqCst) != u64::MAX {
                let at_least = done.load(Ordering::SeqCst);
                let read = store.secret_named(&name(1)).await.unwrap().unwrap().revision;
                assert!(read >= at_least || at_least == u64::MAX, "revision {read} after {at_least}");
                tokio::task::yield_now().await;
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    for _ in 0..100 {
        let record = store.secret(&arn(1)).await.unwrap().unwrap();
        let revision = record.revision;
        write(&*store, vec![Change::PutSecret(record, Expected::Revision(revision))]).await.unwrap();
        done.store(revision + 1, Ordering::SeqCst);
    }
    done.store(u64::MAX, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
}
