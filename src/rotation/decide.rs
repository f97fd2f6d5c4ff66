//! The step machine: from what is seen of a secret's rotation to the one thing to do next. Total and without
//! memory; every plan is recorded by its apply before the next decision, so that a controller killed anywhere
//! decides the same again.
//!
//! ```text
//!               due, asked for, or first                 Job made and recorded
//!   (nothing) ────────────Begin───────────▶ between ────────StartJob────────▶ out
//!      ▲                                    attempts                           │
//!      │                                     │ ▲ │  ▲                          │ Job ended
//!      │              pods of an earlier     │ │ │  └──────AttemptFailed───────┤ without promotion
//!      │              attempt, no value yet: │ │ │                             │
//!      │              WaitingForNode ◀───────┘ │ │ backoff: RetryAt            │ retries used up
//!      │                                       │                              ▼
//!      │                                       └────────Resume────────── gave up
//!      │                                         next window or asked for      │
//!      ├──────────Succeed: AWSCURRENT is on the token's version ◀─────────────┤
//!      └──────────Abandon: a version written by hand took over  ◀─────────────┘
//! ```
//!
//! AWS's rules in it: an unfinished rotation is resumed with the same token, never replaced by another; a value
//! that already stands at AWSPENDING is taken up by the next attempt at once; a *new* value is made only when no
//! pod of an earlier attempt can still be making one; a value written by hand during a rotation wins.
//!
//! A test of the rotator is an entry of its own in the journal, with one attempt at one step: TestSucceeded or TestFailed
//! ends it, and so does Abandon. Schedule and requests wait for that end and hear nothing of how it was.

use jiff::{SignedDuration, Timestamp};

use super::{Basis, Retries, Schedule};

/// A test that could not be started for so long has failed: while it stands, no rotation begins.
const TEST_WAITS_MAX: SignedDuration = SignedDuration::from_mins(15);

/// Everything a decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    pub arn: &'a str,
    /// None when rotation happens only on request.
    pub schedule: Option<&'a Schedule>,
    pub basis: Basis,
    pub retries: Retries,
    /// Nothing begins by schedule. What has begun is finished, and who asks expressly is answered.
    pub suspend: bool,
    pub rotate_immediately: bool,
    /// The token of the annotation `tidelock.dev/rotate`, and the one that the journal says was answered last.
    pub asked: Option<&'a str>,
    pub answered: Option<&'a str>,
    pub unfinished: Option<Unfinished>,
    /// Whether pods of any earlier attempt for this secret may still run: they exist, and their node has not come
    /// back, been deleted or been tainted out-of-service.
    pub earlier_pods_remain: bool,
}

/// The journal's entry of a rotation that has begun and not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    pub pending: Pending,
    pub attempt: Attempt,
    /// Failed attempts since the rotation began or was resumed.
    pub failures: u32,
    pub last_failure: Option<Timestamp>,
    pub gave_up: Option<Timestamp>,
    /// Of a mere test of the rotator: when it began.
    pub test_since: Option<Timestamp>,
}

/// Where the token's version stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// AWSPENDING, without a value.
    Empty,
    /// AWSPENDING, with a value.
    Written,
    /// AWSCURRENT: finishSecret has done its work.
    Promoted,
    /// Another version became AWSCURRENT meanwhile, or AWSPENDING was taken away.
    Overtaken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// No Job is out; the next one carries this number.
    Between {
        next: u32,
    },
    Out {
        number: u32,
        job: JobState,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    Running,
    Succeeded,
    Failed,
    /// The recorded Job is no more: somebody deleted it.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Scheduled,
    Requested,
    Immediate,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "Scheduled",
            Self::Requested => "Requested",
            Self::Immediate => "Immediate",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing to do before `until`, when the next rotation starts; without it, before something changes.
    Nothing {
        until: Option<Timestamp>,
    },
    /// Journal entry and empty AWSPENDING, with a fresh token; `Requested` answers the annotation's token.
    Begin {
        reason: Reason,
    },
    /// The unfinished rotation gets its retries back, under the same token.
    Resume {
        reason: Reason,
    },
    StartJob {
        attempt: u32,
    },
    /// The Job runs; its end wakes us.
    Wait {
        attempt: u32,
    },
    /// The backoff runs.
    RetryAt {
        at: Timestamp,
    },
    /// No new value before the earlier attempts' pods are known to be gone.
    WaitingForNode,
    /// Record the failure; `gives_up` when it was the last one allowed.
    AttemptFailed {
        attempt: u32,
        job: JobState,
        gives_up: bool,
    },
    Succeed,
    Abandon,
    TestSucceeded,
    /// Without a Job it could not be started in time.
    TestFailed {
        attempt: u32,
        job: Option<JobState>,
    },
}

pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Plan {
    match observed.unfinished {
        None => begin_or_wait(observed, now),
        Some(Unfinished { pending: Pending::Overtaken, .. }) => Plan::Abandon,
        Some(Unfinished { test_since: Some(since), pending, attempt, .. }) => {
            test(since, pending, attempt, now)
        }
        Some(unfinished) => match unfinished.attempt {
            Attempt::Out { number, job } => after_job(observed.retries, unfinished, number, job),
            Attempt::Between { next } => between_attempts(observed, unfinished, next, now),
        },
    }
}

