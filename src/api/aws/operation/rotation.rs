//! RotateSecret and CancelRotateSecret: from members to the keeper's verbs and back. Must not decide when a secret
//! rotates, nor what rotates it.

use bytes::Bytes;

use super::{secret_id, version_id, written};
use crate::access::Principal;
use crate::api::aws::AwsApi;
use crate::api::aws::error::ApiError;
use crate::api::aws::reply::RotatingBody;
use crate::api::aws::shape::Members;
use crate::keeper::{Rotate, RotationRules};

pub(super) async fn rotate(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    // Another kind of error than for other operations (recorded).
    let token = version_id(&mut members, "ClientRequestToken")?.ok_or_else(|| {
        ApiError::parameter("You must provide a ClientRequestToken value. We recommend a UUID-type value.")
    })?;
    let wanted = Rotate {
        token,
        rotator: members.text("RotationLambdaARN").filter(|given| !given.is_empty()),
        rules: members
            .structure("RotationRules")
            .map(rules)
            .filter(|rules| *rules != RotationRules::default()),
        immediately: members.flag("RotateImmediately").unwrap_or(true),
    };
    let rotating = api.keeper.rotate_secret(by, &id, &wanted).await?;
    written(&RotatingBody::from(&rotating))
}

pub(super) async fn cancel(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    let rotating = api.keeper.cancel_rotation(by, &id).await?;
    written(&RotatingBody::from(&rotating))
}

fn rules(mut given: Members) -> RotationRules {
    RotationRules {
        automatically_after_days: given.whole("AutomaticallyAfterDays"),
        schedule_expression: given.text("ScheduleExpression"),
        duration: given.text("Duration"),
    }
}
