//! Rotate: the journal of a secret's rotation. It begins with an empty AWSPENDING version in one transaction (`begin`),
//! names the Job of each attempt, counts failures, and ends as succeeded, failed or abandoned.
//! Must not decide what comes next (`rotation` does), nor make a value: the Job's pod puts it, under a right that lasts
//! while its Job is the journal's newest.
//!
//! `attempt` in the journal is the number of the attempt that is under way or comes next; its Job, once there is one,
//! stands in `jobs` under that number. So a failed attempt loses its rights in the transaction that counts it.

use jiff::Timestamp;

use super::{Keeper, KeeperError, TestEnd, What, settle};
use crate::access::{Operation, Principal};
use crate::rotation::{Attempt, JobState, Pending, Step, Unfinished};
use crate::seal;
use crate::secret::{Arn, Name, Origin, Stage, VersionId};
use crate::store::{
    Change, Expected, JobRecord, RotationConfig, RotationRecord, RotationState, SecretRecord, StoreError,
};

/// A secret as far as its rotation goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationView {
    pub arn: Arn,
    pub name: Name,
    pub origin: Origin,
    /// Why no rotation can be made of it now.
    pub hindrance: Option<Hindrance>,
    /// Whether a RotationSchedule is known to be followed; none when there never was one.
    pub enabled: Option<bool>,
    /// How the AWS API configured it.
    pub config: Option<RotationConfig>,
    /// When a rotation last moved AWSCURRENT, or a value written by hand took a rotation's place.
    pub last_rotation: Option<Timestamp>,
    /// When the current value was written, by whomever.
    pub last_written: Option<Timestamp>,
    pub journal: Option<RotationRecord>,
    /// Where the journal's version stands, while the rotation has not ended or can be resumed.
    pub pending: Option<Pending>,
}

/// What stands in the way of any rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hindrance {
    /// There is no current value to start from.
    NoValue,
    /// A deletion is scheduled.
    Deletion,
}

impl RotationView {
    /// The rotation that has begun and not ended, for the step machine; `out` is the attempt whose Job was made.
    pub fn unfinished(&self, out: Option<(u32, JobState)>) -> Option<Unfinished> {
        let (journal, pending) = self.journal.as_ref().zip(self.pending)?;
        Some(Unfinished {
            pending,
            attempt: match out {
                Some((number, job)) => Attempt::Out { number, job },
                None => Attempt::Between { next: journal.attempt },
            },
            failures: journal.failures,
            last_failure: journal.failed_at,
            gave_up: journal.ended_at.filter(|_| journal.state == RotationState::Failed),
            test_since: Some(journal.begun_at).filter(|_| journal.is_test),
        })
    }
}

/// How an attempt failed: reason word and sentence. Never text of a rotator's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptFailure {
    pub attempt: u32,
    pub reason: &'static str,
    pub message: String,
    /// No retry is left.
    pub gives_up: bool,
}

/// A request's token as the journal keeps it: a long one, which an annotation may hold, by its digest.
pub fn trigger(token: &str) -> String {
    const BYTES_MAX: usize = 253;
    if token.len() <= BYTES_MAX {
        return token.to_owned();
    }
    format!("sha256:{}", seal::hex(&seal::digest("tidelock.rotate.trigger", &[token.as_bytes()])))
}

impl Keeper {
    /// What a decision about this secret's rotation rests on.
    pub async fn rotation(&self, arn: &Arn) -> Result<RotationView, KeeperError> {
        let record = self.rotated_secret(arn).await?;
        let journal = self.ports.store.rotation(arn).await?;
        let pending = match &journal {
            Some(journal) if is_open(journal) => Some(self.pending(&record, journal).await?),
            _ => None,
        };
        let is_abandoned =
            |journal: &&RotationRecord| journal.state == RotationState::Abandoned && !journal.is_test;
        let abandoned = journal.as_ref().filter(is_abandoned);
        let last_rotation = record.rotated_at.max(abandoned.and_then(|journal| journal.ended_at));
        let current = record.stages.get(&Stage::current());
        let hindrance = match (&record.deletion, current) {
            (Some(_), _) => Some(Hindrance::Deletion),
            (None, None) => Some(Hindrance::NoValue),
            (None, Some(_)) => None,
        };
        let versions = self.ports.store.versions(arn).await?;
        let written = versions.iter().find(|version| Some(&version.id) == current);
        Ok(RotationView {
            hindrance,
            enabled: record.rotation_enabled,
            config: record.rotation.map(|config| *config),
            last_rotation,
            last_written: written.map(|version| version.created_at),
            arn: record.arn,
            name: record.name,
            origin: record.origin,
            journal,
            pending,
        })
    }

