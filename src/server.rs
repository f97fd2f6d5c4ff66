//! Wires the role `server`: configuration, cluster, Lease, store, keeper, listeners, controllers, in this order, and
//! takes them down in the other. Must hold no logic of the product.

mod anchor;
pub mod dev;
pub mod doors;
mod image;
mod may_project;
mod opening;
mod surroundings;
mod tasks;
mod trouble;
mod watched;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::access::NamePolicy;
use crate::clock::{Clock, SystemClock};
use crate::cluster::{
    AccessReviews, Elector, EventPublisher, EventSender, LeaseHold, LeaseSettings, StorePosition,
};
use crate::config::ServerArgs;
use crate::controller::rotation::{JobSettings, RotationPorts, Rotators};
use crate::controller::{managed_secret, nodes, rotation};
use crate::federation;
use crate::issuers::Issuers;
use crate::keeper::{self, Keeper};
use crate::seal::SystemRandom;
use crate::store::Store;
use crate::telemetry::{Component, Metrics, Readiness};
use anchor::StoreAnchor;
use opening::{Hindrance, Opened, Opening, StoreSettings};
use surroundings::InCluster;
use tasks::Tasks;
use watched::{WatchedStore, noted};

/// After a start that could not go on: somebody restores a key, accepts a loss, or mends a volume meanwhile.
const OPEN_AGAIN: Duration = Duration::from_secs(5);

/// What all parts share, from before there is a leader.
struct Ground {
    args: Arc<ServerArgs>,
    client: Client,
    clock: Arc<dyn Clock>,
    events: EventSender,
    readiness: Readiness,
    rotators: Rotators,
    issuers: Arc<Issuers>,
}

/// Runs until told to stop, or until this process may not go on.
pub async fn run(args: ServerArgs, stop: CancellationToken) -> anyhow::Result<()> {
    let rotators = rotators(args.rotators_file.as_deref())?;
    let clock = SystemClock::shared();
    let issuers = Arc::new(issuers(args.oidc_issuers_file.as_deref(), &clock)?);
    let readiness = Readiness::default();
    let leader = readiness.component("leader");
    let store = readiness.component("store");
    let metrics = Metrics::install()?;
    let mut tasks = Tasks::new(CancellationToken::new());
    let health = doors::health(args.health_listen, readiness.clone(), &metrics, tasks.stop()).await?;
    tasks.spawn("health", health);
    tasks.spawn("metrics", metrics.keep_up(tasks.stop()));

    // Open before there is anything to serve: after a restart clients wait for the answer, in place of being refused.
    let api = doors::api_port(args.api_listen).await?;
    let client = Client::try_default().await.context("the cluster is not configured")?;
    let (events, publisher) = EventPublisher::new(client.clone(), Arc::clone(&clock), args.pod_name.clone());
    let cut = tasks.stop();
    tasks.spawn("events", async move {
        cut.run_until_cancelled(Box::pin(publisher.run())).await;
    });
    let ground = Ground { args: Arc::new(args), client, clock, events, readiness, rotators, issuers };

    let (positions, seen_positions) = watch::channel(None);
    let (elector, hold) = ground.elector(seen_positions);
    let lease_stop = CancellationToken::new();
    let mut election = tokio::spawn(elector.run(lease_stop.clone()));
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = &mut election => Err(anyhow::anyhow!("the election ended: {ended:?}")),
        ended = lead(&ground, &mut tasks, positions, hold, api, [leader, store]) => ended,
    };
    tracing::info!("stopping");
    tasks.drain().await;
    lease_stop.cancel();
    if !election.is_finished() {
        // Given back last: whoever takes it finds the store closed.
        let _ = election.await;
    }
    ended
}

/// What RotateSecret can name: a file that is not understood is refused before anything is served.
fn rotators(file: Option<&Path>) -> anyhow::Result<Rotators> {
    let Some(path) = file else { return Ok(Rotators::default()) };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the rotators' file {} cannot be read", path.display()))?;
    Rotators::parse(&text).with_context(|| format!("the rotators' file {} is not right", path.display()))
}

/// Whose tokens are taken beside the cluster's. A file that is not understood is refused just so.
fn issuers(file: Option<&Path>, clock: &Arc<dyn Clock>) -> anyhow::Result<Issuers> {
    let Some(path) = file else { return Ok(Issuers::default()) };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the issuers' file {} cannot be read", path.display()))?;
    let wrong = || format!("the issuers' file {} is not right", path.display());
    let issuers = federation::parse(&text).with_context(wrong)?;
    Issuers::new(issuers, clock).with_context(wrong)
}

/// Waits for the Lease, opens the store and runs everything that only a leader may.
async fn lead(
    ground: &Ground,
    tasks: &mut Tasks,
    positions: watch::Sender<Option<StorePosition>>,
    mut hold: watch::Receiver<LeaseHold>,
    api: TcpListener,
    [leader, store]: [Component; 2],
) -> anyhow::Result<()> {
    leader.not_ready("Standby", "waits for the Lease");
    hold.wait_for(|hold| *hold == LeaseHold::Leading).await.context("the election ended")?;
    leader.ready();
    let lost = async move {
        // An error means that the election has ended, which is a loss as well.
        let _ = hold.wait_for(|hold| *hold != LeaseHold::Leading).await;
    };
    tokio::pin!(lost);
    let opened = tokio::select! {
        () = &mut lost => bail!("the Lease was lost"),
        ended = tasks.ended() => bail!(ended),
        opened = open(ground, &store) => opened,
    };
    let fenced = CancellationToken::new();
    positions.send_replace(Some(noted(opened.position)));
    let (troubles, seen_troubles) = watch::channel(None);
    let watched: Arc<dyn Store> = Arc::new(WatchedStore {
        store: Arc::clone(&opened.store),
        positions,
        troubles,
        fenced: fenced.clone(),
    });
    let told = trouble::tell(Arc::clone(&watched), opened.epoch, seen_troubles, store, OPEN_AGAIN);
    serve(ground, tasks, watched, opened, api).await?;
    let cut = tasks.stop();
    tasks.spawn("store", async move {
        cut.run_until_cancelled(told).await;
    });
    tokio::select! {
        () = &mut lost => bail!("the Lease was lost"),
        () = fenced.cancelled() => bail!("Fenced: a newer leader has taken over the store"),
        ended = tasks.ended() => bail!(ended),
    }
}

