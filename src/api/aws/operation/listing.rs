//! Lists in pages: secrets, the versions of one, the values of several. Must not decide what a caller may see.

use bytes::Bytes;

use super::{required, secret_id, written};
use crate::access::Principal;
use crate::api::aws::AwsApi;
use crate::api::aws::error::ApiError;
use crate::api::aws::page::Place;
use crate::api::aws::reply::{BatchBody, BatchError, SecretsBody, ValueBody, VersionsBody};
use crate::api::aws::shape::Members;
use crate::keeper::{Listing, Mark, SortBy};
use crate::secret::filter::{Filter, FilterKey};
use crate::secret::{Name, NameError, SecretId, VersionId};

/// AWS's largest pages, which are also the default.
const PAGE: i64 = 100;
const BATCH: i64 = 20;

pub(super) async fn secrets(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    let sort = members.text("SortBy").unwrap_or_else(|| "created-date".to_owned());
    let descending = members.text("SortOrder").as_deref() == Some("desc");
    let order = format!("{sort} {}", if descending { "desc" } else { "asc" });
    let listing = Listing {
        filters: filters(&mut members)?,
        deleted: members.flag("IncludePlannedDeletion").unwrap_or(false),
        sort_by: match sort.as_str() {
            "last-accessed-date" => SortBy::Accessed,
            "last-changed-date" => SortBy::Changed,
            "name" => SortBy::Name,
            _ => SortBy::Created,
        },
        descending,
        after: after(&mut members, "ListSecrets", &order)?,
        limit: limit(&mut members, PAGE),
    };
    let listed = api.keeper.list(by, &listing).await?;
    let next = listed.next.as_ref().map(|mark| token("ListSecrets", &order, mark));
    written(&SecretsBody::of(&listed, next))
}

pub(super) async fn versions(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    const OPERATION: &str = "ListSecretVersionIds";
    let id = secret_id(&mut members)?;
    let deprecated = members.flag("IncludeDeprecated").unwrap_or(false);
    let after = match members.text("NextToken") {
        Some(token) => {
            let place = Place::read(&token, OPERATION, "")?;
            let version = VersionId::parse(&place.last).map_err(|_| Place::invalid())?;
            Some((place.at.ok_or_else(Place::invalid)?, version))
        }
        None => None,
    };
    let limit = limit(&mut members, PAGE);
    let mut found = api.keeper.versions(by, &id).await?;
    found.versions.retain(|version| {
        (deprecated || !version.stages.is_empty())
            && after.as_ref().is_none_or(|after| (version.created_at, &version.id) > (after.0, &after.1))
    });
    let more = found.versions.len() > limit;
    found.versions.truncate(limit);
    let next = found
        .versions
        .last()
        .filter(|_| more)
        .map(|last| Place { at: Some(last.created_at), last: last.id.to_string() }.token(OPERATION, ""));
    written(&VersionsBody::of(&found, next))
}

pub(super) async fn batch(api: &AwsApi, by: &Principal, mut members: Members) -> Result<Bytes, ApiError> {
    const OPERATION: &str = "BatchGetSecretValue";
    let listed = members.texts("SecretIdList");
    let filters = filters(&mut members)?;
    let most = members.whole("MaxResults");
    let after = after(&mut members, OPERATION, "")?;
    if listed.is_some() != filters.is_empty() {
        return Err(ApiError::parameter(
            "Either 'SecretIdList' or 'Filters' must be provided, but not both.",
        ));
    }
    let Some(listed) = listed else {
        let limit = usize::try_from(most.unwrap_or(BATCH)).unwrap_or_default();
        let (sort_by, descending) = (SortBy::Created, false);
        let listing = Listing { filters, deleted: false, sort_by, descending, after, limit };
        let found = api.keeper.list(by, &listing).await?;
        let ids = found
            .secrets
            .iter()
            .map(|secret| (secret.name.to_string(), Ok(SecretId::Name(secret.name.clone()))));
        let next = found.next.as_ref().map(|mark| token(OPERATION, "", mark));
        return values(api, by, ids.collect(), next).await;
    };
    if most.is_some() || after.is_some() {
        return Err(ApiError::parameter(
            "'Filters' not specified. 'Filters' must also be specified when 'MaxResults' or 'NextToken' is provided.",
        ));
    }
    let ids = listed.into_iter().map(|text| {
        let id = SecretId::parse(&text);
        (text, id)
    });
    values(api, by, ids.collect(), None).await
}

/// Each secret by the words that the caller named it with.
async fn values(
    api: &AwsApi,
    by: &Principal,
    asked: Vec<(String, Result<SecretId, NameError>)>,
    next: Option<String>,
) -> Result<Bytes, ApiError> {
    let ids: Vec<_> = asked.iter().filter_map(|(_, id)| id.clone().ok()).collect();
    let mut read = api.keeper.values(by, &ids).await?.into_iter();
    let (mut revealed, mut errors) = (Vec::new(), Vec::new());
    for (secret_id, id) in asked {
        let outcome = match id {
            Err(error) => Err(ApiError::parameter(error.to_string())),
            Ok(_) => match read.next() {
                Some(outcome) => outcome.map_err(ApiError::from),
                None => Err(ApiError::internal()),
            },
        };
        match outcome {
            Ok(value) => revealed.push(value),
            Err(error) => errors.push(BatchError::of(secret_id, error)),
        }
    }
    let secret_values = revealed.iter().map(ValueBody::of).collect::<Option<Vec<_>>>();
    let secret_values = secret_values.ok_or_else(ApiError::internal)?;
    written(&BatchBody { secret_values, errors, next_token: next })
}

fn filters(members: &mut Members) -> Result<Vec<Filter>, ApiError> {
    let mut filters = Vec::new();
    for mut given in members.structures("Filters").unwrap_or_default() {
        let key = required(&mut given, "Key")?;
        let key = FilterKey::parse(&key).ok_or_else(|| ApiError::parameter("Invalid filter key"))?;
        let values = given.texts("Values");
        let values = values.ok_or_else(|| ApiError::parameter("The parameter Values is required."))?;
        filters.push(Filter { key, values });
    }
    Ok(filters)
}

fn after(members: &mut Members, operation: &str, order: &str) -> Result<Option<Mark>, ApiError> {
    let Some(token) = members.text("NextToken") else { return Ok(None) };
    let place = Place::read(&token, operation, order)?;
    let name = Name::parse(&place.last).map_err(|_| Place::invalid())?;
    Ok(Some(Mark { at: place.at, name }))
}

fn token(operation: &str, order: &str, mark: &Mark) -> String {
    Place { at: mark.at, last: mark.name.to_string() }.token(operation, order)
}

/// Within the model's limits by its shape.
fn limit(members: &mut Members, otherwise: i64) -> usize {
    usize::try_from(members.whole("MaxResults").unwrap_or(otherwise)).unwrap_or_default()
}