/// When the next rotation starts by schedule, for the status; `now` when it is due.
pub fn next_rotation(observed: &Observed<'_>, now: Timestamp) -> Option<Timestamp> {
    if observed.suspend {
        return None;
    }
    next_start(observed, now)
}

fn begin_or_wait(observed: &Observed<'_>, now: Timestamp) -> Plan {
    if was_asked(observed) {
        return Plan::Begin { reason: Reason::Requested };
    }
    if observed.suspend {
        return Plan::Nothing { until: None };
    }
    if is_immediate(observed, observed.basis.last_rotation) {
        return Plan::Begin { reason: Reason::Immediate };
    }
    match next_start(observed, now) {
        Some(start) if start <= now => Plan::Begin { reason: Reason::Scheduled },
        until => Plan::Nothing { until },
    }
}

/// A test makes no value, so it waits for no pod of an earlier attempt; and it is not tried again, for whoever asked for it
/// can ask again.
fn test(since: Timestamp, pending: Pending, attempt: Attempt, now: Timestamp) -> Plan {
    match (pending, attempt) {
        // Nobody moves AWSCURRENT to the copy. Were it there, nothing would be left to test.
        (Pending::Promoted | Pending::Overtaken, _) => Plan::Abandon,
        (_, Attempt::Between { next }) if now.duration_since(since) > TEST_WAITS_MAX => {
            Plan::TestFailed { attempt: next, job: None }
        }
        (_, Attempt::Between { next }) => Plan::StartJob { attempt: next },
        (_, Attempt::Out { number, job: JobState::Running }) => Plan::Wait { attempt: number },
        (_, Attempt::Out { job: JobState::Succeeded, .. }) => Plan::TestSucceeded,
        (_, Attempt::Out { number, job }) => Plan::TestFailed { attempt: number, job: Some(job) },
    }
}

fn after_job(retries: Retries, unfinished: Unfinished, attempt: u32, job: JobState) -> Plan {
    match (job, unfinished.pending) {
        // Also when AWSCURRENT has moved: the last container may still be tidying up at the target.
        (JobState::Running, _) => Plan::Wait { attempt },
        (_, Pending::Promoted) => Plan::Succeed,
        // A Job that ended well without moving AWSCURRENT has not rotated anything.
        (job, _) => {
            let gives_up = retries.are_used_up(unfinished.failures.saturating_add(1));
            Plan::AttemptFailed { attempt, job, gives_up }
        }
    }
}

fn between_attempts(observed: &Observed<'_>, unfinished: Unfinished, next: u32, now: Timestamp) -> Plan {
    if unfinished.pending == Pending::Promoted {
        return Plan::Succeed;
    }
    let has_failed = unfinished.failures > 0 || unfinished.gave_up.is_some();
    // A request while the first attempt is still to start waits for its end, and then has a rotation of its own.
    if has_failed && was_asked(observed) {
        return Plan::Resume { reason: Reason::Requested };
    }
    if unfinished.gave_up.is_some() {
        let immediate = is_immediate(observed, observed.basis.last_rotation.max(unfinished.gave_up));
        return match next_start(observed, now) {
            _ if observed.suspend => Plan::Nothing { until: None },
            _ if immediate => Plan::Resume { reason: Reason::Immediate },
            Some(start) if start <= now => Plan::Resume { reason: Reason::Scheduled },
            until => Plan::Nothing { until },
        };
    }
    // From here on suspension changes nothing: a rotation half done is worse than one done.
    if let Some(last_failure) = unfinished.last_failure {
        let at = observed.retries.retry_at(unfinished.failures, last_failure);
        if now < at {
            return Plan::RetryAt { at };
        }
    }
    if unfinished.pending == Pending::Empty && observed.earlier_pods_remain {
        return Plan::WaitingForNode;
    }
    Plan::StartJob { attempt: next }
}

/// Whether the one rotation at the schedule's creation is still to be made, or to be tried.
fn is_immediate(observed: &Observed<'_>, last_tried: Option<Timestamp>) -> bool {
    // Creations are known to the second; what was tried in the very second was the schedule's before this one.
    let since = observed.basis.since.as_second();
    observed.rotate_immediately && last_tried.is_none_or(|tried| tried.as_second() <= since)
}

fn was_asked(observed: &Observed<'_>) -> bool {
    observed.asked.is_some_and(|token| !token.is_empty() && observed.answered != Some(token))
}

/// The start in the open window, when no rotation was tried in it yet, or else in the next one. A start that has
/// passed while its window is still open counts as due.
fn next_start(observed: &Observed<'_>, now: Timestamp) -> Option<Timestamp> {
    let schedule = observed.schedule?;
    let gave_up = observed.unfinished.and_then(|unfinished| unfinished.gave_up);
    let last_tried = observed.basis.last_rotation.max(gave_up).unwrap_or(observed.basis.since);
    let window = schedule
        .open_window(observed.basis, now)
        .filter(|window| window.opens > last_tried)
        .or_else(|| schedule.next_window(observed.basis, now))?;
    Some(window.start_for(observed.arn))
}

#[cfg(test)]
mod tests;
