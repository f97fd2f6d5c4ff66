//! The operations: which of the model's are built, and which part of the keeper each is for.
//! Must not decide who may do what, nor how stages move.

mod access_key;
mod explain;
mod listing;
mod policy;
mod rotation;
mod secret;
mod value;

use bytes::Bytes;

use super::AwsApi;
use super::error::ApiError;
use super::model::{self, Member};
use super::reply::json;
use super::shape::{self, Members};
use crate::access::{Principal, ServiceAccount};
use crate::secret::{NameError, SecretId, Stage, VersionId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    BatchGetSecretValue,
    CancelRotateSecret,
    CreateSecret,
    DeleteResourcePolicy,
    DeleteSecret,
    DescribeSecret,
    GetRandomPassword,
    GetResourcePolicy,
    GetSecretValue,
    ListResourcePolicies,
    ListSecretVersionIds,
    ListSecrets,
    PutResourcePolicy,
    PutSecretValue,
    RestoreSecret,
    RotateSecret,
    TagResource,
    UntagResource,
    UpdateSecret,
    UpdateSecretVersionStage,
    ValidateResourcePolicy,
    AssociateCrossAccountReplica,
    DisassociateCrossAccountReplica,
    RemoveRegionsFromReplication,
    ReplicateSecretToRegions,
    StopReplicationToReplica,
    // Our own.
    CreateAccessKey,
    ExplainAccess,
    ListAccessKeys,
    RevokeAccessKey,
}

pub(super) const BUILT: [(&str, Action); 26] = [
    ("BatchGetSecretValue", Action::BatchGetSecretValue),
    ("CancelRotateSecret", Action::CancelRotateSecret),
    ("CreateSecret", Action::CreateSecret),
    ("DeleteResourcePolicy", Action::DeleteResourcePolicy),
    ("DeleteSecret", Action::DeleteSecret),
    ("DescribeSecret", Action::DescribeSecret),
    ("GetRandomPassword", Action::GetRandomPassword),
    ("GetResourcePolicy", Action::GetResourcePolicy),
    ("GetSecretValue", Action::GetSecretValue),
    ("ListResourcePolicies", Action::ListResourcePolicies),
    ("ListSecretVersionIds", Action::ListSecretVersionIds),
    ("ListSecrets", Action::ListSecrets),
    ("PutResourcePolicy", Action::PutResourcePolicy),
    ("PutSecretValue", Action::PutSecretValue),
    ("RestoreSecret", Action::RestoreSecret),
    ("RotateSecret", Action::RotateSecret),
    ("TagResource", Action::TagResource),
    ("UntagResource", Action::UntagResource),
    ("UpdateSecret", Action::UpdateSecret),
    ("UpdateSecretVersionStage", Action::UpdateSecretVersionStage),
    ("ValidateResourcePolicy", Action::ValidateResourcePolicy),
    ("AssociateCrossAccountReplica", Action::AssociateCrossAccountReplica),
    ("DisassociateCrossAccountReplica", Action::DisassociateCrossAccountReplica),
    ("RemoveRegionsFromReplication", Action::RemoveRegionsFromReplication),
    ("ReplicateSecretToRegions", Action::ReplicateSecretToRegions),
    ("StopReplicationToReplica", Action::StopReplicationToReplica),
];

/// What the targets of our own operations begin with: AWS's namespace stays AWS's.
const OUR_OWN: &str = "tidelock.";

const OWN: [(&str, Action, &[Member]); 4] = [
    ("CreateAccessKey", Action::CreateAccessKey, model::CREATE_ACCESS_KEY),
    ("ExplainAccess", Action::ExplainAccess, model::EXPLAIN_ACCESS),
    ("ListAccessKeys", Action::ListAccessKeys, model::LIST_ACCESS_KEYS),
    ("RevokeAccessKey", Action::RevokeAccessKey, model::REVOKE_ACCESS_KEY),
];

impl Action {
    /// By the whole of a header `X-Amz-Target`, if it is one of our own.
    pub(super) fn of_our_own(target: &str) -> Option<Self> {
        let name = target.strip_prefix(OUR_OWN)?;
        OWN.into_iter().find(|(known, _, _)| *known == name).map(|(_, action, _)| action)
    }

    fn own(self) -> Option<(&'static str, Self, &'static [Member])> {
        OWN.into_iter().find(|(_, action, _)| *action == self)
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        BUILT.into_iter().find(|(known, _)| *known == name).map(|(_, action)| action)
    }

