//! What every store must do. Must not know any of them.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use jiff::Timestamp;

use super::*;
use crate::access::ServiceAccount;
use crate::seal::{DataKey, KeyId, Place, RootSecret, SystemRandom, seal};
use crate::secret::{Origin, Plaintext, Stage, ValueKind};

/// A place for a store that can be closed and opened again, and harmed while it is closed.
#[async_trait]
pub trait Bench: Send + Sync {
    /// Opens the store, made for `installation()`. Dropping it closes it.
    async fn open(&self) -> Result<Box<dyn Store>, StoreError>;

    /// Every column that a MAC must cover, as table and column.
    fn columns(&self) -> Vec<(&'static str, &'static str)>;

    /// Changes that column in one row, which has an ARN of its own, to another value (an ARN to `arn(2)`).
    fn harm(&self, table: &str, column: &str);

    /// Puts back what `harm` changed.
    fn heal(&self);
}

/// Makes one test of each function below, on a bench of its own.
macro_rules! fulfils_the_contract {
    ($bench:expr) => {
        $crate::store::contract::fulfils_the_contract! { $bench;
            an_empty_store_holds_nothing,
            records_read_back_whole_also_after_reopening,
            a_secret_is_written_only_where_it_is_expected,
            a_rotation_is_written_only_where_it_is_expected,
            a_name_is_taken_once,
            a_batch_that_fails_changes_nothing,
            a_value_is_written_once_and_an_empty_version_filled_once,
            nothing_is_written_beside_a_secret_that_is_not_there,
            a_stage_names_a_version_that_exists,
            removing_a_secret_removes_all_of_it_and_no_other,
            a_writer_of_an_earlier_epoch_is_fenced,
            an_epoch_survives_reopening,
            batches_that_wait_together_fail_alone,
            secrets_are_listed_by_name_in_pages,
            mounts_are_found_by_id_secret_and_node,
            audit_rows_are_numbered_and_chained,
            the_newest_time_is_that_of_the_newest_record,
            an_installation_keeps_what_is_in_its_arns,
            no_changed_column_is_read,
        }
    };
    ($bench:expr; $($name:ident,)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::store::contract::$name(&$bench).await
            }
        )+
    };
}
pub(in crate::store) use fulfils_the_contract;

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::new(1_800_000_000 + seconds, 123_456_789).unwrap()
}

pub fn installation() -> Installation {
    Installation {
        id: "0190-installation".into(),
        state: InstallationState::Ready,
        region: "local-1".into(),
        account: "000000000000".into(),
        cluster_id: "cluster".into(),
        crd_uid: String::new(),
        root_key: Some(KeyId::new("file:1".into())),
        created_at: at(-1000),
    }
}

pub fn name(n: u32) -> Name {
    Name::parse(&format!("shop/secret-{n:04}")).unwrap()
}

pub fn arn(n: u32) -> Arn {
    Arn::parse(&format!("arn:aws:secretsmanager:local-1:000000000000:secret:{}-Aa{n:04}", name(n))).unwrap()
}

pub fn id(n: u32) -> VersionId {
    VersionId::parse(&format!("{n:032}")).unwrap()
}

/// A secret with nothing optional in it.
pub fn secret(n: u32) -> SecretRecord {
    SecretRecord {
        arn: arn(n),
        name: name(n),
        origin: Origin::Api,
        description: None,
        created_at: at(0),
        changed_at: at(0),
        accessed_at: None,
        rotated_at: None,
        stages: BTreeMap::new(),
        grants: Vec::new(),
        recovery_window_days: 30,
        deletion: None,
        rotation_enabled: None,
        revision: 0,
    }
}

fn account(name: &str) -> ServiceAccount {
    ServiceAccount { namespace: "shop".into(), name: name.into() }
}

fn full_secret(n: u32) -> SecretRecord {
    SecretRecord {
        origin: Origin::CustomResource {
            namespace: "shop".into(),
            name: "orders-db".into(),
            uid: "uid-1".into(),
            namespace_uid: "uid-2".into(),
        },
        description: Some("orders \"login\" \u{1f511}".into()),
        changed_at: at(60),
        accessed_at: Some(at(61)),
        rotated_at: Some(at(62)),
        stages: BTreeMap::from([(Stage::current(), id(1)), (Stage::parse("mine").unwrap(), id(2))]),
        grants: vec![
            GrantRecord { account: account("api"), stages: vec![Stage::current()], keys: None },
            GrantRecord { account: account("job"), stages: Vec::new(), keys: Some(vec!["password".into()]) },
        ],
        recovery_window_days: 7,
        deletion: Some(Deletion { requested_at: at(63), due_at: at(9_000_000) }),
        rotation_enabled: Some(true),
        ..secret(n)
    }
}

