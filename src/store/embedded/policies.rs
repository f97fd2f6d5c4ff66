//! Resource policies as rows and back, in the manner of `codec`. Must not read or write tables.

use jiff::Timestamp;
use rusqlite::types::Value;
use serde::{Deserialize, Serialize};

use super::codec::{Values, json, number, text};
use super::table::Table;
use crate::store::{PolicyRecord, StoreError};

pub(super) static POLICY: Table = Table::new("policy", 1, &["arn", "number", "record"]);

#[derive(Serialize, Deserialize)]
struct StoredPolicy {
    text: String,
    put_at: Timestamp,
}

pub(super) fn policy_row(record: &PolicyRecord) -> Result<Vec<Value>, StoreError> {
    let stored = StoredPolicy { text: record.text.clone(), put_at: record.put_at };
    Ok(vec![text(&record.arn), number(record.number), json(&stored)?])
}

pub(super) fn policy(values: Vec<Value>) -> Result<PolicyRecord, StoreError> {
    let mut row = Values::of(&POLICY, values);
    let (arn, number) = (row.arn()?, row.number()?);
    let StoredPolicy { text, put_at } = row.json()?;
    Ok(PolicyRecord { arn, number, text, put_at })
}
