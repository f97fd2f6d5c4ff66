//! One batch against the tables, inside a transaction that the writer holds. Must not begin, end or retry transactions.

use std::collections::BTreeSet;

use rusqlite::types::Value;
use rusqlite::{Connection, Params};

use super::access_keys::{self, ACCESS_KEY};
use super::codec::{self, AUDIT, INSTALLATION, SECRET, VERSION, number};
use super::journal::{self, ROTATION};
use super::ledger::Ledger;
use super::mounts::{self, MOUNT};
use super::policies::{self, POLICY};
use super::recent::Touched;
use super::table::{Read, Table};
use crate::failpoint;
use crate::seal::{DerivedKey, Tally};
use crate::secret::{Arn, VersionId};
use crate::store::{
    AccessKeyRecord, AuditEntry, AuditRecord, Batch, Change, Expected, Installation, InstallationState,
    MountRecord, PolicyRecord, RotationRecord, SecretRecord, StoreError, VersionRecord, VersionSummary,
    audit_hash,
};

/// What a batch is applied to. After an error the caller rolls back, and throws ledger and tally away.
pub(super) struct Apply<'a> {
    pub(super) connection: &'a Connection,
    pub(super) key: &'a DerivedKey,
    pub(super) ledger: &'a mut Ledger,
    pub(super) tally: &'a mut Tally,
    /// Secrets that this batch touched: whether what refers to what still holds is asked once, at its end.
    touched: BTreeSet<Arn>,
    /// What to hold of it once it is committed.
    recent: Vec<Touched>,
}