pub fn version(n: u32, v: u32) -> VersionRecord {
    let (arn, id) = (arn(n), id(v));
    let place = Place { region: "local-1", arn: &arn, version: &id };
    let key = DataKey::generate(&mut SystemRandom);
    let root = RootSecret::from_bytes(&[1; 32]).unwrap();
    let wrapped = root.wrap(&KeyId::new("file:1".into()), &key, &place.of_key(), &mut SystemRandom).unwrap();
    let value = Plaintext::new(vec![7; 5000]);
    let sealed = seal(place, key, wrapped, &value, &mut SystemRandom).unwrap();
    VersionRecord { created_at: at(1), kind: ValueKind::Binary, sealed: Some(sealed), arn, id }
}

fn empty_version(n: u32, v: u32) -> VersionRecord {
    VersionRecord { sealed: None, kind: ValueKind::String, ..version(n, v) }
}

fn rotation(n: u32) -> RotationRecord {
    RotationRecord {
        arn: arn(n),
        version: id(2),
        state: RotationState::Failed,
        step: Some("setSecret".into()),
        attempt: 2,
        failures: 1,
        jobs: vec![JobRecord {
            namespace: "shop".into(),
            name: "rotate-1".into(),
            uid: "uid-3".into(),
            service_account: "rotator".into(),
            attempt: 2,
            started_at: at(2),
            gone: true,
        }],
        begun_at: at(2),
        ended_at: Some(at(3)),
        failed_at: Some(at(4)),
        failure: Some(("JobFailed".into(), "the step setSecret ended with 1".into())),
        handled_trigger: Some("token".into()),
        revision: 0,
    }
}

fn mount(mount: &str, n: u32, node: &str) -> MountRecord {
    MountRecord {
        id: mount.into(),
        node: node.into(),
        pod_namespace: "shop".into(),
        pod_name: "orders-1".into(),
        pod_uid: "uid-4".into(),
        account: account("api"),
        arn: arn(n),
        attributes: BTreeMap::from([("secret".into(), "orders-db".into())]),
        holds: Some(id(1)),
        holds_since: Some(at(5)),
    }
}

pub fn entry(seconds: i64, outcome: &str) -> AuditEntry {
    AuditEntry {
        at: at(seconds),
        who: "system:serviceaccount:shop:api".into(),
        verb: "put".into(),
        secret: Some(arn(1)),
        version: Some(id(1)),
        pod: Some("shop/orders-1/uid-4".into()),
        outcome: outcome.into(),
    }
}

/// Writes under the newest epoch.
async fn write(store: &dyn Store, changes: Vec<Change>) -> Result<Position, StoreError> {
    let epoch = store.position().await?.epoch;
    store.commit(Batch { epoch, changes, audit: vec![entry(6, "done")] }).await
}

/// One secret with everything that can belong to one.
async fn fill(store: &dyn Store, n: u32) {
    let changes = vec![
        Change::PutVersion(version(n, 1)),
        Change::PutVersion(empty_version(n, 2)),
        Change::PutSecret(full_secret(n), Expected::Absent),
        Change::PutRotation(rotation(n), Expected::Absent),
        Change::PutMount(mount(&format!("mount-{n}"), n, "node-a")),
    ];
    write(store, changes).await.unwrap();
}

/// What files of older schemas hold, kept as fixtures: one of each record.
pub fn fixture(epoch: Epoch) -> Batch {
    let changes = vec![
        Change::PutVersion(version(1, 1)),
        Change::PutVersion(empty_version(1, 2)),
        Change::PutSecret(full_secret(1), Expected::Absent),
        Change::PutSecret(secret(2), Expected::Absent),
        Change::PutRotation(rotation(1), Expected::Absent),
        Change::PutMount(mount("mount-1", 1, "node-a")),
    ];
    let bare = AuditEntry { secret: None, version: None, pod: None, ..entry(7, "refused") };
    Batch { epoch, changes, audit: vec![entry(6, "done"), bare] }
}

