//! Mounts as rows and back, in the manner of `codec`. Must not read or write tables.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::types::Value;
use serde::{Deserialize, Serialize};

use super::codec::{StoredAccount, Values, json, text};
use super::table::Table;
use crate::secret::VersionId;
use crate::store::{MountRecord, StoreError};

pub(super) static MOUNT: Table = Table::new("mount", 1, &["id", "node", "arn", "record"]);

#[derive(Serialize, Deserialize)]
struct StoredMount {
    pod_namespace: String,
    pod_name: String,
    pod_uid: String,
    account: StoredAccount,
    attributes: BTreeMap<String, String>,
    holds: Option<String>,
    holds_since: Option<Timestamp>,
}

pub(super) fn mount_row(record: &MountRecord) -> Result<Vec<Value>, StoreError> {
    let stored = StoredMount {
        pod_namespace: record.pod_namespace.clone(),
        pod_name: record.pod_name.clone(),
        pod_uid: record.pod_uid.clone(),
        account: (&record.account).into(),
        attributes: record.attributes.clone(),
        holds: record.holds.as_ref().map(VersionId::to_string),
        holds_since: record.holds_since,
    };
    Ok(vec![text(&record.id), text(&record.node), text(&record.arn), json(&stored)?])
}

pub(super) fn mount(values: Vec<Value>) -> Result<MountRecord, StoreError> {
    let mut row = Values::of(&MOUNT, values);
    let (id, node, arn) = (row.text()?, row.text()?, row.arn()?);
    let stored: StoredMount = row.json()?;
    let holds = stored.holds.as_deref().map(VersionId::parse).transpose().map_err(|_| row.unreadable())?;
    Ok(MountRecord {
        id,
        node,
        pod_namespace: stored.pod_namespace,
        pod_name: stored.pod_name,
        pod_uid: stored.pod_uid,
        account: stored.account.into(),
        arn,
        attributes: stored.attributes,
        holds,
        holds_since: stored.holds_since,
    })
}