    /// Whether a RotationSchedule is followed, as DescribeSecret tells it.
    pub async fn set_rotation_enabled(&self, arn: &Arn, enabled: bool) -> Result<(), KeeperError> {
        settle(|| async {
            let mut record = self.rotated_secret(arn).await?;
            if record.rotation_enabled == Some(enabled) {
                return Ok(());
            }
            record.rotation_enabled = Some(enabled);
            let expected = Expected::Revision(record.revision);
            let operation = if enabled { Operation::Rotate } else { Operation::CancelRotation };
            let outcome = if enabled { "enabled" } else { "disabled" };
            let audit = self.entry(&Principal::Controller, operation.verb(), Some(arn), None, outcome);
            self.commit(vec![Change::PutSecret(record, expected)], vec![audit]).await
        })
        .await
    }

    /// Stops a rotation whose schedule is gone: in this transaction an attempt that is under way loses its rights. The
    /// labels stay as they are, as CancelRotateSecret leaves them, so that a new schedule resumes it under the same
    /// token; a test of the rotator is over. Says which Jobs may still run.
    pub async fn halt_rotation(
        &self,
        arn: &Arn,
        reason: &'static str,
        message: &str,
    ) -> Result<Vec<JobRecord>, KeeperError> {
        let record = self.rotated_secret(arn).await?;
        let Some(journal) = self.ports.store.rotation(arn).await? else { return Ok(Vec::new()) };
        if journal.is_test {
            self.end_rotation_test(arn, TestEnd::Abandoned(reason, message)).await?;
        } else if journal.state == RotationState::Running {
            match self.pending(&record, &journal).await? {
                Pending::Promoted => self.rotation_succeeded(arn).await?,
                Pending::Overtaken => self.abandon_rotation(arn).await?,
                Pending::Empty | Pending::Written => {
                    let failure = AttemptFailure {
                        attempt: journal.attempt,
                        reason,
                        message: message.to_owned(),
                        gives_up: true,
                    };
                    self.rotation_attempt_failed(arn, &failure).await?;
                }
            }
        }
        Ok(journal.jobs.into_iter().filter(|job| !job.gone).collect())
    }

    /// The rotation that gave up, or waits out its backoff, gets all its retries back under the same token.
    pub async fn resume_rotation(&self, arn: &Arn, answers: Option<&str>) -> Result<(), KeeperError> {
        self.write_journal(arn, "resumed", |journal, _| {
            journal.state = RotationState::Running;
            journal.failures = 0;
            journal.failed_at = None;
            journal.ended_at = None;
            if let Some(answers) = answers {
                journal.handled_trigger = Some(answers.to_owned());
            }
        })
        .await
    }

    /// The attempt's Job exists: from now on its pod has the rotation's rights. False when the attempt is not under way
    /// any more: then the Job is nobody's, and has none.
    pub async fn rotation_job_started(&self, arn: &Arn, job: &JobRecord) -> Result<bool, KeeperError> {
        let under_way = |journal: &RotationRecord| {
            journal.state == RotationState::Running && journal.attempt == job.attempt
        };
        let journal = self
            .change_journal(arn, "job started", |journal, _| {
                if under_way(journal) {
                    journal.jobs.retain(|known| known.uid != job.uid && !known.gone);
                    journal.jobs.push(job.clone());
                    journal.step = None;
                }
            })
            .await?;
        Ok(under_way(&journal))
    }

    /// The step that the attempt's pod is at.
    pub async fn rotation_step_seen(&self, arn: &Arn, step: Step) -> Result<(), KeeperError> {
        self.write_journal(arn, step.as_str(), |journal, _| journal.step = Some(step.as_str().to_owned()))
            .await
    }

    /// Counts a failed attempt, once: a repetition for an attempt that was counted changes nothing.
    pub async fn rotation_attempt_failed(
        &self,
        arn: &Arn,
        failure: &AttemptFailure,
    ) -> Result<(), KeeperError> {
        self.write_journal(arn, failure.reason, |journal, now| {
            if journal.attempt != failure.attempt {
                return;
            }
            journal.attempt += 1;
            journal.failures += 1;
            journal.failed_at = Some(now);
            journal.failure = Some((failure.reason.to_owned(), failure.message.clone()));
            journal.step = None;
            if failure.gives_up {
                journal.state = RotationState::Failed;
                journal.ended_at = Some(now);
            }
        })
        .await
    }

    /// No pod of these Jobs, by UID, runs any more.
    pub async fn rotation_pods_gone(&self, arn: &Arn, jobs: &[String]) -> Result<(), KeeperError> {
        self.write_journal(arn, "pods gone", |journal, _| {
            for job in &mut journal.jobs {
                job.gone |= jobs.contains(&job.uid);
            }
        })
        .await
    }

