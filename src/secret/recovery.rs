//! How long a deleted secret can still be had back. Must not read the time.

use jiff::{SignedDuration, Timestamp};

/// 7 to 30 days, AWS's range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryWindow(u8);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("The RecoveryWindowInDays value must be between 7 and 30 days (inclusive), not {0}.")]
pub struct RecoveryWindowError(pub i64);

impl RecoveryWindow {
    pub fn from_days(days: i64) -> Result<Self, RecoveryWindowError> {
        match u8::try_from(days) {
            Ok(days @ 7..=30) => Ok(Self(days)),
            _ => Err(RecoveryWindowError(days)),
        }
    }

    pub fn days(self) -> u8 {
        self.0
    }

    /// When a secret that is deleted now goes for good.
    pub fn ends(self, now: Timestamp) -> Timestamp {
        now.checked_add(SignedDuration::from_hours(24 * i64::from(self.0))).unwrap_or(Timestamp::MAX)
    }
}

impl Default for RecoveryWindow {
    fn default() -> Self {
        Self(30)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_7_to_30_days_and_30_unless_said_otherwise() {
        for (days, good) in
            [(-1, false), (0, false), (6, false), (7, true), (30, true), (31, false), (263, false)]
        {
            assert_eq!(RecoveryWindow::from_days(days).is_ok(), good, "{days}");
        }
        let now: Timestamp = "2030-01-01T10:00:00Z".parse().unwrap();
        assert_eq!(RecoveryWindow::default().ends(now).to_string(), "2030-01-31T10:00:00Z");
    }
}
