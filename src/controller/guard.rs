//! Whether a policy that asks authors for their own rights is in force. Must not be remembered for long: a policy can
//! be removed at any time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::{Api, Client};

/// How long an answer stands.
const STANDS: Duration = Duration::from_secs(10);

/// One ValidatingAdmissionPolicy and its binding, which have the same name.
pub struct Guard {
    policies: Api<ValidatingAdmissionPolicy>,
    bindings: Api<ValidatingAdmissionPolicyBinding>,
    name: String,
    seen: Mutex<Option<(Instant, bool)>>,
}

impl Guard {
    pub fn new(client: Client, name: String) -> Self {
        Self { policies: Api::all(client.clone()), bindings: Api::all(client), name, seen: Mutex::default() }
    }

    /// Whether what the policy refuses is really refused. What cannot be found out is a no.
    pub async fn is_in_force(&self, now: Instant) -> bool {
        let remembered = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, in_force)) = remembered
            && now.saturating_duration_since(at) < STANDS
        {
            return in_force;
        }
        let in_force = self.ask().await;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, in_force));
        in_force
    }

    async fn ask(&self) -> bool {
        let (policy, binding) =
            tokio::join!(self.policies.get_opt(&self.name), self.bindings.get_opt(&self.name));
        match (policy, binding) {
            (Ok(Some(policy)), Ok(Some(binding))) => fails_closed(&policy) && denies(&binding, &self.name),
            (Ok(_), Ok(_)) => false,
            (policy, binding) => {
                let error = policy.err().or(binding.err()).map(|error| error.to_string());
                tracing::warn!(policy = self.name, error, "whether a policy is in force could not be asked");
                false
            }
        }
    }
}

fn fails_closed(policy: &ValidatingAdmissionPolicy) -> bool {
    let spec = policy.spec.as_ref();
    // `Fail` is the API's default.
    let closed = spec.is_some_and(|spec| spec.failure_policy.as_deref().unwrap_or("Fail") == "Fail");
    let asks = spec.and_then(|spec| spec.validations.as_ref()).is_some_and(|all| !all.is_empty());
    closed && asks && policy.metadata.deletion_timestamp.is_none()
}

fn denies(binding: &ValidatingAdmissionPolicyBinding, policy: &str) -> bool {
    let Some(spec) = &binding.spec else { return false };
    let actions = spec.validation_actions.as_deref().unwrap_or_default();
    // A binding that matches only some resources leaves gaps.
    spec.policy_name.as_deref() == Some(policy)
        && actions.iter().any(|action| action == "Deny")
        && spec.match_resources.is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_guards_only_when_it_fails_closed_and_its_binding_denies_everywhere() {
        let policy = |failure: &str| {
            let value = json!({"spec": {"failurePolicy": failure, "validations": [{"expression": "false"}]}});
            serde_json::from_value::<ValidatingAdmissionPolicy>(value).unwrap()
        };
        assert!(fails_closed(&policy("Fail")) && !fails_closed(&policy("Ignore")));
        let binding = |spec| {
            serde_json::from_value::<ValidatingAdmissionPolicyBinding>(json!({ "spec": spec })).unwrap()
        };
        assert!(denies(&binding(json!({"policyName": "p", "validationActions": ["Deny"]})), "p"));
        for gap in [
            json!({"policyName": "p", "validationActions": ["Warn", "Audit"]}),
            json!({"policyName": "other", "validationActions": ["Deny"]}),
            json!({"policyName": "p", "validationActions": ["Deny"], "matchResources": {"namespaceSelector": {}}}),
        ] {
            assert!(!denies(&binding(gap.clone()), "p"), "{gap}");
        }
    }
}
