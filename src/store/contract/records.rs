//! Every record reads back as it was written, by every way in. Must not try conflicts.

use std::collections::BTreeMap;

use super::Bench;
use super::samples::*;
use crate::store::{
    Change, Expected, Installation, InstallationState, MountRecord, RotationRecord, SecretRecord,
    VersionSummary,
};

pub async fn an_empty_store_holds_nothing(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    assert_eq!(store.installation().await.unwrap(), Some(installation()));
    assert_eq!(store.secret(&arn(1)).await.unwrap(), None);
    assert_eq!(store.secret_named(&name(1)).await.unwrap(), None);
    assert_eq!(store.secrets(None, 10).await.unwrap(), []);
    assert_eq!(store.version(&arn(1), &id(1)).await.unwrap(), None);
    assert_eq!(store.versions(&arn(1)).await.unwrap(), []);
    assert_eq!(store.count_versions(&arn(1)).await.unwrap(), 0);
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
        assert_eq!(store.count_versions(&arn(1)).await.unwrap(), 2);
        let wanted = RotationRecord { revision: 1, ..rotation(1) };
        assert_eq!(store.rotation(&arn(1)).await.unwrap(), Some(wanted));
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
