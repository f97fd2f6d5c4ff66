//! Where the store stands: epoch, number of the newest commit, head of the audit, newest time, and which rows there are.
//! One row, read and written in every transaction. Must not decide who may write: `apply` compares the epochs.

use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::types::Value;

use super::codec::{Values, number, optional};
use super::fault::fault;
use super::table::{Read, Table};
use crate::seal::{DerivedKey, Tally};
use crate::store::{Epoch, Position, StoreError};

pub(super) static POSITION: Table = Table::new(
    "position",
    1,
    &["one", "epoch", "commit_number", "audit_sequence", "audit_head", "newest_at", "tally_seal"],
);

/// The same row before rows were counted: its MAC does not know the newer column.
static FIRST_SCHEMA: Table = Table::new(
    "position",
    1,
    &["one", "epoch", "commit_number", "audit_sequence", "audit_head", "newest_at"],
);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ledger {
    pub(super) position: Position,
    pub(super) audit_sequence: u64,
    pub(super) audit_head: [u8; 32],
    pub(super) newest_at: Option<Timestamp>,
    /// Which rows there were when it was written.
    pub(super) tally_seal: [u8; 32],
}

impl Ledger {
    /// That of a store in which nothing has happened.
    pub(super) fn blank() -> Self {
        Self {
            position: Position { epoch: Epoch(0), commit: 0 },
            audit_sequence: 0,
            audit_head: [0; 32],
            newest_at: None,
            tally_seal: [0; 32],
        }
    }

    pub(super) fn is_of_first_schema(connection: &Connection) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM position WHERE tally_seal IS NULL)";
        connection.query_row(sql, [], |row| row.get(0)).map_err(fault)
    }

    pub(super) fn read_first_schema(connection: &Connection, key: &DerivedKey) -> Result<Self, StoreError> {
        Self::of(&FIRST_SCHEMA, connection, key).map(|(ledger, _)| ledger)
    }

    pub(super) fn read(connection: &Connection, key: &DerivedKey) -> Result<Self, StoreError> {
        let (ledger, mut rest) = Self::of(&POSITION, connection, key)?;
        Ok(Self { tally_seal: rest.hash()?, ..ledger })
    }

    fn of(table: &Table, connection: &Connection, key: &DerivedKey) -> Result<(Self, Values), StoreError> {
        let rows = table.select(connection, key, "", [], Read::Whole)?;
        // The row is made before the first record: where it is missing, somebody removed it.
        let values = rows.into_iter().next().ok_or_else(|| POSITION.tampered(&[Value::Integer(1)]))?;
        let mut row = Values::of(&POSITION, values);
        row.number()?;
        let position = Position { epoch: Epoch(row.number()?), commit: row.number()? };
        let (audit_sequence, audit_head) = (row.number()?, row.hash()?);
        let newest_at =
            row.optional_text()?.map(|text| text.parse().map_err(|_| row.unreadable())).transpose()?;
        Ok((Self { position, audit_sequence, audit_head, newest_at, ..Self::blank() }, row))
    }

    /// Writes it beside rows of this tally.
    pub(super) fn write(
        &self,
        connection: &Connection,
        key: &DerivedKey,
        tally: &Tally,
    ) -> Result<(), StoreError> {
        let row = [
            number(1),
            number(self.position.epoch.0),
            number(self.position.commit),
            number(self.audit_sequence),
            Value::Blob(self.audit_head.to_vec()),
            optional(self.newest_at),
            Value::Blob(tally.seal(key).to_vec()),
        ];
        POSITION.put(connection, key, &row).map(drop)
    }

    /// Notes a time that goes into a record.
    pub(super) fn saw(&mut self, at: Timestamp) {
        self.newest_at = self.newest_at.max(Some(at));
    }
}
