//! ManagedSecrets: observe, decide, apply, report. Must not open values, and must not take the absence of an event, or
//! one listing, for a deletion.

mod decide;
mod namespaces;
mod observe;
mod reconcile;
mod status;
mod sweep;
mod value;
mod vanished;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, applier};
use kube::{Api, Client, Resource};
use tokio::sync::{Notify, broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::guard::Guard;
use crate::clock::Clock;
use crate::cluster::EventSender;
use crate::crd::{ManagedSecret, Readable};
use crate::keeper::{Keeper, What};
use crate::secret::{Arn, Randomness};

pub use status::FIELD_MANAGER;
pub use sweep::{Anchor, AnchorError};
pub use value::Reader;
pub use vanished::Place;

/// Objects that wait to be looked at; beyond them the watch waits.
const QUEUE_MAX: usize = 4096;
/// Objects looked at together.
const AT_ONCE: u16 = 32;

pub struct Settings {
    /// The namespace and the stem of the names of this installation's own objects.
    pub namespace: String,
    pub name: String,
    /// The least time between two writes of one status.
    pub status_every: Duration,
    /// The time between two complete looks at everything.
    pub relist_every: Duration,
    pub reader: Reader,
}

pub struct Ports {
    pub client: Client,
    pub keeper: Arc<Keeper>,
    pub events: EventSender,
    pub clock: Arc<dyn Clock>,
    /// Knows where the secrets were made.
    pub anchor: Arc<dyn Anchor>,
    pub random: fn() -> Box<dyn Randomness + Send>,
}

struct Context {
    ports: Ports,
    settings: Settings,
    authors: Guard,
    /// Asks who approves held deletions for the right to.
    approvals: Guard,
    namespaces: namespaces::Namespaces,
    /// When each status was last written, by UID.
    written: Mutex<HashMap<String, Instant>>,
}

/// Runs until told to stop. Looks at each ManagedSecret when it changes, when its secret does, and now and then; and
/// at those that are gone.
pub async fn run(ports: Ports, settings: Settings, stop: CancellationToken) {
    let authors = Guard::new(ports.client.clone(), format!("{}-secret-authors", settings.name));
    let approvals = Guard::new(ports.client.clone(), format!("{}-deletion-approvals", settings.name));
    let api: Api<Readable<ManagedSecret>> = Api::all(ports.client.clone());
    let changes = ports.keeper.changes();
    let namespaces = namespaces::Namespaces::new(ports.client.clone(), Arc::clone(&ports.clock));
    let context =
        Arc::new(Context { ports, settings, authors, approvals, namespaces, written: Mutex::default() });
    let (queue, waiting) = mpsc::channel(QUEUE_MAX);
    let (store, writer) = reflector::store();
    let look_again = Arc::new(Notify::new());

    let watched = watch(api, writer, queue.clone(), Arc::clone(&look_again));
    let told = follow(Arc::clone(&context), changes, store.clone(), queue);
    let swept = sweep::run(Arc::clone(&context), store.clone(), look_again, stop.clone());
    let reconciled = applier(
        |object, context: Arc<Context>| Box::pin(reconcile::reconcile(object, context)),
        |_, error, _| {
            counted("failed");
            tracing::warn!(%error, "a ManagedSecret could not be looked at");
            Action::requeue(Duration::from_secs(5))
        },
        Arc::clone(&context),
        store,
        ReceiverStream::new(waiting).map(Ok::<_, Infallible>),
        Config::default().concurrency(AT_ONCE),
    )
    .for_each(|_| std::future::ready(()));
    tokio::select! {
        () = stop.cancelled() => {}
        () = watched => {}
        () = told => {}
        () = swept => {}
        () = reconciled => {}
    }
}

/// Counts a look at one object by how it ended.
fn counted(outcome: &'static str) {
    metrics::counter!("tidelock_reconciles_total", "kind" => "ManagedSecret", "outcome" => outcome)
        .increment(1);
}

/// What nobody here reads of an object, and what is most of it in memory: who wrote which field, and the copy of itself
/// that `kubectl apply` leaves in it.
fn leave_out_unread(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// Keeps the local copy of all ManagedSecrets, and queues what changed.
async fn watch(
    api: Api<Readable<ManagedSecret>>,
    writer: reflector::store::Writer<Readable<ManagedSecret>>,
    queue: mpsc::Sender<ObjectRef<Readable<ManagedSecret>>>,
    look_again: Arc<Notify>,
) {
    let events = kube::runtime::watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|read| leave_out_unread(read.object.meta_mut()))
        .reflect(writer);
    let mut events = std::pin::pin!(events);
    loop {
        match events.try_next().await {
            Ok(Some(Event::Apply(object) | Event::InitApply(object))) => {
                if queue.send(ObjectRef::from_obj(&object)).await.is_err() {
                    return;
                }
            }
            // Only a hint to look sooner: events get lost, and what is deleted may be there again.
            Ok(Some(Event::Delete(_) | Event::InitDone)) => look_again.notify_one(),
            Ok(Some(Event::Init)) => {}
            Ok(None) => return,
            Err(error) => tracing::warn!(%error, "the watch of ManagedSecrets was interrupted"),
        }
    }
}

/// Queues the ManagedSecrets whose secrets changed.
async fn follow(
    context: Arc<Context>,
    mut changes: broadcast::Receiver<crate::keeper::Changed>,
    store: reflector::Store<Readable<ManagedSecret>>,
    queue: mpsc::Sender<ObjectRef<Readable<ManagedSecret>>>,
) {
    loop {
        let changed: Vec<_> = match changes.recv().await {
            // Whoever made it for its resource is looking at that one already.
            Ok(changed) if changed.what == What::Created => Vec::new(),
            Ok(changed) => resource_of(&context, &changed.arn).await.into_iter().collect(),
            Err(broadcast::error::RecvError::Lagged(_)) => {
                store.state().iter().map(|object| ObjectRef::from_obj(object.as_ref())).collect()
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        for reference in changed {
            if queue.send(reference).await.is_err() {
                return;
            }
        }
    }
}

async fn resource_of(context: &Context, arn: &Arn) -> Option<ObjectRef<Readable<ManagedSecret>>> {
    let (namespace, name) = context.ports.keeper.resource_of_secret(arn).await.ok()??;
    Some(ObjectRef::new(&name).within(&namespace))
}
