//! Rows that carry a MAC which was right once: taken from an older copy of the same store, or removed.

use super::*;

/// A store in a later state, beside a copy of its file in an earlier one.
async fn changed_since_the_copy() -> FolderBench {
    let bench = FolderBench::new();
    let store = open(bench.folder.path()).await.unwrap();
    let epoch = store.raise_epoch().await.unwrap();
    store.commit(contract::fixture(epoch)).await.unwrap();
    let first = store.secret(&arn(2)).await.unwrap().unwrap();
    let first = Change::PutSecret(SecretRecord { policy: Some(2), ..first }, Expected::Revision(1));
    let key = Change::PutAccessKey(contract::access_key(1), Expected::Absent);
    store.commit(batch(epoch, vec![first, Change::PutPolicy(contract::policy(2, 2)), key])).await.unwrap();
    drop(store);
    std::fs::copy(bench.path("tidelock.db"), bench.path("old.db")).unwrap();
    let store = open(bench.folder.path()).await.unwrap();
    let moved = Installation { crd_uid: "uid-9".into(), ..installation() };
    let mount = store.mount("mount-1").await.unwrap().unwrap();
    let rotation = store.rotation(&arn(1)).await.unwrap().unwrap();
    let with_policy = store.secret(&arn(2)).await.unwrap().unwrap();
    let changes = vec![
        Change::PutSecret(SecretRecord { policy: Some(3), ..with_policy }, Expected::Revision(2)),
        Change::PutPolicy(contract::policy(2, 3)),
        Change::PutAccessKey(contract::access_key(1), Expected::Revision(1)),
        Change::PutInstallation(moved),
        Change::PutSecret(store.secret(&arn(1)).await.unwrap().unwrap(), Expected::Revision(1)),
        Change::PutVersion(version(1, 2)),
        Change::PutRotation(rotation, Expected::Revision(1)),
        Change::PutMount(MountRecord { node: "node-b".into(), ..mount }),
    ];
    store.commit(batch(epoch, changes)).await.unwrap();
    bench
}

async fn reopened_after(bench: &FolderBench, sql: &str) -> Result<(), StoreError> {
    std::fs::copy(bench.path("tidelock.db"), bench.path("whole")).unwrap();
    let connection = Connection::open(bench.path("tidelock.db")).unwrap();
    let attach = format!("ATTACH '{}' AS old", bench.path("old.db").display());
    connection.execute_batch(&attach).unwrap();
    assert!(connection.execute(sql, []).unwrap() > 0, "{sql}");
    drop(connection);
    let outcome = open(bench.folder.path()).await.map(drop);
    bench.heal();
    outcome
}

#[tokio::test]
async fn a_row_put_back_from_an_older_copy_of_itself_is_noticed() {
    let bench = changed_since_the_copy().await;
    let mut seen = Vec::new();
    for table in soundness::COUNTED {
        let key = table.columns[..table.key].join(", ");
        let sql = format!(
            "INSERT OR REPLACE INTO main.{0} SELECT * FROM old.{0} WHERE ({key}, mac) NOT IN (SELECT {key}, mac FROM \
             main.{0})",
            table.name
        );
        assert_eq!(reopened_after(&bench, &sql).await, Err(StoreError::RowsPutBack), "{}", table.name);
        seen.push(table.name);
    }
    assert_eq!(seen, ["installation", "secret", "version", "rotation", "mount", "policy", "access_key"]);
    // The ledger's own row from the older copy does not know the newer rows.
    let sql = "INSERT OR REPLACE INTO main.position SELECT * FROM old.position";
    assert_eq!(reopened_after(&bench, sql).await, Err(StoreError::RowsPutBack));
    open(bench.folder.path()).await.unwrap();
}

#[tokio::test]
async fn a_row_that_was_removed_is_missed() {
    let bench = changed_since_the_copy().await;
    for sql in [
        "DELETE FROM secret WHERE name = 'shop/secret-0002'",
        "DELETE FROM version WHERE id LIKE '%2'",
        "DELETE FROM rotation",
        "DELETE FROM mount",
    ] {
        assert_eq!(reopened_after(&bench, sql).await, Err(StoreError::RowsPutBack), "{sql}");
    }
    open(bench.folder.path()).await.unwrap();
}

