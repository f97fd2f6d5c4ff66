//! The step machine on observations made by hand, and its rules on all that can be made. Must not know a clock.

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;

const ARN: &str = "arn:aws:secretsmanager:local-1:000000000000:secret:shop/orders-db-AbCdEf";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn sundays() -> Schedule {
    Schedule::parse("cron(0 4 ? * SUN *)", None, Some("2h")).unwrap()
}

/// Sunday, 1 March 2026, in the second half of the window that opened at 04:00.
fn in_window() -> Timestamp {
    at("2026-03-01T05:30:00Z")
}

/// The Wednesday after.
fn between_windows() -> Timestamp {
    at("2026-03-04T12:00:00Z")
}

fn idle(schedule: &Schedule) -> Observed<'_> {
    Observed {
        arn: ARN,
        schedule: Some(schedule),
        basis: Basis {
            since: at("2026-01-01T00:00:00Z"),
            last_rotation: Some(at("2026-02-22T04:20:00Z")),
            last_written: None,
        },
        retries: Retries::default(),
        suspend: false,
        rotate_immediately: false,
        asked: None,
        answered: None,
        unfinished: None,
        earlier_pods_remain: false,
    }
}

fn begun(schedule: &Schedule) -> Observed<'_> {
    let unfinished = Unfinished {
        pending: Pending::Empty,
        attempt: Attempt::Between { next: 1 },
        failures: 0,
        last_failure: None,
        gave_up: None,
        test_since: None,
    };
    Observed { unfinished: Some(unfinished), ..idle(schedule) }
}

