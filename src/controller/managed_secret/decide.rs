//! PURE. What is to be done about one ManagedSecret, from what was seen of it and of its secret.
//! Total: everything that can be seen has its plan. Must not ask, write, or read the time.
//!
//! ```text
//!  no secret ────────────Create───────────▶ secret of this resource ──Configure──▶ as `spec` says: Keep
//!  secret scheduled for deletion ─Restore─▶        ▲
//!  secret under the resource's earlier UID ─Restore┘
//!  anything else: Refuse, and nothing changes
//! ```

use crate::crd::reasons::Reason;
use crate::crd::{Desired, SpecError, ValueSource};
use crate::failpoint;
use crate::keeper::{Configure, Description, GrantRecord};
use crate::secret::{Name, Origin};

/// What was seen.
#[derive(Debug)]
pub struct Observed<'a> {
    pub resource: Identity<'a>,
    pub desired: Result<&'a Desired, &'a SpecError>,
    /// The secret that has the wanted name.
    pub named: Option<&'a Description>,
    /// The secret of this very resource, when it has another name.
    pub elsewhere: Option<&'a Name>,
    /// How the first version was made, as the status recorded it.
    pub made_by: Option<&'a str>,
    /// The ARN whose restore somebody approved.
    pub approved_restore: Option<&'a str>,
    /// Whether the policy that asks authors for their own rights is in force.
    pub authors_are_asked: bool,
}

/// Which resource this is, in which namespace.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub namespace_uid: &'a str,
}

/// The one thing to do next.
#[derive(Debug, PartialEq)]
pub enum Plan {
    /// Make the first value, and the secret with it.
    Create,
    /// Bring the secret back, or take it over from this resource's earlier UID.
    Restore {
        approved: bool,
    },
    Configure(Configure),
    /// Everything is as `spec` says.
    Keep,
    Refuse(Refusal),
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    pub message: String,
}

pub fn decide(seen: &Observed<'_>) -> Plan {
    let desired = match seen.desired {
        Ok(desired) => desired,
        Err(error) => {
            let reason = match error {
                SpecError::OutsideNamespace { .. } => Reason::NameOutsideNamespace,
                _ => Reason::SpecInvalid,
            };
            return refuse(reason, error.to_string());
        }
    };
    if let Some(name) = seen.elsewhere {
        let message = format!(
            "spec.name asks for {}, but this object's secret is {name} and cannot be renamed: put the name back, or \
             create another ManagedSecret with the new name",
            desired.name
        );
        return refuse(Reason::SpecChangeRefused, message);
    }
    match seen.named {
        None => create(seen, desired),
        Some(secret) => existing(seen, desired, secret),
    }
}

fn create(seen: &Observed<'_>, desired: &Desired) -> Plan {
    let asked = seen.authors_are_asked || !failpoint::guard("author-checks");
    if matches!(desired.value, ValueSource::FromSecret { .. }) && !asked {
        let message =
            "spec.value.fromSecret is refused, for nothing asks whether its author may read that Secret: \
                       install the ValidatingAdmissionPolicy of the chart and its binding"
                .to_owned();
        return refuse(Reason::GuardMissing, message);
    }
    Plan::Create
}

fn existing(seen: &Observed<'_>, desired: &Desired, secret: &Description) -> Plan {
    let me = seen.resource;
    let Origin::CustomResource { namespace, name, uid, namespace_uid } = &secret.origin else {
        let message = format!(
            "a caller of the API made the secret {}: delete that one first, or take another spec.name",
            secret.name
        );
        return refuse(Reason::NameTaken, message);
    };
    if (namespace.as_str(), name.as_str()) != (me.namespace, me.name) {
        let message = format!(
            "the secret {} is that of ManagedSecret {namespace}/{name}: take another spec.name",
            secret.name
        );
        return refuse(Reason::NameTaken, message);
    }
    if secret.deletion.is_some() || uid != me.uid {
        return restore(seen, secret, namespace_uid);
    }
    let source = desired.value.describe();
    if let Some(made_by) = seen.made_by.filter(|made_by| *made_by != source) {
        let message = format!(
            "spec.value says {source}, but the secret was made by {made_by}, and a value that exists is not made \
             again: put spec.value back, or write a new version through the API; nothing of this edit was applied"
        );
        return refuse(Reason::SpecChangeRefused, message);
    }
    let wanted = wanted(desired);
    if is_configured(secret, &wanted) { Plan::Keep } else { Plan::Configure(wanted) }
}

fn restore(seen: &Observed<'_>, secret: &Description, namespace_uid: &str) -> Plan {
    if namespace_uid == seen.resource.namespace_uid {
        return Plan::Restore { approved: false };
    }
    if seen.approved_restore == Some(secret.arn.as_str()) && seen.authors_are_asked {
        return Plan::Restore { approved: true };
    }
    let unguarded = if seen.authors_are_asked || seen.approved_restore.is_none() {
        ""
    } else {
        " (an approval is there, but the policy that guards approvals is not in force)"
    };
    let message = format!(
        "the secret {} was made in an earlier namespace {}: somebody with the verb restore must approve that this \
         one gets its values, by `tidelock approve restore {}`, which sets this object's annotation {} to that \
         ARN{unguarded}",
        secret.arn,
        seen.resource.namespace,
        seen.resource.name,
        crate::crd::ANNOTATION_APPROVE_RESTORE,
    );
    refuse(Reason::RestoreNeedsApproval, message)
}

/// What of a spec can be changed on a secret that exists.
pub fn wanted(desired: &Desired) -> Configure {
    Configure {
        description: desired.description.clone(),
        grants: grants(desired),
        recovery_window_days: desired.recovery_window_days,
    }
}

pub fn grants(desired: &Desired) -> Vec<GrantRecord> {
    desired
        .grants
        .iter()
        .map(|grant| GrantRecord {
            account: grant.account.clone(),
            stages: grant.stages.clone(),
            keys: grant.keys.clone(),
        })
        .collect()
}

fn is_configured(secret: &Description, wanted: &Configure) -> bool {
    secret.description == wanted.description
        && secret.grants == wanted.grants
        && secret.recovery_window_days == wanted.recovery_window_days
}

fn refuse(reason: Reason, message: String) -> Plan {
    Plan::Refuse(Refusal { reason, message })
}

#[cfg(test)]
mod tests;
