//! Observe: everything that a decision about one RotationSchedule rests on, read from store and cluster.
//! Must not change anything, nor decide.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::ListParams;

use super::pods::{self, Failed};
use super::spec::{Unfit, Wanted, Work, yields_to};
use super::subject::Subject;
use super::{ReconcileError, RotationContext};
use crate::cluster::ROTATION_LABEL;
use crate::crd::reasons::Reason;
use crate::crd::{ANNOTATION_ROTATE, ManagedSecret, Readable, RotationSchedule, is_object_name};
use crate::keeper::{Hindrance, JobRecord, RotationState, RotationView, trigger};
use crate::rotation::{Basis, FinishedJob, JobState, Observed, Step, rotation_label};

/// On each pod, by the Job controller.
const CONTROLLER_UID_LABEL: &str = "batch.kubernetes.io/controller-uid";

/// A schedule that can be followed, and where its secret's rotation stands.
pub(super) struct Seen {
    pub wanted: Wanted,
    pub view: RotationView,
    /// The annotation's token.
    pub asked: Option<String>,
    pub since: jiff::Timestamp,
    pub current: Option<CurrentJob>,
    /// The Job of an abandoned rotation that still runs: it has no rights any more.
    pub abandoned: Option<JobRecord>,
    /// Earlier Jobs, by UID, whose pods are known to be gone since now.
    pub newly_gone: Vec<String>,
    pub earlier_pods_remain: bool,
    pub finished: Vec<FinishedJob>,
}

/// The Job of the attempt that is under way.
pub(super) struct CurrentJob {
    pub record: JobRecord,
    pub state: JobState,
    pub timed_out: bool,
    pub step: Option<Step>,
    pub failed: Option<Failed>,
}

impl Seen {
    /// The same for the step machine.
    pub fn observed(&self) -> Observed<'_> {
        let journal = self.view.journal.as_ref();
        let out = self.current.as_ref().map(|job| (job.record.attempt, job.state));
        Observed {
            arn: self.view.arn.as_str(),
            schedule: self.wanted.schedule.as_ref(),
            basis: Basis {
                since: self.since,
                last_rotation: self.view.last_rotation,
                last_written: self.view.last_written,
            },
            retries: self.wanted.retries,
            suspend: self.wanted.suspend,
            rotate_immediately: self.wanted.rotate_immediately,
            asked: self.asked.as_deref(),
            answered: journal.and_then(|journal| journal.handled_trigger.as_deref()),
            unfinished: self.view.unfinished(out),
            earlier_pods_remain: self.earlier_pods_remain,
        }
    }
}

pub(super) async fn observe(
    ctx: &RotationContext,
    object: &RotationSchedule,
) -> Result<Result<Seen, Unfit>, ReconcileError> {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let siblings = ctx.by_secret.of(namespace, &object.spec.secret);
    if let Some(other) =
        yields_to(object, siblings.iter().filter(|read| read.unread.is_none()).map(|read| &read.object))
    {
        let message = format!("the RotationSchedule {other} rotates this secret already; remove one of them");
        return Ok(Err(Unfit::new(Reason::ScheduleConflict, message)));
    }
    if !is_object_name(&object.spec.secret) {
        let message = "secret is not the name of a ManagedSecret: write lower case letters, digits, `-` and `.`, and no `/`";
        return Ok(Err(Unfit::new(Reason::ScheduleInvalid, message)));
    }
    let secrets: Api<Readable<ManagedSecret>> = Api::namespaced(ctx.client.clone(), namespace);
    let Some(secret) = secrets.get_opt(&object.spec.secret).await? else {
        let message = format!("there is no ManagedSecret {} in this namespace", object.spec.secret);
        return Ok(Err(Unfit::new(Reason::SecretNotFound, message)));
    };
    if let Some(unread) = secret.unread {
        let message = format!("the ManagedSecret {} is not right: {unread}", object.spec.secret);
        return Ok(Err(Unfit::new(Reason::RotatorUnsuitable, message)));
    }
    let secret = secret.object;
    let wanted = match Wanted::read(object, &secret) {
        Ok(wanted) => wanted,
        Err(unfit) => return Ok(Err(unfit)),
    };
    if matches!(wanted.work, Work::Job(_))
        && let Some(guard) = missing_guard(ctx).await
    {
        let message = format!(
            "rotator.job is refused while the ValidatingAdmissionPolicy {guard} or its binding is missing or does \
             not deny; install the chart's policies again"
        );
        return Ok(Err(Unfit::new(Reason::GuardMissing, message)));
    }
    let Some(arn) = ctx.keeper.secret_of_resource(namespace, &object.spec.secret) else {
        let message = format!("the ManagedSecret {} is not made yet", object.spec.secret);
        return Ok(Err(Unfit::new(Reason::SecretNotFound, message)));
    };
    let view = ctx.keeper.rotation(&arn).await?;
    if let Some(hindrance) = view.hindrance {
        return Ok(Err(hindered(hindrance)));
    }
    let asked =
        secret.metadata.annotations.and_then(|all| all.get(ANNOTATION_ROTATE).map(|token| trigger(token)));
    let since =
        object.metadata.creation_timestamp.as_ref().map_or(jiff::Timestamp::UNIX_EPOCH, |time| time.0);
    let asked = Asked { token: asked, since };
    Ok(Ok(seen(ctx, &Subject::of_schedule(object), view, wanted, asked).await?))
}

