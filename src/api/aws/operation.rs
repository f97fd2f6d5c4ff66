//! The operations that are built: their members, and from those to the keeper's verbs and back.
//! Must not decide who may do what, nor how stages move.

use bytes::Bytes;
use zeroize::Zeroizing;

use super::AwsApi;
use super::error::ApiError;
use super::reply::{CreatedBody, DescriptionBody, MovedBody, PutBody, RandomPasswordBody, ValueBody, json};
use super::shape::{Kind, Member, Members};
use crate::access::Principal;
use crate::keeper::Create;
use crate::secret::{
    Name, NameError, Origin, PasswordRules, Plaintext, SecretId, SecretValue, Stage, VersionId,
};

/// AWS's recovery window for secrets made by the API.
const RECOVERY_WINDOW_DAYS: u8 = 30;

/// AWS allows 20 stages on a version.
const STAGES_MAX: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    CreateSecret,
    DescribeSecret,
    GetSecretValue,
    PutSecretValue,
    UpdateSecretVersionStage,
    GetRandomPassword,
}

const BUILT: [Action; 6] = [
    Action::CreateSecret,
    Action::DescribeSecret,
    Action::GetSecretValue,
    Action::PutSecretValue,
    Action::UpdateSecretVersionStage,
    Action::GetRandomPassword,
];

/// The rest of AWS's model (API version 2017-10-17): known, and not built yet.
const NOT_BUILT: [&str; 20] = [
    "AssociateCrossAccountReplica",
    "BatchGetSecretValue",
    "CancelRotateSecret",
    "DeleteResourcePolicy",
    "DeleteSecret",
    "DisassociateCrossAccountReplica",
    "GetResourcePolicy",
    "ListResourcePolicies",
    "ListSecretVersionIds",
    "ListSecrets",
    "PutResourcePolicy",
    "RemoveRegionsFromReplication",
    "ReplicateSecretToRegions",
    "RestoreSecret",
    "RotateSecret",
    "StopReplicationToReplica",
    "TagResource",
    "UntagResource",
    "UpdateSecret",
    "ValidateResourcePolicy",
];

const SECRET_ID: Member = Member::required("SecretId", Kind::Text { min: 1, max: 2048 });
const STAGE: Kind = Kind::Text { min: 1, max: 256 };
const VERSION_ID: Kind = Kind::Text { min: 32, max: 64 };
const TOKEN: Member = Member::optional("ClientRequestToken", VERSION_ID);
const SECRET_STRING: Member =
    Member::optional("SecretString", Kind::SensitiveText { max: Plaintext::BYTES_MAX });
const SECRET_BINARY: Member =
    Member::optional("SecretBinary", Kind::SensitiveBlob { max: Plaintext::BYTES_MAX });

pub(super) fn in_the_model(name: &str) -> bool {
    NOT_BUILT.contains(&name) || Action::named(name).is_some()
}

impl Action {
    pub(super) fn named(name: &str) -> Option<Self> {
        BUILT.into_iter().find(|action| action.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CreateSecret => "CreateSecret",
            Self::DescribeSecret => "DescribeSecret",
            Self::GetSecretValue => "GetSecretValue",
            Self::PutSecretValue => "PutSecretValue",
            Self::UpdateSecretVersionStage => "UpdateSecretVersionStage",
            Self::GetRandomPassword => "GetRandomPassword",
        }
    }

    pub(super) fn shape(self) -> &'static [Member] {
        const CREATE: &[Member] = &[
            Member::required("Name", Kind::Text { min: 1, max: Name::CHARS_MAX }),
            TOKEN,
            Member::optional("Description", Kind::Text { min: 0, max: 2048 }),
            SECRET_STRING,
            SECRET_BINARY,
            Member::optional("KmsKeyId", Kind::NotBuilt),
            Member::optional("Tags", Kind::NotBuilt),
            Member::optional("AddReplicaRegions", Kind::NotBuilt),
            Member::optional("ForceOverwriteReplicaSecret", Kind::NotBuilt),
            Member::optional("CrossAccountPrimaryARN", Kind::NotBuilt),
            Member::optional("Type", Kind::NotBuilt),
        ];
        const DESCRIBE: &[Member] = &[SECRET_ID];
        const GET: &[Member] =
            &[SECRET_ID, Member::optional("VersionId", VERSION_ID), Member::optional("VersionStage", STAGE)];
        const PUT: &[Member] = &[
            SECRET_ID,
            TOKEN,
            SECRET_STRING,
            SECRET_BINARY,
            Member::optional("VersionStages", Kind::Texts { items_max: STAGES_MAX, chars_max: 256 }),
            // Our rotations prove themselves by their pod, and their events name no such token.
            Member::optional("RotationToken", Kind::NotBuilt),
        ];
        const MOVE: &[Member] = &[
            SECRET_ID,
            Member::required("VersionStage", STAGE),
            Member::optional("RemoveFromVersionId", VERSION_ID),
            Member::optional("MoveToVersionId", VERSION_ID),
        ];
        const RANDOM: &[Member] = &[
            Member::optional("PasswordLength", Kind::Whole { min: 1, max: PasswordRules::LENGTH_MAX as i64 }),
            Member::optional("ExcludeCharacters", Kind::Text { min: 0, max: PasswordRules::EXCLUDED_MAX }),
            Member::optional("ExcludeNumbers", Kind::Flag),
            Member::optional("ExcludePunctuation", Kind::Flag),
            Member::optional("ExcludeUppercase", Kind::Flag),
            Member::optional("ExcludeLowercase", Kind::Flag),
            Member::optional("IncludeSpace", Kind::Flag),
            Member::optional("RequireEachIncludedType", Kind::Flag),
        ];
        match self {
            Self::CreateSecret => CREATE,
            Self::DescribeSecret => DESCRIBE,
            Self::GetSecretValue => GET,
            Self::PutSecretValue => PUT,
            Self::UpdateSecretVersionStage => MOVE,
            Self::GetRandomPassword => RANDOM,
        }
    }

    pub(super) async fn carry_out(
        self,
        api: &AwsApi,
        by: &Principal,
        members: Members,
    ) -> Result<Bytes, ApiError> {
        match self {
            Self::CreateSecret => create(api, by, members).await,
            Self::DescribeSecret => describe(api, by, members).await,
            Self::GetSecretValue => value(api, by, members).await,
            Self::PutSecretValue => put(api, by, members).await,
            Self::UpdateSecretVersionStage => move_stage(api, by, members).await,
            Self::GetRandomPassword => random_password(api, members),
        }
    }
}