impl<'a> Apply<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        key: &'a DerivedKey,
        ledger: &'a mut Ledger,
        tally: &'a mut Tally,
    ) -> Self {
        Self { connection, key, ledger, tally, touched: BTreeSet::new(), recent: Vec::new() }
    }

    /// Gives what it did to records that may be held in memory.
    pub(super) fn batch(mut self, batch: &Batch) -> Result<Vec<Touched>, StoreError> {
        if failpoint::guard("fencing") && batch.epoch != self.ledger.position.epoch {
            return Err(StoreError::Fenced);
        }
        for change in &batch.changes {
            self.change(change)?;
        }
        for arn in std::mem::take(&mut self.touched) {
            self.still_holds_together(&arn)?;
        }
        for entry in &batch.audit {
            self.audit(entry)?;
        }
        self.ledger.position.commit += 1;
        Ok(self.recent)
    }

    fn change(&mut self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::PutInstallation(record) => self.put_installation(record),
            Change::PutSecret(record, expected) => self.put_secret(record, *expected),
            Change::RemoveSecret(arn, expected) => self.remove_secret(arn, *expected),
            Change::PutVersion(record) => self.put_version(record),
            Change::RemoveVersion(arn, id) => self.remove_version(arn, id),
            Change::PutRotation(record, expected) => self.put_rotation(record, *expected),
            Change::PutPolicy(record) => self.put_policy(record),
            Change::RemovePolicy(arn) => self.remove_policy(arn),
            Change::PutAccessKey(record, expected) => self.put_access_key(record, *expected),
            Change::RemoveAccessKey(id) => self.delete(&ACCESS_KEY, "WHERE id = ?1", [id]).map(drop),
            Change::PutMount(record) => self.put_mount(record),
            Change::RemoveMount(id) => self.delete(&MOUNT, "WHERE id = ?1", [id]).map(drop),
        }
    }

    fn put(&mut self, table: &Table, row: &[Value]) -> Result<(), StoreError> {
        table.put_counted(self.connection, self.key, self.tally, row)
    }

    fn delete(&mut self, table: &Table, clause: &str, params: impl Params) -> Result<usize, StoreError> {
        table.delete_counted(self.connection, self.key, self.tally, clause, params)
    }

    /// What is in every ARN and every seal never changes, and a store that is ready stays so.
    fn put_installation(&mut self, record: &Installation) -> Result<(), StoreError> {
        let before = installation(self.connection, self.key)?.ok_or(StoreError::Initialising)?;
        let back = before.state == InstallationState::Ready
            && (record.state != InstallationState::Ready || record.root_key != before.root_key);
        let other = (&before.id, &before.region, &before.account, before.created_at)
            != (&record.id, &record.region, &record.account, record.created_at);
        if back || other {
            return Err(StoreError::OtherInstallation(format!(
                "it is {} of region {} and account {}; id, region, account, root key and time never change",
                before.id, before.region, before.account
            )));
        }
        self.put(&INSTALLATION, &codec::installation_row(record))
    }

    fn put_secret(&mut self, record: &SecretRecord, expected: Expected) -> Result<(), StoreError> {
        let (by_arn, by_name) = (
            secret(self.connection, self.key, "arn", record.arn.as_str())?,
            secret(self.connection, self.key, "name", record.name.as_str())?,
        );
        // Another secret may have the name, with another ARN.
        if by_arn != by_name {
            return Err(StoreError::Conflict);
        }
        let revision = next_revision(by_arn.map(|found| found.revision), expected)?;
        let record = SecretRecord { revision, ..record.clone() };
        let requested = record.deletion.as_ref().map(|deletion| deletion.requested_at);
        let times = [Some(record.created_at), Some(record.changed_at), record.accessed_at, record.rotated_at];
        times.into_iter().chain([requested]).flatten().for_each(|at| self.ledger.saw(at));
        self.put(&SECRET, &codec::secret_row(&record)?)?;
        self.touched.insert(record.arn.clone());
        self.recent.push(Touched::Secret(record));
        Ok(())
    }

    fn remove_secret(&mut self, arn: &Arn, expected: Expected) -> Result<(), StoreError> {
        let found = secret(self.connection, self.key, "arn", arn.as_str())?;
        next_revision(found.as_ref().map(|found| found.revision), expected)?;
        self.recent.extend(found.map(|found| Touched::SecretGone(found.name, found.arn)));
        for table in [&SECRET, &VERSION, &ROTATION, &MOUNT, &POLICY] {
            self.delete(table, "WHERE arn = ?1", [arn.as_str()])?;
        }
        self.touched.remove(arn);
        Ok(())
    }

    fn put_version(&mut self, record: &VersionRecord) -> Result<(), StoreError> {
        let (arn, id) = (record.arn.as_str(), record.id.as_str());
        let found = VERSION.select(self.connection, self.key, BY_VERSION, [arn, id], Read::WithoutBulk)?;
        for values in found {
            if codec::version_summary(values)?.has_value {
                return Err(StoreError::Conflict);
            }
        }
        self.ledger.saw(record.created_at);
        self.put(&VERSION, &codec::version_row(record)?)?;
        self.touched.insert(record.arn.clone());
        self.recent.push(Touched::Version(record.clone()));
        Ok(())
    }

    fn remove_version(&mut self, arn: &Arn, id: &VersionId) -> Result<(), StoreError> {
        if self.delete(&VERSION, BY_VERSION, [arn.as_str(), id.as_str()])? > 0 {
            self.touched.insert(arn.clone());
            self.recent.push(Touched::VersionGone(arn.clone(), id.clone()));
        }
        Ok(())
    }

    fn put_rotation(&mut self, record: &RotationRecord, expected: Expected) -> Result<(), StoreError> {
        let found = rotation(self.connection, self.key, &record.arn)?;
        let revision = next_revision(found.map(|found| found.revision), expected)?;
        let record = RotationRecord { revision, ..record.clone() };
        self.ledger.saw(record.begun_at);
        record.ended_at.into_iter().chain(record.failed_at).for_each(|at| self.ledger.saw(at));
        self.put(&ROTATION, &journal::rotation_row(&record)?)?;
        self.touched.insert(record.arn.clone());
        self.recent.push(Touched::Rotation(record));
        Ok(())
    }

    fn put_policy(&mut self, record: &PolicyRecord) -> Result<(), StoreError> {
        self.ledger.saw(record.put_at);
        self.put(&POLICY, &policies::policy_row(record)?)?;
        self.touched.insert(record.arn.clone());
        Ok(())
    }

    fn remove_policy(&mut self, arn: &Arn) -> Result<(), StoreError> {
        self.delete(&POLICY, BY_ARN, [arn.as_str()])?;
        self.touched.insert(arn.clone());
        Ok(())
    }

    fn put_access_key(&mut self, record: &AccessKeyRecord, expected: Expected) -> Result<(), StoreError> {
        let found = access_key(self.connection, self.key, &record.id)?;
        let revision = next_revision(found.map(|found| found.revision), expected)?;
        // When it expires lies ahead: that says nothing of the clock.
        [Some(record.created_at), record.used_at].into_iter().flatten().for_each(|at| self.ledger.saw(at));
        let record = AccessKeyRecord { revision, ..record.clone() };
        self.put(&ACCESS_KEY, &access_keys::access_key_row(&record)?)
    }

    fn put_mount(&mut self, record: &MountRecord) -> Result<(), StoreError> {
        record.holds_since.into_iter().for_each(|at| self.ledger.saw(at));
        self.put(&MOUNT, &mounts::mount_row(record)?)?;
        self.touched.insert(record.arn.clone());
        Ok(())
    }

    /// Whatever belongs to a secret has one, each of its stages names a version that exists, and its record names the
    /// policy that it has. Somebody may have removed it meanwhile: so this is a conflict.
    fn still_holds_together(&self, arn: &Arn) -> Result<(), StoreError> {
        let record = secret(self.connection, self.key, "arn", arn.as_str())?.ok_or(StoreError::Conflict)?;
        let mut statement = self
            .connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM version WHERE arn = ?1 AND id = ?2)")
            .map_err(super::fault::fault)?;
        for id in record.stages.values() {
            let there: bool = statement
                .query_row([arn.as_str(), id.as_str()], |row| row.get(0))
                .map_err(super::fault::fault)?;
            if !there {
                return Err(StoreError::Conflict);
            }
        }
        let policy = policy(self.connection, self.key, arn)?.map(|policy| policy.number);
        if policy == record.policy { Ok(()) } else { Err(StoreError::Conflict) }
    }

    fn audit(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        let sequence = self.ledger.audit_sequence + 1;
        let hash = audit_hash(&self.ledger.audit_head, sequence, entry);
        self.ledger.saw(entry.at);
        let record = AuditRecord { sequence, entry: entry.clone(), hash };
        AUDIT.put(self.connection, self.key, &codec::audit_row(&record))?;
        (self.ledger.audit_sequence, self.ledger.audit_head) = (sequence, hash);
        Ok(())
    }
}

