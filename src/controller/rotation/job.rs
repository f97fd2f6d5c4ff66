//! The Job of one attempt: schedule and attempt in, Job out. Needs no client and cannot fail. Must not put a value, a
//! key or a token into an object: the Job names a secret and a version, and its pod's own token does the rest.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile, SecurityContext, Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::containers;
use super::subject::Subject;
use crate::cluster::{ATTEMPT_LABEL, ROTATION_LABEL};
use crate::crd::JobRotator;
use crate::rotation::{Rules, Step, job_name, rotation_label};

pub const ARN_ANNOTATION: &str = "tidelock.dev/arn";
pub const VERSION_ANNOTATION: &str = "tidelock.dev/version-id";
pub const SCHEDULE_ANNOTATION: &str = "tidelock.dev/schedule";
/// The leadership that made the Job.
pub const EPOCH_ANNOTATION: &str = "tidelock.dev/epoch";
/// Public: the certificates that the server's descends from.
pub const CA_ANNOTATION: &str = "tidelock.dev/ca";
const EVENT_ANNOTATION_PREFIX: &str = "tidelock.dev/event-";

/// One attempt that takes longer has failed.
const ATTEMPT_SECONDS_MAX: i64 = 15 * 60;
/// A pod whose node falls silent is given up after this much more: what it began, another attempt takes up.
const SILENT_NODE_SECONDS: i64 = 30;
const SILENT_NODE_TAINTS: [&str; 2] = ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"];
/// Finished Jobs are removed by the history's limit; this is for those whose schedule is gone.
const KEPT_SECONDS: i32 = 24 * 3600;
/// Nobody's user in particular, as in the image.
const USER: i64 = 65_532;

/// What all rotation Jobs of an installation share.
#[derive(Clone, Debug)]
pub struct JobSettings {
    /// Our own image.
    pub image: String,
    pub image_pull_policy: Option<String>,
    pub image_pull_secrets: Vec<String>,
    /// Where built-in rotators run: no tenant creates or executes pods there.
    pub namespace: String,
    /// Their ServiceAccount there; it has no rights.
    pub service_account: String,
    /// The AWS API, as pods reach it.
    pub server_url: String,
    /// `<installation>/api`.
    pub audience: String,
    /// The admission policies, each with a binding of its name, without which the server makes no Job for an author.
    pub guards: Vec<String>,
    pub region: String,
}

/// One attempt at one rotation.
#[derive(Clone, Debug)]
pub struct Attempt<'a> {
    /// Whom it is for.
    pub subject: &'a Subject,
    pub arn: &'a str,
    pub version_id: &'a str,
    pub number: u32,
    /// Of a mere test: when it began, which tells it from an earlier one under the same token.
    pub test_since: Option<Timestamp>,
    pub epoch: u64,
    /// PEM.
    pub ca: &'a str,
}

/// What does the steps.
#[derive(Clone, Debug)]
pub enum Work<'a> {
    Generate(&'a Rules),
    Job(&'a JobRotator),
}

impl Attempt<'_> {
    pub fn is_test(&self) -> bool {
        self.test_since.is_some()
    }

    /// What the Job is named after beside its secret.
    fn named_after(&self) -> String {
        match self.test_since {
            None => self.version_id.to_owned(),
            Some(since) => format!("test of {} at {since}", self.version_id),
        }
    }
}

impl Work<'_> {
    /// Where the Job runs and as whom.
    pub fn place<'s>(&'s self, settings: &'s JobSettings, attempt: &Attempt<'s>) -> (&'s str, &'s str) {
        match self {
            Self::Generate(_) => (&settings.namespace, &settings.service_account),
            Self::Job(job) => {
                let account = job.service_account_name.as_deref();
                (&attempt.subject.namespace, account.unwrap_or(&attempt.subject.service_account))
            }
        }
    }
}

pub fn build(settings: &JobSettings, attempt: &Attempt<'_>, work: &Work<'_>) -> Job {
    let (namespace, service_account) = work.place(settings, attempt);
    let labels = BTreeMap::from([
        ("app.kubernetes.io/managed-by".to_owned(), "tidelock".to_owned()),
        (ROTATION_LABEL.to_owned(), rotation_label(&attempt.subject.name, attempt.arn)),
        (ATTEMPT_LABEL.to_owned(), attempt.number.to_string()),
    ]);
    let metadata = ObjectMeta {
        name: Some(job_name(&attempt.subject.name, attempt.arn, &attempt.named_after(), attempt.number)),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels.clone()),
        annotations: Some(annotations(attempt)),
        owner_references: owner(attempt, namespace).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    let mut pod_annotations = annotations(attempt);
    pod_annotations.insert(CA_ANNOTATION.to_owned(), attempt.ca.to_owned());
    pod_annotations.extend(Step::ALL.map(|step| (event_annotation(step), event(attempt, step))));
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(pod_annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(pod(settings, attempt, work, service_account)),
    };
    let spec = JobSpec {
        // Another attempt is another Job, which the journal knows.
        backoff_limit: Some(0),
        completions: Some(1),
        parallelism: Some(1),
        active_deadline_seconds: Some(ATTEMPT_SECONDS_MAX),
        ttl_seconds_after_finished: Some(KEPT_SECONDS),
        template,
        ..JobSpec::default()
    };
    Job { metadata, spec: Some(spec), status: None }
}