    pub(super) fn name(self) -> &'static str {
        BUILT
            .into_iter()
            .find(|(_, action)| *action == self)
            .map(|(name, _)| name)
            .or(self.own().map(|(name, ..)| name))
            .unwrap_or_default()
    }

    /// The request's members, checked against the model.
    pub(super) fn members(self, body: &[u8]) -> Result<Members, ApiError> {
        let shape = self.own().map_or_else(|| model::members_of(self.name()), |(_, _, members)| members);
        shape::members(body, shape, self.not_built())
    }

    /// Members of the model that nothing here can do justice to: refused rather than ignored.
    pub(super) fn not_built(self) -> &'static [&'static str] {
        match self {
            Self::CreateSecret => &[
                "AddReplicaRegions",
                "CrossAccountPrimaryARN",
                "ForceOverwriteReplicaSecret",
                "KmsKeyId",
                "Type",
            ],
            Self::UpdateSecret => &["KmsKeyId", "Type"],
            // Our rotations prove themselves by their pod, and their events name no such token.
            Self::PutSecretValue => &["RotationToken"],
            // For the rotators that AWS itself runs at others' services.
            Self::RotateSecret => &["ExternalSecretRotationMetadata", "ExternalSecretRotationRoleArn"],
            _ => &[],
        }
    }

    pub(super) async fn carry_out(
        self,
        api: &AwsApi,
        by: &Principal,
        members: Members,
    ) -> Result<Bytes, ApiError> {
        match self {
            Self::BatchGetSecretValue => listing::batch(api, by, members).await,
            Self::CancelRotateSecret => rotation::cancel(api, by, members).await,
            Self::CreateAccessKey => access_key::create(api, by, members).await,
            Self::CreateSecret => secret::create(api, by, members).await,
            Self::DeleteResourcePolicy => policy::delete(api, by, members).await,
            Self::DeleteSecret => secret::delete(api, by, members).await,
            Self::DescribeSecret => secret::describe(api, by, members).await,
            Self::ExplainAccess => explain::explain(api, by, members).await,
            Self::GetRandomPassword => value::random_password(api, members),
            Self::GetResourcePolicy => policy::read(api, by, members).await,
            Self::GetSecretValue => value::value(api, by, members).await,
            Self::ListAccessKeys => access_key::list(api, by, members).await,
            Self::ListResourcePolicies => policy::list(api, by, members).await,
            Self::ListSecretVersionIds => listing::versions(api, by, members).await,
            Self::ListSecrets => listing::secrets(api, by, members).await,
            Self::PutResourcePolicy => policy::put(api, by, members).await,
            Self::PutSecretValue => value::put(api, by, members).await,
            Self::RestoreSecret => secret::restore(api, by, members).await,
            Self::RevokeAccessKey => access_key::revoke(api, by, members).await,
            Self::RotateSecret => rotation::rotate(api, by, members).await,
            Self::TagResource => secret::tag(api, by, members).await,
            Self::UntagResource => secret::untag(api, by, members).await,
            Self::UpdateSecret => secret::update(api, by, members).await,
            Self::UpdateSecretVersionStage => value::move_stage(api, by, members).await,
            Self::ValidateResourcePolicy => policy::validate(api, by, members).await,
            // Answered before any secret is looked for: it says nothing of one.
            Self::RemoveRegionsFromReplication
            | Self::ReplicateSecretToRegions
            | Self::StopReplicationToReplica => {
                Err(ApiError::request("Replication is not supported by this version of Tidelock."))
            }
            Self::AssociateCrossAccountReplica | Self::DisassociateCrossAccountReplica => {
                Err(ApiError::request(
                    "Replication across accounts is not supported by this version of Tidelock.",
                ))
            }
        }
    }
}

/// A ServiceAccount as people write it, or as Kubernetes does.
fn service_account(members: &mut Members, name: &'static str) -> Result<ServiceAccount, ApiError> {
    let text = required(members, name)?;
    ServiceAccount::read(&text)
        .ok_or_else(|| ApiError::parameter(format!("The {name} is a ServiceAccount: <namespace>/<name>.")))
}

fn written(body: &impl serde::Serialize) -> Result<Bytes, ApiError> {
    json(body).map_err(|_| ApiError::internal())
}

fn required(members: &mut Members, name: &'static str) -> Result<String, ApiError> {
    // Its shape demands it; if that is ever loosened, the caller hears what is missing.
    members.text(name).ok_or_else(|| ApiError::parameter(format!("The parameter {name} is required.")))
}

fn secret_id(members: &mut Members) -> Result<SecretId, ApiError> {
    SecretId::parse(&required(members, "SecretId")?)
        .map_err(|_| ApiError::validation(NameError::Characters.to_string()))
}

/// SDKs fill the token in; who speaks HTTP by hand has to (recorded).
fn token(members: &mut Members) -> Result<VersionId, ApiError> {
    version_id(members, "ClientRequestToken")?.ok_or_else(|| {
        ApiError::request("You must provide a ClientRequestToken value. We recommend a UUID-type value.")
    })
}

fn version_id(members: &mut Members, name: &'static str) -> Result<Option<VersionId>, ApiError> {
    let parsed = members.text(name).map(|text| VersionId::parse(&text)).transpose();
    parsed.map_err(|error| ApiError::parameter(format!("The parameter {name} is not valid: {error}.")))
}

fn stage(text: &str) -> Result<Stage, ApiError> {
    Stage::parse(text)
        .map_err(|error| ApiError::parameter(format!("The staging label is not valid: {error}.")))
}
