//! Looks for secrets whose ManagedSecret is gone, and for those whose recovery window is over. Must not act on one
//! listing, nor on an event, nor on the local copy: before anything goes it reads everything twice, and lets `vanished`
//! judge. The local copy only says that there is nothing to ask about: while it has every resource, none is missed.

mod approval;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Namespace, ObjectReference};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, CustomResourceExt, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::vanished::{self, Kept, Listing, Place};
use crate::access::Principal;
use crate::cluster::EventKind;
use crate::crd::reasons::Reason;
use crate::crd::{ManagedSecret, Readable, condition};
use crate::failpoint;
use crate::keeper::{DeletionMode, KeeperError};
use crate::secret::{Arn, Name, Origin, SecretId};

/// Between the two looks: longer than a cache of the API server is behind, short for who waits.
const CONFIRM_AFTER: Duration = Duration::from_secs(1);
/// After a look that failed.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// While somebody is asked: he waits for what follows from his answer.
const ASKED_AGAIN: Duration = Duration::from_secs(10);
/// Deletions within this time count as one.
const AT_ONCE: SignedDuration = SignedDuration::from_mins(10);
const PAGE: u32 = 500;
/// Of so many looks one asks the cluster whatever the local copy says: a copy that is behind may show what is gone.
const LOOKS_PER_LISTING: u32 = 10;

/// What the watch has seen of all ManagedSecrets.
type Local = Store<Readable<ManagedSecret>>;

