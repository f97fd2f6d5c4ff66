//! Records as rows and back. The JSON in a row's `record` is a stored form of its own: a field is added with a default,
//! never renamed. Must not read or write tables.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::types::Value;
use serde::{Deserialize, Serialize};

use super::parts::{StoredDeletion, StoredRotationConfig};
use super::table::{Table, bulk_digest};
use crate::access::ServiceAccount;
use crate::seal::{KeyId, Sealed};
use crate::secret::{Arn, Name, Origin, Stage, ValueKind, VersionId};
use crate::store::{
    AuditEntry, AuditRecord, GrantRecord, Installation, InstallationState, SecretRecord, StoreError,
    VersionRecord, VersionSummary,
};

pub(super) static INSTALLATION: Table = Table::new(
    "installation",
    1,
    &["one", "id", "state", "region", "account", "cluster_id", "crd_uid", "root_key", "created_at"],
);
pub(super) static SECRET: Table = Table::new("secret", 1, &["name", "arn", "revision", "record"]);
pub(super) static VERSION: Table =
    Table::with_bulk("version", 2, &["arn", "id", "created_at", "kind", "digest"], "sealed");
pub(super) static AUDIT: Table =
    Table::new("audit", 1, &["sequence", "at", "who", "verb", "secret", "version", "pod", "outcome", "hash"]);

/// Takes a row's values one after the other. A row that the MAC vouches for and that still cannot be read was written
/// by a program with a fault: that is an error of its own, not a panic.
pub(super) struct Values {
    table: &'static str,
    values: std::vec::IntoIter<Value>,
}

impl Values {
    pub(super) fn of(table: &Table, values: Vec<Value>) -> Self {
        Self { table: table.name, values: values.into_iter() }
    }

    pub(super) fn unreadable(&self) -> StoreError {
        StoreError::Corrupt(format!("a row of table {} cannot be read though its MAC is right", self.table))
    }

    pub(super) fn optional_text(&mut self) -> Result<Option<String>, StoreError> {
        match self.values.next() {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Null) => Ok(None),
            _ => Err(self.unreadable()),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, StoreError> {
        self.optional_text()?.ok_or_else(|| self.unreadable())
    }

    pub(super) fn number(&mut self) -> Result<u64, StoreError> {
        match self.values.next() {
            Some(Value::Integer(number)) => u64::try_from(number).map_err(|_| self.unreadable()),
            _ => Err(self.unreadable()),
        }
    }

    pub(super) fn optional_bytes(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        match self.values.next() {
            Some(Value::Blob(bytes)) => Ok(Some(bytes)),
            Some(Value::Null) => Ok(None),
            _ => Err(self.unreadable()),
        }
    }

    pub(super) fn hash(&mut self) -> Result<[u8; 32], StoreError> {
        self.optional_bytes()?.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| self.unreadable())
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.text()?.parse().map_err(|_| self.unreadable())
    }

    pub(super) fn arn(&mut self) -> Result<Arn, StoreError> {
        Arn::parse(&self.text()?).ok_or_else(|| self.unreadable())
    }

    pub(super) fn version_id(&mut self) -> Result<VersionId, StoreError> {
        let text = self.text()?;
        VersionId::parse(&text).map_err(|_| self.unreadable())
    }

    pub(super) fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        let text = self.text()?;
        serde_json::from_str(&text).map_err(|_| self.unreadable())
    }
}

pub(super) fn text(text: impl ToString) -> Value {
    Value::Text(text.to_string())
}

pub(super) fn optional(text: Option<impl ToString>) -> Value {
    text.map_or(Value::Null, |text| Value::Text(text.to_string()))
}

