//! An installation in order, and what is said when one thing of it is not.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use serde_json::{Value, json};

use super::super::admission::WEBHOOK;
use super::super::finding::State;
use super::super::look::{POLICIES, Readiness, Trial};
use super::super::probe::{Health, Probed};
use super::super::rights;
use super::*;
use crate::pki::{Authority, Lifetimes, Validity};

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

fn place() -> Place {
    Place { namespace: "tidelock-system".into(), release: "tidelock".into(), trial: "shop".into() }
}

fn of<T: serde::de::DeserializeOwned>(value: Value) -> Seen<T> {
    Seen::There(serde_json::from_value(value).unwrap())
}

fn pod(component: &str, image: &str, node: &str) -> Value {
    let container = if component == "node" { "agent" } else { "server" };
    json!({
        "metadata": {"name": component, "labels": {"app.kubernetes.io/component": component}},
        "spec": {"nodeName": node, "containers": [{"name": container, "image": image}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn webhook(bundle: &str) -> MutatingWebhookConfiguration {
    let mut found: MutatingWebhookConfiguration = serde_json::from_value(json!({
        "metadata": {"name": "tidelock"},
        "webhooks": [{
            "name": WEBHOOK, "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
            "clientConfig": {"service": {"name": "tidelock-server", "namespace": "tidelock-system"}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        }],
    }))
    .unwrap();
    found.webhooks.as_mut().unwrap()[0].client_config.ca_bundle =
        Some(ByteString(bundle.as_bytes().to_vec()));
    found
}

fn hours(count: i64) -> SignedDuration {
    SignedDuration::from_hours(count)
}

/// All of it in order.
fn well() -> Observed {
    let bundle = Authority::create("test", Lifetimes::default(), now()).unwrap().bundle(now());
    let policy = |name: &str| {
        let found = of(json!({"metadata": {"name": name}, "spec": {"failurePolicy": "Fail"}}));
        let binding = of(json!({"spec": {"policyName": name, "validationActions": ["Deny"]}}));
        (name.to_owned(), found, binding)
    };
    let shown = Validity { begins: now() - hours(24), ends: now() + hours(144) };
    let health = Health {
        is_ready: true,
        said: String::new(),
        installation: Some("0190-ab".into()),
        streams: Some(1),
    };
    Observed {
        definitions: crd::definitions().into_iter().map(|one| (one.name_any(), Seen::There(one))).collect(),
        namespace: of(json!({"metadata": {"name": "tidelock-system", "labels": {ENFORCE: "privileged"}}})),
        stateful_set: of(json!({"metadata": {"name": "tidelock-server"},
            "spec": {"replicas": 1, "selector": {}, "serviceName": "s", "template": {}}})),
        pods: of(json!([pod("server", "tidelock:1", "a"), pod("node", "tidelock:1", "a")])),
        probed: Probed { health: Seen::There(health), certificate: Seen::There(Handshake::Shown(shown)) },
        claim: of(json!({"metadata": {"name": "store-tidelock-server-0"}, "status": {"phase": "Bound"}})),
        root_key: Seen::There(Some("0190-ab".into())),
        authority: Seen::There(()),
        trust: of(json!({"data": {"ca.crt": bundle}})),
        webhook: Seen::There(webhook(&bundle)),
        trial: Seen::There(Trial::Injected),
        policies: POLICIES.iter().map(|name| policy(name)).collect(),
        driver: of(json!({"metadata": {"name": "csi.tidelock.dev"},
            "spec": {"podInfoOnMount": true, "tokenRequests": [{"audience": "tidelock.tidelock-system/node"}]}})),
        daemon_set: of(
            json!({"metadata": {"name": "tidelock-node"}, "spec": {"selector": {}, "template": {}}}),
        ),
        nodes: of(json!([{"metadata": {"name": "a"}}])),
        csi_nodes: of(json!([{"metadata": {"name": "a"},
            "spec": {"drivers": [{"name": "csi.tidelock.dev", "nodeID": "a"}]}}])),
        rights: rights::wanted(&place())
            .into_iter()
            .map(|one| (one.clone(), Seen::There(one.wanted)))
            .collect(),
        held: Seen::Absent,
        secrets: Seen::There(Readiness::default()),
        schedules: Seen::There(Readiness::default()),
    }
}

#[test]
fn an_installation_in_order_has_one_line_a_check_and_all_are_well() {
    let findings = judge(&well(), &place(), now());
    let others: Vec<_> = findings.iter().filter(|finding| finding.state != State::Well).collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(findings.len(), 15);
}

/// Breaks one thing, and reads the one line that is not well.
#[track_caller]
fn says(wanted: &str, state: State, words: &str, spoil: impl FnOnce(&mut Observed)) {
    let mut observed = well();
    spoil(&mut observed);
    let findings = judge(&observed, &place(), now());
    let others: Vec<_> = findings.iter().filter(|finding| finding.state != State::Well).collect();
    let one = others.iter().find(|finding| finding.reason == wanted);
    let one = one.unwrap_or_else(|| panic!("{wanted} is not said, but {others:?}"));
    assert_eq!((one.state, others.len()), (state, 1), "{others:?}");
    assert!(one.message.contains(words), "`{words}` is missing in {}", one.message);
}

#[track_caller]
fn mend(wanted: &str, words: &str, spoil: impl FnOnce(&mut Observed)) {
    says(wanted, State::Mend, words, spoil);
}

#[test]
fn a_server_that_is_missing_or_unwell_is_named_with_its_own_words() {
    mend("DefinitionMissing", "managedsecrets.tidelock.dev", |o| o.definitions[0].1 = Seen::Absent);
    mend("DefinitionDiffers", "rotationschedules", |o| {
        let Seen::There(found) = &mut o.definitions[1].1 else { panic!() };
        found.spec.versions[0].name = "v1beta1".into();
    });
    mend("NamespaceMissing", "--server-namespace", |o| o.namespace = Seen::Absent);
    mend("NamespaceNotPrivileged", "enforces restricted", |o| {
        o.namespace = of(json!({"metadata": {"labels": {ENFORCE: "restricted"}}}));
    });
    says("NamespaceLevelNotSet", State::Notice, "=privileged", |o| o.namespace = of(json!({})));
    mend("ServerMissing", "--release", |o| o.stateful_set = Seen::Absent);
    mend("ServerScaledDown", "--replicas=1", |o| {
        o.stateful_set =
            of(json!({"spec": {"replicas": 0, "selector": {}, "serviceName": "s", "template": {}}}));
    });
    mend("ServerNotRunning", "tidelock-server-0", |o| o.probed.health = Seen::Absent);
    mend("StoreLost", "store: restore the volume: now", |o| {
        let said = "store: StoreLost: restore the volume: now\n".into();
        o.probed.health = Seen::There(Health { said, ..Health::default() });
    });
    mend("VolumeClaimMissing", "tidelock-system", |o| o.claim = Seen::Absent);
    mend("VolumeClaimNotBound", "is Pending", |o| o.claim = of(json!({"metadata": {"name": "s"}})));
    mend("RootKeyMissing", "before the server restarts", |o| o.root_key = Seen::Absent);
    mend("RootKeyOfOtherStore", "of installation other, the store is of 0190-ab", |o| {
        o.root_key = Seen::There(Some("other".into()));
    });
}

#[test]
fn certificates_and_the_webhook_s_trust_are_compared() {
    mend("AuthorityMissing", "tidelock-ca", |o| o.authority = Seen::Absent);
    mend("CertificateNotTrusted", "UnknownIssuer", |o| {
        o.probed.certificate = Seen::There(Handshake::Refused("UnknownIssuer".into()));
    });
    mend("CertificateNotRenewed", "was not renewed", |o| {
        let shown = Validity { begins: now() - hours(167), ends: now() + hours(1) };
        o.probed.certificate = Seen::There(Handshake::Shown(shown));
    });
    mend("AuthorityNearEnd", "within 10 days", |o| {
        let begun = now() - hours(24 * 3642);
        let bundle = Authority::create("test", Lifetimes::default(), begun).unwrap().bundle(begun);
        o.webhook = Seen::There(webhook(&bundle));
        o.trust = of(json!({"data": {"ca.crt": bundle}}));
    });
    mend("CaBundleWrong", "the server writes it", |o| o.webhook = Seen::There(webhook("other")));
    mend("WebhookMissing", "helm upgrade", |o| o.webhook = Seen::Absent);
    mend("WebhookDiffers", "failurePolicy is not Fail", |o| {
        let Seen::There(found) = &mut o.webhook else { panic!() };
        found.webhooks.as_mut().unwrap()[0].failure_policy = Some("Ignore".into());
    });
    mend("WebhookUnreachable", "connection refused", |o| {
        let words = format!("failed calling webhook \"{WEBHOOK}\": connection refused");
        o.trial = Seen::There(Trial::Refused(words));
    });
    mend("WebhookNotCalled", "no policy keeps", |o| o.trial = Seen::There(Trial::NotInjected));
    mend("WebhookNotCalled", "try another with -n", |o| {
        let words = "ValidatingAdmissionPolicy 'tidelock-injected-pods' denied request";
        o.trial = Seen::There(Trial::Refused(words.into()));
    });
    says("TrialRefused", State::Unknown, "exceeded quota", |o| {
        o.trial = Seen::There(Trial::Refused("exceeded quota".into()));
    });
    mend("PolicyMissing", "the binding of policy injected-pods", |o| o.policies[0].2 = Seen::Absent);
    mend("PolicyNotInForce", "does not deny everywhere", |o| {
        let name = o.policies[0].0.clone();
        o.policies[0].2 = of(json!({"spec": {"policyName": name, "validationActions": ["Warn"]}}));
    });
}

#[test]
fn nodes_rights_and_what_waits_for_a_person_are_named() {
    mend("AgentMissing", "no agent is ready on b", |o| {
        o.nodes = of(json!([{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]));
    });
    mend("DriverNotRegistered", "on a: node.kubeletDir", |o| {
        o.csi_nodes = of(json!([{"metadata": {"name": "a"}, "spec": {"drivers": []}}]));
    });
    mend("AgentNotConnected", "0 of 1 agents", |o| {
        let Seen::There(health) = &mut o.probed.health else { panic!() };
        health.streams = Some(0);
    });
    mend("DriverMissing", "no token", |o| o.driver = of(json!({"spec": {}})));
    mend("VersionSkew", "server tidelock:1; node tidelock:2", |o| {
        o.pods = of(json!([pod("server", "tidelock:1", "a"), pod("node", "tidelock:2", "a")]));
    });
    mend("RightMissing", "server may not get managedsecrets.tidelock.dev", |o| {
        o.rights[0].1 = Seen::There(false);
    });
    mend("RightTooWide", "node may list pods", |o| o.rights.last_mut().unwrap().1 = Seen::There(true));
    mend("MassDeletionHeld", "12 deletions are held", |o| o.held = of(json!({"data": {"count": "12"}})));
    says("NotAllReady", State::Notice, "1 of 3 ManagedSecrets are not ready: 1 WaitingForValue", |o| {
        o.secrets = Seen::There(Readiness { all: 3, not_ready: [("WaitingForValue".to_owned(), 1)].into() });
    });
}

#[test]
fn agents_are_wanted_where_the_daemon_set_wants_them_only() {
    let mut observed = well();
    observed.daemon_set = of(json!({"spec": {"selector": {},
        "template": {"spec": {"containers": [], "nodeSelector": {"pool": "apps"}}}}}));
    observed.nodes =
        of(json!([{"metadata": {"name": "a", "labels": {"pool": "apps"}}}, {"metadata": {"name": "b"}}]));
    let findings = judge(&observed, &place(), now());
    assert!(findings.iter().all(|finding| finding.state == State::Well), "{findings:?}");
}

#[test]
fn what_may_not_be_seen_is_unknown_with_the_right_that_is_missing() {
    let forbidden = || Unseen::Forbidden("cannot list resource \"nodes\"".into());
    says("NotAllowedToLook", State::Unknown, "cannot list resource \"nodes\"", |o| {
        o.nodes = Seen::Unseen(forbidden());
    });
    says("NotAllowedToLook", State::Unknown, "rights of our ServiceAccounts", |o| {
        o.rights.truncate(1);
        o.rights[0].1 = Seen::Unseen(forbidden());
    });
    says("NotAnswered", State::Unknown, "timed out", |o| {
        o.trial = Seen::Unseen(Unseen::Failed("timed out".into()));
    });
    let mut observed = well();
    (observed.pods, observed.probed.health) = (Seen::Unseen(forbidden()), Seen::Absent);
    observed.probed.certificate = Seen::Absent;
    let findings = judge(&observed, &place(), now());
    assert!(findings.iter().all(|one| one.state != State::Mend), "{findings:?}");
}
