//! The records that the contract writes. Must not ask anything of a store.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::access::ServiceAccount;
use crate::seal::{
    DataKey, KeyId, KeyPlace, Place, RootSecret, SystemRandom, new_access_key, seal, seal_access_key,
};
use crate::secret::{Arn, Name, Origin, Plaintext, Stage, ValueKind, VersionId};
use crate::store::{
    AccessKeyRecord, AuditEntry, Batch, Change, Deletion, Expected, GrantRecord, Installation,
    InstallationState, JobRecord, MountRecord, PolicyRecord, Position, RotationConfig, RotationRecord,
    RotationRules, RotationState, SecretRecord, Store, StoreError, VersionRecord,
};

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::new(1_800_000_000 + seconds, 123_456_789).unwrap()
}

pub fn installation() -> Installation {
    Installation {
        id: "0190-installation".into(),
        state: InstallationState::Ready,
        region: "local-1".into(),
        account: "000000000000".into(),
        cluster_id: "cluster".into(),
        crd_uid: String::new(),
        root_key: Some(KeyId::new("file:1".into())),
        created_at: at(-1000),
    }
}

pub fn name(n: u32) -> Name {
    Name::parse(&format!("shop/secret-{n:04}")).unwrap()
}

pub fn arn(n: u32) -> Arn {
    Arn::parse(&format!("arn:aws:secretsmanager:local-1:000000000000:secret:{}-Aa{n:04}", name(n))).unwrap()
}

pub fn id(n: u32) -> VersionId {
    VersionId::parse(&format!("{n:032}")).unwrap()
}

/// A secret with nothing optional in it.
pub fn secret(n: u32) -> SecretRecord {
    SecretRecord {
        arn: arn(n),
        name: name(n),
        origin: Origin::Api,
        description: None,
        created_at: at(0),
        changed_at: at(0),
        accessed_at: None,
        versions_accessed_at: BTreeMap::new(),
        rotated_at: None,
        stages: BTreeMap::new(),
        grants: Vec::new(),
        recovery_window_days: 30,
        deletion: None,
        rotation_enabled: None,
        rotation: None,
        tags: None,
        policy: None,
        revision: 0,
    }
}

pub fn account(name: &str) -> ServiceAccount {
    ServiceAccount { namespace: "shop".into(), name: name.into() }
}

pub fn full_secret(n: u32) -> SecretRecord {
    SecretRecord {
        origin: Origin::CustomResource {
            namespace: "shop".into(),
            name: "orders-db".into(),
            uid: "uid-1".into(),
            namespace_uid: "uid-2".into(),
        },
        description: Some("orders \"login\" \u{1f511}".into()),
        changed_at: at(60),
        accessed_at: Some(at(61)),
        versions_accessed_at: BTreeMap::new(),
        rotated_at: Some(at(62)),
        stages: BTreeMap::from([(Stage::current(), id(1)), (Stage::parse("mine").unwrap(), id(2))]),
        grants: vec![
            GrantRecord { account: account("api"), stages: vec![Stage::current()], keys: None },
            GrantRecord { account: account("job"), stages: Vec::new(), keys: Some(vec!["password".into()]) },
        ],
        recovery_window_days: 7,
        deletion: Some(Deletion { requested_at: at(63), due_at: at(9_000_000) }),
        rotation_enabled: Some(true),
        rotation: Some(Box::new(RotationConfig {
            rotator: "arn:aws:lambda:local-1:000000000000:function:orders".into(),
            rules: RotationRules {
                automatically_after_days: Some(30),
                schedule_expression: Some("rate(30 days)".into()),
                duration: Some("2h".into()),
            },
            since: at(64),
        })),
        ..secret(n)
    }
}

pub fn version(n: u32, v: u32) -> VersionRecord {
    let (arn, id) = (arn(n), id(v));
    let place = Place { region: "local-1", arn: &arn, version: &id };
    let key = DataKey::generate(&mut SystemRandom);
    let root = RootSecret::from_bytes(&[1; 32]).unwrap();
    let wrapped = root.wrap(&KeyId::new("file:1".into()), &key, &place.of_key(), &mut SystemRandom).unwrap();
    let value = Plaintext::new(vec![7; 5000]);
    let sealed = seal(place, key, wrapped, &value, &mut SystemRandom).unwrap();
    VersionRecord { created_at: at(1), kind: ValueKind::Binary, sealed: Some(sealed), arn, id }
}

