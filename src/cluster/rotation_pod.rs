//! Is this caller the pod of a rotation Job? Reads the pod's own object, for a token says nothing of owners.
//! Must not give a right: the journal decides whether that very Job is the one that may.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::PodReader;
use crate::access::{PodIdentity, Principal};
use crate::failpoint;
use crate::keeper::RotationJob;

/// On rotation Jobs and their pods; a policy lets nobody but the server and the Job controller set it.
pub const ROTATION_LABEL: &str = "tidelock.dev/rotation";

/// The number of the attempt, on the same objects.
pub const ATTEMPT_LABEL: &str = "tidelock.dev/attempt";

impl PodReader {
    /// The Job whose own pod the caller is. Nothing that cannot be read proves anything.
    pub async fn rotation_job(&self, who: &Principal) -> Option<RotationJob> {
        let namespace = &who.account()?.namespace;
        let identity = who.pod()?;
        match self.pod(namespace, &identity.name).await {
            Ok(pod) => job_of(&pod?, namespace, identity),
            Err(error) => {
                tracing::warn!(%error, namespace, pod = identity.name, "a rotation's pod could not be read");
                None
            }
        }
    }
}

fn job_of(pod: &Pod, namespace: &str, identity: &PodIdentity) -> Option<RotationJob> {
    let metadata = &pod.metadata;
    let labels = metadata.labels.as_ref()?;
    let same = metadata.uid.as_deref() == Some(identity.uid.as_str());
    // The four steps are init containers, and a pod is Pending until all of those have ended.
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let runs = matches!(phase, Some("Pending" | "Running")) && metadata.deletion_timestamp.is_none();
    let labelled = labels.get(ROTATION_LABEL).is_some_and(|value| !value.is_empty());
    if !(same && runs && (labelled || !failpoint::guard("rotation-label"))) {
        return None;
    }
    let owner = only_controller(metadata.owner_references.as_deref()?)?;
    let attempt = labels.get(ATTEMPT_LABEL)?.parse().ok()?;
    let is_job = owner.kind == "Job" && owner.api_version == "batch/v1";
    is_job.then(|| RotationJob { namespace: namespace.to_owned(), uid: owner.uid.clone(), attempt })
}

fn only_controller(owners: &[OwnerReference]) -> Option<&OwnerReference> {
    let mut controllers = owners.iter().filter(|owner| owner.controller == Some(true));
    let first = controllers.next()?;
    controllers.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::PodStatus;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn pod() -> Pod {
        let mut pod = Pod::default();
        pod.metadata.uid = Some("pod-uid".into());
        pod.metadata.labels = Some(BTreeMap::from([
            (ROTATION_LABEL.to_owned(), "orders-db".to_owned()),
            (ATTEMPT_LABEL.to_owned(), "2".to_owned()),
        ]));
        pod.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "batch/v1".into(),
            kind: "Job".into(),
            name: "orders-db-1-2".into(),
            uid: "job-uid".into(),
            controller: Some(true),
            block_owner_deletion: None,
        }]);
        pod.status = Some(PodStatus { phase: Some("Pending".into()), ..PodStatus::default() });
        pod
    }

    fn job(change: impl FnOnce(&mut Pod)) -> Option<RotationJob> {
        let mut pod = pod();
        change(&mut pod);
        let identity = PodIdentity { name: "p".into(), uid: "pod-uid".into(), node: None };
        job_of(&pod, "shop", &identity)
    }

    #[test]
    fn a_running_pod_with_label_attempt_and_one_job_as_controller_is_that_job_s() {
        let expected = RotationJob { namespace: "shop".into(), uid: "job-uid".into(), attempt: 2 };
        assert_eq!(job(|_| ()), Some(expected));
    }

    #[test]
    fn a_pod_that_lacks_any_part_of_the_proof_is_nobody_s() {
        let label = |pod: &mut Pod, key: &str, value: &str| {
            pod.metadata.labels.as_mut().unwrap().insert(key.to_owned(), value.to_owned());
        };
        assert_eq!(job(|pod| pod.metadata.uid = Some("other".into())), None);
        assert_eq!(job(|pod| pod.metadata.labels = None), None);
        assert_eq!(job(|pod| label(pod, ROTATION_LABEL, "")), None);
        assert_eq!(job(|pod| label(pod, ATTEMPT_LABEL, "two")), None);
        assert_eq!(
            job(|pod| pod.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH))),
            None
        );
        for phase in ["Succeeded", "Failed", "Unknown"] {
            assert_eq!(job(|pod| pod.status.as_mut().unwrap().phase = Some(phase.into())), None, "{phase}");
        }
    }

    #[test]
    fn an_owner_that_is_no_job_or_no_controller_or_one_of_two_owns_nothing() {
        let owners = |pod: &mut Pod, change: fn(&mut Vec<OwnerReference>)| {
            change(pod.metadata.owner_references.as_mut().unwrap());
        };
        assert_eq!(job(|pod| owners(pod, |all| all[0].kind = "ReplicaSet".into())), None);
        assert_eq!(job(|pod| owners(pod, |all| all[0].api_version = "example.org/v1".into())), None);
        assert_eq!(job(|pod| owners(pod, |all| all[0].controller = None)), None);
        assert_eq!(job(|pod| owners(pod, |all| all.push(all[0].clone()))), None);
    }
}
