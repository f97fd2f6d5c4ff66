//! Resource policies: from members to the keeper's verbs and back. Must not read one itself.

use bytes::Bytes;

use super::{required, secret_id, written};
use crate::access::Principal;
use crate::api::aws::AwsApi;
use crate::api::aws::error::ApiError;
use crate::api::aws::page::Place;
use crate::api::aws::reply::{PoliciesBody, PolicyBody, ValidationBody};
use crate::api::aws::shape::Members;
use crate::keeper::PolicyLook;
use crate::secret::{NameError, SecretId};

/// The one name that AWS lets a policy have.
const DEFAULT: &str = "default";

pub(super) async fn read(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    let name = members.text("PolicyName").unwrap_or_else(|| DEFAULT.to_owned());
    let found = api.keeper.policy(by, &id, PolicyLook::Read).await?;
    if name != DEFAULT {
        return Err(ApiError::new(
            "ResourceNotFoundException",
            "Secrets Manager can't find the specified resource policy.",
        ));
    }
    written(&PolicyBody::read(&found, &name))
}

pub(super) async fn list(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    let found = api.keeper.policy(by, &id, PolicyLook::List).await?;
    // No page was ever given out.
    if members.text("NextToken").is_some() {
        return Err(Place::invalid());
    }
    written(&PoliciesBody::of(found.text.iter().map(|_| DEFAULT)))
}

pub(super) async fn put(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    let name = only_default(&mut members)?;
    let text = required(&mut members, "ResourcePolicy")?;
    let block_public = members.flag("BlockPublicPolicy");
    let put = api.keeper.put_policy(by, &id, &text, block_public).await?;
    written(&PolicyBody::named(&put, &name))
}

pub(super) async fn delete(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    let name = only_default(&mut members)?;
    let found = api.keeper.delete_policy(by, &id).await?;
    written(&PolicyBody::named(&found, &name))
}

pub(super) async fn validate(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = members.text("SecretId").map(|text| {
        SecretId::parse(&text).map_err(|_| ApiError::validation(NameError::Characters.to_string()))
    });
    let id = id.transpose()?;
    let text = required(&mut members, "ResourcePolicy")?;
    let objections = api.keeper.validate_policy(by, id.as_ref(), &text).await?;
    written(&ValidationBody::of(&objections))
}

fn only_default(members: &mut Members) -> Result<String, ApiError> {
    let name = members.text("PolicyName").unwrap_or_else(|| DEFAULT.to_owned());
    if name == DEFAULT {
        return Ok(name);
    }
    Err(ApiError::parameter(format!("The PolicyName {name} is not valid: it can only be {DEFAULT}.")))
}