/// Knows where the secrets were made: recorded beside them, so that it is lost only with them.
#[async_trait]
pub trait Anchor: Send + Sync {
    async fn recorded(&self) -> Result<Place, AnchorError>;
    async fn record(&self, place: &Place) -> Result<(), AnchorError>;
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AnchorError(pub String);

#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error("{what} could not be listed: {source}")]
    Unlisted { what: &'static str, source: Box<kube::Error> },
    #[error("the cluster shows no namespace kube-system, or no UID of it")]
    NoCluster,
    #[error("where the secrets were made could not be read or written: {0}")]
    Anchor(#[from] AnchorError),
    #[error(transparent)]
    Keeper(#[from] KeeperError),
}

pub(super) async fn run(
    context: Arc<Context>,
    local: Local,
    look_again: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut wait = Duration::ZERO;
    let mut looks_until_listing = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = look_again.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
        let relist_every = context.settings.relist_every;
        let listing_is_due = looks_until_listing == 0;
        (wait, looks_until_listing) = match sweep(&context, &local, listing_is_due).await {
            Ok(Looked::Held) => (ASKED_AGAIN.min(relist_every), 0),
            Ok(Looked::Listed) => (relist_every, LOOKS_PER_LISTING),
            Ok(Looked::NothingMissing) => (relist_every, looks_until_listing - 1),
            Err(error) => {
                tracing::warn!(%error, "secrets without a ManagedSecret could not be looked for");
                (TRY_AGAIN, 0)
            }
        };
    }
}

/// How a look ended.
enum Looked {
    /// The local copy has the resource of every secret: the cluster was not asked.
    NothingMissing,
    Listed,
    /// Deletions wait for somebody's answer.
    Held,
}

async fn sweep(context: &Context, local: &Local, listing_is_due: bool) -> Result<Looked, SweepError> {
    context.ports.keeper.purge_due().await?;
    context.ports.keeper.purge_access_keys().await?;
    // The secrets are read first: whoever made one had its resource at that time, and so both looks come after.
    let (kept, recent) = inventory(context).await?;
    if !listing_is_due && kept.iter().all(|secret| is_in(local, secret)) {
        return Ok(Looked::NothingMissing);
    }
    let first = look(context).await?;
    let recorded = context.ports.anchor.recorded().await?;
    if kept.iter().all(|secret| first.resources.contains(&secret.key)) {
        approval::withdraw(context).await;
        settle(context, &recorded, &first.place).await?;
        return Ok(Looked::Listed);
    }
    tokio::time::sleep(CONFIRM_AFTER).await;
    let second = look(context).await?;
    let approved = approval::read(context).await;
    let is_approved = |arns: &[Arn]| approved.as_deref() == Some(approval::token(arns).as_str());
    let verdict = vanished::judge(&kept, &recent, [&first, &second], &recorded, &is_approved);
    failpoint::reach("delete.confirmed");
    for arn in &verdict.delete {
        schedule(context, arn, &kept).await?;
    }
    let held = verdict.held.as_ref().map_or(0, |held| held.arns.len());
    metrics::gauge!("tidelock_deletions_held").set(held as f64);
    match &verdict.held {
        Some(held) => approval::ask(context, held).await,
        None => {
            approval::withdraw(context).await;
            settle(context, &recorded, &second.place).await?;
        }
    }
    Ok(if verdict.held.is_some() { Looked::Held } else { Looked::Listed })
}

fn is_in(local: &Local, secret: &Kept) -> bool {
    let (namespace, name) = &secret.key;
    local.get(&ObjectRef::new(name).within(namespace)).is_some()
}

/// Nothing is missing unanswered: from here on this is the place where the secrets live.
async fn settle(context: &Context, recorded: &Place, now: &Place) -> Result<(), SweepError> {
    if recorded != now {
        context.ports.anchor.record(now).await?;
    }
    Ok(())
}

/// The secrets that ManagedSecrets made: those that stay, and those scheduled for deletion a short while ago. Counts
/// all that are on their way out, with who uses them.
async fn inventory(context: &Context) -> Result<(Vec<Kept>, Vec<Kept>), SweepError> {
    let now = context.ports.clock.now();
    let mut recent = Vec::new();
    let (mut kept, mut after, mut deleted, mut consumers) = (Vec::new(), None::<Name>, 0_u32, 0_usize);
    loop {
        let page = context.ports.keeper.inventory(after.as_ref(), PAGE as usize).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        for record in &page {
            if record.deletion.is_some() {
                deleted += 1;
                let of = context.ports.keeper.consumers(&record.arn).await;
                consumers += of.map_or(0, |consumers| consumers.total);
            }
            let Origin::CustomResource { namespace, name, namespace_uid, .. } = &record.origin else {
                continue;
            };
            let secret = Kept {
                arn: record.arn.clone(),
                key: (namespace.clone(), name.clone()),
                namespace_uid: namespace_uid.clone(),
            };
            match &record.deletion {
                None => kept.push(secret),
                Some(deletion) if now.duration_since(deletion.requested_at) < AT_ONCE => recent.push(secret),
                Some(_) => {}
            }
        }
    }
    metrics::gauge!("tidelock_secrets_scheduled_for_deletion").set(f64::from(deleted));
    metrics::gauge!("tidelock_consumers_of_deleted_secrets").set(consumers as f64);
    Ok((kept, recent))
}

/// One complete look at the cluster, not from a cache.
async fn look(context: &Context) -> Result<Listing, SweepError> {
    let client = &context.ports.client;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = definitions
        .get_metadata(ManagedSecret::crd_name())
        .await
        .map_err(unlisted("the CustomResourceDefinition"))?;
    let mut resources = BTreeSet::new();
    let all = Api::<ManagedSecret>::all(client.clone());
    list(&all, "ManagedSecrets", |resource| resources.extend(resource.namespace.zip(resource.name))).await?;
    let (mut namespaces, mut cluster_id) = (BTreeMap::new(), None);
    let all = Api::<Namespace>::all(client.clone());
    list(&all, "namespaces", |namespace| {
        if namespace.name.as_deref() == Some("kube-system") {
            cluster_id.clone_from(&namespace.uid);
        }
        if namespace.deletion_timestamp.is_none() {
            namespaces.extend(namespace.name.zip(namespace.uid));
        }
    })
    .await?;
    let cluster_id = cluster_id.ok_or(SweepError::NoCluster)?;
    let place = Place { cluster_id, crd_uid: definition.metadata.uid.unwrap_or_default() };
    Ok(Listing { resources, namespaces, place })
}

/// Lists all objects of a kind page by page: together the pages are the state of one moment, and only one of them is in
/// memory. A listing that could not be ended is none.
async fn list<K>(api: &Api<K>, what: &'static str, mut see: impl FnMut(ObjectMeta)) -> Result<(), SweepError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let listed = api.list_metadata(&page).await.map_err(unlisted(what))?;
        listed.items.into_iter().for_each(|object| see(object.metadata));
        match listed.metadata.continue_.filter(|more| !more.is_empty()) {
            Some(more) => page = page.continue_token(&more),
            None => return Ok(()),
        }
    }
}

fn unlisted(what: &'static str) -> impl FnOnce(kube::Error) -> SweepError {
    move |source| SweepError::Unlisted { what, source: Box::new(source) }
}

async fn schedule(context: &Context, arn: &Arn, kept: &[Kept]) -> Result<(), SweepError> {
    let id = SecretId::Arn(arn.to_string());
    let by = Principal::Controller;
    let due = match context.ports.keeper.schedule_deletion(&by, &id, DeletionMode::OwnWindow).await {
        Ok(scheduled) => condition::whole_second(scheduled.due_at),
        // Somebody was faster.
        Err(KeeperError::NotFound | KeeperError::MarkedForDeletion) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    metrics::counter!("tidelock_deletions_scheduled_total").increment(1);
    let Some((namespace, name)) = kept.iter().find(|secret| secret.arn == *arn).map(|secret| &secret.key)
    else {
        return Ok(());
    };
    tracing::info!(namespace, name, %due, reason = %Reason::DeletionScheduled, "a ManagedSecret is gone");
    let about = ObjectReference {
        api_version: Some(ManagedSecret::api_version(&()).into_owned()),
        kind: Some(ManagedSecret::kind(&()).into_owned()),
        namespace: Some(namespace.clone()),
        name: Some(name.clone()),
        ..ObjectReference::default()
    };
    let note = format!(
        "the ManagedSecret was removed: its secret goes for good at {due}; pods keep their files until then, and \
         applying the ManagedSecret again brings it back"
    );
    let word = Reason::DeletionScheduled.word();
    context.ports.events.send(about, EventKind::Warning, word, "ScheduleDeletion", note);
    Ok(())
}
