//! Apply: carries one plan out. Each can be repeated: the journal's transactions compare what they find, Jobs have
//! deterministic names, deletions name a UID. Must not decide what comes next.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};

use super::job::{self, ARN_ANNOTATION, VERSION_ANNOTATION};
use super::observe::{CurrentJob, Seen};
use super::spec::Work;
use super::subject::Subject;
use super::{ReconcileError, RotationContext};
use crate::cluster::{ATTEMPT_LABEL, EventKind};
use crate::crd::condition::{READY, SUCCEEDED};
use crate::crd::reasons::Reason;
use crate::crd::{RotationSchedule, RotationScheduleStatus};
use crate::failpoint;
use crate::keeper::{AttemptFailure, JobRecord, TestEnd};
use crate::rotation::{JobState, Plan, Reason as Why, surplus_jobs};

/// Makes a plan true, and tells people what they should see once. Plans that wait change nothing.
pub(super) async fn apply(
    ctx: &RotationContext,
    subject: &Subject,
    seen: &Seen,
    plan: Plan,
) -> Result<(), ReconcileError> {
    let arn = &seen.view.arn;
    let answers = |reason: Why| seen.asked.as_deref().filter(|_| reason == Why::Requested);
    match plan {
        Plan::Begin { reason } => {
            let journal = ctx.keeper.begin_rotation(arn, answers(reason)).await?;
            let note = format!("rotation to version {} begins ({})", journal.version, reason.as_str());
            tell(ctx, subject, Reason::RotationStarted, note);
        }
        Plan::Resume { reason } => {
            ctx.keeper.resume_rotation(arn, answers(reason)).await?;
            tell(
                ctx,
                subject,
                Reason::RotationStarted,
                format!("the rotation is resumed ({})", reason.as_str()),
            );
        }
        Plan::StartJob { attempt } => start_job(ctx, subject, seen, attempt).await?,
        Plan::Wait { .. } => note_step(ctx, seen).await?,
        Plan::AttemptFailed { attempt, job, gives_up } => {
            let failure = describe(seen, attempt, job, gives_up);
            ctx.keeper.rotation_attempt_failed(arn, &failure).await?;
            let reason = if gives_up { Reason::RotationFailed } else { Reason::RotationRetrying };
            tell(ctx, subject, reason, failure.message);
        }
        Plan::Succeed => {
            failpoint::reach("rotate.before-success");
            ctx.keeper.rotation_succeeded(arn).await?;
            failpoint::reach("rotate.succeeded");
            let version = seen.view.journal.as_ref().map(|journal| journal.version.to_string());
            let note = format!("version {} is current", version.unwrap_or_default());
            tell(ctx, subject, Reason::RotationSucceeded, note);
        }
        Plan::Abandon => {
            // Its Job is cleared away and people are told as when the write itself ended the rotation.
            ctx.keeper.abandon_rotation(arn).await?;
        }
        Plan::TestSucceeded => {
            ctx.keeper.end_rotation_test(arn, TestEnd::Succeeded).await?;
            let note = "the rotator's step testSecret ended well on a copy of the current version";
            tell(ctx, subject, Reason::TestRotationSucceeded, note.to_owned());
        }
        Plan::TestFailed { job, .. } => {
            let message = describe_test(seen, job);
            let end = TestEnd::Failed(Reason::TestRotationFailed.word(), &message);
            ctx.keeper.end_rotation_test(arn, end).await?;
            tell(ctx, subject, Reason::TestRotationFailed, message);
        }
        Plan::WaitingForNode => {
            let note = "a pod of an earlier attempt may still run on a node that does not answer; bring the node \
                        back, delete it, or taint it node.kubernetes.io/out-of-service";
            tell(ctx, subject, Reason::WaitingForNode, note.to_owned());
        }
        Plan::Nothing { .. } | Plan::RetryAt { .. } => {}
    }
    Ok(())
}

/// What every reconcile does beside its plan: writes down pods that ended, and clears old Jobs away.
pub(super) async fn tidy_up(ctx: &RotationContext, seen: &Seen) -> Result<(), ReconcileError> {
    if !seen.newly_gone.is_empty() {
        ctx.keeper.rotation_pods_gone(&seen.view.arn, &seen.newly_gone).await?;
    }
    if let Some(job) = &seen.abandoned {
        delete(ctx, &job.namespace, &job.name, Some(&job.uid)).await?;
    }
    let namespace = seen.view.journal.as_ref().and_then(|journal| journal.jobs.last());
    if let Some(namespace) = namespace.map(|job| job.namespace.clone()) {
        for name in surplus_jobs(seen.finished.clone()) {
            delete(ctx, &namespace, &name, None).await?;
        }
    }
    Ok(())
}

