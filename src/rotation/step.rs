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

/// How often a failed attempt is made again before the rotation gives up, and how long it waits before each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    limit: u32,
    backoff_first: SignedDuration,
    backoff_most: SignedDuration,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetriesError {
    #[error("retries.limit {0} is too many: 0 to 100")]
    Limit(u32),
    #[error(
        "retries.backoff `{0}`: write the first and the longest wait, such as 30s..1h (from 1s to 24h, with s, m or h)"
    )]
    Backoff(String),
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
    /// Parses the fields of `spec.retries`; what is left out is `5` and `30s..1h`.
    pub fn parse(limit: Option<u32>, backoff: Option<&str>) -> Result<Self, RetriesError> {
        let default = Self::default();
        let limit = limit.unwrap_or(default.limit);
        if limit > 100 {
            return Err(RetriesError::Limit(limit));
        }
        let Some(text) = backoff else { return Ok(Self { limit, ..default }) };
        let (backoff_first, backoff_most) = text
            .split_once("..")
            .and_then(|(first, most)| Some((wait(first)?, wait(most)?)))
            .filter(|(first, most)| first <= most)
            .ok_or_else(|| RetriesError::Backoff(text.to_owned()))?;
        Ok(Self { limit, backoff_first, backoff_most })
    }

    pub fn limit(&self) -> u32 {
        self.limit
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

impl std::fmt::Display for Retries {
    /// The wording of `status.effective`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (first, most) = (self.backoff_first.as_secs(), self.backoff_most.as_secs());
        write!(f, "{}..{}", Seconds(first), Seconds(most))
    }
}

struct Seconds(i64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            seconds if seconds % 3600 == 0 => write!(f, "{}h", seconds / 3600),
            seconds if seconds % 60 == 0 => write!(f, "{}m", seconds / 60),
            seconds => write!(f, "{seconds}s"),
        }
    }
}

fn wait(text: &str) -> Option<SignedDuration> {
    let (digits, unit_seconds) = [('s', 1), ('m', 60), ('h', 3600)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    if digits.len() > 6 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = digits.parse::<i64>().ok()?.checked_mul(unit_seconds)?;
    (1..=86_400).contains(&seconds).then(|| SignedDuration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_twice_the_one_before_up_to_the_longest() {
        let retries = Retries::parse(Some(9), Some("30s..5m")).unwrap();
        let failed: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let waits: Vec<_> = (1..=6)
            .map(|failures| retries.retry_at(failures, failed).duration_since(failed).as_secs())
            .collect();
        assert_eq!(waits, [30, 60, 120, 240, 300, 300]);
        assert_eq!(retries.retry_at(u32::MAX, failed).duration_since(failed).as_secs(), 300);
    }

    #[test]
    fn a_limit_of_none_allows_one_attempt() {
        let retries = Retries::parse(Some(0), None).unwrap();
        assert!(!retries.are_used_up(0));
        assert!(retries.are_used_up(1));
    }

    #[test]
    fn backoff_is_shown_as_it_is_written() {
        for text in ["30s..1h", "1m..90m", "1s..24h"] {
            let shown = Retries::parse(None, Some(text)).unwrap().to_string();
            assert_eq!(Retries::parse(None, Some(&shown)), Retries::parse(None, Some(text)));
        }
        assert_eq!(Retries::default().to_string(), "30s..1h");
    }

    #[test]
    fn wrong_retries_are_refused_with_what_is_right() {
        for text in [
            "",
            "30s",
            "1h..30s",
            "0s..1h",
            "1s..25h",
            "30..60",
            "-1s..1h",
            "1d..2d",
            "1s...2s",
            "9999999s..1h",
        ] {
            let error = Retries::parse(None, Some(text)).unwrap_err().to_string();
            assert!(error.contains("such as 30s..1h"), "{text}: {error}");
        }
        assert!(Retries::parse(Some(101), None).unwrap_err().to_string().contains("0 to 100"));
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
