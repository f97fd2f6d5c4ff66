//! Where the store stands: epoch, number of the newest commit, head of the audit, newest time. One row, read and
//! written in every transaction. Must not decide who may write: `apply` compares the epochs.

use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::types::Value;

use super::codec::{Values, number, optional};
use super::table::{Read, Table};
use crate::seal::DerivedKey;
use crate::store::{Epoch, Position, StoreError};

pub(super) const POSITION: Table = Table {
    name: "position",
    key: 1,
    columns: &["one", "epoch", "commit_number", "audit_sequence", "audit_head", "newest_at"],
    bulk: None,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ledger {
    pub(super) position: Position,
    pub(super) audit_sequence: u64,
    pub(super) audit_head: [u8; 32],
    pub(super) newest_at: Option<Timestamp>,
}

impl Ledger {
    /// That of a store in which nothing has happened.
    pub(super) fn blank() -> Self {
        Self {
            position: Position { epoch: Epoch(0), commit: 0 },
            audit_sequence: 0,
            audit_head: [0; 32],
            newest_at: None,
        }
    }

    pub(super) fn read(connection: &Connection, key: &DerivedKey) -> Result<Self, StoreError> {
        let rows = POSITION.select(connection, key, "", [], Read::Whole)?;
        // The row is made before the first record: where it is missing, somebody removed it.
        let values = rows.into_iter().next().ok_or_else(|| POSITION.tampered(&[Value::Integer(1)]))?;
        let mut row = Values::of(&POSITION, values);
        row.number()?;
        let position = Position { epoch: Epoch(row.number()?), commit: row.number()? };
        let (audit_sequence, audit_head) = (row.number()?, row.hash()?);
        let newest_at =
            row.optional_text()?.map(|text| text.parse().map_err(|_| row.unreadable())).transpose()?;
        Ok(Self { position, audit_sequence, audit_head, newest_at })
    }

    pub(super) fn write(&self, connection: &Connection, key: &DerivedKey) -> Result<(), StoreError> {
        let row = [
            number(1),
            number(self.position.epoch.0),
            number(self.position.commit),
            number(self.audit_sequence),
            Value::Blob(self.audit_head.to_vec()),
            optional(self.newest_at),
        ];
        POSITION.put(connection, key, &row)
    }

    /// Notes a time that goes into a record.
    pub(super) fn saw(&mut self, at: Timestamp) {
        self.newest_at = self.newest_at.max(Some(at));
    }
}
