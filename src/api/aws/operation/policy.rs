//! Resource policies, of which there is none yet: from members to the keeper's verb and back. Must not take one.

use bytes::Bytes;

use super::{secret_id, written};
use crate::access::Principal;
use crate::api::aws::AwsApi;
use crate::api::aws::error::ApiError;
use crate::api::aws::page::Place;
use crate::api::aws::reply::{PoliciesBody, PolicyBody};
use crate::api::aws::shape::Members;
use crate::keeper::PolicyAct;

/// The one name that AWS lets a policy have.
const DEFAULT: &str = "default";

pub(super) async fn read(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    let name = members.text("PolicyName").unwrap_or_else(|| DEFAULT.to_owned());
    let found = api.keeper.policy(by, &id, PolicyAct::Read).await?;
    if name != DEFAULT {
        return Err(ApiError::new(
            "ResourceNotFoundException",
            "Secrets Manager can't find the specified resource policy.",
        ));
    }
    written(&PolicyBody::of(&found, &name))
}

pub(super) async fn list(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    api.keeper.policy(by, &id, PolicyAct::List).await?;
    // No page was ever given out.
    if members.text("NextToken").is_some() {
        return Err(Place::invalid());
    }
    written(&PoliciesBody { resource_policies: [] })
}

pub(super) async fn delete(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    let name = members.text("PolicyName").unwrap_or_else(|| DEFAULT.to_owned());
    if name != DEFAULT {
        return Err(ApiError::parameter(format!(
            "The PolicyName {name} is not valid: it can only be {DEFAULT}."
        )));
    }
    let found = api.keeper.policy(by, &id, PolicyAct::Delete).await?;
    written(&PolicyBody::of(&found, &name))
}