fn with(observed: Observed<'_>, change: impl FnOnce(&mut Unfinished)) -> Observed<'_> {
    let mut unfinished = observed.unfinished.unwrap();
    change(&mut unfinished);
    Observed { unfinished: Some(unfinished), ..observed }
}

fn out(job: JobState) -> Attempt {
    Attempt::Out { number: 2, job }
}

#[test]
fn an_open_window_not_yet_used_begins_a_rotation() {
    let schedule = sundays();
    assert_eq!(decide(&idle(&schedule), in_window()), Plan::Begin { reason: Reason::Scheduled });
}

#[test]
fn before_the_secrets_own_moment_the_open_window_waits() {
    let schedule = sundays();
    let opens = at("2026-03-01T04:00:00Z");
    let start = super::super::Window { opens, closes: at("2026-03-01T06:00:00Z") }.start_for(ARN);
    assert!(start > opens);
    assert_eq!(decide(&idle(&schedule), opens), Plan::Nothing { until: Some(start) });
    assert_eq!(decide(&idle(&schedule), start), Plan::Begin { reason: Reason::Scheduled });
}

#[test]
fn a_window_serves_one_rotation() {
    let schedule = sundays();
    let mut observed = idle(&schedule);
    observed.basis.last_rotation = Some(at("2026-03-01T04:40:00Z"));
    let Plan::Nothing { until: Some(until) } = decide(&observed, in_window()) else { panic!("not waiting") };
    assert!(at("2026-03-08T04:00:00Z") <= until && until < at("2026-03-08T05:00:00Z"));
}

#[test]
fn a_schedule_made_inside_a_window_waits_for_the_next_one() {
    let schedule = sundays();
    let mut observed = idle(&schedule);
    observed.basis = Basis { since: at("2026-03-01T04:30:00Z"), last_rotation: None, last_written: None };
    assert!(matches!(decide(&observed, in_window()), Plan::Nothing { until: Some(_) }));
}

#[test]
fn a_missed_window_is_not_made_up_between_windows() {
    let schedule = sundays();
    let mut observed = idle(&schedule);
    observed.basis.last_rotation = Some(at("2026-01-04T04:10:00Z"));
    assert!(matches!(decide(&observed, between_windows()), Plan::Nothing { until: Some(_) }));
}

#[test]
fn without_a_schedule_only_a_request_rotates() {
    let schedule = sundays();
    let observed = Observed { schedule: None, ..idle(&schedule) };
    assert_eq!(decide(&observed, in_window()), Plan::Nothing { until: None });
    let observed = Observed { asked: Some("now"), ..observed };
    assert_eq!(decide(&observed, in_window()), Plan::Begin { reason: Reason::Requested });
}

#[test]
fn each_new_token_begins_exactly_one_rotation() {
    let schedule = sundays();
    let observed = Observed { asked: Some("a"), ..idle(&schedule) };
    assert_eq!(decide(&observed, between_windows()), Plan::Begin { reason: Reason::Requested });
    let observed = Observed { answered: Some("a"), ..observed };
    assert!(matches!(decide(&observed, between_windows()), Plan::Nothing { .. }));
    let observed = Observed { asked: Some("b"), ..observed };
    assert_eq!(decide(&observed, between_windows()), Plan::Begin { reason: Reason::Requested });
    let observed = Observed { asked: Some(""), ..observed };
    assert!(matches!(decide(&observed, between_windows()), Plan::Nothing { .. }));
}

#[test]
fn rotate_immediately_acts_once_before_any_rotation() {
    let schedule = sundays();
    let mut observed = Observed { rotate_immediately: true, ..idle(&schedule) };
    assert!(matches!(decide(&observed, between_windows()), Plan::Nothing { .. }));
    observed.basis.last_rotation = None;
    assert_eq!(decide(&observed, between_windows()), Plan::Begin { reason: Reason::Immediate });
}

#[test]
fn rotate_immediately_acts_for_a_schedule_that_is_newer_than_the_last_rotation() {
    let schedule = sundays();
    let mut observed = Observed { rotate_immediately: true, ..idle(&schedule) };
    observed.basis.since = at("2026-03-02T00:00:00Z");
    assert_eq!(decide(&observed, between_windows()), Plan::Begin { reason: Reason::Immediate });
    observed.basis.last_rotation = Some(at("2026-03-02T00:00:30Z"));
    assert!(matches!(decide(&observed, between_windows()), Plan::Nothing { .. }));
    // A rotation that the schedule before it left unfinished is taken up, once.
    let mut observed = Observed { rotate_immediately: true, ..given_up(&schedule) };
    assert!(matches!(decide(&observed, between_windows()), Plan::Nothing { .. }));
    observed.basis.since = at("2026-03-02T00:00:00Z");
    assert_eq!(decide(&observed, between_windows()), Plan::Resume { reason: Reason::Immediate });
    let again = with(observed, |unfinished| unfinished.gave_up = Some(at("2026-03-02T00:10:00Z")));
    assert!(matches!(decide(&again, between_windows()), Plan::Nothing { .. }));
}

#[test]
fn while_suspended_nothing_begins_but_by_request() {
    let schedule = sundays();
    let mut observed = Observed { suspend: true, rotate_immediately: true, ..idle(&schedule) };
    observed.basis.last_rotation = None;
    assert_eq!(decide(&observed, in_window()), Plan::Nothing { until: None });
    assert_eq!(next_rotation(&observed, in_window()), None);
    let observed = Observed { asked: Some("a"), ..observed };
    assert_eq!(decide(&observed, in_window()), Plan::Begin { reason: Reason::Requested });
}

#[test]
fn suspension_lets_a_rotation_under_way_finish() {
    let schedule = sundays();
    let observed = Observed { suspend: true, ..begun(&schedule) };
    assert_eq!(decide(&observed, in_window()), Plan::StartJob { attempt: 1 });
}

#[test]
fn a_begun_rotation_starts_its_job_even_after_the_window_closed() {
    let schedule = sundays();
    assert_eq!(decide(&begun(&schedule), between_windows()), Plan::StartJob { attempt: 1 });
}

#[test]
fn a_new_value_waits_for_the_pods_of_earlier_attempts() {
    let schedule = sundays();
    let observed = Observed { earlier_pods_remain: true, ..begun(&schedule) };
    assert_eq!(decide(&observed, in_window()), Plan::WaitingForNode);
}

#[test]
fn a_value_that_stands_at_pending_is_taken_up_at_once() {
    let schedule = sundays();
    let observed = Observed { earlier_pods_remain: true, ..begun(&schedule) };
    let observed = with(observed, |unfinished| unfinished.pending = Pending::Written);
    assert_eq!(decide(&observed, in_window()), Plan::StartJob { attempt: 1 });
}

#[test]
fn a_running_job_is_left_alone_whatever_else_is_seen() {
    let schedule = sundays();
    for pending in [Pending::Empty, Pending::Written, Pending::Promoted] {
        let observed = Observed { asked: Some("a"), ..begun(&schedule) };
        let observed = with(observed, |unfinished| {
            unfinished.pending = pending;
            unfinished.attempt = out(JobState::Running);
        });
        assert_eq!(decide(&observed, in_window()), Plan::Wait { attempt: 2 });
    }
}

#[test]
fn a_moved_current_version_is_success_however_the_job_ended() {
    let schedule = sundays();
    for attempt in
        [out(JobState::Succeeded), out(JobState::Failed), out(JobState::Gone), Attempt::Between { next: 3 }]
    {
        let observed = with(begun(&schedule), |unfinished| {
            unfinished.pending = Pending::Promoted;
            unfinished.attempt = attempt;
            unfinished.gave_up = Some(in_window());
        });
        assert_eq!(decide(&observed, in_window()), Plan::Succeed);
    }
}

#[test]
fn a_job_that_ended_without_moving_the_current_version_has_failed() {
    let schedule = sundays();
    for job in [JobState::Succeeded, JobState::Failed, JobState::Gone] {
        let observed = with(begun(&schedule), |unfinished| unfinished.attempt = out(job));
        assert_eq!(decide(&observed, in_window()), Plan::AttemptFailed { attempt: 2, job, gives_up: false });
    }
}

#[test]
fn the_failure_after_the_last_retry_gives_up() {
    let schedule = sundays();
    let observed = with(begun(&schedule), |unfinished| {
        unfinished.failures = 5;
        unfinished.attempt = out(JobState::Failed);
    });
    let plan = decide(&observed, in_window());
    assert_eq!(plan, Plan::AttemptFailed { attempt: 2, job: JobState::Failed, gives_up: true });
}

#[test]
fn a_failed_attempt_is_made_again_after_its_backoff() {
    let schedule = sundays();
    let failed = in_window();
    let observed = with(begun(&schedule), |unfinished| {
        unfinished.failures = 2;
        unfinished.last_failure = Some(failed);
        unfinished.attempt = Attempt::Between { next: 3 };
    });
    let retry = failed.checked_add(SignedDuration::from_secs(60)).unwrap();
    assert_eq!(decide(&observed, failed), Plan::RetryAt { at: retry });
    assert_eq!(decide(&observed, retry), Plan::StartJob { attempt: 3 });
}

fn given_up(schedule: &Schedule) -> Observed<'_> {
    with(begun(schedule), |unfinished| {
        unfinished.failures = 6;
        unfinished.last_failure = Some(at("2026-03-01T05:10:00Z"));
        unfinished.gave_up = Some(at("2026-03-01T05:10:00Z"));
        unfinished.attempt = Attempt::Between { next: 7 };
    })
}