pub async fn holds_the_fixture(store: &dyn Store) {
    let wanted = fixture(Epoch(1));
    let secrets = [SecretRecord { revision: 1, ..full_secret(1) }, SecretRecord { revision: 1, ..secret(2) }];
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

pub async fn an_empty_store_holds_nothing(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    assert_eq!(store.installation().await.unwrap(), Some(installation()));
    assert_eq!(store.secret(&arn(1)).await.unwrap(), None);
    assert_eq!(store.secret_named(&name(1)).await.unwrap(), None);
    assert_eq!(store.secrets(None, 10).await.unwrap(), []);
    assert_eq!(store.version(&arn(1), &id(1)).await.unwrap(), None);
    assert_eq!(store.versions(&arn(1)).await.unwrap(), []);
    assert_eq!(store.rotations().await.unwrap(), []);
    assert_eq!(store.mount("mount-1").await.unwrap(), None);
    assert_eq!(store.audit(0, 10).await.unwrap(), []);
    assert_eq!(store.newest_record_at().await.unwrap(), None);
}

pub async fn records_read_back_whole_also_after_reopening(bench: &dyn Bench) {
    let mut store = bench.open().await.unwrap();
    let sealed = version(1, 1);
    fill(&*store, 2).await;
    let changes = vec![
        Change::PutSecret(full_secret(1), Expected::Absent),
        Change::PutVersion(sealed.clone()),
        Change::PutVersion(empty_version(1, 2)),
        Change::PutRotation(rotation(1), Expected::Absent),
        Change::PutMount(mount("mount-1", 1, "node-a")),
    ];
    let position = write(&*store, changes).await.unwrap();
    for round in ["before", "after"] {
        assert_eq!(store.position().await.unwrap(), position, "{round}");
        let wanted = SecretRecord { revision: 1, ..full_secret(1) };
        assert_eq!(store.secret(&arn(1)).await.unwrap(), Some(wanted.clone()), "{round}");
        assert_eq!(store.secret_named(&name(1)).await.unwrap(), Some(wanted));
        assert_eq!(store.version(&arn(1), &id(1)).await.unwrap(), Some(sealed.clone()));
        assert_eq!(store.version(&arn(1), &id(2)).await.unwrap(), Some(empty_version(1, 2)));
        let summary = |n, has_value| VersionSummary { id: id(n), created_at: at(1), has_value };
        assert_eq!(store.versions(&arn(1)).await.unwrap(), [summary(1, true), summary(2, false)]);
        let wanted = RotationRecord { revision: 1, ..rotation(1) };
        assert_eq!(store.rotation(&arn(1)).await.unwrap(), Some(wanted));
        assert_eq!(store.rotations().await.unwrap().len(), 2);
        assert_eq!(store.mount("mount-1").await.unwrap(), Some(mount("mount-1", 1, "node-a")));
        drop(store);
        store = bench.open().await.unwrap();
    }
}

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
    }
    // The name is free again, under a new ARN.
    let again = SecretRecord { arn: arn(3), ..secret(1) };
    write(&*store, vec![Change::PutSecret(again, Expected::Absent)]).await.unwrap();
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

/// Reads all there is, by every way in.
async fn read_all(store: &dyn Store) -> Result<(), StoreError> {
    store.installation().await?;
    store.position().await?;
    store.secrets(None, 10).await?;
    store.rotations().await?;
    store.audit(0, 10).await?;
    store.mounts_on_node("node-a").await?;
    for n in [1, 2] {
        store.secret(&arn(n)).await?;
        store.secret_named(&name(n)).await?;
        store.rotation(&arn(n)).await?;
        store.mounts_of_secret(&arn(n)).await?;
        store.mount(&format!("mount-{n}")).await?;
        for version in store.versions(&arn(n)).await? {
            store.version(&arn(n), &version.id).await?;
        }
    }
    Ok(())
}

pub async fn no_changed_column_is_read(bench: &dyn Bench) {
    let store = bench.open().await.unwrap();
    fill(&*store, 1).await;
    read_all(&*store).await.unwrap();
    drop(store);
    let mut tables = BTreeSet::new();
    for (table, column) in bench.columns() {
        bench.harm(table, column);
        let read = match bench.open().await {
            Ok(store) => read_all(&*store).await,
            Err(error) => Err(error),
        };
        match read {
            Err(StoreError::Tampered { table: found, .. }) => assert_eq!(found, table, "{column}"),
            other => panic!("{table}.{column} was changed, and reading it gave {other:?}"),
        }
        bench.heal();
        tables.insert(table);
    }
    assert_eq!(tables.len(), 7, "{tables:?}");
    read_all(&*bench.open().await.unwrap()).await.unwrap();
}
