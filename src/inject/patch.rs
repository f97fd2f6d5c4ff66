//! What has to be added to a pod so that it carries the secrets it asks for.
//! Must not touch anything else: works on the pod as JSON, for a typed pod would drop fields newer than this program.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::annotations::{self, CONTAINERS, Refusal, Wanted, is_at_or_below, path_annotation};
use super::attributes::{Attributes, DRIVER, SecretRef, shown};
use super::sdk::{
    self, AWS_SDK_CONFIG, AWS_SDK_STATUS, Endpoint, IDENTITY_PRESENT, INJECTED, SdkMode, SdkVolume,
};

/// A volume's name is a DNS label; this leaves room for the prefix and a number.
const SLUG_BYTES_MAX: usize = 48;

/// What a pod gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Injection {
    /// JSON patch (RFC 6902); empty when the pod has everything already.
    pub operations: Vec<Value>,
    /// What the pod asks for, for asking whether it may have it.
    pub asked: Vec<Attributes>,
    /// The AWS identity of its own because of which a pod that asks for one does not get ours, in words.
    pub kept: Option<String>,
}

impl Injection {
    /// Nothing is asked for, or nothing is left to do and to say.
    pub fn is_empty(&self) -> bool {
        *self == Injection::default()
    }
}

/// A volume that the pod is to have.
struct Place {
    /// What its name is made from.
    slug: String,
    kind: &'static str,
    source: Value,
    path: String,
    /// `None` for a volume of an AWS SDK.
    secret: Option<SecretRef>,
}

/// Decides what to add to `pod`, which is created in `namespace`. Applied twice it adds nothing more; invoked again
/// after another webhook has added containers, it serves those.
pub fn inject(pod: &Value, namespace: &str, endpoint: &Endpoint) -> Result<Injection, Refusal> {
    let annotations = strings(&pod["metadata"]["annotations"]);
    let Some(asked) = annotations::parse(&annotations, namespace)? else {
        return Ok(Injection::default());
    };
    check_kind(pod, &annotations)?;
    let containers = containers(pod)?;
    if let Some(names) = &asked.containers {
        check_names(names, &containers)?;
    }
    let role = sdk::role(pod, namespace, endpoint);
    let mut environment = sdk::environment(endpoint, &role).to_vec();
    let own = || {
        let variables = containers.iter().map(|container| (container.name, container.environment));
        sdk::own_identity(pod, variables, &environment)
    };
    let kept = asked.sdk.filter(|mode| *mode == SdkMode::Environment).and_then(|_| own());
    let mode = asked.sdk.filter(|_| kept.is_none());
    if mode != Some(SdkMode::Environment) {
        environment.clear();
    }
    let places = places(&asked.secrets, mode, endpoint)?;
    let mut operations = Vec::new();
    let volumes = place_volumes(pod, &places, &mut operations);
    for container in &containers {
        let is_served =
            asked.containers.as_ref().is_none_or(|names| names.iter().any(|name| name == container.name));
        if is_served {
            place_mounts(container, &places, &volumes, &mut operations)?;
            add_variables(container, &environment, &mut operations);
        }
    }
    if asked.sdk.is_some() {
        let status = if kept.is_some() { IDENTITY_PRESENT } else { INJECTED };
        annotate(&annotations, AWS_SDK_STATUS, status, &mut operations);
    }
    if mode == Some(SdkMode::Profile) {
        annotate(&annotations, AWS_SDK_CONFIG, &sdk::config(endpoint, &role), &mut operations);
    }
    let asked = asked.secrets.into_iter().map(|wanted| wanted.attributes).collect();
    Ok(Injection { operations, asked, kept })
}