/// What of a decision lies outside store and Jobs: a request's token, and since when rotation is as it is.
pub(super) struct Asked {
    pub token: Option<String>,
    pub since: jiff::Timestamp,
}

/// How the journal's Jobs and their pods stand.
pub(super) async fn seen(
    ctx: &RotationContext,
    subject: &Subject,
    view: RotationView,
    wanted: Wanted,
    asked: Asked,
) -> Result<Seen, ReconcileError> {
    let label = rotation_label(&subject.name, view.arn.as_str());
    let pods = journal_pods(ctx, &view).await?;
    let (newly_gone, earlier_pods_remain) = earlier(ctx, &view, &pods).await?;
    Ok(Seen {
        current: current(ctx, &view, &pods).await?,
        abandoned: abandoned(ctx, &view).await?,
        finished: finished(ctx, &view, &label).await?,
        newly_gone,
        earlier_pods_remain,
        asked: asked.token,
        since: asked.since,
        view,
        wanted,
    })
}

/// The earlier Jobs, by UID, whose pods are known to be gone since now.
pub(super) async fn gone(ctx: &RotationContext, view: &RotationView) -> Result<Vec<String>, ReconcileError> {
    let pods = journal_pods(ctx, view).await?;
    Ok(earlier(ctx, view, &pods).await?.0)
}

fn hindered(hindrance: Hindrance) -> Unfit {
    match hindrance {
        Hindrance::NoValue => Unfit::new(
            Reason::WaitingForValue,
            "the secret has no value yet, and a rotation starts from one: write it with PutSecretValue, or mend its \
             source; the schedule is followed from then on",
        ),
        Hindrance::Deletion => Unfit::new(
            Reason::DeletionScheduled,
            "the secret is scheduled for deletion: restore it, and the schedule is followed again",
        ),
    }
}

/// Without these policies anybody who may write a RotationSchedule would run Jobs by the server's hand.
async fn missing_guard(ctx: &RotationContext) -> Option<&str> {
    for (guard, name) in ctx.guards.iter().zip(&ctx.settings.guards) {
        if !guard.is_in_force(ctx.clock.monotonic()).await {
            return Some(name);
        }
    }
    None
}

/// The pods of the journal's Jobs that may still have some, also of those that another schedule's name is on.
async fn journal_pods(ctx: &RotationContext, view: &RotationView) -> Result<Vec<Pod>, ReconcileError> {
    let jobs = || view.journal.iter().flat_map(|journal| &journal.jobs).filter(|job| !job.gone);
    let namespaces: BTreeSet<&str> = jobs().map(|job| job.namespace.as_str()).collect();
    let uids: Vec<&str> = jobs().map(|job| job.uid.as_str()).collect();
    let of_jobs = format!("{ROTATION_LABEL},{CONTROLLER_UID_LABEL} in ({})", uids.join(","));
    let wanted = ListParams::default().labels(&of_jobs);
    let mut found = Vec::new();
    for namespace in namespaces {
        let pods: Api<Pod> = Api::namespaced(ctx.client.clone(), namespace);
        found.extend(pods.list(&wanted).await?.items);
    }
    Ok(found)
}

/// Which earlier Jobs have no pod that could run any more, and whether others remain.
async fn earlier(
    ctx: &RotationContext,
    view: &RotationView,
    pods: &[Pod],
) -> Result<(Vec<String>, bool), ReconcileError> {
    let Some(journal) = &view.journal else { return Ok((Vec::new(), false)) };
    let (mut newly_gone, mut remain) = (Vec::new(), false);
    for job in journal.jobs.iter().filter(|job| !job.gone && job.attempt != journal.attempt) {
        let mut over = true;
        for pod in pods.iter().filter(|pod| pods::is_of(pod, &job.uid, job.attempt)) {
            over &= pods::is_over(pod, node_of(ctx, pod).await?.as_ref());
        }
        // A Job that has not ended may still make a pod.
        over = over && job_state(ctx, job).await?.0 != JobState::Running;
        if over {
            newly_gone.push(job.uid.clone());
        }
        remain |= !over;
    }
    Ok((newly_gone, remain))
}

async fn node_of(ctx: &RotationContext, pod: &Pod) -> Result<Option<Node>, ReconcileError> {
    let Some(name) = pods::node_name(pod) else { return Ok(None) };
    let nodes: Api<Node> = Api::all(ctx.client.clone());
    Ok(nodes.get_opt(name).await?)
}