#[tokio::test]
async fn a_row_that_comes_back_beside_a_running_store_spoils_the_next_start() {
    let bench = changed_since_the_copy().await;
    let store = open(bench.folder.path()).await.unwrap();
    let connection = Connection::open(bench.path("tidelock.db")).unwrap();
    let attach = format!("ATTACH '{}' AS old", bench.path("old.db").display());
    connection.execute_batch(&attach).unwrap();
    let sql = "INSERT OR REPLACE INTO main.secret SELECT * FROM old.secret WHERE name = 'shop/secret-0001'";
    assert_eq!(connection.execute(sql, []), Ok(1));
    drop(connection);
    let epoch = store.position().await.unwrap().epoch;
    let put = Change::PutSecret(store.secret(&arn(1)).await.unwrap().unwrap(), Expected::Revision(1));
    store.commit(batch(epoch, vec![put])).await.unwrap();
    drop(store);
    assert_eq!(open(bench.folder.path()).await.map(drop), Err(StoreError::RowsPutBack));
}

#[tokio::test]
async fn an_index_that_lost_an_entry_is_noticed_before_anything_is_looked_up() {
    let bench = changed_since_the_copy().await;
    let connection = Connection::open(bench.path("tidelock.db")).unwrap();
    // A lookup by this index would find one mount less than there is.
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'mount_by_node'";
    let page: usize = connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as usize;
    let size: usize =
        connection.query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0)).unwrap() as usize;
    drop(connection);
    let mut bytes = std::fs::read(bench.path("tidelock.db")).unwrap();
    // The number of cells in the header of a leaf.
    let count = (page - 1) * size + 4;
    assert_eq!(bytes[count], 1);
    bytes[count] = 0;
    std::fs::write(bench.path("tidelock.db"), bytes).unwrap();
    let error = open(bench.folder.path()).await.map(drop).unwrap_err();
    assert_eq!(error.reason(), "StoreCorrupt", "{error}");
}

#[tokio::test]
async fn rows_of_the_first_schema_are_counted_once_they_are_opened() {
    let bench = FolderBench::new();
    let connection = Connection::open(bench.path("tidelock.db")).unwrap();
    connection.execute_batch(include_str!("../fixtures/store_v1.sql")).unwrap();
    drop(connection);
    drop(open(bench.folder.path()).await.unwrap());
    std::fs::copy(bench.path("tidelock.db"), bench.path("old.db")).unwrap();
    let removed = reopened_after(&bench, "DELETE FROM rotation").await;
    assert_eq!(removed, Err(StoreError::RowsPutBack));
    // To make it look uncounted again needs a MAC that only its earlier self had.
    let uncounted = reopened_after(&bench, "UPDATE position SET tally_seal = NULL").await;
    assert!(matches!(uncounted, Err(StoreError::Tampered { table: "position", .. })), "{uncounted:?}");
    open(bench.folder.path()).await.unwrap();
}

#[tokio::test]
async fn a_paused_leader_that_finds_another_s_rows_is_fenced_and_takes_them_for_no_tampering() {
    let bench = FolderBench::new();
    let old = open(bench.folder.path()).await.unwrap();
    let epoch = old.raise_epoch().await.unwrap();
    let put = |n| vec![Change::PutSecret(secret(n), Expected::Absent)];
    old.commit(batch(epoch, put(1))).await.unwrap();
    // As when its volume is attached to another machine: the lock is not seen there.
    std::fs::remove_file(bench.path("lock")).unwrap();
    let new = open(bench.folder.path()).await.unwrap();
    let newer = new.raise_epoch().await.unwrap();
    new.commit(batch(newer, put(2))).await.unwrap();
    assert_eq!(old.commit(batch(epoch, put(3))).await, Err(StoreError::Fenced));
    new.commit(batch(newer, put(4))).await.unwrap();
    drop((old, new));
    assert_eq!(open(bench.folder.path()).await.unwrap().secrets(None, 10).await.unwrap().len(), 3);
}
