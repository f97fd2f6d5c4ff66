//! PURE. What follows from what was seen of admission: the webhook, as it is written and as a pod in a dry run met it,
//! and the policies. Must not ask anybody anything.

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};

use super::Place;
use super::finding::{Check, Finding, Word};
use super::judge::{or_well, unseen};
use super::look::{Observed, Trial};
use super::seen::{Seen, Unseen};

/// The name by which the API server tells of it; see the chart.
pub const WEBHOOK: &str = "annotated-pods-need-tidelock-server-running.tidelock.dev";

pub fn webhook(observed: &Observed, place: &Place) -> Vec<Finding> {
    const CHECK: Check = "webhook";
    let mut troubles = Vec::new();
    match &observed.webhook {
        Seen::Unseen(why) => troubles.push(unseen(CHECK, "the webhook configuration", why)),
        Seen::Absent => troubles.push(Finding::mend(
            CHECK,
            Word::WebhookMissing,
            format!(
                "there is no MutatingWebhookConfiguration {}: helm upgrade brings it back",
                place.release
            ),
        )),
        Seen::There(found) => troubles.extend(configured(found, observed, place)),
    }
    troubles.extend(tried(observed, place));
    or_well(
        CHECK,
        troubles,
        format!("the API server reaches it, and a pod in namespace {} was injected", place.trial),
    )
}

fn configured(found: &MutatingWebhookConfiguration, observed: &Observed, place: &Place) -> Option<Finding> {
    const CHECK: Check = "webhook";
    let webhook = found.webhooks.iter().flatten().find(|webhook| webhook.name == WEBHOOK);
    let wrong = match webhook {
        None => Some(format!("it has no webhook {WEBHOOK}")),
        Some(webhook) => wrong(webhook, place),
    };
    if let Some(wrong) = wrong {
        let message =
            format!("MutatingWebhookConfiguration {}: {wrong}; helm upgrade puts it right", place.release);
        return Some(Finding::mend(CHECK, Word::WebhookDiffers, message));
    }
    let bundle = observed.trust.there().and_then(|map| map.data.as_ref()?.get("ca.crt"))?;
    let given = webhook.and_then(|webhook| webhook.client_config.ca_bundle.as_ref());
    (given.is_none_or(|given| given.0 != bundle.as_bytes())).then(|| {
        let message = "its caBundle is not the published authority: the server writes it when it runs; look at the \
                       server's rights and log when it stays";
        Finding::mend(CHECK, Word::CaBundleWrong, message)
    })
}

/// What of the webhook is not as the chart made it.
fn wrong(webhook: &MutatingWebhook, place: &Place) -> Option<String> {
    if webhook.failure_policy.as_deref() != Some("Fail") {
        return Some("failurePolicy is not Fail, so pods may start without their secrets".to_owned());
    }
    let service = webhook.client_config.service.as_ref();
    let name = format!("{}-server", place.release);
    if service.is_none_or(|service| service.name != name || service.namespace != place.namespace) {
        return Some(format!("it does not lead to Service {}/{name}", place.namespace));
    }
    let rules = webhook.rules.iter().flatten();
    let has =
        |list: &Option<Vec<String>>, word: &str| list.iter().flatten().any(|one| one == word || one == "*");
    let mut sees_pods = rules.filter(|rule| has(&rule.resources, "pods") && has(&rule.operations, "CREATE"));
    sees_pods.next().is_none().then(|| "its rules leave out the creation of pods".to_owned())
}

fn tried(observed: &Observed, place: &Place) -> Option<Finding> {
    const CHECK: Check = "webhook";
    let not_called = |detail: &str| {
        let message = format!(
            "an annotated pod in namespace {} is not injected: the API server does not call the webhook{detail}",
            place.trial
        );
        Finding::mend(CHECK, Word::WebhookNotCalled, message)
    };
    match &observed.trial {
        Seen::Unseen(why) => Some(unseen(CHECK, "a trial with a pod (in a dry run)", why)),
        Seen::Absent | Seen::There(Trial::Injected) => None,
        Seen::There(Trial::NotInjected) => Some(not_called(", and no policy keeps such pods out")),
        Seen::There(Trial::Refused(words)) if words.contains(WEBHOOK) => Some(Finding::mend(
            CHECK,
            Word::WebhookUnreachable,
            format!("the API server does not reach it: {words}"),
        )),
        Seen::There(Trial::Refused(words)) if words.contains("-injected-pods") => {
            Some(not_called(": in this namespace, or at all; try another with -n"))
        }
        Seen::There(Trial::Refused(words)) => Some(Finding::unknown(
            CHECK,
            Word::TrialRefused,
            format!(
                "a trial with a pod in namespace {} was refused, try another with -n: {words}",
                place.trial
            ),
        )),
    }
}

pub fn policies(observed: &Observed) -> Vec<Finding> {
    const CHECK: Check = "policies";
    let mut troubles = Vec::new();
    for (name, policy, binding) in &observed.policies {
        for (kind, why) in [("policy", gap(policy)), ("the binding of policy", gap(binding))] {
            match why {
                Some(Some(why)) => troubles.push(unseen(CHECK, &format!("{kind} {name}"), why)),
                Some(None) => troubles.push(Finding::mend(
                    CHECK,
                    Word::PolicyMissing,
                    format!(
                        "{kind} {name} is missing, so what it keeps out gets in: helm upgrade brings it back"
                    ),
                )),
                None => {}
            }
        }
        let fails = policy.there().and_then(|policy| policy.spec.as_ref()?.failure_policy.as_deref());
        let acts = binding.there().and_then(|binding| binding.spec.as_ref());
        let denies = acts.is_none_or(|spec| {
            spec.policy_name.as_deref() == Some(name)
                && spec.validation_actions.iter().flatten().any(|action| action == "Deny")
                && spec.match_resources.is_none()
        });
        if fails.is_some_and(|fails| fails != "Fail") || !denies {
            let message = format!("policy {name} does not deny everywhere: helm upgrade puts it right");
            troubles.push(Finding::mend(CHECK, Word::PolicyNotInForce, message));
        }
    }
    or_well(CHECK, troubles, format!("{} policies are in force", observed.policies.len()))
}

/// Nothing for what is there, else why it was not seen, or nothing again for what is absent.
fn gap<T>(seen: &Seen<T>) -> Option<Option<&Unseen>> {
    match seen {
        Seen::There(_) => None,
        Seen::Absent => Some(None),
        Seen::Unseen(why) => Some(Some(why)),
    }
}
