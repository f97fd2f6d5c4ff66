//! Ten thousand ManagedSecrets beside a real API server: they become Ready, they cost nothing while nothing changes, and
//! a server that starts with all of them writes nothing. Must not assert a speed: what was measured is printed.

mod requests;
mod server;

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tidelock::crd::ManagedSecret;
use tidelock_e2e::{Cluster, wait_for};

use requests::Requests;
use server::Server;

const SECRETS: usize = 10_000;
const NAMESPACES: usize = 20;
/// Fewer than are held until a person says yes.
const GONE: usize = 5;
/// Of the client that makes them: more do not make the API server faster.
const AT_ONCE: usize = 32;
/// Generous: machines that run tests are busy.
const DEADLINE: Duration = Duration::from_secs(1800);
/// Two complete looks of the server, which is told to take one every 20 s, fit in.
const QUIET: Duration = Duration::from_secs(45);
/// A request for each hundredth secret would be more than this.
const QUIET_REQUESTS_MAX: u64 = SECRETS as u64 / 100;
/// Thrice what is aimed at: it tells a leak, or a copy of everything, from a figure to be worked on.
const MEBIBYTES_MAX: u64 = 300;

fn say(what: &str, figure: &str) {
    // Not `println`: what a test that passes prints there is not shown.
    let _ = writeln!(std::io::stdout(), "measured: {what:<48} {figure}");
}

fn seconds(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f64())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_secrets_become_ready_and_then_cost_nothing_also_after_a_restart() -> Result<()> {
    let cluster = Cluster::api_only().await?;
    let client = cluster.client();
    prepare(&client).await?;
    let folder = tempfile::tempdir()?;
    let server = Server::start(&cluster, folder.path()).await?;
    server.ready().await?;
    say("memory of the idle server", &server.memory()?.to_string());

    let began = Instant::now();
    let before = Requests::so_far(&client).await?;
    create_all(&client).await?;
    say("10,000 ManagedSecrets created by the client in", &seconds(began));
    wait_for("a status of each secret to be written", DEADLINE, async || {
        server.check();
        let so_far = Requests::so_far(&client).await.ok()?;
        (so_far.since(&before).status_writes() >= SECRETS as u64).then_some(())
    })
    .await?;
    wait_for("every secret to be Ready", DEADLINE, async || {
        (ready(&client).await.ok()? == SECRETS).then_some(())
    })
    .await?;
    say("all of them Ready after", &seconds(began));
    let making = Requests::so_far(&client).await?.since(&before);
    say("requests of client and server per secret", &format!("{:.2}", making.all() as f64 / SECRETS as f64));
    say("of these, by verb and resource", &making.to_string());
    say("memory of the server with all of them", &server.memory()?.to_string());

    all_told(&client).await?;
    quiet("while nothing changes", &client, &server).await?;
    let stopped_at = Requests::so_far(&client).await?;
    server.stop().await?;
    started_again(&cluster, &client, folder.path(), &stopped_at).await
}

/// Everything is there: it is looked at once, nothing is written, and what changes then is seen as ever.
async fn started_again(
    cluster: &Cluster,
    client: &Client,
    folder: &std::path::Path,
    stopped_at: &Requests,
) -> Result<()> {
    let began = Instant::now();
    let server = Server::start(cluster, folder).await?;
    server.ready().await?;
    say("restarted with all of them, ready after", &seconds(began));
    wait_for("every secret to be looked at once", DEADLINE, async || {
        server.check();
        let looks =
            server.metric("tidelock_reconciles_total{kind=\"ManagedSecret\",outcome=\"done\"}").await.ok()?;
        (looks >= SECRETS as f64).then_some(())
    })
    .await?;
    say("all of them looked at after", &seconds(began));
    quiet("after the restart", client, &server).await?;
    let since = Requests::so_far(client).await?.since(stopped_at);
    say("requests of the restart and of that time", &since.to_string());
    assert_eq!(since.status_writes(), 0, "a status was written although nothing changed: {since}");
    assert_eq!(ready(client).await?, SECRETS);

    let edit = Patch::Merge(json!({"spec": {"description": "edited"}}));
    let shop: Api<ManagedSecret> = Api::namespaced(client.clone(), &namespace(7));
    shop.patch(&name(7), &PatchParams::default(), &edit).await?;
    wait_for("an edit to be followed", DEADLINE, async || {
        let edited = shop.get(&name(7)).await.ok()?;
        let observed = edited.status?.observed_generation;
        (observed.is_some() && observed == edited.metadata.generation).then_some(())
    })
    .await?;
    gone_one_by_one(client, &server).await?;
    server.stop().await
}

