//! Access keys: our own operations, from members to the keeper's verbs and back. Must not decide, nor show a secret but
//! in the one answer that it is made for.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{required, service_account, written};
use crate::access::Principal;
use crate::api::aws::AwsApi;
use crate::api::aws::error::ApiError;
use crate::api::aws::shape::Members;
use crate::keeper::{CreateAccessKey, ListedAccessKey};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CreatedBody<'a> {
    access_key_id: &'a str,
    secret_access_key: &'a str,
    service_account: String,
    created: String,
    expires: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListedBody {
    access_keys: Vec<KeyBody>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct KeyBody {
    access_key_id: String,
    service_account: String,
    created: String,
    expires: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RevokedBody<'a> {
    access_key_id: &'a str,
    service_account: String,
}

pub(super) async fn create(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let account = service_account(&mut members, "ServiceAccount")?;
    let lasts = members.whole("ExpiresInSeconds").map(SignedDuration::from_secs);
    let created = api.keeper.create_access_key(by, &CreateAccessKey { account, lasts }).await?;
    written(&CreatedBody {
        access_key_id: &created.key.id,
        secret_access_key: &created.key.secret,
        service_account: created.account.to_string(),
        created: told(created.created_at),
        expires: told(created.expires_at),
    })
}

pub(super) async fn list(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let namespace = required(&mut members, "Namespace")?;
    let listed = api.keeper.list_access_keys(by, &namespace).await?;
    written(&ListedBody { access_keys: listed.into_iter().map(KeyBody::from).collect() })
}

pub(super) async fn revoke(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let id = required(&mut members, "AccessKeyId")?;
    let account = api.keeper.revoke_access_key(by, &id).await?;
    written(&RevokedBody { access_key_id: &id, service_account: account.to_string() })
}

impl From<ListedAccessKey> for KeyBody {
    fn from(key: ListedAccessKey) -> Self {
        Self {
            access_key_id: key.id,
            service_account: key.account.to_string(),
            created: told(key.created_at),
            expires: told(key.expires_at),
            last_used: key.used_at.map(told),
        }
    }
}

/// In whole seconds, as people read it.
fn told(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
