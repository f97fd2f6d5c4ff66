//! Ten thousand ManagedSecrets, from the first request to the last that is Ready, beside ten thousand ConfigMaps that
//! the same client creates; and the server's memory with all of them. Must come last: they stay.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;

use super::{Figures, Found, Row, Samples, Target, Unit, memory};
use crate::progress;
use crate::shop::{Shop, has_condition};

const OBJECTS: usize = 10_000;
const NAMESPACES: usize = 20;
/// Of the client that makes them: more do not make the API server faster.
const AT_ONCE: usize = 32;
const READY_WITHIN: Duration = Duration::from_secs(1800);
/// Between two looks: each lists a twentieth of them, and shall not be what the API server is busy with.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn measure(shop: &Shop) -> Result<Found> {
    let client = shop.cluster.client();
    for number in 0..NAMESPACES {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace(number)}}))?;
        Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    }
    let step = progress::step(&format!("create {OBJECTS} ConfigMaps"), "half a minute");
    let begun = Instant::now();
    let config_maps = create_all(&client, config_map).await?;
    let reference = begun.elapsed();
    step.done();

    let step = progress::step(&format!("create {OBJECTS} ManagedSecrets until all are Ready"), "two minutes");
    let begun = Instant::now();
    let created = create_all(&client, managed_secret).await?;
    let creation = begun.elapsed();
    for number in 0..NAMESPACES {
        all_ready(shop, number).await?;
    }
    let whole = begun.elapsed();
    step.done();

    let show = |duration: Duration| Unit::Seconds.show(duration.as_secs_f64());
    let median = |samples: &Samples| Unit::Seconds.show(samples.figures().median);
    let note = format!(
        "{OBJECTS} objects in {NAMESPACES} namespaces, {AT_ONCE} requests at once: the ManagedSecrets were created after \
         {}, each in {} (median), a ConfigMap in {}; per second {:.0} ManagedSecrets became Ready",
        show(creation),
        median(&created),
        median(&config_maps),
        OBJECTS as f64 / whole.as_secs_f64(),
    );
    let what = format!("{OBJECTS} ManagedSecrets to Ready");
    let row = Row::new(&what, Unit::Seconds, Figures::once(whole.as_secs_f64()), Target::WithinTimes(3.0));
    let beside = format!("creation of {OBJECTS} ConfigMaps by the same client");
    let mut found =
        Found { rows: vec![row.beside(&beside, Figures::once(reference.as_secs_f64()))], notes: vec![note] };
    found.add(memory::server(shop, &format!("server, {OBJECTS} secrets")).await?);
    Ok(found)
}

fn namespace(number: usize) -> String {
    format!("many-{}", number % NAMESPACES)
}

/// Creates them all, and tells how long each request took.
async fn create_all<K>(
    client: &Client,
    object: impl Fn(&Client, usize) -> Result<(Api<K>, K)>,
) -> Result<Samples>
where
    K: Clone + serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let requests = (0..OBJECTS).map(|number| {
        let made = object(client, number);
        async move {
            let (api, object) = made?;
            let begun = Instant::now();
            api.create(&PostParams::default(), &object).await.context("an object was not created")?;
            anyhow::Ok(begun.elapsed())
        }
    });
    let mut samples = Samples::new()?;
    let mut answers = futures::stream::iter(requests).buffer_unordered(AT_ONCE);
    while let Some(took) = answers.try_next().await? {
        samples.add(took)?;
    }
    Ok(samples)
}

fn config_map(client: &Client, number: usize) -> Result<(Api<ConfigMap>, ConfigMap)> {
    let object = json!({
        "metadata": {"name": format!("orders-db-{number}")},
        "data": {"username": "orders", "key": "password", "serviceAccount": "orders-api"},
    });
    Ok((Api::namespaced(client.clone(), &namespace(number)), serde_json::from_value(object)?))
}

fn managed_secret(client: &Client, number: usize) -> Result<(Api<DynamicObject>, DynamicObject)> {
    let object = json!({
        "apiVersion": "tidelock.dev/v1alpha1", "kind": "ManagedSecret",
        "metadata": {"name": format!("orders-db-{number}")},
        "spec": {
            "value": {"generate": {"template": {"username": "orders"}, "key": "password"}},
            "access": [{"serviceAccount": "orders-api"}],
        },
    });
    let api = Api::namespaced_with(client.clone(), &namespace(number), &kind());
    Ok((api, serde_json::from_value(object)?))
}

fn kind() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("tidelock.dev", "v1alpha1", "ManagedSecret"))
}

/// Waits until each secret of a namespace is Ready.
async fn all_ready(shop: &Shop, number: usize) -> Result<()> {
    let of_namespace: Api<DynamicObject> =
        Api::namespaced_with(shop.cluster.client(), &namespace(number), &kind());
    let what = format!("every ManagedSecret of {} to be Ready", namespace(number));
    let waited = shop.cluster.wait_for(&what, READY_WITHIN, async || {
        let listed = of_namespace.list(&ListParams::default()).await.ok()?.items;
        let ready = listed.iter().filter(|one| has_condition(&one.data["status"], "Ready", "True")).count();
        if ready < OBJECTS / NAMESPACES {
            tokio::time::sleep(LOOK_EVERY).await;
            return None;
        }
        Some(listed.len())
    });
    let count = waited.await?;
    ensure!(count == OBJECTS / NAMESPACES, "{} has {count} ManagedSecrets", namespace(number));
    Ok(())
}