/// 1. Make the Job, or find the one that a predecessor made. 2. Make sure that it is this attempt's. 3. Record its UID:
///    from then on its pod has the rotation's rights.
async fn start_job(
    ctx: &RotationContext,
    subject: &Subject,
    seen: &Seen,
    attempt: u32,
) -> Result<(), ReconcileError> {
    let Some(journal) = &seen.view.journal else { return Ok(()) };
    let ca = Arc::clone(&ctx.ca.borrow());
    if ca.is_empty() {
        return Err(ReconcileError::NoTrustYet);
    }
    let wanted = job::Attempt {
        subject,
        arn: seen.view.arn.as_str(),
        version_id: journal.version.as_str(),
        number: attempt,
        test_since: Some(journal.begun_at).filter(|_| journal.is_test),
        epoch: ctx.epoch,
        ca: &ca,
    };
    let work = match &seen.wanted.work {
        Work::Generate(rules) => job::Work::Generate(rules),
        Work::Job(job) => job::Work::Job(job),
    };
    let (namespace, service_account) = work.place(&ctx.settings, &wanted);
    let jobs: Api<Job> = Api::namespaced(ctx.client.clone(), namespace);
    let built = job::build(&ctx.settings, &wanted, &work);
    // 1.
    failpoint::reach("rotate.before-job");
    let parameters =
        PostParams { field_manager: Some(super::FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let made = match jobs.create(&parameters, &built).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            jobs.get(built.metadata.name.as_deref().unwrap_or_default()).await?
        }
        Err(kube::Error::Api(status)) if status.code == 403 => {
            return Err(refused_creation(namespace, &built, &status.message));
        }
        made => made?,
    };
    failpoint::reach("rotate.job-created");
    // 2.
    if !is_same_attempt(&made, &built) {
        let name = format!("{namespace}/{}", made.metadata.name.unwrap_or_default());
        return Err(ReconcileError::ForeignJob(name));
    }
    // 3.
    let record = JobRecord {
        namespace: namespace.to_owned(),
        name: made.metadata.name.unwrap_or_default(),
        uid: made.metadata.uid.unwrap_or_default(),
        service_account: service_account.to_owned(),
        attempt,
        started_at: ctx.clock.now(),
        gone: false,
    };
    if !ctx.keeper.rotation_job_started(&seen.view.arn, &record).await? {
        delete(ctx, &record.namespace, &record.name, Some(&record.uid)).await?;
    } else if journal.is_test {
        let note = format!("the rotator's step testSecret runs in Job {}/{}", record.namespace, record.name);
        tell(ctx, subject, Reason::TestRotationStarted, note);
    }
    failpoint::reach("rotate.job-recorded");
    Ok(())
}

/// RBAC's no has one cure. Another is a quota's or a policy's, whose words say more.
fn refused_creation(namespace: &str, job: &Job, message: &str) -> ReconcileError {
    if message.contains("cannot create resource \"jobs\"") {
        return ReconcileError::MayNotCreateJobs(namespace.to_owned());
    }
    let name = format!("{namespace}/{}", job.metadata.name.as_deref().unwrap_or_default());
    ReconcileError::JobRefused(name, message.to_owned())
}

/// A Job that stands under our name must be ours: what counts is what it runs, and for which version.
fn is_same_attempt(found: &Job, built: &Job) -> bool {
    let annotation = |job: &Job, name: &str| job.metadata.annotations.as_ref()?.get(name).cloned();
    let label = |job: &Job| job.metadata.labels.as_ref()?.get(ATTEMPT_LABEL).cloned();
    let first_image = |job: &Job| {
        let pod = job.spec.as_ref()?.template.spec.as_ref()?;
        pod.init_containers.as_ref()?.first()?.image.clone()
    };
    let account = |job: &Job| job.spec.as_ref()?.template.spec.as_ref()?.service_account_name.clone();
    [ARN_ANNOTATION, VERSION_ANNOTATION].iter().all(|name| annotation(found, name) == annotation(built, name))
        && label(found) == label(built)
        && first_image(found) == first_image(built)
        && account(found) == account(built)
}

async fn note_step(ctx: &RotationContext, seen: &Seen) -> Result<(), ReconcileError> {
    let known = seen.view.journal.as_ref().and_then(|journal| journal.step.as_deref());
    if let Some(step) = seen.current.as_ref().and_then(|job| job.step)
        && known != Some(step.as_str())
    {
        ctx.keeper.rotation_step_seen(&seen.view.arn, step).await?;
    }
    Ok(())
}

