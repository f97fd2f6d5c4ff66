//! PURE. Which secrets have lost their ManagedSecret, and whether so many of them that a person is asked first.
//! Must not delete anything, nor believe one listing: it wants two complete ones.
//!
//! A listing that is too short has many causes that are nobody's wish: a CRD deleted and made again, another cluster's
//! kubeconfig, a restored etcd, a mistaken prune. A scheduled deletion can be taken back, but not for ever.

use std::collections::{BTreeMap, BTreeSet};

use crate::failpoint;
use crate::secret::Arn;

/// So many may vanish at once without question, or this part of all, whichever is more.
const UNQUESTIONED: usize = 10;
const UNQUESTIONED_PERCENT: usize = 20;

/// Namespace and name of a resource.
pub type Key = (String, String);

/// A secret that a ManagedSecret made and that is not scheduled for deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub arn: Arn,
    pub key: Key,
    pub namespace_uid: String,
}

/// One complete look at the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    pub resources: BTreeSet<Key>,
    /// UIDs of the namespaces that are there and not on their way out.
    pub namespaces: BTreeMap<String, String>,
    pub place: Place,
}

/// Where the secrets were made, or where we look now. That the store is this installation's is asked before it opens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    pub cluster_id: String,
    pub crd_uid: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// To be scheduled for deletion now.
    pub delete: Vec<Arn>,
    pub held: Option<Held>,
}

/// Deletions that wait for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub why: String,
    pub arns: Vec<Arn>,
}

/// `recent` are the secrets that were scheduled for deletion a short while ago: who deletes one after the other deletes
/// as many. `approved` tells whether a person has agreed to the deletion of these.
pub fn judge(
    kept: &[Kept],
    recent: &[Kept],
    looks: [&Listing; 2],
    recorded: &Place,
    approved: &dyn Fn(&[Arn]) -> bool,
) -> Verdict {
    let [first, second] = looks;
    let missing = |secret: &&Kept| looks.iter().all(|look| !look.resources.contains(&secret.key));
    let (with_namespace, alone): (Vec<&Kept>, Vec<&Kept>) = kept
        .iter()
        .filter(missing)
        .partition(|secret| looks.iter().all(|look| namespace_is_gone(look, secret)));
    if with_namespace.is_empty() && alone.is_empty() {
        return Verdict::default();
    }
    if let Some(why) = moved(recorded, first, second) {
        let arns: Vec<Arn> = with_namespace.iter().chain(&alone).map(|secret| secret.arn.clone()).collect();
        return hold_unless_approved(arns, why, approved);
    }
    let mut verdict = Verdict::default();
    let namespaces = |secrets: &mut dyn Iterator<Item = &Kept>| {
        secrets
            .map(|secret| (secret.key.0.clone(), secret.namespace_uid.clone()))
            .collect::<BTreeSet<_>>()
            .len()
    };
    let (recent_with_namespace, recent_alone): (Vec<&Kept>, Vec<&Kept>) =
        recent.iter().partition(|secret| looks.iter().all(|look| namespace_is_gone(look, secret)));
    let namespaces_gone = namespaces(&mut with_namespace.iter().chain(&recent_with_namespace).copied());
    let namespaces_all = namespaces(&mut kept.iter().chain(recent));
    let alone_gone = alone.len() + recent_alone.len();
    let groups = [
        (with_namespace, namespaces_gone, namespaces_all, "namespaces with ManagedSecrets"),
        (alone, alone_gone, kept.len() + recent.len(), "ManagedSecrets"),
    ];
    let mut waiting: Vec<Arn> = Vec::new();
    let mut whys = Vec::new();
    for (group, gone, all, what) in groups {
        let arns = group.into_iter().map(|secret| secret.arn.clone());
        if failpoint::guard("mass-deletion-hold") && gone > unquestioned(all) {
            waiting.extend(arns);
            whys.push(format!(
                "{gone} of {all} {what} vanished within minutes, at most {} may",
                unquestioned(all)
            ));
        } else {
            verdict.delete.extend(arns);
        }
    }
    if !waiting.is_empty() {
        let rest = hold_unless_approved(waiting, whys.join("; "), approved);
        verdict.delete.extend(rest.delete);
        verdict.held = rest.held;
    }
    verdict
}

fn hold_unless_approved(mut arns: Vec<Arn>, why: String, approved: &dyn Fn(&[Arn]) -> bool) -> Verdict {
    arns.sort();
    if approved(&arns) {
        return Verdict { delete: arns, held: None };
    }
    Verdict { delete: Vec::new(), held: Some(Held { why, arns }) }
}

fn namespace_is_gone(look: &Listing, secret: &Kept) -> bool {
    look.namespaces.get(&secret.key.0) != Some(&secret.namespace_uid)
}

fn unquestioned(all: usize) -> usize {
    UNQUESTIONED.max(all * UNQUESTIONED_PERCENT / 100)
}

/// Whether we look at another place than the one where the secrets were last seen.
fn moved(recorded: &Place, first: &Listing, second: &Listing) -> Option<String> {
    for look in [first, second] {
        for (what, before, now) in [
            ("the cluster (UID of kube-system)", &recorded.cluster_id, &look.place.cluster_id),
            ("the CustomResourceDefinition", &recorded.crd_uid, &look.place.crd_uid),
        ] {
            if !before.is_empty() && before != now {
                return Some(format!("{what} is another one than before ({now} instead of {before})"));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
