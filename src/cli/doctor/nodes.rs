//! PURE. What follows from what was seen of the nodes, of rights, versions, and of the custom resources.
//! Must not ask anybody anything.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;

use super::Place;
use super::finding::{Check, Finding, Word};
use super::judge::{or_well, unseen};
use super::look::{DRIVER, Observed, Readiness};
use super::seen::Seen;

/// More names than a person reads do not help.
const NAMES_MAX: usize = 10;

pub fn agents(observed: &Observed, place: &Place) -> Vec<Finding> {
    const CHECK: Check = "node agents";
    let name = format!("{}/{}-node", place.namespace, place.release);
    let set = match &observed.daemon_set {
        Seen::Unseen(why) => return vec![unseen(CHECK, &format!("DaemonSet {name}"), why)],
        Seen::Absent => {
            let message = format!("there is no DaemonSet {name}: helm upgrade brings it back");
            return vec![Finding::mend(CHECK, Word::AgentMissing, message)];
        }
        Seen::There(set) => set,
    };
    let (nodes, pods) = match (&observed.nodes, &observed.pods) {
        (Seen::There(nodes), Seen::There(pods)) => (nodes, pods),
        (Seen::Unseen(why), _) | (_, Seen::Unseen(why)) => {
            return vec![unseen(CHECK, "nodes and the agents on them", why)];
        }
        _ => return vec![Finding::mend(CHECK, Word::AgentMissing, "no nodes or no pods were listed")],
    };
    let selector = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()?.node_selector.clone());
    let ready: BTreeSet<&str> = pods.iter().filter(is_ready_agent).filter_map(node_of).collect();
    let wanted = wanted(nodes, &selector.unwrap_or_default());
    let missing: Vec<&String> = wanted.iter().filter(|node| !ready.contains(node.as_str())).collect();
    let mut troubles = Vec::new();
    if !missing.is_empty() {
        let message = format!(
            "no agent is ready on {}: pods with secrets do not start there; kubectl -n {} describe daemonset/{}-node",
            names(&missing),
            place.namespace,
            place.release
        );
        troubles.push(Finding::mend(CHECK, Word::AgentMissing, message));
    }
    let unregistered = observed.csi_nodes.there().map(|all| {
        let has = |node: &str| {
            let found = all.iter().find(|csi| csi.name_any() == node);
            found.is_some_and(|csi| csi.spec.drivers.iter().any(|driver| driver.name == DRIVER))
        };
        wanted.iter().filter(|node| ready.contains(node.as_str()) && !has(node)).collect::<Vec<_>>()
    });
    match (&observed.csi_nodes, unregistered) {
        (Seen::Unseen(why), _) => troubles.push(unseen(CHECK, "CSINodes", why)),
        (_, Some(nodes)) if !nodes.is_empty() => {
            let message = format!(
                "kubelet has not registered {DRIVER} on {}: node.kubeletDir must be kubelet's own folder",
                names(&nodes)
            );
            troubles.push(Finding::mend(CHECK, Word::DriverNotRegistered, message));
        }
        _ => {}
    }
    let streams = observed.probed.health.there().filter(|health| health.is_ready).and_then(|h| h.streams);
    if let Some(streams) = streams.filter(|streams| *streams < ready.len()) {
        let message = format!(
            "{streams} of {} agents have a stream to the server: look at the log of the others",
            ready.len()
        );
        troubles.push(Finding::mend(CHECK, Word::AgentNotConnected, message));
    }
    or_well(CHECK, troubles, format!("one is ready on each of {} nodes", wanted.len()))
}

/// The nodes that the DaemonSet is for.
fn wanted(nodes: &[Node], selector: &BTreeMap<String, String>) -> BTreeSet<String> {
    let is_meant = |node: &&Node| selector.iter().all(|(key, value)| node.labels().get(key) == Some(value));
    nodes.iter().filter(is_meant).map(ResourceExt::name_any).collect()
}

