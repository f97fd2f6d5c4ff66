//! Names of rotation Jobs, and which finished ones are in the way. It must not know what is in a Job.

use jiff::Timestamp;

use super::window::fnv1a;

/// So many finished Jobs of a schedule stay, for people to read their logs.
const SUCCEEDED_KEPT: usize = 3;
const FAILED_KEPT: usize = 3;
/// A Job's name becomes a label of its pods, at most 63 characters: slug, hash (16), attempt (10 digits at most),
/// and the hyphens between.
const SLUG_CHARS_MAX: usize = 32;

/// The name of the Job of one attempt. Deterministic, so that a controller killed after it made the Job finds
/// that very Job again, and two controllers cannot make two. It is a name, not a proof: who reads the Job checks
/// ARN, version and attempt, which the Job carries.
pub fn job_name(schedule: &str, arn: &str, version_id: &str, attempt: u32) -> String {
    let slug = slug(schedule);
    format!("{slug}-{:016x}-{attempt}", fnv1a(&[arn.as_bytes(), version_id.as_bytes()]))
}

/// The label that the Jobs of one secret's rotations, and their pods, have in common.
pub fn rotation_label(schedule: &str, arn: &str) -> String {
    format!("{}-{:016x}", slug(schedule), fnv1a(&[arn.as_bytes()]))
}

fn slug(schedule: &str) -> String {
    let slug: String = schedule
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() { char.to_ascii_lowercase() } else { '-' })
        .take(SLUG_CHARS_MAX)
        .collect();
    match slug.trim_matches('-') {
        "" => "rotation".to_owned(),
        slug => slug.to_owned(),
    }
}

/// A Job whose attempt is over and recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedJob {
    pub name: String,
    pub ended: Timestamp,
    pub succeeded: bool,
}

/// The finished Jobs beyond the history's limit, oldest first.
pub fn surplus_jobs(mut finished: Vec<FinishedJob>) -> Vec<String> {
    finished.sort_by(|a, b| (a.ended, &a.name).cmp(&(b.ended, &b.name)));
    let (succeeded, failed): (Vec<_>, Vec<_>) = finished.into_iter().partition(|job| job.succeeded);
    let beyond = |jobs: Vec<FinishedJob>, kept: usize| {
        let surplus = jobs.len().saturating_sub(kept);
        jobs.into_iter().take(surplus).map(|job| job.name)
    };
    beyond(succeeded, SUCCEEDED_KEPT).chain(beyond(failed, FAILED_KEPT)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ARN: &str = "arn:aws:secretsmanager:local-1:000000000000:secret:shop/orders-db-AbCdEf";
    const VERSION: &str = "0197f2c0-5b3a-4c1e-9d2f-1a2b3c4d5e6f";

    #[test]
    fn the_name_never_changes_between_releases() {
        assert_eq!(job_name("orders-db", ARN, VERSION, 3), "orders-db-abdb553cc077b187-3");
    }

    #[test]
    fn secret_version_and_attempt_each_change_the_name() {
        let names = [
            job_name("orders-db", ARN, VERSION, 1),
            job_name("orders-db", ARN, VERSION, 2),
            job_name("orders-db", ARN, "another", 1),
            job_name("orders-db", "arn:another", VERSION, 1),
        ];
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
    }

    #[test]
    fn the_newest_finished_jobs_of_each_kind_stay() {
        let job = |name: &str, second, succeeded| FinishedJob {
            name: name.to_owned(),
            ended: Timestamp::from_second(second).unwrap(),
            succeeded,
        };
        let mut jobs: Vec<_> = (0..5).map(|i| job(&format!("good-{i}"), 100 - i, true)).collect();
        jobs.extend((0..4).map(|i| job(&format!("bad-{i}"), i, false)));
        assert_eq!(surplus_jobs(jobs), ["good-4", "good-3", "bad-0"]);
        assert!(surplus_jobs(Vec::new()).is_empty());
    }

    proptest! {
        #[test]
        fn every_name_is_a_dns_label(schedule in ".{0,80}", version in ".{0,64}", attempt in any::<u32>()) {
            let name = job_name(&schedule, ARN, &version, attempt);
            prop_assert!(name.len() <= 63, "{name}");
            prop_assert!(name.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-'));
            prop_assert!(!name.starts_with('-') && !name.ends_with('-'));
        }
    }
}
