//! What a rotation's pods tell: which step runs, which one failed, and whether a pod can still be making a value.
//! Pure: objects in, findings out. Must not take the silence of a node for a pod's end.

use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod};

use crate::cluster::ATTEMPT_LABEL;
use crate::rotation::Step;

const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// How an attempt ended, as far as its pod tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    /// A step's word, or the name of another container.
    pub container: String,
    pub exit_code: i32,
}

/// Whether the pod belongs to that Job's attempt.
pub(super) fn is_of(pod: &Pod, job_uid: &str, attempt: u32) -> bool {
    let owned = pod.metadata.owner_references.iter().flatten().any(|owner| owner.uid == job_uid);
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(ATTEMPT_LABEL));
    owned && label.is_some_and(|label| *label == attempt.to_string())
}

/// Whether no container of the pod runs any more. `node` is the pod's own as the API knows it now: none when it was
/// deleted. A node that does not answer may still run the pod, whatever the API says of the pod's deletion.
pub(super) fn is_over(pod: &Pod, node: Option<&Node>) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return true;
    }
    if node_name(pod).is_none() {
        // No node ever took it: while it is not deleted, one may.
        return pod.metadata.deletion_timestamp.is_some();
    }
    node.is_none_or(|node| {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
        taints.into_iter().flatten().any(|taint| taint.key == OUT_OF_SERVICE)
    })
}

pub(super) fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// The step that runs or waits to run: the first whose container has not ended.
pub(super) fn step(pod: &Pod) -> Option<Step> {
    let statuses = init_statuses(pod);
    let begun = |step: &Step| statuses.iter().find(|status| status.name == step.container());
    let mut seen = None;
    for step in Step::ALL {
        let state = begun(&step)?.state.as_ref();
        if state.is_some_and(|state| state.running.is_some() || state.terminated.is_some()) {
            seen = Some(step);
        }
    }
    seen
}

/// The container whose end failed the pod.
pub(super) fn failed(pod: &Pod) -> Option<Failed> {
    let main =
        pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    init_statuses(pod).iter().chain(main).find_map(|status| {
        let exit_code = status.state.as_ref()?.terminated.as_ref()?.exit_code;
        // The relay is stopped at the end, when nobody asks for its exit code.
        (exit_code != 0 && status.name != "relay").then(|| Failed {
            container: match Step::of_container(&status.name) {
                Some(step) => step.as_str().to_owned(),
                None => status.name.clone(),
            },
            exit_code,
        })
    })
}

fn init_statuses(pod: &Pod) -> &[ContainerStatus] {
    let statuses = pod.status.as_ref().and_then(|status| status.init_container_statuses.as_deref());
    statuses.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(json: serde_json::Value) -> Pod {
        serde_json::from_value(json).unwrap()
    }

    fn on_node(phase: &str, deleted: bool) -> Pod {
        let deletion = deleted.then_some("2026-01-01T00:00:00Z");
        pod(serde_json::json!({
            "metadata": {"deletionTimestamp": deletion},
            "spec": {"nodeName": "node-1", "containers": []},
            "status": {"phase": phase},
        }))
    }

    fn node(taint: Option<&str>) -> Node {
        let taints = taint.map(|key| serde_json::json!([{"key": key, "effect": "NoExecute"}]));
        serde_json::from_value(serde_json::json!({"spec": {"taints": taints}})).unwrap()
    }

    #[test]
    fn a_pod_on_a_silent_node_may_still_run_though_it_was_deleted() {
        let silent = node(Some("node.kubernetes.io/unreachable"));
        assert!(!is_over(&on_node("Running", true), Some(&silent)));
        assert!(!is_over(&on_node("Pending", false), Some(&silent)));
    }

    #[test]
    fn a_pod_is_over_when_it_ended_or_its_node_is_gone_or_out_of_service() {
        assert!(is_over(&on_node("Failed", false), Some(&node(None))));
        assert!(is_over(&on_node("Succeeded", false), Some(&node(None))));
        assert!(is_over(&on_node("Running", false), None));
        assert!(is_over(&on_node("Running", true), Some(&node(Some(OUT_OF_SERVICE)))));
    }

    #[test]
    fn a_pod_that_no_node_took_is_over_once_it_is_deleted() {
        let waiting =
            serde_json::json!({"metadata": {}, "spec": {"containers": []}, "status": {"phase": "Pending"}});
        assert!(!is_over(&pod(waiting), None));
        let deleted = serde_json::json!({
            "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": []}, "status": {"phase": "Pending"},
        });
        assert!(is_over(&pod(deleted), None));
    }

    fn with_steps(states: &[(&str, serde_json::Value)]) -> Pod {
        let statuses: Vec<_> = states
            .iter()
            .map(|(name, state)| {
                serde_json::json!({"name": name, "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0})
            })
            .collect();
        pod(serde_json::json!({"status": {"initContainerStatuses": statuses}}))
    }

    #[test]
    fn the_step_and_the_failure_are_read_from_the_containers() {
        use serde_json::json;
        let (running, waiting) = (json!({"running": {}}), json!({"waiting": {"reason": "PodInitializing"}}));
        let done = json!({"terminated": {"exitCode": 0}});
        let broken = json!({"terminated": {"exitCode": 3}});
        let steps = |create: &serde_json::Value, set: &serde_json::Value| {
            with_steps(&[
                ("relay", running.clone()),
                ("create-secret", create.clone()),
                ("set-secret", set.clone()),
                ("test-secret", waiting.clone()),
                ("finish-secret", waiting.clone()),
            ])
        };
        assert_eq!(step(&steps(&waiting, &waiting)), None);
        assert_eq!(step(&steps(&running, &waiting)), Some(Step::CreateSecret));
        assert_eq!(step(&steps(&done, &running)), Some(Step::SetSecret));
        assert_eq!(failed(&steps(&done, &running)), None);
        let failure = Failed { container: "setSecret".to_owned(), exit_code: 3 };
        assert_eq!(failed(&steps(&done, &broken)), Some(failure));
        let stopped = with_steps(&[("relay", json!({"terminated": {"exitCode": 143}}))]);
        assert_eq!(failed(&stopped), None);
    }

    #[test]
    fn a_pod_of_another_job_or_attempt_is_not_this_one_s() {
        let pod = pod(serde_json::json!({"metadata": {
            "labels": {"tidelock.dev/attempt": "2"},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "job-uid"}],
        }}));
        assert!(is_of(&pod, "job-uid", 2));
        assert!(!is_of(&pod, "job-uid", 1) && !is_of(&pod, "other", 2));
    }
}
