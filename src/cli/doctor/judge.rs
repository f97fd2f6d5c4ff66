//! PURE. What follows from what was seen of the server's side: definitions, namespace, server, store, certificates.
//! Must not ask anybody anything.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;

use super::finding::{Check, Finding, Word};
use super::look::{Observed, TRUST};
use super::probe::Handshake;
use super::seen::{Seen, Unseen};
use super::{Place, admission, nodes};
use crate::crd;
use crate::pki;

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
/// The next authority is published years before: less than this is left only when nobody has kept it up.
const AUTHORITY_LEFT_MIN: SignedDuration = SignedDuration::from_hours(24 * 30);

/// All findings, in the order in which an installation stands up.
pub fn judge(observed: &Observed, place: &Place, now: Timestamp) -> Vec<Finding> {
    [
        definitions(observed),
        namespace(observed, place),
        server(observed, place),
        store(observed, place),
        root_key(observed, place),
        certificates(observed, place, now),
        admission::webhook(observed, place),
        admission::policies(observed),
        nodes::agents(observed, place),
        nodes::driver(observed),
        nodes::rights(observed),
        nodes::versions(observed),
        nodes::deletions(observed),
        nodes::readiness("secrets", "ManagedSecrets", &observed.secrets),
        nodes::readiness("schedules", "RotationSchedules", &observed.schedules),
    ]
    .concat()
}

/// What stands for something that was not seen.
pub fn unseen(check: Check, what: &str, why: &Unseen) -> Finding {
    match why {
        Unseen::Forbidden(words) => {
            Finding::unknown(check, Word::NotAllowedToLook, format!("{what}: {words}"))
        }
        Unseen::Failed(words) => Finding::unknown(check, Word::NotAnswered, format!("{what}: {words}")),
    }
}

/// One line for a check without troubles, or the troubles.
pub fn or_well(check: Check, troubles: Vec<Finding>, message: impl Into<String>) -> Vec<Finding> {
    if troubles.is_empty() { vec![Finding::well(check, message)] } else { troubles }
}

fn definitions(observed: &Observed) -> Vec<Finding> {
    const CHECK: Check = "definitions";
    let ours = crd::definitions();
    let mut troubles = Vec::new();
    for (name, seen) in &observed.definitions {
        match seen {
            Seen::Unseen(why) => troubles.push(unseen(CHECK, &format!("definition {name}"), why)),
            Seen::Absent => troubles.push(Finding::mend(
                CHECK,
                Word::DefinitionMissing,
                format!(
                    "there is no definition {name}: helm upgrade with crds.install=true, or kubectl apply -f crds/"
                ),
            )),
            Seen::There(found) => {
                let of_this_version = ours.iter().any(|ours| ours.name_any() == *name && is_same(ours, found));
                if !of_this_version {
                    troubles.push(Finding::mend(
                        CHECK,
                        Word::DefinitionDiffers,
                        format!(
                            "the definition {name} is not the one of this version ({}): upgrade the chart, or ask \
                             with the program of the installed version",
                            env!("CARGO_PKG_VERSION")
                        ),
                    ));
                }
            }
        }
    }
    or_well(CHECK, troubles, format!("{} definitions, of this version", ours.len()))
}

/// Schemas are compared; the API server fills in other parts.
fn is_same(ours: &CustomResourceDefinition, found: &CustomResourceDefinition) -> bool {
    let schemas = |definition: &CustomResourceDefinition| {
        let versions = definition.spec.versions.iter();
        versions.map(|version| (version.name.clone(), version.schema.clone())).collect::<Vec<_>>()
    };
    schemas(ours) == schemas(found)
}