    /// AWSCURRENT is on the rotation's version. AWSPENDING stays on it, as AWS leaves it.
    pub async fn rotation_succeeded(&self, arn: &Arn) -> Result<(), KeeperError> {
        self.write_journal(arn, "succeeded", |journal, now| {
            journal.state = RotationState::Succeeded;
            journal.ended_at = Some(now);
            journal.failure = None;
            journal.step = None;
        })
        .await
    }

    /// A value that is not the rotation's own took its place: AWSPENDING leaves the rotation's version.
    pub async fn abandon_rotation(&self, arn: &Arn) -> Result<(), KeeperError> {
        settle(|| self.abandon_rotation_once(arn)).await
    }

    async fn abandon_rotation_once(&self, arn: &Arn) -> Result<(), KeeperError> {
        let mut record = self.rotated_secret(arn).await?;
        let Some(mut journal) = self.ports.store.rotation(arn).await?.filter(is_open) else { return Ok(()) };
        if journal.is_test {
            return self.end_rotation_test_once(arn, TestEnd::OVERTAKEN).await;
        }
        let now = self.now();
        let mut changes = Vec::new();
        if record.stages.get(&Stage::pending()) == Some(&journal.version) {
            record.stages.remove(&Stage::pending());
            record.changed_at = now;
            let expected = Expected::Revision(record.revision);
            changes.push(Change::PutSecret(record, expected));
        }
        journal.state = RotationState::Abandoned;
        journal.ended_at = Some(now);
        journal.step = None;
        let expected = Expected::Revision(journal.revision);
        let audit = self.entry(
            &Principal::Controller,
            Operation::CancelRotation.verb(),
            Some(arn),
            Some(&journal.version),
            "abandoned",
        );
        changes.push(Change::PutRotation(journal, expected));
        self.commit(changes, vec![audit]).await?;
        self.tell(arn, What::Stages);
        Ok(())
    }

    async fn write_journal(
        &self,
        arn: &Arn,
        outcome: &str,
        change: impl Fn(&mut RotationRecord, Timestamp),
    ) -> Result<(), KeeperError> {
        self.change_journal(arn, outcome, change).await.map(drop)
    }

    /// One change of a journal, which it returns as it is then. Nothing is written when nothing changes.
    async fn change_journal(
        &self,
        arn: &Arn,
        outcome: &str,
        change: impl Fn(&mut RotationRecord, Timestamp),
    ) -> Result<RotationRecord, KeeperError> {
        settle(|| async {
            let Some(before) = self.ports.store.rotation(arn).await? else {
                return Err(KeeperError::NotFound);
            };
            let mut journal = before.clone();
            change(&mut journal, self.now());
            if journal == before {
                return Ok(journal);
            }
            let expected = Expected::Revision(before.revision);
            let verb = Operation::Rotate.verb();
            let audit = self.entry(&Principal::Controller, verb, Some(arn), Some(&before.version), outcome);
            self.commit(vec![Change::PutRotation(journal.clone(), expected)], vec![audit]).await?;
            Ok(journal)
        })
        .await
    }

    pub(super) async fn rotated_secret(&self, arn: &Arn) -> Result<SecretRecord, KeeperError> {
        self.ports.store.secret(arn).await?.ok_or(KeeperError::NotFound)
    }

    pub(super) async fn pending(
        &self,
        record: &SecretRecord,
        journal: &RotationRecord,
    ) -> Result<Pending, KeeperError> {
        let at = |stage: Stage| record.stages.get(&stage);
        if at(Stage::current()) == Some(&journal.version) {
            return Ok(Pending::Promoted);
        }
        let versions = self.ports.store.versions(&record.arn).await?;
        let known = |id: &VersionId| versions.iter().find(|version| version.id == *id);
        let written_by_hand =
            at(Stage::current()).and_then(known).is_some_and(|current| current.created_at > journal.begun_at);
        if written_by_hand || at(Stage::pending()) != Some(&journal.version) {
            return Ok(Pending::Overtaken);
        }
        match known(&journal.version) {
            Some(version) if version.has_value => Ok(Pending::Written),
            Some(_) => Ok(Pending::Empty),
            None => Err(StoreError::Corrupt(format!("the rotation of {} has no version", record.arn)).into()),
        }
    }
}

/// Whether the rotation runs, or gave up and waits to be resumed. A test is never resumed.
pub(super) fn is_open(journal: &RotationRecord) -> bool {
    match journal.state {
        RotationState::Running => true,
        RotationState::Failed => !journal.is_test,
        RotationState::Succeeded | RotationState::Abandoned => false,
    }
}

#[cfg(test)]
mod tests;
