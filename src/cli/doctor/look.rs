//! Everything that the doctor looks at, through the person's own rights. Changes nothing: the one pod that it creates
//! is a dry run. Must not judge.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSet};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use zeroize::Zeroize;

use super::Place;
use super::probe::{self, Probed};
use super::rights::{self, Right};
use super::seen::{Seen, Unseen};
use crate::crd::{self, ManagedSecret, Readable, RotationSchedule, condition::READY, held_deletions_name};

/// One look at everything.
pub struct Observed {
    pub definitions: Vec<(String, Seen<CustomResourceDefinition>)>,
    pub namespace: Seen<Namespace>,
    pub stateful_set: Seen<StatefulSet>,
    /// Of the release, whatever their component.
    pub pods: Seen<Vec<Pod>>,
    pub probed: Probed,
    pub claim: Seen<PersistentVolumeClaim>,
    /// The installation that the root key was made for; none if the Secret does not say.
    pub root_key: Seen<Option<String>>,
    pub authority: Seen<()>,
    pub trust: Seen<ConfigMap>,
    pub webhook: Seen<MutatingWebhookConfiguration>,
    pub trial: Seen<Trial>,
    pub policies: Vec<(String, Seen<ValidatingAdmissionPolicy>, Seen<ValidatingAdmissionPolicyBinding>)>,
    pub driver: Seen<CSIDriver>,
    pub daemon_set: Seen<DaemonSet>,
    pub nodes: Seen<Vec<Node>>,
    pub csi_nodes: Seen<Vec<CSINode>>,
    pub rights: Vec<(Right, Seen<bool>)>,
    pub held: Seen<ConfigMap>,
    pub secrets: Seen<Readiness>,
    pub schedules: Seen<Readiness>,
}

/// What became of a pod that asks for a secret, in a dry run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    Injected,
    NotInjected,
    /// In the API server's words.
    Refused(String),
}

/// How many objects of a kind are ready, and which reasons keep how many of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    pub all: usize,
    pub not_ready: BTreeMap<String, usize>,
}

pub const POLICIES: [&str; 6] = [
    "injected-pods",
    "secret-authors",
    "deletion-approvals",
    "schedule-authors",
    "rotation-pods",
    "rotation-jobs",
];
pub const DRIVER: &str = "csi.tidelock.dev";
pub const TRUST: &str = "tidelock-ca";
const ROOT_KEY: &str = "root-key";
const INJECT: &str = "tidelock.dev/inject";
const PAGE: u32 = 500;

pub async fn look(client: &Client, place: &Place) -> Observed {
    let namespaced = |part: &str| format!("{}-{part}", place.release);
    let stateful_set = own::<StatefulSet>(client, place, &namespaced("server")).await;
    let claim = match stateful_set.there().and_then(claim_of) {
        Some(name) => own(client, place, &name).await,
        None => own(client, place, &format!("store-{}-0", namespaced("server"))).await,
    };
    let trust = own::<ConfigMap>(client, place, TRUST).await;
    let labelled = ListParams::default().labels("app.kubernetes.io/name=tidelock");
    let pods: Api<Pod> = Api::namespaced(client.clone(), &place.namespace);
    let pods = Seen::all(pods.list(&labelled).await.map(|list| list.items));
    let bundle = trust.there().and_then(|map| map.data.as_ref()?.get("ca.crt"));
    let probed = probe::probe(client, place, pods.there(), bundle.map(String::as_str)).await;
    let authority: Api<Secret> = Api::namespaced(client.clone(), &place.namespace);
    let authority = authority.get_metadata_opt(&namespaced("ca")).await;
    Observed {
        definitions: definitions(client).await,
        namespace: Seen::one(Api::all(client.clone()).get_opt(&place.namespace).await),
        probed,
        claim,
        stateful_set,
        pods,
        root_key: root_key(client, place).await,
        authority: Seen::one(authority.map(|found| found.map(drop))),
        trust,
        webhook: Seen::one(Api::all(client.clone()).get_opt(&place.release).await),
        trial: trial(client, place).await,
        policies: policies(client, place).await,
        driver: Seen::one(Api::all(client.clone()).get_opt(DRIVER).await),
        daemon_set: own(client, place, &namespaced("node")).await,
        nodes: Seen::all(listed(&Api::all(client.clone())).await),
        csi_nodes: Seen::all(listed(&Api::all(client.clone())).await),
        rights: asked(client, place).await,
        held: own(client, place, &held_deletions_name(&place.release)).await,
        secrets: Seen::all(secrets(client).await),
        schedules: Seen::all(schedules(client).await),
    }
}

async fn own<K>(client: &Client, place: &Place, name: &str) -> Seen<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    Seen::one(Api::<K>::namespaced(client.clone(), &place.namespace).get_opt(name).await)
}

/// The claim of the server's first pod.
fn claim_of(set: &StatefulSet) -> Option<String> {
    let spec = set.spec.as_ref()?;
    if let Some(template) = spec.volume_claim_templates.iter().flatten().next() {
        return Some(format!("{}-{}-0", template.name_any(), set.name_any()));
    }
    let volumes = spec.template.spec.as_ref()?.volumes.iter().flatten();
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone())).next()
}

async fn listed<K>(api: &Api<K>) -> Result<Vec<K>, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let (mut page, mut all) = (ListParams::default().limit(PAGE), Vec::new());
    loop {
        let list = api.list(&page).await?;
        let more = list.metadata.continue_.clone().filter(|token| !token.is_empty());
        all.extend(list.items);
        match more {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(all),
        }
    }
}

