//! Values and their stages: from members to the keeper's verbs and back. Must not keep a copy of a value.

use bytes::Bytes;
use zeroize::Zeroizing;

use super::{required, secret_id, stage, token, version_id, written};
use crate::access::Principal;
use crate::api::aws::AwsApi;
use crate::api::aws::error::ApiError;
use crate::api::aws::reply::{MovedBody, PutBody, RandomPasswordBody, ValueBody};
use crate::api::aws::shape::Members;
use crate::secret::{PasswordRules, SecretValue};

pub(super) async fn value(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
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

pub(super) async fn put(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
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

pub(super) async fn move_stage(
    api: &AwsApi,
    by: &Principal,
    mut members: Members,
) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    let stage = stage(&required(&mut members, "VersionStage")?)?;
    let to = version_id(&mut members, "MoveToVersionId")?;
    let from = version_id(&mut members, "RemoveFromVersionId")?;
    let moved = api.keeper.move_stage(by, &id, &stage, to.as_ref(), from.as_ref()).await?;
    written(&MovedBody::from(&moved))
}

pub(super) fn random_password(api: &AwsApi, mut members: Members) -> Result<Bytes, ApiError> {
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

pub(super) fn new_value(members: &mut Members) -> Result<Option<SecretValue>, ApiError> {
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
