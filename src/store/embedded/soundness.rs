//! What is asked of a file before it is served from: whether SQLite's own structure is whole, whether each row is as it
//! was written, and whether all rows are those of the newest commit. Must not mend anything.

use rusqlite::Connection;

use super::access_keys::ACCESS_KEY;
use super::apply::audit_ends_as_noted;
use super::codec::{INSTALLATION, SECRET, VERSION};
use super::fault::fault;
use super::journal::ROTATION;
use super::ledger::{Ledger, POSITION};
use super::mounts::MOUNT;
use super::policies::POLICY;
use super::table::Table;
use crate::failpoint;
use crate::seal::{DerivedKey, Tally, same};
use crate::store::StoreError;

/// The tables whose rows are in the tally. The audit is not: its rows are chained, and the ledger holds the chain's end.
pub(super) const COUNTED: [&Table; 7] =
    [&INSTALLATION, &SECRET, &VERSION, &ROTATION, &MOUNT, &POLICY, &ACCESS_KEY];

/// Checks all of a store in use and gives the tally of its rows. A ledger of the first schema, which has no tally yet,
/// gets one.
pub(super) fn check(connection: &Connection, key: &DerivedKey) -> Result<Tally, StoreError> {
    // First: a lookup through a damaged index finds nothing where there is something.
    COUNTED.into_iter().chain([&POSITION]).try_for_each(|table| structure_is_whole(connection, table))?;
    // Versions are read in the order of a column that is none of a row's own: nothing else would miss it before that.
    connection.prepare("SELECT number FROM version LIMIT 0").map_err(fault)?;
    let mut tally = Tally::of_no_rows();
    COUNTED.into_iter().try_for_each(|table| table.count(connection, key, &mut tally))?;
    let ledger = if Ledger::is_of_first_schema(connection)? {
        // Such a ledger is old: put back into a store that has one with a tally, it lies behind the Lease's position.
        let ledger = Ledger::read_first_schema(connection, key)?;
        ledger.write(connection, key, &tally)?;
        ledger
    } else {
        let ledger = Ledger::read(connection, key)?;
        is_of(&ledger, key, &tally)?;
        ledger
    };
    audit_ends_as_noted(connection, key, &ledger)?;
    Ok(tally)
}

/// Whether a ledger was written beside rows of this tally.
pub(super) fn is_of(ledger: &Ledger, key: &DerivedKey, tally: &Tally) -> Result<(), StoreError> {
    let same = same(&ledger.tally_seal, &tally.seal(key));
    if same || !failpoint::guard("row-tally") { Ok(()) } else { Err(StoreError::RowsPutBack) }
}

/// Pages, order of rows, and that each index has every row.
fn structure_is_whole(connection: &Connection, table: &Table) -> Result<(), StoreError> {
    let sql = format!("PRAGMA integrity_check({})", table.name);
    let said: String = connection.query_row(&sql, [], |row| row.get(0)).map_err(fault)?;
    if said == "ok" || !failpoint::guard("structure-check") {
        return Ok(());
    }
    // SQLite's words name pages, tables and indexes; never what is in them.
    Err(StoreError::Corrupt(said.lines().next().unwrap_or_default().to_owned()))
}
