//! Rows with MACs: no row is read but through here, and none comes out whose MAC is not right. Rows that are counted
//! are in a tally as well, so that none of them is removed or put back from an older copy of itself unnoticed.
//! Must not know what the columns mean.

use std::sync::OnceLock;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Params, Row, params_from_iter};

use super::fault::fault;
use crate::seal::{DerivedKey, Field, Tally, digest, row_is_whole, row_mac, same};
use crate::store::StoreError;

/// A table: its columns in the order in which rows are given and taken, the first `key` of them its primary key.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) key: usize,
    pub(super) columns: &'static [&'static str],
    /// A large last column, which the MAC covers by its digest, so that listings need not read it. The column of the
    /// digest is the last of `columns`.
    pub(super) bulk: Option<&'static str>,
    texts: OnceLock<Texts>,
}

/// What is asked of a table again and again, in SQL.
struct Texts {
    /// What is read `WithoutBulk` and what is read `Whole`; a clause follows.
    select: [String; 2],
    mac_by_key: String,
    put: String,
}

/// How much of each row is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    WithoutBulk,
    Whole,
}

impl Table {
    pub(super) const fn new(name: &'static str, key: usize, columns: &'static [&'static str]) -> Self {
        Self { name, key, columns, bulk: None, texts: OnceLock::new() }
    }

    pub(super) const fn with_bulk(
        name: &'static str,
        key: usize,
        columns: &'static [&'static str],
        bulk: &'static str,
    ) -> Self {
        Self { name, key, columns, bulk: Some(bulk), texts: OnceLock::new() }
    }

