//! Secrets without their values: from members to the keeper's verbs and back. Must not decide who owns what.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::value::new_value;
use super::{required, secret_id, token, written};
use crate::access::Principal;
use crate::api::aws::AwsApi;
use crate::api::aws::error::ApiError;
use crate::api::aws::reply::{CreatedBody, DeletedBody, DescriptionBody, Nothing, RestoredBody, UpdatedBody};
use crate::api::aws::shape::Members;
use crate::keeper::{Create, DeletionMode, Restoration, Tagged, Update};
use crate::secret::{Name, Origin, RecoveryWindow};

/// AWS's recovery window for secrets made by the API.
const RECOVERY_WINDOW_DAYS: u8 = 30;

pub(super) async fn create(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
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
        tags: tags(&mut members)?,
    };
    let created = api.keeper.create(by, &request).await?;
    written(&CreatedBody::from(&created))
}

pub(super) async fn describe(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    let found = api.keeper.describe(by, &id).await?;
    written(&DescriptionBody::from(&found))
}

pub(super) async fn update(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    let request = Update {
        description: members.text("Description"),
        token: token(&mut members)?,
        value: new_value(&mut members)?,
    };
    let updated = api.keeper.update(by, &id, &request).await?;
    written(&UpdatedBody::from(&updated))
}

pub(super) async fn delete(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    let days = members.whole("RecoveryWindowInDays");
    let mode = match (members.flag("ForceDeleteWithoutRecovery").unwrap_or(false), days) {
        (true, Some(_)) => {
            return Err(ApiError::parameter(
                "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.",
            ));
        }
        (true, None) => DeletionMode::Force,
        (false, None) => DeletionMode::OwnWindow,
        (false, Some(days)) => {
            let window = RecoveryWindow::from_days(days);
            DeletionMode::Days(window.map_err(|error| ApiError::parameter(error.to_string()))?.days())
        }
    };
    let scheduled = api.keeper.schedule_deletion(by, &id, mode).await?;
    written(&DeletedBody::from(&scheduled))
}

pub(super) async fn restore(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    let restored = api.keeper.restore(by, &id, Restoration::Caller).await?;
    written(&RestoredBody::from(&restored))
}

pub(super) async fn tag(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    api.keeper.tag(by, &id, &Tagged::Set(tags(&mut members)?)).await?;
    written(&Nothing {})
}

pub(super) async fn untag(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = secret_id(&mut members)?;
    let keys = members.texts("TagKeys").unwrap_or_default();
    api.keeper.tag(by, &id, &Tagged::Removed(keys)).await?;
    written(&Nothing {})
}

/// Of two tags with one key the later counts.
fn tags(members: &mut Members) -> Result<BTreeMap<String, String>, ApiError> {
    let mut tags = BTreeMap::new();
    for mut tag in members.structures("Tags").unwrap_or_default() {
        let key = tag.text("Key").ok_or_else(|| ApiError::parameter("Each tag needs a Key."))?;
        tags.insert(key, tag.text("Value").unwrap_or_default());
    }
    Ok(tags)
}
