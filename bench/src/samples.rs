//! The secrets and versions that are measured with. Must not measure anything.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use jiff::Timestamp;
use tidelock::seal::{DataKey, KeyId, Place, RootSecret, Sealed, SystemRandom, seal};
use tidelock::secret::{Arn, Name, Origin, Plaintext, Stage, ValueKind, VersionId};
use tidelock::store::{
    AuditEntry, Batch, Change, Embedded, EmbeddedFile, Epoch, Expected, GrantRecord, Installation,
    InstallationState, ROW_MAC, SecretRecord, Store, VersionRecord,
};

pub const REGION: &str = "local-1";
pub const ACCOUNT: &str = "000000000000";

/// A new store in the folder, and its writer's epoch.
pub async fn store(folder: &Path) -> Result<(Arc<Embedded>, Epoch)> {
    let key = RootSecret::generate(&mut SystemRandom);
    let ready = Installation {
        id: "bench".into(),
        state: InstallationState::Ready,
        region: REGION.into(),
        account: ACCOUNT.into(),
        cluster_id: String::new(),
        crd_uid: String::new(),
        root_key: Some(key_id(&key)),
        created_at: at(0)?,
    };
    let mut file = EmbeddedFile::open(folder)?;
    file.begin(&Installation { state: InstallationState::Initialising, root_key: None, ..ready.clone() })?;
    let store = file.unlock(key.derive(ROW_MAC))?;
    let epoch = store.raise_epoch().await?;
    let changes = vec![Change::PutInstallation(ready)];
    store.commit(Batch { epoch, changes, audit: Vec::new() }).await?;
    Ok((Arc::new(store), epoch))
}

/// What PutSecretValue writes: the next version of a secret that has so many, as the current one, and its audit row.
pub fn batch(epoch: Epoch, number: usize, has: usize, sealed: &Sealed) -> Result<Batch> {
    let expected = match has {
        0 => Expected::Absent,
        revision => Expected::Revision(revision as u64),
    };
    let changes = vec![
        Change::PutVersion(version(number, has, sealed)?),
        Change::PutSecret(secret(number, has, has as u64)?, expected),
    ];
    Ok(Batch { epoch, changes, audit: vec![audit(number, has)?] })
}

/// As many seconds after one instant: what is measured does not depend on the clock.
pub fn at(seconds: u32) -> Result<Timestamp> {
    Timestamp::new(1_800_000_000 + i64::from(seconds), 123_456_789).context("a time")
}

pub fn name(number: usize) -> Result<Name> {
    Ok(Name::parse(&format!("shop/orders-db-{number:04}"))?)
}

pub fn arn(number: usize) -> Result<Arn> {
    let text = format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{}-Aa{number:04}", name(number)?);
    Arn::parse(&text).with_context(|| format!("{text} is no ARN"))
}

pub fn version_id(number: usize) -> Result<VersionId> {
    Ok(VersionId::parse(&format!("{number:032}"))?)
}

/// As a ManagedSecret with one grant makes it, with this version as the current one.
pub fn secret(number: usize, current: usize, revision: u64) -> Result<SecretRecord> {
    let name = name(number)?;
    let origin = Origin::CustomResource {
        namespace: "shop".into(),
        name: name.rest().unwrap_or_default().into(),
        uid: "7f8a2c1e-5b5d-4b3c-9a51-0c6f3f5f7c11".into(),
        namespace_uid: "1d2f7a60-43b7-4a0e-8d4c-7f2f2a0d9e55".into(),
    };
    let account = tidelock::access::ServiceAccount { namespace: "shop".into(), name: "orders-api".into() };
    let stages = match current.checked_sub(1) {
        None => BTreeMap::from([(Stage::current(), version_id(current)?)]),
        Some(previous) => BTreeMap::from([
            (Stage::current(), version_id(current)?),
            (Stage::previous(), version_id(previous)?),
        ]),
    };
    Ok(SecretRecord {
        arn: arn(number)?,
        name,
        origin,
        description: Some("the login of the orders' database".into()),
        created_at: at(0)?,
        changed_at: at(1)?,
        accessed_at: None,
        versions_accessed_at: BTreeMap::new(),
        rotated_at: None,
        stages,
        grants: vec![GrantRecord { account, stages: vec![Stage::current()], keys: None }],
        recovery_window_days: 30,
        deletion: None,
        rotation_enabled: None,
        rotation: None,
        tags: None,
        policy: None,
        revision,
    })
}

pub fn version(number: usize, version: usize, sealed: &Sealed) -> Result<VersionRecord> {
    Ok(VersionRecord {
        arn: arn(number)?,
        id: version_id(version)?,
        created_at: at(1)?,
        kind: ValueKind::String,
        sealed: Some(sealed.clone()),
    })
}

pub fn audit(number: usize, version: usize) -> Result<AuditEntry> {
    Ok(AuditEntry {
        at: at(2)?,
        who: "system:serviceaccount:shop:orders-api".into(),
        verb: "put".into(),
        secret: Some(arn(number)?),
        version: Some(version_id(version)?),
        pod: Some("shop/orders-1/7f8a2c1e-5b5d-4b3c-9a51-0c6f3f5f7c11".into()),
        outcome: "done".into(),
    })
}

/// A sealed value of so many bytes.
pub fn sealed(bytes: usize) -> Result<Sealed> {
    let (arn, version) = (arn(0)?, version_id(0)?);
    let place = Place { region: REGION, arn: &arn, version: &version };
    let mut random = SystemRandom;
    let (root, key) = (RootSecret::generate(&mut random), DataKey::generate(&mut random));
    let wrapped = root.wrap(&key_id(&root), &key, &place.of_key(), &mut random)?;
    Ok(seal(place, key, wrapped, &Plaintext::new(vec![7; bytes]), &mut random)?)
}

/// As long as the name of a real one.
pub fn key_id(root: &RootSecret) -> KeyId {
    KeyId::new(format!("file:{}", tidelock::seal::hex(&root.name())))
}