#[test]
fn a_rotation_that_gave_up_is_resumed_in_the_next_window_and_not_in_the_same() {
    let schedule = sundays();
    assert!(matches!(decide(&given_up(&schedule), in_window()), Plan::Nothing { until: Some(_) }));
    let next_window = at("2026-03-08T05:30:00Z");
    assert_eq!(decide(&given_up(&schedule), next_window), Plan::Resume { reason: Reason::Scheduled });
}

#[test]
fn a_rotation_that_gave_up_is_resumed_on_request_and_not_by_schedule_while_suspended() {
    let schedule = sundays();
    let observed = Observed { asked: Some("a"), ..given_up(&schedule) };
    assert_eq!(decide(&observed, between_windows()), Plan::Resume { reason: Reason::Requested });
    let observed = Observed { suspend: true, asked: None, ..observed };
    assert_eq!(decide(&observed, at("2026-03-08T05:30:00Z")), Plan::Nothing { until: None });
}

#[test]
fn a_request_cuts_the_backoff_short_once() {
    let schedule = sundays();
    let observed = with(begun(&schedule), |unfinished| {
        unfinished.failures = 1;
        unfinished.last_failure = Some(in_window());
        unfinished.attempt = Attempt::Between { next: 2 };
    });
    let observed = Observed { asked: Some("a"), ..observed };
    assert_eq!(decide(&observed, in_window()), Plan::Resume { reason: Reason::Requested });
    let observed = Observed { answered: Some("a"), ..observed };
    assert!(matches!(decide(&observed, in_window()), Plan::RetryAt { .. }));
}

#[test]
fn a_value_written_by_hand_abandons_the_rotation_at_any_point() {
    let schedule = sundays();
    for attempt in [Attempt::Between { next: 1 }, out(JobState::Running), out(JobState::Succeeded)] {
        let observed = with(begun(&schedule), |unfinished| {
            unfinished.pending = Pending::Overtaken;
            unfinished.attempt = attempt;
        });
        assert_eq!(decide(&observed, in_window()), Plan::Abandon);
    }
}

