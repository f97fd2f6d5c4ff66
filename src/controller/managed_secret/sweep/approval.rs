//! Asking a person about deletions that are held: a ConfigMap says which and why, an annotation on it answers.
//! Must not take an answer for another set of secrets than the one it was given for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use super::super::status::FIELD_MANAGER;
use super::super::vanished::Held;
use super::Context;
use crate::cluster::EventKind;
use crate::crd::reasons::Reason;
use crate::crd::{ANNOTATION_APPROVE_DELETIONS, held_deletions_name};
use crate::secret::Arn;

/// So many are listed by name; a ConfigMap is no larger than 1 MiB.
const LISTED_MAX: usize = 1000;

/// Names a set of secrets: how many, and a hash of which. Nobody gains by a collision, for who approves may approve all.
pub fn token(arns: &[Arn]) -> String {
    let mut sorted: Vec<&str> = arns.iter().map(Arn::as_str).collect();
    sorted.sort_unstable();
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in sorted.iter().flat_map(|arn| arn.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{}-{hash:016x}", sorted.len())
}

fn api(context: &Context) -> (Api<ConfigMap>, String) {
    let name = held_deletions_name(&context.settings.name);
    (Api::namespaced(context.ports.client.clone(), &context.settings.namespace), name)
}

/// The token that somebody approved who was asked for his right to.
pub async fn read(context: &Context) -> Option<String> {
    let (maps, name) = api(context);
    let approved = match maps.get_opt(&name).await {
        Ok(map) => map?.annotations().get(ANNOTATION_APPROVE_DELETIONS).cloned()?,
        Err(error) => {
            tracing::warn!(%error, "whether deletions are approved could not be read");
            return None;
        }
    };
    if context.approvals.is_in_force(context.ports.clock.monotonic()).await {
        return Some(approved);
    }
    tracing::error!(
        reason = %Reason::GuardMissing,
        "deletions are approved, but the policy that guards approvals is not in force: install it from the chart"
    );
    None
}

/// Says what is held. The approval is another's field and stays.
pub async fn ask(context: &Context, held: &Held) {
    let token = token(&held.arns);
    let count = held.arns.len();
    tracing::error!(count, why = held.why, token, reason = %Reason::MassDeletionHeld, "deletions wait for approval");
    let (maps, name) = api(context);
    let listed: Vec<&str> = held.arns.iter().take(LISTED_MAX).map(Arn::as_str).collect();
    let data: BTreeMap<&str, String> = BTreeMap::from([
        ("reason", Reason::MassDeletionHeld.word().to_owned()),
        ("why", held.why.clone()),
        ("count", count.to_string()),
        ("token", token.clone()),
        ("secrets", listed.join("\n")),
    ]);
    let patch = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match maps.patch(&name, &params, &Patch::Apply(&patch)).await {
        Ok(map) => {
            let note = format!(
                "{}: the deletion of {count} secrets is held; `tidelock approve deletions` lets them go, applying the \
                 ManagedSecrets again keeps them",
                held.why
            );
            let word = Reason::MassDeletionHeld.word();
            context.ports.events.send(map.object_ref(&()), EventKind::Warning, word, "HoldDeletions", note);
        }
        Err(error) => tracing::warn!(%error, "what deletions are held could not be written down"),
    }
}

/// Nothing is held any more.
pub async fn withdraw(context: &Context) {
    metrics::gauge!("tidelock_deletions_held").set(0.0);
    let (maps, name) = api(context);
    match maps.get_metadata_opt(&name).await {
        Ok(None) => {}
        Ok(Some(_)) => {
            if let Err(error) = maps.delete(&name, &DeleteParams::default()).await {
                tracing::warn!(%error, "the question about held deletions could not be taken back");
            }
        }
        Err(error) => tracing::warn!(%error, "whether deletions are held could not be read"),
    }
}
