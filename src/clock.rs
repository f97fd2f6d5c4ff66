//! The one place that reads the time. Everything else takes a `Clock`, or better the `now` it read.
//! Must not sleep: timers are tokio's.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

/// Where a shell gets the time from; chosen once, in `main`.
pub trait Clock: Send + Sync + 'static {
    /// The time of day, for anything that is stored, shown or compared with what another machine wrote.
    fn now(&self) -> Timestamp;

    /// A time that never goes back, for measuring how long something took.
    fn monotonic(&self) -> Instant;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The machine's clock, as the ports want it.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the place that reads the time")]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // Out of range only beyond the year 9999; there the latest time that can be written stands in.
        Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// Reads a length of time as settings have it: a whole number and one of ms, s, m or h.
pub fn length_of_time(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let count: u64 = text[..split].parse().ok()?;
    let unit = match &text[split..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    count.checked_mul(unit).map(Duration::from_millis)
}

/// A clock that stands still until a test moves it.
#[cfg(any(test, feature = "test-guards"))]
#[derive(Debug)]
pub struct ManualClock {
    started: Instant,
    state: std::sync::Mutex<(Timestamp, std::time::Duration)>,
}

#[cfg(any(test, feature = "test-guards"))]
impl ManualClock {
    pub fn at(now: Timestamp) -> Arc<ManualClock> {
        Arc::new(ManualClock {
            started: Instant::now(),
            state: std::sync::Mutex::new((now, std::time::Duration::ZERO)),
        })
    }

    /// Sets the time of day, also backwards, as a person or NTP would; monotonic time does not notice.
    pub fn set(&self, now: Timestamp) {
        self.lock().0 = now;
    }

    /// Lets time pass.
    pub fn advance(&self, by: std::time::Duration) {
        let mut state = self.lock();
        state.0 = state.0.checked_add(by).unwrap_or(Timestamp::MAX);
        state.1 += by;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Timestamp, std::time::Duration)> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(any(test, feature = "test-guards"))]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.lock().0
    }

    fn monotonic(&self) -> Instant {
        self.started + self.lock().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_s_clock_is_after_this_was_written() {
        let written: Timestamp = "2025-01-01T00:00:00Z".parse().unwrap();
        assert!(SystemClock.now() > written);
    }

    #[test]
    fn a_length_of_time_has_a_number_and_a_unit() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("10m", 600), ("2h", 7200), ("3000ms", 3)] {
            assert_eq!(length_of_time(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in
            ["", "5", "s", "-1s", "1.5s", "1 s", "1d", "99999999999999999999s", "18446744073709551615h"]
        {
            assert_eq!(length_of_time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let start: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let clock = ManualClock::at(start);
        let before = clock.monotonic();
        assert_eq!(clock.now(), start);
        clock.advance(Duration::from_secs(90));
        assert_eq!(clock.now().to_string(), "2030-01-01T00:01:30Z");
        assert_eq!(clock.monotonic() - before, Duration::from_secs(90));
        clock.set(start - Duration::from_secs(3600));
        assert_eq!(clock.now().to_string(), "2029-12-31T23:00:00Z");
        assert_eq!(clock.monotonic() - before, Duration::from_secs(90));
    }
}