/// The server that asks nothing while nothing changes sees at once what is gone, and confirms it.
async fn gone_one_by_one(client: &Client, server: &Server) -> Result<()> {
    for number in 0..GONE {
        let resources: Api<ManagedSecret> = Api::namespaced(client.clone(), &namespace(number));
        resources.delete(&name(number), &DeleteParams::default()).await?;
    }
    wait_for("the deletions to be scheduled", DEADLINE, async || {
        let scheduled = server.metric("tidelock_deletions_scheduled_total").await.ok()?;
        (scheduled >= GONE as f64).then_some(())
    })
    .await
}

/// Events are sent in the background, one after the other: those of the making are told first.
async fn all_told(client: &Client) -> Result<()> {
    let mut before = Requests::so_far(client).await?;
    wait_for("the events to be told", DEADLINE, async || {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = Requests::so_far(client).await.ok()?;
        let told = now.since(&before).events() == 0;
        before = now;
        told.then_some(())
    })
    .await
}

/// Nothing happens for a while: no request for each secret, no status, and memory that stays within bounds.
async fn quiet(when: &str, client: &Client, server: &Server) -> Result<()> {
    let before = Requests::so_far(client).await?;
    let worked = server.worked()?;
    tokio::time::sleep(QUIET).await;
    let during = Requests::so_far(client).await?.since(&before);
    let worked = server.worked()?.saturating_sub(worked);
    let memory = server.memory()?;
    let per_second = during.all() as f64 / QUIET.as_secs_f64();
    say(&format!("requests per second {when}"), &format!("{per_second:.2} ({during})"));
    say(
        &format!("processor {when}"),
        &format!("{:.1} %", worked.as_secs_f64() / QUIET.as_secs_f64() * 100.0),
    );
    say(&format!("memory {when}"), &memory.to_string());
    ensure!(during.all() <= QUIET_REQUESTS_MAX, "{} requests while nothing changed: {during}", during.all());
    ensure!(during.status_writes() == 0, "statuses were written while nothing changed: {during}");
    ensure!(memory.resident_mib <= MEBIBYTES_MAX, "{memory}, at most {MEBIBYTES_MAX} MiB");
    Ok(())
}

async fn prepare(client: &Client) -> Result<()> {
    let own = ["tidelock".to_owned(), "tidelock-rotations".to_owned()];
    for name in own.into_iter().chain((0..NAMESPACES).map(namespace)) {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    }
    for definition in tidelock::crd::definitions() {
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        definitions.create(&PostParams::default(), &definition).await?;
    }
    wait_for("the definitions to be served", DEADLINE, async || ready(client).await.ok()).await?;
    Ok(())
}

fn namespace(number: usize) -> String {
    format!("shop-{}", number % NAMESPACES)
}

fn name(number: usize) -> String {
    format!("orders-db-{number}")
}

async fn create_all(client: &Client) -> Result<()> {
    let create = |number: usize| async move {
        let access = json!([{"serviceAccount": "orders-api"}]);
        let object = json!({
            "apiVersion": "tidelock.dev/v1alpha1", "kind": "ManagedSecret", "metadata": {"name": name(number)},
            "spec": {
                "value": {"generate": {"template": {"username": "orders"}, "key": "password"}}, "access": access,
            },
        });
        let resources: Api<ManagedSecret> = Api::namespaced(client.clone(), &namespace(number));
        resources.create(&PostParams::default(), &serde_json::from_value(object)?).await.context("create")?;
        anyhow::Ok(())
    };
    futures::stream::iter((0..SECRETS).map(create)).buffer_unordered(AT_ONCE).try_collect::<()>().await
}

/// How many are Ready, read page by page.
async fn ready(client: &Client) -> Result<usize> {
    let resources: Api<ManagedSecret> = Api::all(client.clone());
    let mut page = ListParams::default().limit(500);
    let mut ready = 0;
    loop {
        let listed = resources.list(&page).await?;
        let is_ready = |resource: &&ManagedSecret| {
            let conditions = resource.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        ready += listed.items.iter().filter(is_ready).count();
        match listed.metadata.continue_.filter(|more| !more.is_empty()) {
            Some(more) => page = page.continue_token(&more),
            None => return Ok(ready),
        }
    }
}