/// SQLite's integers are signed; no counter of ours comes near their end.
pub(super) fn number(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

pub(super) fn json(record: &impl Serialize) -> Result<Value, StoreError> {
    serde_json::to_string(record)
        .map(Value::Text)
        .map_err(|_| StoreError::Corrupt("a record has no stored form".into()))
}

pub(super) fn installation_row(record: &Installation) -> Vec<Value> {
    let state = match record.state {
        InstallationState::Initialising => "initialising",
        InstallationState::Ready => "ready",
    };
    vec![
        number(1),
        text(&record.id),
        text(state),
        text(&record.region),
        text(&record.account),
        text(&record.cluster_id),
        text(&record.crd_uid),
        optional(record.root_key.as_ref()),
        text(record.created_at),
    ]
}

pub(super) fn installation(values: Vec<Value>) -> Result<Installation, StoreError> {
    let mut row = Values::of(&INSTALLATION, values);
    row.number()?;
    Ok(Installation {
        id: row.text()?,
        state: match row.text()?.as_str() {
            "initialising" => InstallationState::Initialising,
            "ready" => InstallationState::Ready,
            _ => return Err(row.unreadable()),
        },
        region: row.text()?,
        account: row.text()?,
        cluster_id: row.text()?,
        crd_uid: row.text()?,
        root_key: row.optional_text()?.map(KeyId::new),
        created_at: row.time()?,
    })
}

#[derive(Serialize, Deserialize)]
struct StoredSecret {
    origin: StoredOrigin,
    description: Option<String>,
    created_at: Timestamp,
    changed_at: Timestamp,
    accessed_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    versions_accessed_at: BTreeMap<String, Timestamp>,
    rotated_at: Option<Timestamp>,
    stages: BTreeMap<String, String>,
    grants: Vec<StoredGrant>,
    recovery_window_days: u8,
    deletion: Option<StoredDeletion>,
    rotation_enabled: Option<bool>,
    rotation: Option<StoredRotationConfig>,
    tags: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum StoredOrigin {
    CustomResource { namespace: String, name: String, uid: String, namespace_uid: String },
    Api,
}

#[derive(Serialize, Deserialize)]
struct StoredGrant {
    account: StoredAccount,
    stages: Vec<String>,
    keys: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredAccount {
    namespace: String,
    name: String,
}

impl From<&ServiceAccount> for StoredAccount {
    fn from(account: &ServiceAccount) -> Self {
        Self { namespace: account.namespace.clone(), name: account.name.clone() }
    }
}

impl From<StoredAccount> for ServiceAccount {
    fn from(stored: StoredAccount) -> Self {
        Self { namespace: stored.namespace, name: stored.name }
    }
}

pub(super) fn secret_row(record: &SecretRecord) -> Result<Vec<Value>, StoreError> {
    let stored = StoredSecret {
        origin: match &record.origin {
            Origin::CustomResource { namespace, name, uid, namespace_uid } => StoredOrigin::CustomResource {
                namespace: namespace.clone(),
                name: name.clone(),
                uid: uid.clone(),
                namespace_uid: namespace_uid.clone(),
            },
            Origin::Api => StoredOrigin::Api,
        },
        description: record.description.clone(),
        created_at: record.created_at,
        changed_at: record.changed_at,
        accessed_at: record.accessed_at,
        versions_accessed_at: record
            .versions_accessed_at
            .iter()
            .map(|(id, at)| (id.to_string(), *at))
            .collect(),
        rotated_at: record.rotated_at,
        stages: record.stages.iter().map(|(stage, id)| (stage.to_string(), id.to_string())).collect(),
        grants: record.grants.iter().map(stored_grant).collect(),
        recovery_window_days: record.recovery_window_days,
        deletion: record.deletion.as_ref().map(StoredDeletion::from),
        rotation_enabled: record.rotation_enabled,
        rotation: record.rotation.as_deref().map(StoredRotationConfig::from),
        tags: record.tags.clone(),
        policy: record.policy,
    };
    Ok(vec![text(&record.name), text(&record.arn), number(record.revision), json(&stored)?])
}

fn stored_grant(grant: &GrantRecord) -> StoredGrant {
    StoredGrant {
        account: (&grant.account).into(),
        stages: grant.stages.iter().map(Stage::to_string).collect(),
        keys: grant.keys.clone(),
    }
}

pub(super) fn secret(values: Vec<Value>) -> Result<SecretRecord, StoreError> {
    let mut row = Values::of(&SECRET, values);
    let name = Name::parse(&row.text()?).map_err(|_| row.unreadable())?;
    let (arn, revision) = (row.arn()?, row.number()?);
    let stored: StoredSecret = row.json()?;
    let stage = |text: &str| Stage::parse(text).map_err(|_| row.unreadable());
    let mut stages = BTreeMap::new();
    for (name, id) in &stored.stages {
        stages.insert(stage(name)?, VersionId::parse(id).map_err(|_| row.unreadable())?);
    }
    let mut versions_accessed_at = BTreeMap::new();
    for (id, at) in &stored.versions_accessed_at {
        versions_accessed_at.insert(VersionId::parse(id).map_err(|_| row.unreadable())?, *at);
    }
    let mut grants = Vec::with_capacity(stored.grants.len());
    for grant in stored.grants {
        let stages = grant.stages.iter().map(|text| stage(text)).collect::<Result<_, _>>()?;
        grants.push(GrantRecord { account: grant.account.into(), stages, keys: grant.keys });
    }
    Ok(SecretRecord {
        arn,
        name,
        origin: match stored.origin {
            StoredOrigin::CustomResource { namespace, name, uid, namespace_uid } => {
                Origin::CustomResource { namespace, name, uid, namespace_uid }
            }
            StoredOrigin::Api => Origin::Api,
        },
        description: stored.description,
        created_at: stored.created_at,
        changed_at: stored.changed_at,
        accessed_at: stored.accessed_at,
        versions_accessed_at,
        rotated_at: stored.rotated_at,
        stages,
        grants,
        recovery_window_days: stored.recovery_window_days,
        deletion: stored.deletion.map(Into::into),
        rotation_enabled: stored.rotation_enabled,
        rotation: stored.rotation.map(|stored| Box::new(stored.into())),
        tags: stored.tags,
        policy: stored.policy,
        revision,
    })
}

pub(super) fn version_row(record: &VersionRecord) -> Result<Vec<Value>, StoreError> {
    let kind = match record.kind {
        ValueKind::String => "string",
        ValueKind::Binary => "binary",
    };
    let sealed = record.sealed.as_ref().map(Sealed::encode).transpose();
    let sealed = sealed.map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let digest = sealed.as_ref().map_or(Value::Null, |bytes| Value::Blob(bulk_digest(bytes).to_vec()));
    let sealed = sealed.map_or(Value::Null, Value::Blob);
    Ok(vec![text(&record.arn), text(&record.id), text(record.created_at), text(kind), digest, sealed])
}

pub(super) fn version(values: Vec<Value>) -> Result<VersionRecord, StoreError> {
    let mut row = Values::of(&VERSION, values);
    let (arn, id, created_at) = (row.arn()?, row.version_id()?, row.time()?);
    let kind = match row.text()?.as_str() {
        "string" => ValueKind::String,
        "binary" => ValueKind::Binary,
        _ => return Err(row.unreadable()),
    };
    row.optional_bytes()?;
    let sealed = row.optional_bytes()?.as_deref().map(Sealed::decode).transpose();
    let sealed = sealed.map_err(|error| StoreError::Corrupt(error.to_string()))?;
    Ok(VersionRecord { arn, id, created_at, kind, sealed })
}

pub(super) fn version_summary(values: Vec<Value>) -> Result<VersionSummary, StoreError> {
    let mut row = Values::of(&VERSION, values);
    row.arn()?;
    let (id, created_at) = (row.version_id()?, row.time()?);
    row.text()?;
    Ok(VersionSummary { id, created_at, has_value: row.optional_bytes()?.is_some() })
}

pub(super) fn audit_row(record: &AuditRecord) -> Vec<Value> {
    let entry = &record.entry;
    vec![
        number(record.sequence),
        text(entry.at),
        text(&entry.who),
        text(&entry.verb),
        optional(entry.secret.as_ref()),
        optional(entry.version.as_ref()),
        optional(entry.pod.as_ref()),
        text(&entry.outcome),
        Value::Blob(record.hash.to_vec()),
    ]
}

pub(super) fn audit(values: Vec<Value>) -> Result<AuditRecord, StoreError> {
    let mut row = Values::of(&AUDIT, values);
    let sequence = row.number()?;
    let (at, who, verb) = (row.time()?, row.text()?, row.text()?);
    let secret = row.optional_text()?;
    let secret = secret.map(|text| Arn::parse(&text).ok_or_else(|| row.unreadable())).transpose()?;
    let version = row.optional_text()?;
    let version = version.map(|text| VersionId::parse(&text).map_err(|_| row.unreadable())).transpose()?;
    let entry =
        AuditEntry { at, who, verb, secret, version, pod: row.optional_text()?, outcome: row.text()? };
    Ok(AuditRecord { sequence, entry, hash: row.hash()? })
}
