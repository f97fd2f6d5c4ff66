//! Create: a secret with its first version, or without one. Must not make values.

use std::collections::BTreeMap;

use super::authorise::{Act, Asked};
use super::commit::After;
use super::configure::check_window;
use super::measure::counted;
use super::sealing::check_size;
use super::tags::check_tags;
use super::{Keeper, KeeperError, Settings, What, said, settle};
use crate::access::{Authorized, Operation, Principal};
use crate::failpoint;
use crate::seal::SystemRandom;
use crate::secret::moves::{Stages, after_put};
use crate::secret::{Arn, ArnParts, Name, Origin, SecretId, SecretValue, Stage, VersionId};
use crate::store::{Change, Expected, GrantRecord, SecretRecord, VersionRecord};

pub struct Create {
    pub name: Name,
    pub description: Option<String>,
    /// The id of the first version; asked for also without a value, as AWS does.
    pub token: VersionId,
    pub value: Option<SecretValue>,
    pub origin: Origin,
    pub grants: Vec<GrantRecord>,
    pub recovery_window_days: u8,
    pub tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    pub arn: Arn,
    pub name: Name,
    /// `None` when the secret has no value yet.
    pub version: Option<VersionId>,
}

impl Keeper {
    /// Makes a secret and its first version in one transaction. The same request again succeeds and changes nothing;
    /// for a custom resource, so does any further request for the same resource.
    pub async fn create(&self, by: &Principal, wanted: &Create) -> Result<Created, KeeperError> {
        let window = check_window(wanted.recovery_window_days)?;
        if let Some(value) = &wanted.value {
            check_size(value)?;
        }
        check_tags(&wanted.tags)?;
        counted(Operation::Create, settle(|| self.create_once(by, wanted, window.days())).await)
    }

    async fn create_once(
        &self,
        by: &Principal,
        wanted: &Create,
        recovery_window_days: u8,
    ) -> Result<Created, KeeperError> {
        let existing = self.ports.store.secret_named(&wanted.name).await?;
        let fresh = existing.is_none();
        let record = existing.unwrap_or_else(|| self.fresh_record(wanted, recovery_window_days));
        let id = SecretId::Name(wanted.name.clone());
        let act = Act { by, operation: Operation::Create, id: &id, version: Some(&wanted.token) };
        let mut said = said::of_description(wanted.description.as_deref());
        said.put("secretsmanager:Name", wanted.name.as_str());
        said::of_tags(&mut said, &wanted.tags);
        let asked = Asked { act, record: &record, stages: &[Stage::current()], said: &said };
        let authorized = match self.right(asked).await? {
            Ok(authorized) => authorized,
            Err(denied) => {
                let known = (!fresh).then_some(&record.arn);
                return Err(self.refused(by, Operation::Create, known, denied).await);
            }
        };
        if !wanted.tags.is_empty() {
            // As with AWS: who makes a secret with tags needs the right to tag it as well.
            let act = Act { operation: Operation::Tag, ..act };
            if let Err(denied) = self.right(Asked { act, stages: &[], ..asked }).await? {
                let known = (!fresh).then_some(&record.arn);
                return Err(self.refused(by, Operation::Tag, known, denied).await);
            }
        }
        match fresh {
            true => self.create_fresh(by, wanted, record).await,
            false => self.create_again(&authorized, wanted, &record).await,
        }
    }

    fn fresh_record(&self, wanted: &Create, recovery_window_days: u8) -> SecretRecord {
        let Settings { region, account, .. } = &self.settings;
        let now = self.now();
        SecretRecord {
            arn: Arn::make(ArnParts { region, account, name: &wanted.name }, &mut SystemRandom),
            name: wanted.name.clone(),
            origin: wanted.origin.clone(),
            description: wanted.description.clone(),
            created_at: now,
            changed_at: now,
            accessed_at: None,
            versions_accessed_at: BTreeMap::new(),
            rotated_at: None,
            stages: Stages::new(),
            grants: wanted.grants.clone(),
            recovery_window_days,
            deletion: None,
            rotation_enabled: None,
            rotation: None,
            tags: (!wanted.tags.is_empty()).then(|| wanted.tags.clone()),
            policy: None,
            revision: 0,
        }
    }

    async fn create_fresh(
        &self,
        by: &Principal,
        wanted: &Create,
        mut record: SecretRecord,
    ) -> Result<Created, KeeperError> {
        let arn = record.arn.clone();
        let mut changes = Vec::new();
        let version = wanted.value.as_ref().map(|_| wanted.token.clone());
        if let Some(value) = &wanted.value {
            record.stages = after_put(&record.stages, &wanted.token, None)?;
            let sealed = Some(self.seal(&arn, &wanted.token, value).await?);
            let (id, created_at) = (wanted.token.clone(), record.created_at);
            changes.push(Change::PutVersion(VersionRecord {
                arn: arn.clone(),
                id,
                created_at,
                kind: value.kind,
                sealed,
            }));
        }
        changes.insert(0, Change::PutSecret(record.clone(), Expected::Absent));
        let audit = self.done(by, Operation::Create, &arn, version.as_ref());
        let name = record.name.clone();
        let mut after = vec![After::Made(record), After::Tell(What::Created)];
        if let Some(version) = &version {
            after.extend([After::Promoted(version.clone()), After::Tell(What::Value)]);
        }
        failpoint::reach("create.before-commit");
        self.commit_then(&arn, changes, audit, after).await?;
        failpoint::reach("create.committed");
        Ok(Created { arn, name, version })
    }

    /// The name is taken: it may be by this very request.
    async fn create_again(
        &self,
        authorized: &Authorized,
        wanted: &Create,
        record: &SecretRecord,
    ) -> Result<Created, KeeperError> {
        if record.deletion.is_some() {
            return Err(KeeperError::NameMarkedForDeletion);
        }
        let (arn, name) = (record.arn.clone(), record.name.clone());
        if same_resource(&record.origin, &wanted.origin) {
            let version = record.stages.get(&Stage::current()).cloned();
            return Ok(Created { arn, name, version });
        }
        let version = self.ports.store.version(&arn, &wanted.token).await?;
        let (Some(version), Some(value)) = (version, &wanted.value) else {
            return Err(KeeperError::Exists(name));
        };
        match self.holds(authorized, &version, value).await? {
            true => Ok(Created { arn, name, version: Some(version.id) }),
            false => Err(KeeperError::TokenInUse { token: wanted.token.clone(), arn }),
        }
    }
}

fn same_resource(one: &Origin, other: &Origin) -> bool {
    match (one, other) {
        (Origin::CustomResource { uid, .. }, Origin::CustomResource { uid: wanted, .. }) => uid == wanted,
        _ => false,
    }
}