#[test]
fn a_test_of_the_rotator_is_one_attempt_at_one_step_and_ends_as_its_job_does() {
    let schedule = sundays();
    let plan = |attempt, pending, now: Timestamp| {
        let observed = with(begun(&schedule), |unfinished| {
            unfinished.test_since = Some(between_windows());
            unfinished.pending = pending;
            unfinished.attempt = attempt;
        });
        // Neither a due window nor a pod of an earlier attempt is waited for.
        decide(&Observed { earlier_pods_remain: true, suspend: true, ..observed }, now)
    };
    let (start, written) = (between_windows(), Pending::Written);
    let next = Attempt::Between { next: 4 };
    let out = |job| Attempt::Out { number: 4, job };
    assert_eq!(plan(next, written, start), Plan::StartJob { attempt: 4 });
    assert_eq!(plan(out(JobState::Running), written, start), Plan::Wait { attempt: 4 });
    assert_eq!(plan(out(JobState::Succeeded), written, start), Plan::TestSucceeded);
    for job in [JobState::Failed, JobState::Gone] {
        let failed = Plan::TestFailed { attempt: 4, job: Some(job) };
        assert_eq!(plan(out(job), written, start), failed, "no retry");
    }
    for pending in [Pending::Overtaken, Pending::Promoted] {
        assert_eq!(plan(out(JobState::Running), pending, start), Plan::Abandon);
    }
    let late = start + SignedDuration::from_mins(16);
    assert_eq!(plan(next, written, late), Plan::TestFailed { attempt: 4, job: None });
    assert_eq!(
        plan(out(JobState::Running), written, late),
        Plan::Wait { attempt: 4 },
        "its Job has a deadline"
    );
}

fn observations() -> impl Strategy<Value = (Option<Unfinished>, [bool; 4], i64)> {
    let job =
        prop::sample::select(vec![JobState::Running, JobState::Succeeded, JobState::Failed, JobState::Gone]);
    let attempt = prop_oneof![
        any::<u32>().prop_map(|next| Attempt::Between { next }),
        (any::<u32>(), job).prop_map(|(number, job)| Attempt::Out { number, job }),
    ];
    let pending =
        prop::sample::select(vec![Pending::Empty, Pending::Written, Pending::Promoted, Pending::Overtaken]);
    let moment = || {
        prop::option::of((1_600_000_000i64..1_900_000_000).prop_map(|s| Timestamp::from_second(s).unwrap()))
    };
    let unfinished = (pending, attempt, any::<u32>(), moment(), moment(), moment()).prop_map(
        |(pending, attempt, failures, last_failure, gave_up, test_since)| Unfinished {
            pending,
            attempt,
            failures,
            last_failure,
            gave_up,
            test_since,
        },
    );
    (prop::option::of(unfinished), any::<[bool; 4]>(), 1_600_000_000i64..1_900_000_000)
}

proptest! {
    #[test]
    fn every_observation_has_a_plan_that_keeps_the_rules((unfinished, flags, now) in observations()) {
        let schedule = sundays();
        let [suspend, rotate_immediately, asked, earlier_pods_remain] = flags;
        let observed = Observed {
            suspend, rotate_immediately, earlier_pods_remain, unfinished,
            asked: asked.then_some("a"), ..idle(&schedule)
        };
        let now = Timestamp::from_second(now).unwrap();
        let plan = decide(&observed, now);
        prop_assert_eq!(plan, decide(&observed, now));
        match plan {
            Plan::Begin { reason } => {
                prop_assert!(unfinished.is_none(), "one rotation at a time");
                prop_assert!(!suspend || reason == Reason::Requested);
            }
            Plan::Resume { reason } => {
                prop_assert!(unfinished.is_some());
                prop_assert!(!suspend || reason == Reason::Requested);
            }
            Plan::StartJob { .. } => {
                let unfinished = unfinished.unwrap();
                prop_assert!(matches!(unfinished.attempt, Attempt::Between { .. }), "one Job at a time");
                let is_test = unfinished.test_since.is_some();
                prop_assert!(is_test || unfinished.pending == Pending::Written || !earlier_pods_remain);
                prop_assert!(is_test || unfinished.gave_up.is_none());
            }
            Plan::Succeed => {
                prop_assert_eq!(unfinished.unwrap().pending, Pending::Promoted);
                prop_assert!(unfinished.unwrap().test_since.is_none(), "a test makes nothing current");
            }
            Plan::AttemptFailed { .. } => prop_assert!(unfinished.unwrap().test_since.is_none(), "no retries"),
            Plan::TestSucceeded | Plan::TestFailed { .. } => {
                prop_assert!(unfinished.unwrap().test_since.is_some());
            }
            Plan::Abandon => {
                let unfinished = unfinished.unwrap();
                let promoted = unfinished.test_since.is_some() && unfinished.pending == Pending::Promoted;
                prop_assert!(promoted || unfinished.pending == Pending::Overtaken);
            }
            Plan::Nothing { until: Some(until) } => prop_assert!(until > now),
            Plan::RetryAt { at } => prop_assert!(at > now),
            _ => {}
        }
    }
}