fn namespace(observed: &Observed, place: &Place) -> Vec<Finding> {
    const CHECK: Check = "namespace";
    let name = &place.namespace;
    vec![match &observed.namespace {
        Seen::Unseen(why) => unseen(CHECK, &format!("namespace {name}"), why),
        Seen::Absent => Finding::mend(
            CHECK,
            Word::NamespaceMissing,
            format!(
                "there is no namespace {name}: install the chart, or name the right one with --server-namespace"
            ),
        ),
        Seen::There(found) => match found.labels().get(ENFORCE).map(String::as_str) {
            Some("privileged") => Finding::well(CHECK, format!("{name} admits the privileged mounter")),
            None => Finding::notice(
                CHECK,
                Word::NamespaceLevelNotSet,
                format!(
                    "{name} has no label {ENFORCE}, so it lives by the cluster's default: kubectl label namespace \
                     {name} {ENFORCE}=privileged"
                ),
            ),
            Some(level) => Finding::mend(
                CHECK,
                Word::NamespaceNotPrivileged,
                format!(
                    "{name} enforces {level}, and the node agents need privileged: kubectl label namespace {name} \
                     {ENFORCE}=privileged --overwrite"
                ),
            ),
        },
    }]
}

fn server(observed: &Observed, place: &Place) -> Vec<Finding> {
    const CHECK: Check = "server";
    let name = format!("{}/{}-server", place.namespace, place.release);
    match &observed.stateful_set {
        Seen::Unseen(why) => return vec![unseen(CHECK, &format!("StatefulSet {name}"), why)],
        Seen::Absent => {
            let message = format!(
                "there is no StatefulSet {name}: install the chart, or name it with --server-namespace and --release"
            );
            return vec![Finding::mend(CHECK, Word::ServerMissing, message)];
        }
        Seen::There(set) if set.spec.as_ref().is_some_and(|spec| spec.replicas == Some(0)) => {
            let (ns, set) = (&place.namespace, set.name_any());
            let message = format!("it is scaled to 0: kubectl -n {ns} scale statefulset/{set} --replicas=1");
            return vec![Finding::mend(CHECK, Word::ServerScaledDown, message)];
        }
        Seen::There(_) => {}
    }
    match (&observed.probed.health, &observed.pods) {
        (Seen::Unseen(why), _) => vec![unseen(CHECK, "what it says of itself", why)],
        // Without its pods nobody could be asked.
        (Seen::Absent, Seen::Unseen(why)) => vec![unseen(CHECK, "its pods", why)],
        (Seen::Absent, _) => {
            let ns = &place.namespace;
            let message =
                format!("no pod of {name} runs: kubectl -n {ns} describe pod {}-server-0", place.release);
            vec![Finding::mend(CHECK, Word::ServerNotRunning, message)]
        }
        (Seen::There(health), _) if health.is_ready => vec![Finding::well(CHECK, "it is ready")],
        (Seen::There(health), _) => health.said.lines().filter_map(not_ready).collect(),
    }
}

/// From `component: Reason: message`, the server's own words.
fn not_ready(line: &str) -> Option<Finding> {
    let mut parts = line.splitn(3, ": ");
    let (component, reason) = (parts.next()?, parts.next()?);
    let message = format!("{component}: {}", parts.next().unwrap_or_default());
    let mut finding = Finding::mend("server", Word::ServerNotRunning, message);
    finding.reason = reason.to_owned().into();
    Some(finding)
}

fn store(observed: &Observed, place: &Place) -> Vec<Finding> {
    const CHECK: Check = "store";
    vec![match &observed.claim {
        Seen::Unseen(why) => unseen(CHECK, "the store's volume claim", why),
        Seen::Absent => Finding::mend(
            CHECK,
            Word::VolumeClaimMissing,
            format!("the volume claim of the store is missing in namespace {}: restore it", place.namespace),
        ),
        Seen::There(claim) => {
            let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
            let name = claim.name_any();
            if phase == "Bound" {
                Finding::well(CHECK, format!("volume claim {name} is bound"))
            } else {
                let message = format!(
                    "volume claim {name} is {phase}, not Bound: name a StorageClass with \
                     store.volume.storageClassName, or bring its volume back"
                );
                Finding::mend(CHECK, Word::VolumeClaimNotBound, message)
            }
        }
    }]
}

