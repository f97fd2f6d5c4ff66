//! What the chart gives the ServiceAccounts of server and node agents, as questions for the cluster's authorizer.
//! Must not ask for more than the chart gives: `e2e/tests/doctor.rs` finds a fresh installation in order.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};

use super::Place;

/// One right of one of our ServiceAccounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// `server` or `node`.
    pub account: &'static str,
    /// Whether it should be there: the node agents have none.
    pub wanted: bool,
    pub verb: &'static str,
    pub group: &'static str,
    pub resource: &'static str,
    pub subresource: Option<&'static str>,
    /// Empty: in all namespaces.
    pub namespace: String,
    /// Empty: of any name.
    pub name: String,
}

impl Right {
    /// As a person would say it.
    pub fn shown(&self) -> String {
        let subresource = self.subresource.map(|part| format!("/{part}")).unwrap_or_default();
        let group = if self.group.is_empty() { String::new() } else { format!(".{}", self.group) };
        let name = if self.name.is_empty() { String::new() } else { format!(" {}", self.name) };
        let place = match self.namespace.as_str() {
            "" => "in all namespaces".to_owned(),
            namespace => format!("in namespace {namespace}"),
        };
        format!("{} {}{subresource}{group}{name} {place}", self.verb, self.resource)
    }

    pub fn review(&self, place: &Place) -> SubjectAccessReview {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let account = format!("{}-{}", place.release, self.account);
        let namespace = &place.namespace;
        SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(format!("system:serviceaccount:{namespace}:{account}")),
                groups: Some(vec![
                    "system:serviceaccounts".to_owned(),
                    format!("system:serviceaccounts:{namespace}"),
                    "system:authenticated".to_owned(),
                ]),
                resource_attributes: Some(ResourceAttributes {
                    group: given(self.group),
                    resource: Some(self.resource.to_owned()),
                    subresource: self.subresource.map(str::to_owned),
                    verb: Some(self.verb.to_owned()),
                    namespace: given(&self.namespace),
                    name: given(&self.name),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        }
    }
}

/// In all namespaces: verbs, group, resource, subresource.
type Wide = (&'static [&'static str], &'static str, &'static str, Option<&'static str>);

const READ: &[&str] = &["get", "list", "watch"];
const EVERYWHERE: &[Wide] = &[
    (READ, "tidelock.dev", "managedsecrets", None),
    (READ, "tidelock.dev", "rotationschedules", None),
    (&["patch"], "tidelock.dev", "managedsecrets", Some("status")),
    (&["patch"], "tidelock.dev", "rotationschedules", Some("status")),
    (&["create"], "authentication.k8s.io", "tokenreviews", None),
    (&["create"], "authorization.k8s.io", "subjectaccessreviews", None),
    (READ, "", "pods", None),
    (READ, "", "nodes", None),
    (READ, "", "namespaces", None),
    (READ, "", "serviceaccounts", None),
    (&["create", "patch"], "events.k8s.io", "events", None),
    (READ, "batch", "jobs", None),
    (READ, "admissionregistration.k8s.io", "validatingadmissionpolicies", None),
    (READ, "admissionregistration.k8s.io", "validatingadmissionpolicybindings", None),
];

/// All of them, for an installation.
pub fn wanted(place: &Place) -> Vec<Right> {
    let right = |verb, group, resource, subresource, namespace: &str, name: String| Right {
        account: "server",
        wanted: true,
        verb,
        group,
        resource,
        subresource,
        namespace: namespace.to_owned(),
        name,
    };
    let (own, named) = (place.namespace.as_str(), |part: &str| format!("{}-{part}", place.release));
    let rotations = named("rotations");
    let mut all: Vec<Right> = EVERYWHERE
        .iter()
        .flat_map(|(verbs, group, resource, part)| {
            verbs.iter().map(move |verb| right(verb, group, resource, *part, "", String::new()))
        })
        .collect();
    let webhook = "mutatingwebhookconfigurations";
    for verb in ["get", "patch"] {
        all.push(right(verb, "admissionregistration.k8s.io", webhook, None, "", place.release.clone()));
        all.push(right(verb, "", "secrets", None, own, named("ca")));
        all.push(right(verb, "", "configmaps", None, own, "tidelock-ca".to_owned()));
        all.push(right(verb, "", "configmaps", None, own, named("held-deletions")));
        all.push(right(verb, "coordination.k8s.io", "leases", None, own, named("server")));
        all.push(right(verb, "", "configmaps", None, &rotations, "tidelock-ca".to_owned()));
    }
    let definition = "managedsecrets.tidelock.dev".to_owned();
    all.push(right("get", "apiextensions.k8s.io", "customresourcedefinitions", None, "", definition));
    all.push(right("get", "", "secrets", None, own, named("root-key")));
    for resource in ["secrets", "configmaps"] {
        all.push(right("create", "", resource, None, own, String::new()));
    }
    for verb in ["create", "delete", "patch"] {
        all.push(right(verb, "batch", "jobs", None, &rotations, String::new()));
    }
    let none = |verb, resource| Right {
        account: "node",
        wanted: false,
        ..right(verb, "", resource, None, "", String::new())
    };
    all.extend([none("get", "secrets"), none("create", "pods"), none("list", "pods")]);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_asked_for_the_account_of_the_installation_and_said_as_people_say_it() {
        let place = Place { namespace: "tl".into(), release: "vault".into(), trial: "shop".into() };
        let all = wanted(&place);
        let key = all.iter().find(|right| right.name == "vault-root-key").unwrap();
        assert_eq!(key.shown(), "get secrets vault-root-key in namespace tl");
        let spec = key.review(&place).spec;
        assert_eq!(spec.user.as_deref(), Some("system:serviceaccount:tl:vault-server"));
        let asked = spec.resource_attributes.unwrap();
        assert_eq!((asked.verb.as_deref(), asked.name.as_deref()), (Some("get"), Some("vault-root-key")));
        let status = all.iter().find(|right| right.subresource == Some("status")).unwrap();
        assert_eq!(status.shown(), "patch managedsecrets/status.tidelock.dev in all namespaces");
        let node = all.iter().find(|right| right.account == "node").unwrap();
        assert_eq!(node.review(&place).spec.user.as_deref(), Some("system:serviceaccount:tl:vault-node"));
    }
}