pub(super) const BY_ARN: &str = "WHERE arn = ?1";
pub(super) const BY_VERSION: &str = "WHERE arn = ?1 AND id = ?2";

/// The revision that a record gets, when it is found as expected.
fn next_revision(found: Option<u64>, expected: Expected) -> Result<u64, StoreError> {
    match (found, expected) {
        (None, Expected::Absent) => Ok(1),
        (Some(found), Expected::Revision(wanted)) if found == wanted => Ok(found + 1),
        _ => Err(StoreError::Conflict),
    }
}

/// A secret by one of its two unique columns.
pub(super) fn secret(
    connection: &Connection,
    key: &DerivedKey,
    column: &'static str,
    is: &str,
) -> Result<Option<SecretRecord>, StoreError> {
    let clause = format!("WHERE {column} = ?1");
    first(SECRET.select(connection, key, &clause, [is], Read::Whole)?, codec::secret)
}

pub(super) fn policy(
    connection: &Connection,
    key: &DerivedKey,
    arn: &Arn,
) -> Result<Option<PolicyRecord>, StoreError> {
    first(POLICY.select(connection, key, BY_ARN, [arn.as_str()], Read::Whole)?, policies::policy)
}

pub(super) fn version(
    connection: &Connection,
    key: &DerivedKey,
    arn: &Arn,
    id: &VersionId,
) -> Result<Option<VersionRecord>, StoreError> {
    let place = [arn.as_str(), id.as_str()];
    first(VERSION.select(connection, key, BY_VERSION, place, Read::Whole)?, codec::version)
}