/// All volumes, those of secrets first.
fn places(secrets: &[Wanted], mode: Option<SdkMode>, endpoint: &Endpoint) -> Result<Vec<Place>, Refusal> {
    let mut places = Vec::new();
    for Wanted { attributes, path } in secrets {
        let secret = &attributes.secret;
        if mode.is_some() && sdk::is_in_the_way(path) {
            let (secret, hint) = (secret.to_string(), path_annotation(secret));
            return Err(Refusal::SecretInSdkPath { secret, path: path.clone(), hint });
        }
        let volume_attributes = attributes.render();
        places.push(Place {
            slug: secret.name().to_owned(),
            kind: "csi",
            source: json!({"driver": DRIVER, "readOnly": true, "volumeAttributes": volume_attributes}),
            path: path.clone(),
            secret: Some(secret.clone()),
        });
    }
    let of_sdk = mode.map(|mode| sdk::volumes(mode, endpoint));
    places.extend(of_sdk.into_iter().flatten().map(|SdkVolume { name, kind, source, path }| Place {
        slug: name.to_owned(),
        kind,
        source,
        path,
        secret: None,
    }));
    Ok(places)
}

fn check_kind(pod: &Value, annotations: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if let Some(os) = pod["spec"]["os"]["name"].as_str().filter(|os| *os != "linux") {
        return Err(Refusal::NotLinux(shown(os)));
    }
    if annotations.contains_key("kubernetes.io/config.mirror") {
        return Err(Refusal::StaticPod);
    }
    Ok(())
}

struct Container<'a> {
    name: &'a str,
    /// Where it stands in the pod, as a JSON pointer.
    pointer: String,
    mounts: &'a [Value],
    has_mounts: bool,
    environment: &'a [Value],
    has_environment: bool,
}

fn containers(pod: &Value) -> Result<Vec<Container<'_>>, Refusal> {
    if !pod["spec"]["containers"].is_array() {
        return Err(Refusal::NoContainers);
    }
    let of_list = |list: &'static str| {
        let items = array(&pod["spec"][list]);
        items.iter().enumerate().map(move |(index, container)| Container {
            name: container["name"].as_str().unwrap_or_default(),
            pointer: format!("/spec/{list}/{index}"),
            mounts: array(&container["volumeMounts"]),
            has_mounts: container["volumeMounts"].is_array(),
            environment: array(&container["env"]),
            has_environment: container["env"].is_array(),
        })
    };
    Ok(of_list("initContainers").chain(of_list("containers")).collect())
}