async fn current(
    ctx: &RotationContext,
    view: &RotationView,
    pods: &[Pod],
) -> Result<Option<CurrentJob>, ReconcileError> {
    let Some(journal) = view.journal.as_ref().filter(|_| view.pending.is_some()) else { return Ok(None) };
    let Some(record) = journal.jobs.iter().find(|job| job.attempt == journal.attempt) else {
        return Ok(None);
    };
    let (state, timed_out) = job_state(ctx, record).await?;
    let pod = pods.iter().find(|pod| pods::is_of(pod, &record.uid, record.attempt));
    Ok(Some(CurrentJob {
        record: record.clone(),
        state,
        timed_out,
        step: pod.and_then(pods::step),
        failed: pod.and_then(pods::failed),
    }))
}

async fn abandoned(ctx: &RotationContext, view: &RotationView) -> Result<Option<JobRecord>, ReconcileError> {
    let journal = view.journal.as_ref().filter(|journal| journal.state == RotationState::Abandoned);
    let Some(journal) = journal else { return Ok(None) };
    let Some(job) = journal.jobs.iter().find(|job| job.attempt == journal.attempt && !job.gone) else {
        return Ok(None);
    };
    let runs = job_state(ctx, job).await?.0 == JobState::Running;
    Ok(runs.then(|| job.clone()))
}

/// How the recorded Job stands; one of the same name with another UID is not it.
async fn job_state(ctx: &RotationContext, record: &JobRecord) -> Result<(JobState, bool), ReconcileError> {
    let jobs: Api<Job> = Api::namespaced(ctx.client.clone(), &record.namespace);
    let job = jobs.get_opt(&record.name).await?;
    Ok(match job.filter(|job| job.metadata.uid.as_deref() == Some(record.uid.as_str())) {
        None => (JobState::Gone, false),
        Some(job) => ended(&job).map_or((JobState::Running, false), |(state, reason)| {
            (state, reason.as_deref() == Some("DeadlineExceeded"))
        }),
    })
}

/// A Job that is sure to fail has failed: it makes no further pod, but the condition `Failed` waits until its last pod
/// has ended, which on a silent node nobody can see.
fn ended(job: &Job) -> Option<(JobState, Option<String>)> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().filter(|condition| condition.status == "True").find_map(|condition| {
        let state = match condition.type_.as_str() {
            "Complete" => JobState::Succeeded,
            "Failed" | "FailureTarget" => JobState::Failed,
            _ => return None,
        };
        Some((state, condition.reason.clone()))
    })
}

/// The finished Jobs of this secret but for the one under way, where the journal has had Jobs.
async fn finished(
    ctx: &RotationContext,
    view: &RotationView,
    label: &str,
) -> Result<Vec<FinishedJob>, ReconcileError> {
    let Some(journal) = &view.journal else { return Ok(Vec::new()) };
    let Some(namespace) = journal.jobs.last().map(|job| job.namespace.as_str()) else {
        return Ok(Vec::new());
    };
    let jobs: Api<Job> = Api::namespaced(ctx.client.clone(), namespace);
    let wanted = ListParams::default().labels(&format!("{ROTATION_LABEL}={label}"));
    let under_way = journal.jobs.iter().find(|job| job.attempt == journal.attempt && view.pending.is_some());
    let listed = jobs.list(&wanted).await?.items;
    let others = listed.into_iter().filter(|job| {
        under_way.is_none_or(|under_way| job.metadata.uid.as_deref() != Some(under_way.uid.as_str()))
    });
    let finished = others.filter_map(|job| {
        let (state, _) = ended(&job)?;
        let time = job.metadata.creation_timestamp.as_ref()?.0;
        Some(FinishedJob { name: job.metadata.name?, ended: time, succeeded: state == JobState::Succeeded })
    });
    Ok(finished.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(conditions: serde_json::Value) -> Job {
        serde_json::from_value(serde_json::json!({"status": {"conditions": conditions}})).unwrap()
    }

    #[test]
    fn a_job_has_ended_only_by_a_condition_that_is_true() {
        use serde_json::json;
        assert_eq!(ended(&job(json!([]))), None);
        let sure = json!([{"type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded"}]);
        let reason = Some("BackoffLimitExceeded".to_owned());
        assert_eq!(ended(&job(sure)), Some((JobState::Failed, reason)));
        assert_eq!(ended(&job(json!([{"type": "SuccessCriteriaMet", "status": "True"}]))), None);
        assert_eq!(ended(&job(json!([{"type": "Failed", "status": "False"}]))), None);
        let failed = json!([{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]);
        assert_eq!(ended(&job(failed)), Some((JobState::Failed, Some("DeadlineExceeded".to_owned()))));
        let complete =
            json!([{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]);
        assert_eq!(ended(&job(complete)), Some((JobState::Succeeded, None)));
    }
}