/// Opens the store as soon as it can be; says meanwhile why it cannot.
async fn open(ground: &Ground, component: &Component) -> Opened {
    loop {
        match open_once(ground).await {
            Ok(opened) => return opened,
            Err(hindrance) => hindrance.tell(component),
        }
        tokio::time::sleep(OPEN_AGAIN).await;
    }
}

async fn open_once(ground: &Ground) -> Result<Opened, Hindrance> {
    // Not a candidate: it only reads what earlier leaders noted.
    let (clerk, _) = ground.elector(watch::channel(None).1);
    let noted = clerk.noted_position().await?;
    let (args, now) = (&ground.args, ground.clock.now());
    let around = &InCluster { client: &ground.client, args };
    let settings = StoreSettings::from(args.as_ref());
    let (opened, forget) = Opening { around, settings, now, noted }.run().await?;
    if forget {
        clerk.forget_position().await?;
    }
    Ok(opened)
}

/// Starts the keeper and everything around it.
async fn serve(
    ground: &Ground,
    tasks: &mut Tasks,
    store: Arc<dyn Store>,
    opened: Opened,
    api: TcpListener,
) -> anyhow::Result<()> {
    let Ground { args, client, clock, .. } = ground;
    let rights = AccessReviews::new(client.clone(), Arc::clone(clock)).of_each_name(args.review_each_name);
    let ports = keeper::Ports {
        store: Arc::clone(&store),
        root_key: opened.root_key,
        clock: Arc::clone(clock),
        rights: Arc::new(rights),
    };
    let settings = keeper::Settings {
        region: args.region.clone(),
        account: args.account.clone(),
        names: NamePolicy::NamespacePrefix,
        rotators: ground.rotators.names(),
    };
    let keeper = Arc::new(Keeper::start(ports, settings, opened.epoch).await?);
    if let Some(installation) = store.installation().await? {
        // Beside a root key it shows whether the two belong together, before a restart does.
        metrics::gauge!("tidelock_store_info", "installation" => installation.id).set(1.0);
    }
    let anchor = Arc::new(StoreAnchor { store, epoch: opened.epoch });
    let controller = managed_secret::run(
        managed_secret::Ports {
            client: client.clone(),
            keeper: Arc::clone(&keeper),
            events: ground.events.clone(),
            clock: Arc::clone(clock),
            anchor,
            random: || Box::new(SystemRandom),
        },
        ground.managed_secret_settings(),
        tasks.stop(),
    );
    tasks.spawn("managed secrets", controller);
    tasks.spawn("refusals", Arc::clone(&keeper).keep_refusals(tasks.stop()));
    tasks.spawn("nodes", nodes::run(client.clone(), Arc::clone(&keeper), tasks.stop()));
    let ca = doors::open(ground, tasks, &keeper, api).await?;
    let rotations = RotationPorts {
        client: client.clone(),
        keeper,
        clock: Arc::clone(clock),
        events: ground.events.clone(),
        settings: ground.job_settings(image::of_jobs(args, client).await?),
        rotators: ground.rotators.clone(),
        ca,
        epoch: opened.epoch.0,
    };
    tasks.spawn("rotations", rotation::run(rotations, tasks.stop()));
    Ok(())
}

impl Ground {
    fn elector(
        &self,
        positions: watch::Receiver<Option<StorePosition>>,
    ) -> (Elector, watch::Receiver<LeaseHold>) {
        let identity = format!("{}_{}", self.args.pod_name, uuid::Uuid::new_v4());
        let settings = LeaseSettings::new(self.args.namespace.clone(), self.args.server_name(), identity);
        Elector::new(self.client.clone(), Arc::clone(&self.clock), settings, positions)
    }

    fn job_settings(&self, image: String) -> JobSettings {
        let args = &self.args;
        let named = |part: &str| format!("{}-{part}", args.name);
        JobSettings {
            image,
            image_pull_policy: Some(args.image_pull_policy.clone()),
            image_pull_secrets: args.image_pull_secrets.clone(),
            namespace: args.rotations_namespace(),
            service_account: named("rotation"),
            server_url: args.api_url(),
            audience: format!("{}/api", args.installation),
            guards: ["schedule-authors", "rotation-pods", "rotation-jobs"].map(named).to_vec(),
            region: args.region.clone(),
        }
    }

    fn managed_secret_settings(&self) -> managed_secret::Settings {
        let args = &self.args;
        managed_secret::Settings {
            namespace: args.namespace.clone(),
            name: args.name.clone(),
            status_every: args.status_every,
            relist_every: args.relist_every,
            reader: managed_secret::Reader {
                role: format!("{}-source-reader", args.name),
                server: format!("{}/{}", args.namespace, args.server_name()),
            },
        }
    }
}
