//! The rotations of `tidelock dev`: the step machine and the journal of the cluster, with child processes in place of
//! Jobs. What it knows beside the journal is which attempts run in this very process: after a restart there are none, and
//! the journal's attempt counts as failed and is made again. Must not decide what comes next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::attempt::{Failed, Rotator, Work};
use crate::clock::Clock;
use crate::keeper::{
    AttemptFailure, Changed, JobRecord, Keeper, KeeperError, RotationConfig, RotationState, RotationView,
    TestEnd,
};
use crate::rotation::{JobState, Plan, Retries, decide, rotator_name};
use crate::secret::{Arn, Name, Origin};

/// What is done for one secret before the others have their turn.
const PLANS_MAX: usize = 8;
const LOOK_AGAIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN_AFTER_ERROR: Duration = Duration::from_secs(5);
const PAGE: usize = 500;

pub(super) struct Rotations {
    keeper: Arc<Keeper>,
    clock: Arc<dyn Clock>,
    rotator: Arc<Rotator>,
    retries: Retries,
    attempts: JoinSet<(Arn, Number, Result<(), Failed>)>,
    running: BTreeMap<Arn, (Number, AbortHandle)>,
    ended: BTreeMap<Arn, (Number, Result<(), Failed>)>,
    /// Those that had a configuration at the last look.
    followed: BTreeSet<Arn>,
}

/// The version that is made, and which attempt at it.
type Number = (String, u32);

impl Rotations {
    pub fn new(keeper: Arc<Keeper>, clock: Arc<dyn Clock>, rotator: Rotator) -> Self {
        // Somebody sits before it: what failed is tried again while he looks.
        let retries = Retries::parse(Some(5), Some("1s"), Some("30s")).unwrap_or_default();
        Self {
            keeper,
            clock,
            rotator: Arc::new(rotator),
            retries,
            attempts: JoinSet::new(),
            running: BTreeMap::new(),
            ended: BTreeMap::new(),
            followed: BTreeSet::new(),
        }
    }

