//! What was changed behind the store's back is not read.

use std::collections::BTreeSet;

use super::Bench;
use super::samples::*;
use crate::store::{Store, StoreError};

/// Reads all there is, by every way in.
async fn read_all(store: &dyn Store) -> Result<(), StoreError> {
    store.installation().await?;
    store.position().await?;
    store.secrets(None, 10).await?;
    store.rotations().await?;
    store.audit(0, 10).await?;
    store.mounts_on_node("node-a").await?;
    store.access_keys(Some("shop")).await?;
    store.access_key(&access_key_id(1)).await?;
    for n in [1, 2] {
        store.secret(&arn(n)).await?;
        store.secret_named(&name(n)).await?;
        store.rotation(&arn(n)).await?;
        store.policy(&arn(n)).await?;
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
    assert_eq!(tables.len(), 9, "{tables:?}");
    read_all(&*bench.open().await.unwrap()).await.unwrap();
}