fn check_names(names: &[String], containers: &[Container<'_>]) -> Result<(), Refusal> {
    let is_there = |name: &String| containers.iter().any(|container| container.name == name);
    match names.iter().find(|name| !is_there(name)) {
        None => Ok(()),
        Some(missing) => {
            let there: Vec<&str> = containers.iter().map(|container| container.name).collect();
            Err(Refusal::annotation(
                CONTAINERS,
                format!("the pod has no container `{}`; it has {}", shown(missing), there.join(", ")),
            ))
        }
    }
}

/// The volumes' names; a volume with the same source is taken as it stands.
fn place_volumes(pod: &Value, places: &[Place], operations: &mut Vec<Value>) -> Vec<String> {
    let existing = array(&pod["spec"]["volumes"]);
    let mut taken: BTreeSet<String> =
        existing.iter().filter_map(|volume| volume["name"].as_str()).map(str::to_owned).collect();
    let mut is_list_there = pod["spec"]["volumes"].is_array();
    let mut names = Vec::new();
    for Place { slug, kind, source, .. } in places {
        let same = existing.iter().find(|volume| volume[*kind] == *source);
        if let Some(name) = same.and_then(|volume| volume["name"].as_str()) {
            names.push(name.to_owned());
            continue;
        }
        let name = free_name(slug, &taken);
        taken.insert(name.clone());
        add(operations, "/spec/volumes", &mut is_list_there, json!({"name": name, *kind: source}));
        names.push(name);
    }
    names
}

fn place_mounts(
    container: &Container<'_>,
    places: &[Place],
    volumes: &[String],
    operations: &mut Vec<Value>,
) -> Result<(), Refusal> {
    let list = format!("{}/volumeMounts", container.pointer);
    let mut is_list_there = container.has_mounts;
    for (place, volume) in places.iter().zip(volumes) {
        let mount = json!({"name": volume, "mountPath": place.path, "readOnly": true});
        if container.mounts.iter().any(|existing| is_same_mount(existing, &mount)) {
            continue;
        }
        if let Some(mounted) = obstacle(container.mounts, &place.path) {
            return Err(path_taken(container, mounted, place));
        }
        add(operations, &list, &mut is_list_there, mount);
    }
    Ok(())
}

fn path_taken(container: &Container<'_>, mounted: &str, place: &Place) -> Refusal {
    let (container, mounted, path) = (shown(container.name), shown(mounted), place.path.clone());
    match &place.secret {
        None => Refusal::SdkPathTaken { container, mounted, path },
        Some(secret) => {
            let (secret, hint) = (secret.to_string(), path_annotation(secret));
            Refusal::PathTaken { container, mounted, path, secret, hint }
        }
    }
}

/// A variable that is there has our value, or the pod would keep its own.
fn add_variables(
    container: &Container<'_>,
    environment: &[(&'static str, String)],
    operations: &mut Vec<Value>,
) {
    let list = format!("{}/env", container.pointer);
    let mut is_list_there = container.has_environment;
    for (name, value) in environment {
        if !container.environment.iter().any(|variable| variable["name"] == *name) {
            add(operations, &list, &mut is_list_there, json!({"name": name, "value": value}));
        }
    }
}

/// The pod has annotations, or it would not be here.
fn annotate(annotations: &BTreeMap<String, String>, name: &str, value: &str, operations: &mut Vec<Value>) {
    if annotations.get(name).map(String::as_str) != Some(value) {
        let path = format!("/metadata/annotations/{}", name.replace('/', "~1"));
        operations.push(json!({"op": "add", "path": path, "value": value}));
    }
}

/// Whether `existing` is the mount that we would write, apart from fields that the API server fills in.
fn is_same_mount(existing: &Value, mount: &Value) -> bool {
    ["name", "readOnly"].iter().all(|field| existing[*field] == mount[*field])
        && existing["mountPath"].as_str().map(normal) == mount["mountPath"].as_str()
        && ["subPath", "subPathExpr"]
            .iter()
            .all(|field| existing[*field].as_str().unwrap_or_default().is_empty())
}

/// A mount at our path, or inside it, where our read-only folder has no place for it. A mount above ours is no
/// obstacle: runtimes mount the shorter path first.
fn obstacle<'a>(mounts: &'a [Value], path: &str) -> Option<&'a str> {
    mounts
        .iter()
        .filter_map(|mount| mount["mountPath"].as_str())
        .find(|mounted| is_at_or_below(normal(mounted), path))
}

fn normal(path: &str) -> &str {
    path.trim_end_matches('/')
}

/// Appends to a list of the pod, which is made first where it is missing.
fn add(operations: &mut Vec<Value>, list: &str, is_list_there: &mut bool, item: Value) {
    if *is_list_there {
        operations.push(json!({"op": "add", "path": format!("{list}/-"), "value": item}));
    } else {
        *is_list_there = true;
        operations.push(json!({"op": "add", "path": list, "value": [item]}));
    }
}

fn free_name(slug: &str, taken: &BTreeSet<String>) -> String {
    // Its characters are ASCII: `SecretRef` sees to it.
    let slug: String = slug.replace('.', "-").chars().take(SLUG_BYTES_MAX).collect();
    let base = format!("tidelock-{}", slug.trim_end_matches('-'));
    let mut name = base.clone();
    let mut number = 1;
    while taken.contains(&name) {
        number += 1;
        name = format!("{base}-{number}");
    }
    name
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The entries of a map that are strings; the API server lets no others through.
fn strings(map: &Value) -> BTreeMap<String, String> {
    let entries = map.as_object().into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}