pub fn empty_version(n: u32, v: u32) -> VersionRecord {
    VersionRecord { sealed: None, kind: ValueKind::String, ..version(n, v) }
}

pub fn rotation(n: u32) -> RotationRecord {
    RotationRecord {
        arn: arn(n),
        version: id(2),
        is_test: n == 2,
        state: RotationState::Failed,
        step: Some("setSecret".into()),
        attempt: 2,
        failures: 1,
        jobs: vec![JobRecord {
            namespace: "shop".into(),
            name: "rotate-1".into(),
            uid: "uid-3".into(),
            service_account: "rotator".into(),
            attempt: 2,
            started_at: at(2),
            gone: true,
        }],
        begun_at: at(2),
        ended_at: Some(at(3)),
        failed_at: Some(at(4)),
        failure: Some(("JobFailed".into(), "the step setSecret ended with 1".into())),
        handled_trigger: Some("token".into()),
        revision: 0,
    }
}

pub fn policy(n: u32, number: u64) -> PolicyRecord {
    PolicyRecord { arn: arn(n), number, text: "{\"Statement\": []} \u{1f511}".into(), put_at: at(50) }
}

/// The id of one of the samples.
pub fn access_key_id(n: u32) -> String {
    format!("AKIAAAAAAAAAAAAAAA{n:02}").replace('0', "Z").replace('1', "Y")
}

pub fn access_key(n: u32) -> AccessKeyRecord {
    let id = access_key_id(n);
    let place = KeyPlace { installation: "0190-installation", id: &id };
    let key = DataKey::generate(&mut SystemRandom);
    let root = RootSecret::from_bytes(&[1; 32]).unwrap();
    let wrapped = root.wrap(&KeyId::new("file:1".into()), &key, &place.of_key(), &mut SystemRandom).unwrap();
    let secret = new_access_key(&mut SystemRandom).secret;
    let sealed = seal_access_key(place, key, wrapped, &secret, &mut SystemRandom).unwrap();
    AccessKeyRecord {
        account: account("ci"),
        uid: "uid-7".into(),
        created_at: at(3),
        expires_at: at(9_000_000),
        used_at: Some(at(4)),
        sealed,
        revision: 0,
        id,
    }
}

pub fn mount(mount: &str, n: u32, node: &str) -> MountRecord {
    MountRecord {
        id: mount.into(),
        node: node.into(),
        pod_namespace: "shop".into(),
        pod_name: "orders-1".into(),
        pod_uid: "uid-4".into(),
        account: account("api"),
        arn: arn(n),
        attributes: BTreeMap::from([("secret".into(), "orders-db".into())]),
        holds: Some(id(1)),
        holds_since: Some(at(5)),
    }
}

pub fn entry(seconds: i64, outcome: &str) -> AuditEntry {
    AuditEntry {
        at: at(seconds),
        who: "system:serviceaccount:shop:api".into(),
        verb: "put".into(),
        secret: Some(arn(1)),
        version: Some(id(1)),
        pod: Some("shop/orders-1/uid-4".into()),
        outcome: outcome.into(),
    }
}

/// Writes under the newest epoch.
pub async fn write(store: &dyn Store, changes: Vec<Change>) -> Result<Position, StoreError> {
    let epoch = store.position().await?.epoch;
    store.commit(Batch { epoch, changes, audit: vec![entry(6, "done")] }).await
}

/// One secret with everything that can belong to one.
pub async fn fill(store: &dyn Store, n: u32) {
    let changes = vec![
        Change::PutVersion(version(n, 1)),
        Change::PutVersion(empty_version(n, 2)),
        Change::PutSecret(SecretRecord { policy: Some(1), ..full_secret(n) }, Expected::Absent),
        Change::PutPolicy(policy(n, 1)),
        Change::PutAccessKey(access_key(n), Expected::Absent),
        Change::PutRotation(rotation(n), Expected::Absent),
        Change::PutMount(mount(&format!("mount-{n}"), n, "node-a")),
    ];
    write(store, changes).await.unwrap();
}

/// A rotation and a mount of a secret that is there.
pub fn belongings(epoch: crate::store::Epoch, n: u32) -> Batch {
    let changes = vec![
        Change::PutVersion(version(n, 2)),
        Change::PutRotation(rotation(n), Expected::Absent),
        Change::PutMount(mount(&format!("mount-{n}"), n, "node-a")),
    ];
    Batch { epoch, changes, audit: vec![entry(6, "done")] }
}