fn is_ready_agent(pod: &&Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.labels().get("app.kubernetes.io/component").map(String::as_str) == Some("node")
        && pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn names(all: &[&String]) -> String {
    let mut shown = all.iter().take(NAMES_MAX).map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    if all.len() > NAMES_MAX {
        shown.push_str(&format!(" and {} more", all.len() - NAMES_MAX));
    }
    shown
}

pub fn driver(observed: &Observed) -> Vec<Finding> {
    const CHECK: Check = "driver";
    vec![match &observed.driver {
        Seen::Unseen(why) => unseen(CHECK, &format!("CSIDriver {DRIVER}"), why),
        Seen::Absent => Finding::mend(
            CHECK,
            Word::DriverMissing,
            format!(
                "there is no CSIDriver {DRIVER}: kubelet gives no pod its secrets; helm upgrade brings it back"
            ),
        ),
        Seen::There(found) => {
            let audiences: Vec<&str> =
                found.spec.token_requests.iter().flatten().map(|asked| asked.audience.as_str()).collect();
            if audiences.is_empty() || found.spec.pod_info_on_mount != Some(true) {
                let message = format!(
                    "CSIDriver {DRIVER} asks kubelet for no token or no pod info: helm upgrade puts it right"
                );
                Finding::mend(CHECK, Word::DriverMissing, message)
            } else {
                Finding::well(CHECK, format!("tokens are for {}", audiences.join(", ")))
            }
        }
    }]
}

pub fn rights(observed: &Observed) -> Vec<Finding> {
    const CHECK: Check = "rights";
    let mut troubles = Vec::new();
    for (right, seen) in &observed.rights {
        match seen {
            Seen::There(has) if *has == right.wanted => {}
            Seen::There(true) => troubles.push(Finding::mend(
                CHECK,
                Word::RightTooWide,
                format!(
                    "the ServiceAccount of {} may {}, which it does not need: find who bound that",
                    right.account,
                    right.shown()
                ),
            )),
            Seen::There(false) => troubles.push(Finding::mend(
                CHECK,
                Word::RightMissing,
                format!(
                    "the ServiceAccount of {} may not {}: helm upgrade brings its roles back",
                    right.account,
                    right.shown()
                ),
            )),
            Seen::Absent => {}
            Seen::Unseen(why) => troubles.push(unseen(CHECK, "rights of our ServiceAccounts", why)),
        }
    }
    or_well(CHECK, troubles, format!("{} rights are as the chart gives them", observed.rights.len()))
}

/// Which images the pods of server and agents run.
pub fn versions(observed: &Observed) -> Vec<Finding> {
    const CHECK: Check = "versions";
    let pods = match &observed.pods {
        Seen::There(pods) => pods,
        Seen::Unseen(why) => return vec![unseen(CHECK, "pods of the release", why)],
        Seen::Absent => return Vec::new(),
    };
    let mut images: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for pod in pods {
        let component = pod.labels().get("app.kubernetes.io/component").map_or("", String::as_str);
        if !matches!(component, "server" | "node") {
            continue;
        }
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let ours = containers.filter(|one| matches!(one.name.as_str(), "server" | "agent" | "mounter"));
        for image in ours.filter_map(|container| container.image.as_deref()) {
            images.entry(image).or_default().insert(component);
        }
    }
    if images.len() > 1 {
        let parts = images.iter().map(|(image, components)| {
            let components: Vec<&str> = components.iter().copied().collect();
            format!("{} {image}", components.join(" and "))
        });
        let message = format!(
            "{}: an upgrade is under way, or has stopped half-way; kubectl rollout status says which",
            parts.collect::<Vec<_>>().join("; ")
        );
        return vec![Finding::mend(CHECK, Word::VersionSkew, message)];
    }
    let image = images.keys().next().copied().unwrap_or("no image");
    vec![Finding::well(CHECK, format!("all pods run {image}"))]
}

pub fn deletions(observed: &Observed) -> Vec<Finding> {
    const CHECK: Check = "deletions";
    vec![match &observed.held {
        Seen::Unseen(why) => unseen(CHECK, "held deletions", why),
        Seen::Absent => Finding::well(CHECK, "none is held"),
        Seen::There(map) => {
            let count = map.data.as_ref().and_then(|data| data.get("count")).map_or("some", String::as_str);
            let message = format!(
                "{count} deletions are held: find out why so much vanished at once; `tidelock approve deletions` when \
                 it was meant"
            );
            let mut finding = Finding::mend(CHECK, Word::NotAllReady, message);
            finding.reason = "MassDeletionHeld".into();
            finding
        }
    }]
}

pub fn readiness(check: Check, kind: &str, seen: &Seen<Readiness>) -> Vec<Finding> {
    vec![match seen {
        Seen::Unseen(why) => unseen(check, kind, why),
        // The missing definition has its own line.
        Seen::Absent => return Vec::new(),
        Seen::There(found) if found.not_ready.is_empty() => {
            Finding::well(check, format!("all {} {kind} are ready", found.all))
        }
        Seen::There(found) => {
            let count: usize = found.not_ready.values().sum();
            let reasons: Vec<String> =
                found.not_ready.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            let message = format!("{count} of {} {kind} are not ready: {}", found.all, reasons.join(", "));
            Finding::notice(check, Word::NotAllReady, message)
        }
    }]
}
