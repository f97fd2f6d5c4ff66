//! Files that were cut short, or in which a byte is not what it was.

use super::*;
use crate::secret::Randomness;

/// What a start may say of a damaged file. None of them makes anything.
const REFUSALS: [&str; 8] = [
    "StoreCorrupt",
    "StoreTampered",
    "StoreOfOtherInstallation",
    "StoreOfOtherRegion",
    "StoreNewerSchema",
    "StoreReadOnly",
    "RootKeyMismatch",
    "StoreUnavailable",
];

fn flipped(whole: &[u8], at: usize, bits: u8) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    bytes[at] ^= bits;
    bytes
}

/// Every byte of the header and some of each page: the start is refused, or all is read as it was.
#[tokio::test]
async fn no_flipped_byte_in_the_file_gives_another_value() {
    let site = Site::in_use().await;
    let whole = contents(&*site.open().await.unwrap().store).await.unwrap();
    let volume = site.volume();
    let file = &volume[&site.file("tidelock.db")];
    let drawn = |max: usize| {
        let mut bytes = [0; 8];
        SystemRandom.fill(&mut bytes);
        usize::try_from(u64::from_be_bytes(bytes) % max as u64).unwrap()
    };
    let pages = (0..file.len() / 4096).flat_map(|page| [page * 4096; 16]);
    let starts: Vec<usize> = pages.collect();
    let spots = (0..100).chain(starts.into_iter().map(|page| page + drawn(4096))).collect::<Vec<_>>();
    let mut outcomes = BTreeMap::<&str, u32>::new();
    for at in spots {
        let bits = 1 << drawn(8);
        site.put_back(&volume);
        std::fs::write(site.file("tidelock.db"), flipped(file, at, bits)).unwrap();
        let outcome = site.reason(None).await;
        if outcome == "ready" {
            let found = contents(&*site.open().await.unwrap().store).await.unwrap();
            assert!(found == whole, "byte {at} with {bits} flipped is read as something else");
        } else {
            assert!(REFUSALS.contains(&outcome), "byte {at} with {bits} flipped gives {outcome}");
        }
        *outcomes.entry(outcome).or_default() += 1;
    }
    assert!(outcomes.contains_key("StoreTampered") && outcomes.contains_key("StoreCorrupt"), "{outcomes:?}");
    let said: Vec<_> = outcomes.iter().map(|(outcome, count)| format!("{outcome} {count}")).collect();
    fault(
        "flipped byte in the file",
        "start",
        &format!("{}; ready only with all as it was", said.join(", ")),
    );
}

#[tokio::test]
async fn a_flipped_byte_in_a_row_of_any_table_is_a_store_that_was_tampered_with() {
    let site = Site::in_use().await;
    let opened = site.open().await.unwrap();
    opened.store.commit(crate::store::contract::belongings(opened.epoch, 1)).await.unwrap();
    drop(opened);
    let volume = site.volume();
    let sealed = "CAST(x'01' || substr(sealed, 2, length(sealed) - 2) || x'00' AS BLOB)";
    for (table, update) in [
        ("installation", "crd_uid = 'definitiom'".to_owned()),
        ("position", "commit_number = commit_number + 1".to_owned()),
        ("secret", "record = replace(record, '30', '31') WHERE name = 'shop/secret-0001'".to_owned()),
        ("version", format!("sealed = {sealed} WHERE sealed IS NOT NULL")),
        ("rotation", "record = replace(record, 'shop', 'shoq')".to_owned()),
        ("mount", "record = replace(record, 'shop', 'shoq')".to_owned()),
        ("audit", "who = 'nobody' WHERE sequence = (SELECT max(sequence) FROM audit)".to_owned()),
    ] {
        site.put_back(&volume);
        let connection = rusqlite::Connection::open(site.file("tidelock.db")).unwrap();
        assert!(connection.execute(&format!("UPDATE {table} SET {update}"), []).unwrap() > 0, "{table}");
        drop(connection);
        assert_eq!(site.reason(None).await, "StoreTampered", "{table}");
        fault("flipped byte in a row", &format!("start, table {table}"), "StoreTampered");
    }
}

#[tokio::test]
async fn a_file_that_was_cut_short_is_corrupt_or_lost_and_never_begun_anew() {
    let site = Site::in_use().await;
    let volume = site.volume();
    let file = &volume[&site.file("tidelock.db")];
    for length in [0, 1, 50, 100, 4095, 4096, 8192, file.len() / 2, file.len() - 4096, file.len() - 1] {
        site.put_back(&volume);
        std::fs::write(site.file("tidelock.db"), &file[..length]).unwrap();
        let reason = site.reason(None).await;
        let wanted = if length == 0 { "StoreLost" } else { "StoreCorrupt" };
        assert_eq!(reason, wanted, "{length} of {} bytes", file.len());
    }
    fault("file cut short", "start", "StoreCorrupt; StoreLost when nothing is left");
    site.put_back(&volume);
    assert_eq!(site.reason(None).await, "ready");
}

/// Acknowledged writes may lie in the log alone. Where its end is missing they are missing, and the Lease knows.
#[tokio::test]
async fn a_log_that_was_cut_short_gives_an_earlier_state_whole_and_the_lease_tells() {
    let site = Site::in_use().await;
    let opened = site.open().await.unwrap();
    let mut last = opened.position;
    for n in 9..=20 {
        last = opened.store.commit(batch(opened.epoch, n)).await.unwrap();
    }
    // As a kill leaves it.
    let volume = site.volume();
    drop(opened);
    let log = volume[&site.file("tidelock.db-wal")].clone();
    let mut found = std::collections::BTreeSet::new();
    for part in 0..=24 {
        let length = log.len() * part / 24;
        for harm in ["cut", "flip"] {
            let at = length.min(log.len() - 1);
            let harmed = if harm == "cut" { log[..length].to_vec() } else { flipped(&log, at, 4) };
            site.put_back(&volume);
            std::fs::write(site.file("tidelock.db-wal"), harmed).unwrap();
            let file = EmbeddedFile::open(&site.folder).unwrap();
            let store = unlocked(file, &KeyFile::read(&site.key()).unwrap().unwrap()).await.unwrap();
            let position = store.position().await.unwrap();
            let whole = u64::try_from(contents(&store).await.unwrap().versions.len()).unwrap();
            assert_eq!(position.commit + 20, last.commit + whole, "{harm} at {length}");
            drop(store);
            let wanted = if position == last { "ready" } else { "StoreRolledBack" };
            assert_eq!(site.reason(Some(noted(last))).await, wanted, "{harm} at {length}");
            found.insert(whole);
        }
    }
    assert!(found.len() > 4, "the log was cut where nothing lies: {found:?}");
    fault("write-ahead log cut or changed", "start", "an earlier state whole, StoreRolledBack by the Lease");
}
