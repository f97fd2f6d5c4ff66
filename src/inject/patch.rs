//! What has to be added to a pod so that it carries the secrets it asks for.
//! Must not touch anything else: works on the pod as JSON, for a typed pod would drop fields newer than this program.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::annotations::{self, CONTAINERS, Refusal, Wanted, is_at_or_below, path_annotation};
use super::attributes::{Attributes, DRIVER, shown};

/// A volume's name is a DNS label; this leaves room for the prefix and a number.
const SLUG_BYTES_MAX: usize = 48;

/// What a pod gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Injection {
    /// JSON patch (RFC 6902); empty when the pod has everything already.
    pub operations: Vec<Value>,
    /// What the pod asks for, for asking whether it may have it.
    pub asked: Vec<Attributes>,
}

/// Decides what to add to `pod`, which is created in `namespace`. Applied twice it adds nothing more; invoked again
/// after another webhook has added containers, it serves those.
pub fn inject(pod: &Value, namespace: &str) -> Result<Injection, Refusal> {
    let annotations = strings(&pod["metadata"]["annotations"]);
    let Some(asked) = annotations::parse(&annotations, namespace)? else {
        return Ok(Injection::default());
    };
    check_kind(pod, &annotations)?;
    let containers = containers(pod)?;
    if let Some(names) = &asked.containers {
        check_names(names, &containers)?;
    }
    let mut operations = Vec::new();
    let volumes = place_volumes(pod, &asked.secrets, &mut operations);
    for container in &containers {
        let is_served =
            asked.containers.as_ref().is_none_or(|names| names.iter().any(|name| name == container.name));
        if is_served {
            place_mounts(container, &asked.secrets, &volumes, &mut operations)?;
        }
    }
    let asked = asked.secrets.into_iter().map(|wanted| wanted.attributes).collect();
    Ok(Injection { operations, asked })
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

/// One volume per secret, named; a volume of ours with the same attributes is taken as it stands.
fn place_volumes(pod: &Value, secrets: &[Wanted], operations: &mut Vec<Value>) -> Vec<String> {
    let existing = array(&pod["spec"]["volumes"]);
    let mut taken: BTreeSet<String> =
        existing.iter().filter_map(|volume| volume["name"].as_str()).map(str::to_owned).collect();
    let mut is_list_there = pod["spec"]["volumes"].is_array();
    let mut names = Vec::new();
    for wanted in secrets {
        let source = json!({
            "driver": DRIVER,
            "readOnly": true,
            "volumeAttributes": wanted.attributes.render(),
        });
        let same = existing.iter().find(|volume| volume["csi"] == source);
        if let Some(name) = same.and_then(|volume| volume["name"].as_str()) {
            names.push(name.to_owned());
            continue;
        }
        let name = free_name(wanted.attributes.secret.name(), &taken);
        taken.insert(name.clone());
        add(operations, "/spec/volumes", &mut is_list_there, json!({"name": name, "csi": source}));
        names.push(name);
    }
    names
}

fn place_mounts(
    container: &Container<'_>,
    secrets: &[Wanted],
    volumes: &[String],
    operations: &mut Vec<Value>,
) -> Result<(), Refusal> {
    let list = format!("{}/volumeMounts", container.pointer);
    let mut is_list_there = container.has_mounts;
    for (wanted, volume) in secrets.iter().zip(volumes) {
        let mount = json!({"name": volume, "mountPath": wanted.path, "readOnly": true});
        if container.mounts.iter().any(|existing| is_same_mount(existing, &mount)) {
            continue;
        }
        if let Some(mounted) = obstacle(container.mounts, &wanted.path) {
            return Err(Refusal::PathTaken {
                container: shown(container.name),
                mounted: shown(mounted),
                path: wanted.path.clone(),
                secret: wanted.attributes.secret.to_string(),
                hint: path_annotation(&wanted.attributes.secret),
            });
        }
        add(operations, &list, &mut is_list_there, mount);
    }
    Ok(())
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

fn free_name(secret: &str, taken: &BTreeSet<String>) -> String {
    // The name's characters are ASCII: `SecretRef` sees to it.
    let slug: String = secret.replace('.', "-").chars().take(SLUG_BYTES_MAX).collect();
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
