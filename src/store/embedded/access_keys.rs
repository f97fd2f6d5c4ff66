//! Access keys as rows and back, in the manner of `codec`. Must not read or write tables.

use jiff::Timestamp;
use rusqlite::types::Value;
use serde::{Deserialize, Serialize};

use super::codec::{Values, json, number, text};
use super::table::Table;
use crate::access::ServiceAccount;
use crate::seal::Sealed;
use crate::store::{AccessKeyRecord, StoreError};

pub(super) static ACCESS_KEY: Table =
    Table::new("access_key", 1, &["id", "namespace", "revision", "record", "sealed"]);

#[derive(Serialize, Deserialize)]
struct StoredAccessKey {
    account: String,
    uid: String,
    created_at: Timestamp,
    expires_at: Timestamp,
    used_at: Option<Timestamp>,
}

pub(super) fn access_key_row(record: &AccessKeyRecord) -> Result<Vec<Value>, StoreError> {
    let stored = StoredAccessKey {
        account: record.account.name.clone(),
        uid: record.uid.clone(),
        created_at: record.created_at,
        expires_at: record.expires_at,
        used_at: record.used_at,
    };
    let sealed = record.sealed.encode().map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let namespace = text(&record.account.namespace);
    Ok(vec![text(&record.id), namespace, number(record.revision), json(&stored)?, Value::Blob(sealed)])
}

pub(super) fn access_key(values: Vec<Value>) -> Result<AccessKeyRecord, StoreError> {
    let mut row = Values::of(&ACCESS_KEY, values);
    let (id, namespace, revision) = (row.text()?, row.text()?, row.number()?);
    let StoredAccessKey { account, uid, created_at, expires_at, used_at } = row.json()?;
    let sealed = row.optional_bytes()?.ok_or_else(|| row.unreadable())?;
    let sealed = Sealed::decode(&sealed).map_err(|_| row.unreadable())?;
    let account = ServiceAccount { namespace, name: account };
    Ok(AccessKeyRecord { id, account, uid, created_at, expires_at, used_at, sealed, revision })
}