/// The failure in words of our own: what a rotator prints may hold a value, so none of it is repeated.
fn describe(seen: &Seen, attempt: u32, job: JobState, gives_up: bool) -> AttemptFailure {
    let timed_out = seen.current.as_ref().is_some_and(|job| job.timed_out);
    let (name, how) = (job_of(seen), how(seen, job));
    let then = if gives_up {
        "no retry is left; the next window, or a new token in tidelock.dev/rotate, resumes it"
    } else {
        "it is tried again"
    };
    let reason = match (timed_out, gives_up) {
        (true, _) => Reason::RotationTimedOut,
        (false, true) => Reason::RotationFailed,
        (false, false) => Reason::RotationRetrying,
    };
    let tried = seen.view.journal.as_ref().map_or(attempt, super::status::tries);
    let message = format!("attempt {tried} (Job {name}) failed: {how}; {then}");
    AttemptFailure { attempt, reason: reason.word(), message, gives_up }
}

fn describe_test(seen: &Seen, job: Option<JobState>) -> String {
    match job {
        Some(job) => format!("the test of the rotator (Job {}) failed: {}", job_of(seen), how(seen, job)),
        None => "the test of the rotator failed: its Job could not be made in time".to_owned(),
    }
}

fn job_of(seen: &Seen) -> String {
    let name = |job: &CurrentJob| format!("{}/{}", job.record.namespace, job.record.name);
    seen.current.as_ref().map(name).unwrap_or_default()
}

fn how(seen: &Seen, job: JobState) -> String {
    let current = seen.current.as_ref();
    match (job, current.and_then(|job| job.failed.clone())) {
        (JobState::Gone, _) => "its Job was deleted".to_owned(),
        (JobState::Succeeded, _) => "all steps ended well, but AWSCURRENT was not moved".to_owned(),
        (_, Some(failed)) => format!("{} ended with exit code {}", failed.container, failed.exit_code),
        _ if current.is_some_and(|job| job.timed_out) => "it took longer than it may".to_owned(),
        _ => "its pod did not run to the end".to_owned(),
    }
}

/// What is found at each look is told once: when the status does not say it yet. So are a schedule that cannot be
/// followed, and a rotation that a value written by hand has ended in that very write.
pub(super) fn tell_new(ctx: &RotationContext, object: &RotationSchedule, status: &RotationScheduleStatus) {
    let of = |status: Option<&RotationScheduleStatus>| {
        status.and_then(|status| status.conditions.clone()).unwrap_or_default()
    };
    let before = of(object.status.as_ref());
    for found in of(Some(status)) {
        let said = before.iter().any(|old| {
            (&old.type_, &old.reason, &old.message) == (&found.type_, &found.reason, &found.message)
        });
        let reason = match found.type_.as_str() {
            READY if found.status == "False" => Reason::of_word(&found.reason),
            SUCCEEDED => Reason::of_word(&found.reason).filter(|why| *why == Reason::RotationAbandoned),
            _ => None,
        };
        if let Some(reason) = reason.filter(|_| !said) {
            tell(ctx, &Subject::of_schedule(object), reason, found.message);
        }
    }
}

/// Deletes the Jobs of a rotation that was halted.
pub(super) async fn delete_jobs(ctx: &RotationContext, jobs: &[JobRecord]) -> Result<(), ReconcileError> {
    for job in jobs {
        delete(ctx, &job.namespace, &job.name, Some(&job.uid)).await?;
    }
    Ok(())
}

/// A Job that is gone already is as good as deleted.
async fn delete(
    ctx: &RotationContext,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
) -> Result<(), ReconcileError> {
    let jobs: Api<Job> = Api::namespaced(ctx.client.clone(), namespace);
    let uid = uid.map(|uid| Preconditions { uid: Some(uid.to_owned()), resource_version: None });
    let parameters = DeleteParams { preconditions: uid, ..DeleteParams::background() };
    match jobs.delete(name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn tell(ctx: &RotationContext, subject: &Subject, reason: Reason, note: String) {
    let kind = match reason {
        Reason::RotationStarted
        | Reason::RotationSucceeded
        | Reason::TestRotationStarted
        | Reason::TestRotationSucceeded => EventKind::Normal,
        _ => EventKind::Warning,
    };
    metrics::counter!("tidelock_rotation_events_total", "reason" => reason.word()).increment(1);
    let (namespace, name) = (&subject.namespace, &subject.name);
    tracing::info!(namespace, name, reason = reason.word(), "rotation");
    let note = format!("{}{note}", subject.prefix);
    ctx.events.send(subject.about.clone(), kind, reason.word(), "Rotate", note);
}
