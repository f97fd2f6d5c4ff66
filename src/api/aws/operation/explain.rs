//! Why somebody may or may not: our own operation, from members to the keeper's verb and back. Must not decide.

use bytes::Bytes;
use serde::Serialize;

use super::{required, secret_id, service_account, written};
use crate::access::{Operation, Principal};
use crate::api::aws::AwsApi;
use crate::api::aws::error::ApiError;
use crate::api::aws::shape::Members;
use crate::keeper::Explain;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ExplainedBody<'a> {
    #[serde(rename = "ARN")]
    arn: &'a str,
    name: &'a str,
    decision: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    refusal: &'a str,
    sides: Vec<SideBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SideBody<'a> {
    side: &'static str,
    says: &'a str,
}

pub(super) async fn explain(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    let account = service_account(&mut members, "Principal")?;
    let operation = required(&mut members, "Operation")?;
    let operation = Operation::named(&operation).ok_or_else(|| {
        ApiError::parameter(format!(
            "There is no operation {operation} on a secret; for files write Project."
        ))
    })?;
    let explained = api.keeper.explain(by, &id, &Explain { account, operation }).await?;
    let decision = match explained.allowed {
        Some(true) => "Allowed",
        Some(false) => "Denied",
        None => "Unknown",
    };
    let sides = explained.sides.iter().map(|(side, says)| SideBody { side, says }).collect();
    let (arn, name, refusal) = (explained.arn.as_str(), explained.name.as_str(), explained.refusal.as_str());
    written(&ExplainedBody { arn, name, decision, refusal, sides })
}