async fn definitions(client: &Client) -> Vec<(String, Seen<CustomResourceDefinition>)> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut all = Vec::new();
    for definition in crd::definitions() {
        let name = definition.name_any();
        let found = Seen::one(api.get_opt(&name).await);
        all.push((name, found));
    }
    all
}

async fn policies(
    client: &Client,
    place: &Place,
) -> Vec<(String, Seen<ValidatingAdmissionPolicy>, Seen<ValidatingAdmissionPolicyBinding>)> {
    let mut all = Vec::new();
    for policy in POLICIES {
        let name = format!("{}-{policy}", place.release);
        let found = Seen::one(Api::all(client.clone()).get_opt(&name).await);
        let binding = Seen::one(Api::all(client.clone()).get_opt(&name).await);
        all.push((name, found, binding));
    }
    all
}

/// Of the key's line only the part that says whose it is; the rest is wiped.
async fn root_key(client: &Client, place: &Place) -> Seen<Option<String>> {
    let found: Seen<Secret> = own(client, place, &format!("{}-root-key", place.release)).await;
    match found {
        Seen::Absent => Seen::Absent,
        Seen::Unseen(why) => Seen::Unseen(why),
        Seen::There(secret) => {
            let mut data = secret.data.unwrap_or_default();
            let line = data.get(ROOT_KEY).and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
            let installation = line.and_then(|line| line.split(':').nth(1)).map(str::to_owned);
            data.values_mut().for_each(|bytes| bytes.0.zeroize());
            Seen::There(installation)
        }
    }
}

/// A pod that every Pod Security level and most quotas admit, and that asks for a secret that nobody has.
fn trial_pod() -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "tidelock-doctor-",
            "annotations": {INJECT: "tidelock-doctor"},
        },
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "trial", "image": "tidelock-doctor",
                "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"cpu": "1m", "memory": "1Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

async fn trial(client: &Client, place: &Place) -> Seen<Trial> {
    let Ok(pod) = serde_json::from_value::<Pod>(trial_pod()) else { return Seen::Absent };
    let pods: Api<Pod> = Api::namespaced(client.clone(), &place.trial);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    match pods.create(&dry, &pod).await {
        Ok(made) => {
            let volumes = made.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
            let ours = |volume: &k8s_openapi::api::core::v1::Volume| {
                volume.csi.as_ref().is_some_and(|csi| csi.driver == DRIVER)
            };
            let injected = volumes.into_iter().any(ours);
            Seen::There(if injected { Trial::Injected } else { Trial::NotInjected })
        }
        Err(kube::Error::Api(status)) if !status.message.contains("cannot create resource") => {
            Seen::There(Trial::Refused(status.message.clone()))
        }
        Err(error) => Seen::Unseen(Unseen::of(&error)),
    }
}

async fn asked(client: &Client, place: &Place) -> Vec<(Right, Seen<bool>)> {
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let mut answers = Vec::new();
    for right in rights::wanted(place) {
        let answer = api.create(&PostParams::default(), &right.review(place)).await;
        let allowed = answer.map(|review| Some(review.status?.allowed));
        let answer = Seen::one(allowed);
        let unseen = matches!(answer, Seen::Unseen(_));
        answers.push((right, answer));
        if unseen {
            // The others would not be answered either.
            break;
        }
    }
    answers
}

async fn secrets(client: &Client) -> Result<Readiness, kube::Error> {
    let all: Vec<Readable<ManagedSecret>> = listed(&Api::all(client.clone())).await?;
    Ok(counted(all.into_iter().map(|read| read.object.status.and_then(|status| status.conditions))))
}

async fn schedules(client: &Client) -> Result<Readiness, kube::Error> {
    let all: Vec<Readable<RotationSchedule>> = listed(&Api::all(client.clone())).await?;
    Ok(counted(all.into_iter().map(|read| read.object.status.and_then(|status| status.conditions))))
}

type Conditions = Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>;

/// By the condition Ready; an object that nobody has told of counts as not ready.
fn counted(conditions: impl Iterator<Item = Option<Conditions>>) -> Readiness {
    let mut found = Readiness::default();
    for conditions in conditions {
        found.all += 1;
        let conditions = conditions.unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition.type_ == READY);
        match ready {
            Some(ready) if ready.status == "True" => {}
            Some(ready) => *found.not_ready.entry(ready.reason.clone()).or_default() += 1,
            None => *found.not_ready.entry("no condition yet".to_owned()).or_default() += 1,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trial_is_a_pod_and_asks_for_a_secret() {
        let pod: Pod = serde_json::from_value(trial_pod()).unwrap();
        assert!(pod.annotations().contains_key("tidelock.dev/inject"));
    }

    #[test]
    fn objects_are_counted_by_the_reason_that_keeps_them() {
        let conditions = |status: &str, reason: &str| {
            let text = json!([{"type": "Ready", "status": status, "reason": reason, "message": "",
                               "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
            Some(serde_json::from_value::<Conditions>(text).unwrap())
        };
        let all = [conditions("True", "Available"), conditions("False", "WaitingForValue"), None];
        let found = counted(all.into_iter());
        assert_eq!(found.all, 3);
        assert_eq!(found.not_ready["WaitingForValue"], 1);
        assert_eq!(found.not_ready.len(), 2);
    }
}