fn root_key(observed: &Observed, place: &Place) -> Vec<Finding> {
    const CHECK: Check = "root key";
    let name = format!("{}/{}-root-key", place.namespace, place.release);
    let served = observed.probed.health.there().and_then(|health| health.installation.as_deref());
    vec![match &observed.root_key {
        Seen::Unseen(why) => unseen(CHECK, &format!("Secret {name}"), why),
        Seen::Absent => Finding::mend(
            CHECK,
            Word::RootKeyMissing,
            format!(
                "there is no Secret {name}: restore it from its backup before the server restarts; without it no \
                 value opens"
            ),
        ),
        Seen::There(Some(of)) if served.is_none_or(|served| served == of) => {
            let compared = if served.is_some() { "and the store's" } else { "the store's is not known" };
            Finding::well(CHECK, format!("it is of installation {of}, {compared}"))
        }
        Seen::There(of) => Finding::mend(
            CHECK,
            Word::RootKeyOfOtherStore,
            format!(
                "Secret {name} is of installation {}, the store is of {}: restore the one that is wrong",
                of.as_deref().unwrap_or("no"),
                served.unwrap_or("another")
            ),
        ),
    }]
}

fn certificates(observed: &Observed, place: &Place, now: Timestamp) -> Vec<Finding> {
    const CHECK: Check = "certificates";
    let mut troubles = Vec::new();
    let mut known = Vec::new();
    match &observed.authority {
        Seen::Unseen(why) => troubles.push(unseen(CHECK, "the Secret of the authority", why)),
        Seen::Absent => troubles.push(Finding::mend(
            CHECK,
            Word::AuthorityMissing,
            format!(
                "there is no Secret {}/{}-ca: the server makes one when it is ready",
                place.namespace, place.release
            ),
        )),
        Seen::There(()) => {}
    }
    match observed.trust.there().and_then(|map| map.data.as_ref()?.get("ca.crt")) {
        Some(bundle) => {
            // The longest life counts: a successor is published long before it signs.
            let ends = pki::validity_of_pem(bundle).iter().map(|validity| validity.ends).max();
            let left = ends.map(|ends| ends.duration_since(now)).unwrap_or_default();
            known.extend(ends.map(|ends| format!("authority until {}", day(ends))));
            if left < AUTHORITY_LEFT_MIN {
                let message = format!(
                    "the published authority ends within {} days: look at the server's log",
                    left.as_hours() / 24
                );
                troubles.push(Finding::mend(CHECK, Word::AuthorityNearEnd, message));
            }
        }
        None => troubles.push(match &observed.trust {
            Seen::Unseen(why) => unseen(CHECK, &format!("ConfigMap {TRUST}"), why),
            _ => Finding::mend(
                CHECK,
                Word::AuthorityMissing,
                format!(
                    "ConfigMap {}/{TRUST} with ca.crt is missing: the server publishes it when it is ready",
                    place.namespace
                ),
            ),
        }),
    }
    match shown(observed, now) {
        Some(Ok(ends)) => known.push(format!("certificate until {}", day(ends))),
        Some(Err(trouble)) => troubles.push(trouble),
        None => {}
    }
    or_well(CHECK, troubles, known.join(", "))
}

/// The end of the certificate that the server shows, or what is wrong with it; nothing when none could be asked for.
fn shown(observed: &Observed, now: Timestamp) -> Option<Result<Timestamp, Finding>> {
    const CHECK: Check = "certificates";
    let mend = |word, message: String| Some(Err(Finding::mend(CHECK, word, message)));
    match &observed.probed.certificate {
        Seen::Unseen(why) => Some(Err(unseen(CHECK, "the certificate that the server shows", why))),
        Seen::Absent => None,
        Seen::There(Handshake::Refused(words)) => mend(
            Word::CertificateNotTrusted,
            format!("the published authority does not vouch for what the server shows ({words}): restart it"),
        ),
        Seen::There(Handshake::Shown(shown)) => {
            // It is renewed at half of its life.
            let (life, left) = (shown.ends.duration_since(shown.begins), shown.ends.duration_since(now));
            if left >= life / 4 {
                return Some(Ok(shown.ends));
            }
            let ends = shown.ends;
            mend(
                Word::CertificateNotRenewed,
                format!("the server's certificate ends at {ends} and was not renewed: look at its log"),
            )
        }
    }
}

fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests;