pub(super) fn versions(
    connection: &Connection,
    key: &DerivedKey,
    arn: &Arn,
) -> Result<Vec<VersionSummary>, StoreError> {
    let clause = "WHERE arn = ?1 ORDER BY number";
    let rows = VERSION.select(connection, key, clause, [arn.as_str()], Read::WithoutBulk)?;
    rows.into_iter().map(codec::version_summary).collect()
}

pub(super) fn rotation(
    connection: &Connection,
    key: &DerivedKey,
    arn: &Arn,
) -> Result<Option<RotationRecord>, StoreError> {
    first(ROTATION.select(connection, key, BY_ARN, [arn.as_str()], Read::Whole)?, journal::rotation)
}

pub(super) fn access_key(
    connection: &Connection,
    key: &DerivedKey,
    id: &str,
) -> Result<Option<AccessKeyRecord>, StoreError> {
    first(ACCESS_KEY.select(connection, key, "WHERE id = ?1", [id], Read::Whole)?, access_keys::access_key)
}

/// The installation's record. While it is being initialised it has no MAC, for there is no root key yet: then it is
/// taken as it is, and nothing else may be in the store.
pub(super) fn installation(
    connection: &Connection,
    key: &DerivedKey,
) -> Result<Option<Installation>, StoreError> {
    match claimed_installation(connection) {
        Ok(Some(claimed)) if claimed.state == InstallationState::Initialising => Ok(Some(claimed)),
        _ => first(INSTALLATION.select(connection, key, "", [], Read::Whole)?, codec::installation),
    }
}

/// What the file says of itself, whether true or not.
pub(super) fn claimed_installation(connection: &Connection) -> Result<Option<Installation>, StoreError> {
    use rusqlite::OptionalExtension;
    let sql = format!("SELECT {} FROM installation", INSTALLATION.columns.join(", "));
    let values = connection
        .query_row(&sql, [], |row| (0..INSTALLATION.columns.len()).map(|at| row.get(at)).collect())
        .optional()
        .map_err(super::fault::fault)?;
    // There is no key to ask; but no program writes what cannot be read.
    let changed = |_| INSTALLATION.tampered(&[number(1)]);
    values.map(codec::installation).transpose().map_err(changed)
}

/// Whether the store holds anything but what its first start writes.
pub(super) fn has_records(connection: &Connection) -> Result<bool, StoreError> {
    let tables: [&Table; 7] = [&SECRET, &VERSION, &ROTATION, &MOUNT, &POLICY, &ACCESS_KEY, &AUDIT];
    for table in tables {
        if !table.is_empty(connection)? {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn first<T>(
    rows: Vec<Vec<Value>>,
    read: impl Fn(Vec<Value>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    rows.into_iter().next().map(read).transpose()
}

/// The audit row that the ledger calls the newest must be there, with the ledger's hash.
pub(super) fn audit_ends_as_noted(
    connection: &Connection,
    key: &DerivedKey,
    ledger: &Ledger,
) -> Result<(), StoreError> {
    let newest = AUDIT.select(connection, key, "ORDER BY sequence DESC LIMIT 1", [], Read::Whole)?;
    let found = first(newest, codec::audit)?.map_or((0, [0; 32]), |row| (row.sequence, row.hash));
    if found != (ledger.audit_sequence, ledger.audit_head) {
        return Err(AUDIT.tampered(&[number(ledger.audit_sequence)]));
    }
    Ok(())
}