    /// Runs until `stop`; a step under way is killed then, and its attempt made again after the next start.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.keeper.changes();
        loop {
            let again = Instant::now() + self.look().await;
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    Some(done) = self.attempts.join_next() => {
                        if let Ok((arn, number, outcome)) = done
                            && self.running.get(&arn).is_some_and(|(running, _)| *running == number)
                        {
                            self.running.remove(&arn);
                            self.ended.insert(arn, (number, outcome));
                        }
                        break;
                    }
                    changed = changes.recv() => if self.concerns(changed) {
                        while changes.try_recv().is_ok() {}
                        break;
                    },
                    () = tokio::time::sleep_until(again) => break,
                }
            }
        }
    }

    /// A look reads all secrets: most writes are worth none.
    fn concerns(&self, changed: Result<Changed, RecvError>) -> bool {
        match changed {
            Ok(Changed { arn, what }) => what.may_bring_rotation() || self.followed.contains(&arn),
            Err(_) => true,
        }
    }

    /// Follows every secret that the API configured. Says when to look again.
    async fn look(&mut self) -> Duration {
        let mut soonest = LOOK_AGAIN;
        self.followed.clear();
        let mut after: Option<Name> = None;
        loop {
            let page = match self.keeper.inventory(after.as_ref(), PAGE).await {
                Ok(page) => page,
                Err(error) => return failed(&error),
            };
            let Some(last) = page.last() else { return soonest };
            after = Some(last.name.clone());
            for record in page.iter().filter(|record| record.origin == Origin::Api) {
                let Some(config) = &record.rotation else { continue };
                self.followed.insert(record.arn.clone());
                let again = self.follow(&record.arn, config).await;
                soonest = soonest.min(again.unwrap_or_else(|error| failed(&error)));
            }
        }
    }

    async fn follow(&mut self, arn: &Arn, config: &RotationConfig) -> Result<Duration, KeeperError> {
        let schedule = config.schedule()?;
        for _ in 0..PLANS_MAX {
            let view = self.keeper.rotation(arn).await?;
            self.end_all_but(arn, &view);
            if view.hindrance.is_some() {
                self.keeper.end_rotation_test(arn, TestEnd::HINDERED).await?;
                return Ok(LOOK_AGAIN);
            }
            if view.enabled != Some(true) {
                self.switch_off(&view).await?;
                return Ok(LOOK_AGAIN);
            }
            let mut observed = view.observed(config, schedule.as_ref(), self.retries);
            observed.unfinished = view.unfinished(self.out(arn, &view));
            let now = self.clock.now();
            let plan = decide(&observed, now);
            if let Some(again) = waits(plan, now) {
                return Ok(again);
            }
            self.apply(&view, config, plan).await?;
        }
        Ok(Duration::ZERO)
    }

    /// One that was resumed just when somebody cancelled it.
    async fn switch_off(&self, view: &RotationView) -> Result<(), KeeperError> {
        if view.journal.as_ref().is_some_and(|journal| journal.state == RotationState::Running) {
            self.keeper.halt_rotation(&view.arn, "RotationCancelled", "rotation is off").await?;
        }
        Ok(())
    }

    /// Kills an attempt that the journal does not name any more: it was cancelled, abandoned or began anew.
    fn end_all_but(&mut self, arn: &Arn, view: &RotationView) {
        let wanted = view.journal.as_ref().filter(|_| view.pending.is_some() && view.enabled == Some(true));
        let wanted = wanted.map(|journal| (journal.version.to_string(), journal.attempt));
        if let Some((number, attempt)) = self.running.get(arn)
            && Some(number) != wanted.as_ref()
        {
            attempt.abort();
            self.running.remove(arn);
        }
        self.ended.retain(|of, (number, _)| of != arn || Some(&*number) == wanted.as_ref());
    }

    /// The attempt that the journal says was started, and how it stands.
    fn out(&self, arn: &Arn, view: &RotationView) -> Option<(u32, JobState)> {
        let journal = view.journal.as_ref()?;
        journal.jobs.iter().find(|job| job.attempt == journal.attempt)?;
        let state = match (self.running.get(arn), self.ended.get(arn)) {
            (Some(_), _) => JobState::Running,
            (None, Some((_, Ok(())))) => JobState::Succeeded,
            (None, Some((_, Err(_)))) => JobState::Failed,
            (None, None) => JobState::Gone,
        };
        Some((journal.attempt, state))
    }

    async fn apply(
        &mut self,
        view: &RotationView,
        config: &RotationConfig,
        plan: Plan,
    ) -> Result<(), KeeperError> {
        let arn = &view.arn;
        match plan {
            Plan::Begin { .. } => {
                self.keeper.begin_rotation(arn, None).await?;
                told(view, "RotationStarted");
            }
            Plan::Resume { .. } => self.keeper.resume_rotation(arn, None).await?,
            Plan::StartJob { attempt } => self.start(view, config, attempt).await?,
            Plan::AttemptFailed { attempt, gives_up, .. } => {
                let failure = self.failure(arn, attempt, gives_up);
                tracing::warn!(secret = %view.name, reason = failure.reason, "{}", failure.message);
                self.keeper.rotation_attempt_failed(arn, &failure).await?;
            }
            Plan::Succeed => {
                self.keeper.rotation_succeeded(arn).await?;
                told(view, "RotationSucceeded");
            }
            Plan::Abandon => {
                self.keeper.abandon_rotation(arn).await?;
                told(view, "RotationAbandoned");
            }
            Plan::TestSucceeded => {
                self.keeper.end_rotation_test(arn, TestEnd::Succeeded).await?;
                told(view, "TestRotationSucceeded");
            }
            Plan::TestFailed { .. } => {
                let (how, _) = self.how(arn);
                let message = format!("the test of the rotator failed: {how}");
                tracing::warn!(secret = %view.name, reason = "TestRotationFailed", "{message}");
                let end = TestEnd::Failed("TestRotationFailed", &message);
                self.keeper.end_rotation_test(arn, end).await?;
            }
            Plan::Nothing { .. } | Plan::Wait { .. } | Plan::RetryAt { .. } | Plan::WaitingForNode => {}
        }
        Ok(())
    }

    /// 1. The journal names the attempt. 2. It runs: killed before that, it counts as failed.
    async fn start(
        &mut self,
        view: &RotationView,
        config: &RotationConfig,
        attempt: u32,
    ) -> Result<(), KeeperError> {
        let Some(journal) = &view.journal else { return Ok(()) };
        let rotator = rotator_name(&config.rotator).to_owned();
        // 1.
        let earlier: Vec<String> = journal.jobs.iter().map(|job| job.uid.clone()).collect();
        self.keeper.rotation_pods_gone(&view.arn, &earlier).await?;
        let job = JobRecord {
            namespace: "dev".to_owned(),
            name: format!("{rotator}-{attempt}"),
            uid: Uuid::new_v4().to_string(),
            service_account: String::new(),
            attempt,
            started_at: self.clock.now(),
            gone: false,
        };
        if !self.keeper.rotation_job_started(&view.arn, &job).await? {
            return Ok(());
        }
        // 2.
        let work = Work {
            rotator,
            arn: view.arn.clone(),
            version: journal.version.to_string(),
            is_test: journal.is_test,
        };
        if work.is_test {
            told(view, "TestRotationStarted");
        }
        let number = (work.version.clone(), attempt);
        let (keeper, runner) = (Arc::clone(&self.keeper), Arc::clone(&self.rotator));
        let (of, under) = (view.arn.clone(), number.clone());
        let handle = self.attempts.spawn(async move {
            let outcome = runner.attempt(&keeper, &work).await;
            (work.arn, number, outcome)
        });
        self.ended.remove(&of);
        self.running.insert(of, (under, handle));
        Ok(())
    }

    /// How the attempt failed, and whether that was its deadline.
    fn how(&self, arn: &Arn) -> (String, bool) {
        match self.ended.get(arn) {
            Some((_, Err(failed))) => (failed.to_string(), matches!(failed, Failed::TimedOut)),
            Some((_, Ok(()))) => ("all steps ended well, but AWSCURRENT was not moved".to_owned(), false),
            None => ("tidelock dev ended in the middle of it".to_owned(), false),
        }
    }

    fn failure(&self, arn: &Arn, attempt: u32, gives_up: bool) -> AttemptFailure {
        let (how, timed_out) = self.how(arn);
        let then = if gives_up {
            "no retry is left; the next window, or RotateSecret, resumes it"
        } else {
            "it is tried again"
        };
        let reason = match (timed_out, gives_up) {
            (true, _) => "RotationTimedOut",
            (false, true) => "RotationFailed",
            (false, false) => "RotationRetrying",
        };
        AttemptFailure {
            attempt,
            reason,
            message: format!("attempt {attempt} failed: {how}; {then}"),
            gives_up,
        }
    }
}

/// How long the plan waits for; none when it is to be carried out.
fn waits(plan: Plan, now: Timestamp) -> Option<Duration> {
    let until = |at: Timestamp| {
        let wait = Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO);
        Some(wait.saturating_add(Duration::from_millis(20)).min(LOOK_AGAIN))
    };
    match plan {
        Plan::Nothing { until: Some(at) } | Plan::RetryAt { at } => until(at),
        Plan::Nothing { until: None } | Plan::Wait { .. } | Plan::WaitingForNode => Some(LOOK_AGAIN),
        _ => None,
    }
}

fn told(view: &RotationView, reason: &'static str) {
    tracing::info!(secret = %view.name, reason, "rotation");
}

fn failed(error: &KeeperError) -> Duration {
    tracing::warn!(reason = error.reason(), %error, "a rotation could not be followed");
    LOOK_AGAIN_AFTER_ERROR
}