/// The annotation that carries the event of a step into its file.
pub(super) fn event_annotation(step: Step) -> String {
    format!("{EVENT_ANNOTATION_PREFIX}{}", step.as_str())
}

fn annotations(attempt: &Attempt<'_>) -> BTreeMap<String, String> {
    let subject = attempt.subject;
    let mut annotations = BTreeMap::from([
        (ARN_ANNOTATION.to_owned(), attempt.arn.to_owned()),
        (VERSION_ANNOTATION.to_owned(), attempt.version_id.to_owned()),
        (EPOCH_ANNOTATION.to_owned(), attempt.epoch.to_string()),
    ]);
    if subject.schedule_uid.is_some() {
        annotations.insert(SCHEDULE_ANNOTATION.to_owned(), format!("{}/{}", subject.namespace, subject.name));
    }
    annotations
}

/// AWS's event of a rotation step.
fn event(attempt: &Attempt<'_>, step: Step) -> String {
    serde_json::json!({
        "Step": step.as_str(),
        "SecretId": attempt.arn,
        "ClientRequestToken": attempt.version_id,
    })
    .to_string()
}

/// A Job beside its schedule goes with it; one in another namespace cannot be owned across, and has its TTL.
fn owner(attempt: &Attempt<'_>, namespace: &str) -> Option<OwnerReference> {
    let uid = attempt.subject.schedule_uid.as_ref().filter(|_| namespace == attempt.subject.namespace)?;
    Some(OwnerReference {
        api_version: format!("{}/{}", crate::crd::GROUP, crate::crd::VERSION),
        kind: "RotationSchedule".to_owned(),
        name: attempt.subject.name.clone(),
        uid: uid.clone(),
        controller: Some(true),
        // Would ask for rights on the schedule's finalizers, and no deletion has to wait for a Job.
        block_owner_deletion: None,
    })
}

fn pod(settings: &JobSettings, attempt: &Attempt<'_>, work: &Work<'_>, service_account: &str) -> PodSpec {
    let job = match work {
        Work::Generate(_) => None,
        Work::Job(job) => Some(*job),
    };
    let mut init_containers = vec![containers::relay(settings, attempt)];
    let is_test = attempt.is_test();
    let steps = Step::of(is_test).iter();
    init_containers.extend(steps.map(|&step| containers::step(settings, work, step, is_test)));
    PodSpec {
        service_account_name: Some(service_account.to_owned()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(10),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            // Also for the user's image: most name no user, and would be refused as root.
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        init_containers: Some(init_containers),
        containers: vec![containers::report(settings, is_test)],
        volumes: Some(containers::volumes(settings, job)),
        image_pull_secrets: pull_secrets(settings),
        node_selector: job.and_then(|job| job.node_selector.clone()),
        tolerations: Some(tolerations(job)),
        ..PodSpec::default()
    }
}

fn pull_secrets(settings: &JobSettings) -> Option<Vec<k8s_openapi::api::core::v1::LocalObjectReference>> {
    let secrets: Vec<_> = settings
        .image_pull_secrets
        .iter()
        .map(|name| k8s_openapi::api::core::v1::LocalObjectReference { name: name.clone() })
        .collect();
    (!secrets.is_empty()).then_some(secrets)
}

/// The user's own come first: what they say of a silent node stands.
fn tolerations(job: Option<&JobRotator>) -> Vec<Toleration> {
    let users = job.and_then(|job| job.tolerations.as_ref()).into_iter().flatten();
    let mut tolerations: Vec<Toleration> = users
        .map(|toleration| Toleration {
            key: toleration.key.clone(),
            operator: toleration.operator.clone(),
            value: toleration.value.clone(),
            effect: toleration.effect.clone(),
            toleration_seconds: toleration.toleration_seconds,
        })
        .collect();
    for taint in SILENT_NODE_TAINTS {
        let is_of = |toleration: &Toleration| {
            toleration.key.as_deref().is_none_or(|key| key.is_empty() || key == taint)
        };
        if !tolerations.iter().any(is_of) {
            tolerations.push(Toleration {
                key: Some(taint.to_owned()),
                operator: Some("Exists".to_owned()),
                value: None,
                effect: Some("NoExecute".to_owned()),
                toleration_seconds: Some(SILENT_NODE_SECONDS),
            });
        }
    }
    tolerations
}

/// What Pod Security's profile `restricted` asks of each container.
pub(super) fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        run_as_non_root: Some(true),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..SecurityContext::default()
    }
}

/// For the containers whose image is ours.
pub(super) fn restricted_ours() -> SecurityContext {
    SecurityContext { read_only_root_filesystem: Some(true), ..restricted() }
}

#[cfg(test)]
mod tests;