    fn texts(&self) -> &Texts {
        self.texts.get_or_init(|| {
            let Self { name, key, columns, bulk, .. } = self;
            let select = |bulk: Option<&'static str>| {
                let read: Vec<_> = columns.iter().copied().chain(["mac"]).chain(bulk).collect();
                format!("SELECT {} FROM {name} ", read.join(", "))
            };
            let by_key: Vec<_> =
                columns[..*key].iter().zip(1..).map(|(column, at)| format!("{column} = ?{at}")).collect();
            let written: Vec<_> = columns.iter().copied().chain(*bulk).chain(["mac"]).collect();
            let places: Vec<_> = (1..=written.len()).map(|at| format!("?{at}")).collect();
            let updates: Vec<_> = written[*key..].iter().map(|c| format!("{c} = excluded.{c}")).collect();
            Texts {
                select: [select(None), select(*bulk)],
                mac_by_key: format!("SELECT mac FROM {name} WHERE {}", by_key.join(" AND ")),
                put: format!(
                    "INSERT INTO {name} ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {}",
                    written.join(", "),
                    places.join(", "),
                    written[..*key].join(", "),
                    updates.join(", "),
                ),
            }
        })
    }

    /// Rows that a clause picks (`WHERE .. ORDER BY ..`), each checked against its MAC.
    pub(super) fn select(
        &self,
        connection: &Connection,
        key: &DerivedKey,
        clause: &str,
        params: impl Params,
        read: Read,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        let mut found = Vec::new();
        self.each(connection, key, clause, params, read, |values, _| found.push(values))?;
        Ok(found)
    }

    /// Checks every row, each with its bulk, and counts it.
    pub(super) fn count(
        &self,
        connection: &Connection,
        key: &DerivedKey,
        tally: &mut Tally,
    ) -> Result<(), StoreError> {
        self.each(connection, key, "", [], Read::Whole, |_, mac| tally.add(key, mac))
    }

    fn each(
        &self,
        connection: &Connection,
        key: &DerivedKey,
        clause: &str,
        params: impl Params,
        read: Read,
        mut visit: impl FnMut(Vec<Value>, &[u8]),
    ) -> Result<(), StoreError> {
        let bulk = self.bulk.filter(|_| read == Read::Whole);
        let [without_bulk, whole] = &self.texts().select;
        let sql = [if read == Read::Whole { whole } else { without_bulk }, clause].concat();
        let mut statement = connection.prepare_cached(&sql).map_err(fault)?;
        let mut rows = statement.query(params).map_err(fault)?;
        while let Some(row) = rows.next().map_err(fault)? {
            let values = self.checked(key, row, bulk.is_some())?;
            visit(values, row.get_ref(self.columns.len()).map_err(fault)?.as_blob().unwrap_or_default());
        }
        Ok(())
    }

    fn checked(&self, key: &DerivedKey, row: &Row<'_>, with_bulk: bool) -> Result<Vec<Value>, StoreError> {
        let count = self.columns.len();
        let mut values = Vec::with_capacity(count + 1);
        for at in 0..count {
            values.push(row.get::<_, Value>(at).map_err(|_| self.tampered(&values))?);
        }
        let fields = fields(&values).ok_or_else(|| self.tampered(&values))?;
        let mac = match row.get_ref(count).map_err(fault)? {
            ValueRef::Blob(mac) => mac,
            _ => return Err(self.tampered(&values)),
        };
        if !row_is_whole(key, self.name, &fields[..self.key], &fields[self.key..], mac) {
            return Err(self.tampered(&values));
        }
        if with_bulk {
            let bulk: Value = row.get(count + 1).map_err(|_| self.tampered(&values))?;
            let whole = match (&bulk, values.last()) {
                (Value::Null, Some(Value::Null)) => true,
                (Value::Blob(bytes), Some(Value::Blob(wanted))) => same(&bulk_digest(bytes), wanted),
                _ => false,
            };
            if !whole {
                return Err(self.tampered(&values));
            }
            values.push(bulk);
        }
        Ok(values)
    }

    /// As `put`, for a table whose rows are counted.
    pub(super) fn put_counted(
        &self,
        connection: &Connection,
        key: &DerivedKey,
        tally: &mut Tally,
        values: &[Value],
    ) -> Result<(), StoreError> {
        let by_key = params_from_iter(&values[..self.key]);
        self.discount(connection, key, tally, &self.texts().mac_by_key, by_key)?;
        tally.add(key, &self.put(connection, key, values)?);
        Ok(())
    }

    /// As `delete`, for a table whose rows are counted.
    pub(super) fn delete_counted(
        &self,
        connection: &Connection,
        key: &DerivedKey,
        tally: &mut Tally,
        clause: &str,
        params: impl Params,
    ) -> Result<usize, StoreError> {
        let sql = format!("DELETE FROM {} {clause} RETURNING mac", self.name);
        self.discount(connection, key, tally, &sql, params)
    }

    /// Takes rows out of the tally; tells how many. Their MACs need no check: a wrong one spoils the tally.
    fn discount(
        &self,
        connection: &Connection,
        key: &DerivedKey,
        tally: &mut Tally,
        sql: &str,
        params: impl Params,
    ) -> Result<usize, StoreError> {
        let mut statement = connection.prepare_cached(sql).map_err(fault)?;
        let mut rows = statement.query(params).map_err(fault)?;
        let mut count = 0;
        while let Some(row) = rows.next().map_err(fault)? {
            let ValueRef::Blob(mac) = row.get_ref(0).map_err(fault)? else { return Err(self.tampered(&[])) };
            // The row that is written before there is a key has none, and was never counted.
            if !mac.is_empty() {
                tally.remove(key, mac);
            }
            count += 1;
        }
        Ok(count)
    }

    /// Writes a row over whatever has its primary key; gives its MAC. With a `bulk`, the last value is that column's.
    pub(super) fn put(
        &self,
        connection: &Connection,
        key: &DerivedKey,
        values: &[Value],
    ) -> Result<[u8; 32], StoreError> {
        let fields = fields(&values[..self.columns.len()])
            .ok_or_else(|| StoreError::Corrupt(format!("a row for table {} has no such type", self.name)))?;
        let mac = row_mac(key, self.name, &fields[..self.key], &fields[self.key..]);
        self.put_with_mac(connection, values, mac.to_vec())?;
        Ok(mac)
    }

    /// For the one row that is written before there is a key.
    pub(super) fn put_without_mac(
        &self,
        connection: &Connection,
        values: &[Value],
    ) -> Result<(), StoreError> {
        self.put_with_mac(connection, values, Vec::new())
    }

    fn put_with_mac(
        &self,
        connection: &Connection,
        values: &[Value],
        mac: Vec<u8>,
    ) -> Result<(), StoreError> {
        let mac = Value::Blob(mac);
        let params = params_from_iter(values.iter().chain([&mac]));
        connection.prepare_cached(&self.texts().put).map_err(fault)?.execute(params).map_err(fault)?;
        Ok(())
    }

    /// Removes rows; tells how many there were.
    pub(super) fn delete(
        &self,
        connection: &Connection,
        clause: &str,
        params: impl Params,
    ) -> Result<usize, StoreError> {
        let sql = format!("DELETE FROM {} {clause}", self.name);
        connection.prepare_cached(&sql).map_err(fault)?.execute(params).map_err(fault)
    }

    pub(super) fn is_empty(&self, connection: &Connection) -> Result<bool, StoreError> {
        let sql = format!("SELECT NOT EXISTS (SELECT 1 FROM {})", self.name);
        connection.query_row(&sql, [], |row| row.get(0)).map_err(fault)
    }

    /// The error for a row whose first values were readable.
    pub(super) fn tampered(&self, values: &[Value]) -> StoreError {
        let named = values.iter().take(self.key).map(|value| match value {
            Value::Integer(number) => number.to_string(),
            Value::Text(text) => text.clone(),
            _ => "?".to_owned(),
        });
        StoreError::Tampered { table: self.name, key: named.collect::<Vec<_>>().join(" ") }
    }
}

/// What stands for a large column under the MAC.
pub(super) fn bulk_digest(bytes: &[u8]) -> [u8; 32] {
    digest("tidelock.bulk.v1", &[bytes])
}

/// `None` when a value has a type that no column has.
fn fields(values: &[Value]) -> Option<Vec<Field<'_>>> {
    let field = |value| match value {
        &Value::Null => Some(Field::Null),
        &Value::Integer(number) => Some(Field::Integer(number)),
        Value::Text(text) => Some(Field::Text(text)),
        Value::Blob(bytes) => Some(Field::Bytes(bytes)),
        &Value::Real(_) => None,
    };
    values.iter().map(field).collect()
}