async fn create(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let name = Name::parse(&required(&mut members, "Name")?)
        .map_err(|error| ApiError::validation(error.to_string()))?;
    let request = Create {
        name,
        description: members.text("Description"),
        token: token(&mut members)?,
        value: new_value(&mut members)?,
        origin: Origin::Api,
        grants: Vec::new(),
        recovery_window_days: RECOVERY_WINDOW_DAYS,
    };
    let created = api.keeper.create(by, &request).await?;
    written(&CreatedBody::from(&created))
}

async fn describe(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    let found = api.keeper.describe(by, &id).await?;
    written(&DescriptionBody::from(&found))
}

async fn value(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    let version = version_id(&mut members, "VersionId")?;
    let stage = members.text("VersionStage").map(|text| stage(&text)).transpose()?;
    let revealed = api.keeper.value(by, &id, version.as_ref(), stage.as_ref()).await?;
    let body = ValueBody::of(&revealed).ok_or_else(|| {
        tracing::error!(secret = %revealed.arn, "a value that was put as text is not UTF-8");
        ApiError::internal()
    })?;
    written(&body)
}

async fn put(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    let token = token(&mut members)?;
    let value = new_value(&mut members)?
        .ok_or_else(|| ApiError::request("You must provide either SecretString or SecretBinary."))?;
    let stages = match members.texts("VersionStages") {
        Some(texts) => Some(texts.iter().map(|text| stage(text)).collect::<Result<Vec<_>, _>>()?),
        None => None,
    };
    let put = api.keeper.put(by, &id, &token, &value, stages.as_deref()).await?;
    written(&PutBody::from(&put))
}

async fn move_stage(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    let stage = stage(&required(&mut members, "VersionStage")?)?;
    let to = version_id(&mut members, "MoveToVersionId")?;
    let from = version_id(&mut members, "RemoveFromVersionId")?;
    let moved = api.keeper.move_stage(by, &id, &stage, to.as_ref(), from.as_ref()).await?;
    written(&MovedBody::from(&moved))
}

fn random_password(api: &AwsApi, mut members: Members) -> Result<Bytes, ApiError> {
    let default = PasswordRules::default();
    let mut flag = |name, otherwise| members.flag(name).unwrap_or(otherwise);
    let rules = PasswordRules {
        exclude_numbers: flag("ExcludeNumbers", default.exclude_numbers),
        exclude_punctuation: flag("ExcludePunctuation", default.exclude_punctuation),
        exclude_uppercase: flag("ExcludeUppercase", default.exclude_uppercase),
        exclude_lowercase: flag("ExcludeLowercase", default.exclude_lowercase),
        include_space: flag("IncludeSpace", default.include_space),
        require_each_included_type: flag("RequireEachIncludedType", default.require_each_included_type),
        // Within 1 and 4096 by its shape.
        length: members.whole("PasswordLength").map_or(default.length, |n| usize::try_from(n).unwrap_or(0)),
        exclude_characters: members.text("ExcludeCharacters").unwrap_or(default.exclude_characters),
    };
    let password = (api.draw_password)(&rules).map_err(|error| ApiError::parameter(error.to_string()))?;
    let text = std::str::from_utf8(password.expose()).map_err(|_| ApiError::internal())?;
    written(&RandomPasswordBody { random_password: text })
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

fn new_value(members: &mut Members) -> Result<Option<SecretValue>, ApiError> {
    let text = members.sensitive_text("SecretString");
    let binary = members.blob("SecretBinary");
    let take = |mut text: Zeroizing<String>| std::mem::take(&mut *text);
    match (text, binary) {
        (Some(_), Some(_)) => Err(ApiError::parameter(
            "You can't specify both a binary secret value and a string secret value in the same secret.",
        )),
        (Some(text), None) => Ok(Some(SecretValue::string(take(text)))),
        (None, Some(mut bytes)) => Ok(Some(SecretValue::binary(std::mem::take(&mut *bytes)))),
        (None, None) => Ok(None),
    }
}
