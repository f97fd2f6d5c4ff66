//! Are the admission policies in force that let the server act for an author? Where one is missing, anybody who may
//! write a RotationSchedule would run Jobs by the server's hand. Must not be answered from memory: a policy can go.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::{Api, Client};

use super::ReconcileError;
use super::spec::Unfit;
use crate::crd::reasons::Reason;

/// The first of these policies that does not refuse, if there is one.
pub(super) async fn missing(client: &Client, guards: &[String]) -> Result<Option<Unfit>, ReconcileError> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    for guard in guards {
        let policy = policies.get_opt(guard).await?;
        let binding = bindings.get_opt(guard).await?;
        if !refuses(guard, policy.as_ref(), binding.as_ref()) {
            let message = format!(
                "rotator.job is refused while the ValidatingAdmissionPolicy {guard} or its binding is missing or \
                 does not deny; install the chart's policies again"
            );
            return Ok(Some(Unfit::new(Reason::GuardMissing, message)));
        }
    }
    Ok(None)
}

fn refuses(
    name: &str,
    policy: Option<&ValidatingAdmissionPolicy>,
    binding: Option<&ValidatingAdmissionPolicyBinding>,
) -> bool {
    let policy = policy.and_then(|policy| policy.spec.as_ref());
    let binding = binding.and_then(|binding| binding.spec.as_ref());
    let (Some(policy), Some(binding)) = (policy, binding) else { return false };
    // Left out, the policy of failures is to refuse.
    let fails_closed = policy.failure_policy.as_deref().is_none_or(|on_failure| on_failure == "Fail");
    let denies = binding.validation_actions.iter().flatten().any(|action| action == "Deny");
    // A binding that matches only some namespaces guards only those.
    let everywhere = binding.match_resources.is_none();
    fails_closed && denies && everywhere && binding.policy_name.as_deref() == Some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(policy: serde_json::Value, binding: serde_json::Value) -> bool {
        let policy = serde_json::from_value(json!({"spec": policy})).unwrap();
        let binding = serde_json::from_value(json!({"spec": binding})).unwrap();
        refuses("guard", Some(&policy), Some(&binding))
    }

    #[test]
    fn a_guard_is_in_force_only_when_policy_and_binding_refuse_everywhere() {
        let binding = json!({"policyName": "guard", "validationActions": ["Deny"]});
        assert!(check(json!({"failurePolicy": "Fail"}), binding.clone()));
        assert!(check(json!({}), binding.clone()));
        assert!(!check(json!({"failurePolicy": "Ignore"}), binding.clone()));
        assert!(!check(json!({}), json!({"policyName": "guard", "validationActions": ["Audit", "Warn"]})));
        assert!(!check(json!({}), json!({"policyName": "other", "validationActions": ["Deny"]})));
        let narrow = json!({"policyName": "guard", "validationActions": ["Deny"], "matchResources": {}});
        assert!(!check(json!({}), narrow));
        assert!(!refuses("guard", None, None));
    }
}
