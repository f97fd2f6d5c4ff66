//! Looking: what a decision about a ManagedSecret rests on. Must not change anything.

use std::sync::Arc;

use kube::ResourceExt;

use super::Context;
use super::decide::Identity;
use crate::access::Principal;
use crate::crd::{Desired, ManagedSecret, Readable, SpecError};
use crate::keeper::{Description, KeeperError};
use crate::secret::{Arn, Name, Origin, SecretId};

/// Why a look was not complete.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    #[error("the namespace {namespace} could not be read: {source}")]
    Namespace { namespace: String, source: Arc<kube::Error> },
    #[error("the object has no {0}")]
    NoIdentity(&'static str),
    #[error("the secret could not be read: {0}")]
    Keeper(#[from] KeeperError),
}

/// What was seen, owned; `decide` borrows from it.
pub struct Seen {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub namespace_uid: String,
    pub desired: Result<Desired, SpecError>,
    pub named: Option<Description>,
    /// This resource's secret under another name.
    pub elsewhere: Option<Description>,
}

impl Seen {
    pub fn identity(&self) -> Identity<'_> {
        let Self { namespace, name, uid, namespace_uid, .. } = self;
        Identity { namespace, name, uid, namespace_uid }
    }

    /// The resource's own secret: made by it, and by nobody else of its name before or after.
    pub fn own(&self) -> Option<&Description> {
        let found = self.elsewhere.as_ref().or(self.named.as_ref())?;
        is_of(found, &self.uid).then_some(found)
    }
}

pub async fn observe(context: &Context, read: &Readable<ManagedSecret>) -> Result<Seen, ObserveError> {
    let object = &read.object;
    let namespace = object.namespace().ok_or(ObserveError::NoIdentity("namespace"))?;
    let uid = object.uid().ok_or(ObserveError::NoIdentity("UID"))?;
    let name = object.name_any();
    let desired = match &read.unread {
        Some(unread) => Err(SpecError::Unread(unread.clone())),
        None => Desired::try_from(object),
    };
    let named = match &desired {
        Ok(desired) => by_name(context, &desired.name).await?,
        Err(_) => None,
    };
    let mut elsewhere = None;
    if !named.as_ref().is_some_and(|secret| is_of(secret, &uid))
        && let Some(arn) = context.ports.keeper.secret_of_resource(&namespace, &name)
    {
        elsewhere = describe(context, &arn)
            .await?
            .filter(|secret| is_of(secret, &uid) && named.as_ref().is_none_or(|n| n.arn != secret.arn));
    }
    // Whose namespace it is matters only when a secret is made or comes back.
    let settled = named.as_ref().is_some_and(|secret| is_of(secret, &uid) && secret.deletion.is_none());
    let namespace_uid = if settled { String::new() } else { namespace_uid(context, &namespace).await? };
    Ok(Seen { namespace, name, uid, namespace_uid, desired, named, elsewhere })
}

/// The secret of this ARN; `None` when there is none.
pub async fn describe(context: &Context, arn: &Arn) -> Result<Option<Description>, KeeperError> {
    found(context.ports.keeper.describe(&Principal::Controller, &SecretId::Arn(arn.to_string())).await)
}

async fn by_name(context: &Context, name: &Name) -> Result<Option<Description>, KeeperError> {
    found(context.ports.keeper.describe(&Principal::Controller, &SecretId::Name(name.clone())).await)
}

fn found(answer: Result<Description, KeeperError>) -> Result<Option<Description>, KeeperError> {
    match answer {
        Ok(description) => Ok(Some(description)),
        Err(KeeperError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_of(secret: &Description, resource_uid: &str) -> bool {
    matches!(&secret.origin, Origin::CustomResource { uid, .. } if uid == resource_uid)
}

async fn namespace_uid(context: &Context, namespace: &str) -> Result<String, ObserveError> {
    match context.namespaces.uid(namespace).await {
        Ok(found) => found.ok_or(ObserveError::NoIdentity("namespace UID")),
        Err(source) => Err(ObserveError::Namespace { namespace: namespace.to_owned(), source }),
    }
}
