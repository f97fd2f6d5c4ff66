//! The four steps of a rotation and how often a failed attempt is made again.

use jiff::{SignedDuration, Timestamp};

/// One of the four steps of AWS's rotation contract, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    CreateSecret,
    SetSecret,
    TestSecret,
    FinishSecret,
}

impl Step {
    pub const ALL: [Self; 4] = [Self::CreateSecret, Self::SetSecret, Self::TestSecret, Self::FinishSecret];

    /// Those of a rotation, or of a test of its rotator.
    pub fn of(is_test: bool) -> &'static [Self] {
        if is_test { &[Self::TestSecret] } else { &Self::ALL }
    }

    /// The word on the wire, as AWS's rotation functions know it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateSecret => "createSecret",
            Self::SetSecret => "setSecret",
            Self::TestSecret => "testSecret",
            Self::FinishSecret => "finishSecret",
        }
    }

    /// The name of the container that runs it: Kubernetes takes no upper case there.
    pub fn container(self) -> &'static str {
        match self {
            Self::CreateSecret => "create-secret",
            Self::SetSecret => "set-secret",
            Self::TestSecret => "test-secret",
            Self::FinishSecret => "finish-secret",
        }
    }

    pub fn of_container(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.container() == name)
    }
}

impl std::str::FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|step| step.as_str() == text).ok_or_else(|| {
            format!("step `{text}` is none of createSecret, setSecret, testSecret, finishSecret")
        })
    }
}

const LIMIT_MAX: u32 = 20;
const WAIT_SECONDS_MAX: i64 = 24 * 3600;

/// How often a failed attempt is made again before the rotation gives up, and how long it waits before each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    limit: u32,
    backoff_first: SignedDuration,
    backoff_most: SignedDuration,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetriesError {
    #[error("retries.limit {0} is not right: 0 to 20")]
    Limit(i32),
    #[error(
        "retries.backoff.{field} `{found}`: write a length of time from 1s to 24h, such as 30s, 5m or 1h30m"
    )]
    Backoff { field: &'static str, found: String },
    #[error("retries.backoff: min is longer than max; exchange them")]
    Order,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            limit: 5,
            backoff_first: SignedDuration::from_secs(30),
            backoff_most: SignedDuration::from_hours(1),
        }
    }
}

impl Retries {
    /// Parses the fields of `spec.retries`; what is left out is 5, `30s` and `1h`.
    pub fn parse(limit: Option<i32>, min: Option<&str>, max: Option<&str>) -> Result<Self, RetriesError> {
        let default = Self::default();
        let limit = match limit {
            None => default.limit,
            Some(limit) => {
                let right = u32::try_from(limit).ok().filter(|limit| *limit <= LIMIT_MAX);
                right.ok_or(RetriesError::Limit(limit))?
            }
        };
        let backoff_first = min.map_or(Ok(default.backoff_first), |text| wait("min", text))?;
        // A first wait beyond the default's longest is a longest wait too.
        let backoff_most = match max {
            Some(text) => wait("max", text)?,
            None => default.backoff_most.max(backoff_first),
        };
        if backoff_first > backoff_most {
            return Err(RetriesError::Order);
        }
        Ok(Self { limit, backoff_first, backoff_most })
    }

    pub fn limit(&self) -> u32 {
        self.limit
    }

    pub fn backoff_min(&self) -> String {
        shown(self.backoff_first)
    }

    pub fn backoff_max(&self) -> String {
        shown(self.backoff_most)
    }

    /// Whether so many failed attempts are the end.
    pub(super) fn are_used_up(&self, failures: u32) -> bool {
        failures > self.limit
    }

    /// When the attempt after the `failures`th failure may start: each wait is twice the one before.
    pub(super) fn retry_at(&self, failures: u32, last_failure: Timestamp) -> Timestamp {
        let doublings = failures.saturating_sub(1).min(30);
        let wait = self.backoff_first.saturating_mul(1 << doublings).min(self.backoff_most);
        last_failure.checked_add(wait).unwrap_or(Timestamp::MAX)
    }
}

/// A length of time in hours, minutes and seconds, as `status.effective` shows it.
fn shown(length: SignedDuration) -> String {
    let seconds = length.as_secs();
    [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect()
}

fn wait(field: &'static str, text: &str) -> Result<SignedDuration, RetriesError> {
    length(text)
        .filter(|seconds| (1..=WAIT_SECONDS_MAX).contains(seconds))
        .map(SignedDuration::from_secs)
        .ok_or_else(|| RetriesError::Backoff { field, found: text.to_owned() })
}

fn length(text: &str) -> Option<i64> {
    let mut seconds = 0i64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit_seconds = match rest.as_bytes().get(digits)? {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            _ => return None,
        };
        let count: i64 = rest[..digits].parse().ok()?;
        seconds = seconds.checked_add(count.checked_mul(unit_seconds)?)?;
        rest = &rest[digits + 1..];
    }
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_twice_the_one_before_up_to_the_longest() {
        let retries = Retries::parse(Some(9), Some("30s"), Some("5m")).unwrap();
        let failed: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let waits: Vec<_> = (1..=6)
            .map(|failures| retries.retry_at(failures, failed).duration_since(failed).as_secs())
            .collect();
        assert_eq!(waits, [30, 60, 120, 240, 300, 300]);
        assert_eq!(retries.retry_at(u32::MAX, failed).duration_since(failed).as_secs(), 300);
    }

    #[test]
    fn a_limit_of_none_allows_one_attempt() {
        let retries = Retries::parse(Some(0), None, None).unwrap();
        assert!(!retries.are_used_up(0));
        assert!(retries.are_used_up(1));
    }

    #[test]
    fn waits_are_shown_as_they_are_written() {
        let retries = Retries::parse(None, Some("1h30m"), Some("5h0m1s")).unwrap();
        assert_eq!((retries.backoff_min().as_str(), retries.backoff_max().as_str()), ("1h30m", "5h1s"));
        let default = Retries::parse(None, None, None).unwrap();
        assert_eq!(default, Retries::default());
        assert_eq!(
            (default.limit(), default.backoff_min().as_str(), default.backoff_max().as_str()),
            (5, "30s", "1h")
        );
    }

    #[test]
    fn a_first_wait_beyond_the_default_longest_stays_as_it_is() {
        assert_eq!(Retries::parse(None, Some("2h"), None).unwrap().backoff_max(), "2h");
    }

    #[test]
    fn wrong_retries_are_refused_with_what_is_right() {
        for text in
            ["", "0s", "25h", "30", "-1s", "1d", "s", "1s2", "99999999999999999999s", "9223372036854775807h"]
        {
            let error = Retries::parse(None, Some(text), None).unwrap_err().to_string();
            assert!(error.contains("backoff.min") && error.contains("such as 30s"), "{text}: {error}");
        }
        assert_eq!(Retries::parse(None, Some("2m"), Some("1m")), Err(RetriesError::Order));
        assert_eq!(Retries::parse(Some(21), None, None), Err(RetriesError::Limit(21)));
        assert_eq!(Retries::parse(Some(-1), None, None), Err(RetriesError::Limit(-1)));
    }

    #[test]
    fn steps_are_known_by_their_word_and_by_their_container() {
        for step in Step::ALL {
            assert_eq!(step.as_str().parse(), Ok(step));
            assert_eq!(Step::of_container(step.container()), Some(step));
        }
        assert!("create_secret".parse::<Step>().unwrap_err().contains("createSecret"));
        assert_eq!(Step::of_container("relay"), None);
    }
}
