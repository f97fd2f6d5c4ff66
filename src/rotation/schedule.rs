//! Rotation schedules in AWS's grammar, with a time zone beside it: which windows there are. It must not decide
//! whether to rotate; that is `decide`'s.
//!
//! Decisions where AWS's documents are silent, or a time zone adds a question:
//! - "Day" and "midnight" are those of `timeZone`; AWS's are UTC, as ours are without one.
//! - An opening in a gap of the clock (02:00 on the day it jumps to 03:00) is at the gap's end. One in a fold is at
//!   its first pass, once.
//! - `rate(n days)` counts from the day of the last rotation (from the schedule's creation when there was none). A
//!   value that was written by hand since then counts as a rotation.
//!   When that day passed without a rotation, each following day has a window until one succeeds.
//! - `rate(n hours)` counts in elapsed hours from the midnight before the schedule's creation. The grid is fixed:
//!   counted from each last rotation it would drift, and come nearer than n hours.
//! - A window never outlives its day: where the length given would, it is cut at midnight (rate) or refused (cron).

use croner::Cron;
use jiff::civil::{Date, DateTime};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::{Window, cron};

/// AWS rotates a secret no more often than this.
const HOURS_APART_MIN: i64 = 4;
const RATE_DAYS_MAX: u16 = 1000;
const RATE_HOURS_MAX: u16 = RATE_DAYS_MAX * 24;
/// A window is at most a day long, and a day at most 25 hours.
const LOOK_BACK: SignedDuration = SignedDuration::from_hours(26);
/// So many windows of a cron expression are measured when it is parsed: nearest neighbours show up within the
/// calendar's cycle of 28 years, and expressions with few windows a year reach further.
const MEASURED_WINDOWS: usize = 800;

#[derive(Clone, Debug)]
pub struct Schedule {
    rule: Rule,
    zone: TimeZone,
    window_hours: Option<u8>,
}

#[derive(Clone, Debug)]
enum Rule {
    RateHours(u16),
    RateDays(u16),
    Cron { cron: Box<Cron>, hourly: bool },
}

/// What a schedule counts from.
#[derive(Clone, Copy, Debug)]
pub struct Basis {
    /// When the schedule was created.
    pub since: Timestamp,
    pub last_rotation: Option<Timestamp>,
    /// When the current value was written, by whomever. For `rate(n days)` a value written by hand counts as a
    /// rotation, as it does for AWS.
    pub last_written: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error(
        "schedule `{0}`: write rate(<n> hours), rate(<n> days) or cron(0 <hour> <day of month> <month> <day of week> *), such as cron(0 4 ? * SUN *)"
    )]
    Grammar(String),
    #[error(
        "schedule `{0}`: a rate is a whole number and a unit, at least every 4 hours and at most every 1000 days, such as rate(12 hours) or rate(30 days)"
    )]
    Rate(String),
    #[error(
        "schedule: cron takes 6 fields (minute, hour, day of month, month, day of week, year), found {0}"
    )]
    FieldCount(usize),
    #[error("schedule: minute must be 0, found `{0}`; windows open on the hour")]
    Minute(String),
    #[error("schedule: year must be *, found `{0}`")]
    Year(String),
    #[error(
        "schedule: exactly one of day of month and day of week must be ?, such as cron(0 4 1 * ? *) or cron(0 4 ? * SUN *)"
    )]
    QuestionMark,
    #[error("schedule: {field} `{found}` is not right: {right}")]
    Field { field: &'static str, found: String, right: &'static str },
    #[error("schedule: its windows open {0} h apart, at least 4 are needed; take hours such as 0/4 or 2/10")]
    TooOften(i64),
    #[error("schedule: no calendar has a day that it names; look at day of month and month")]
    NeverFires,
    #[error(
        "timeZone `{0}` is not known; write a name of the IANA database such as Europe/Berlin, or leave it out for UTC"
    )]
    TimeZone(String),
    #[error("window `{0}`: write whole hours from 1h to 24h, such as 2h")]
    Window(String),
    #[error(
        "window {window}h runs past midnight: the last one of a day opens at {hour:02}:00, so it is at most {most}h"
    )]
    WindowPastMidnight { window: u8, hour: u8, most: u8 },
    #[error(
        "window {window}h runs into the next window: they open {apart} h apart, so it is at most {apart}h"
    )]
    WindowIntoNext { window: u8, apart: i64 },
}

impl Schedule {
    /// Parses the fields `schedule`, `timeZone` and `window` of a RotationSchedule.
    pub fn parse(
        expression: &str,
        time_zone: Option<&str>,
        window: Option<&str>,
    ) -> Result<Self, ScheduleError> {
        let zone = match time_zone {
            None => TimeZone::UTC,
            Some(name) => zone_named(name)?,
        };
        let window_hours = window.map(window_length).transpose()?;
        let expression = expression.trim();
        let rule = if let Some(body) = between(expression, "rate(") {
            let rule = rate(body).ok_or_else(|| ScheduleError::Rate(expression.to_owned()))?;
            if let (Rule::RateHours(apart), Some(window)) = (&rule, window_hours)
                && *apart < u16::from(window)
            {
                return Err(ScheduleError::WindowIntoNext { window, apart: i64::from(*apart) });
            }
            rule
        } else if let Some(body) = between(expression, "cron(") {
            cron_rule(body, window_hours)?
        } else {
            return Err(ScheduleError::Grammar(expression.to_owned()));
        };
        Ok(Self { rule, zone, window_hours })
    }

    /// The first window that opens after `after`; none only where the calendar ends.
    pub fn next_window(&self, basis: Basis, after: Timestamp) -> Option<Window> {
        let opens = self.next_opening(basis, after)?;
        // On a day whose clock jumps ahead, two openings are an hour nearer to each other than the hours say.
        let closes = match self.next_opening(basis, opens) {
            Some(next) => self.closing(opens)?.min(next),
            None => self.closing(opens)?,
        };
        Some(Window { opens, closes })
    }

    /// The window that is open now, if one is.
    pub fn open_window(&self, basis: Basis, now: Timestamp) -> Option<Window> {
        let mut window = self.next_window(basis, now.checked_sub(LOOK_BACK).ok()?)?;
        while window.opens <= now {
            if window.contains(now) {
                return Some(window);
            }
            window = self.next_window(basis, window.opens)?;
        }
        None
    }

    /// The zone's name in `status.effective`.
    pub fn time_zone(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// The length given, or the default of one hour; none is until the end of the day.
    pub fn window_hours(&self) -> Option<u8> {
        let hourly = matches!(self.rule, Rule::RateHours(_) | Rule::Cron { hourly: true, .. });
        self.window_hours.or(hourly.then_some(1))
    }

    fn next_opening(&self, basis: Basis, after: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::RateHours(hours) => self.next_on_grid(basis.since, i64::from(*hours), after),
            Rule::RateDays(days) => self.next_due_day(basis, *days, after),
            Rule::Cron { cron, .. } => self.next_by_cron(cron, after),
        }
    }

    fn next_on_grid(&self, since: Timestamp, hours: i64, after: Timestamp) -> Option<Timestamp> {
        let origin = self.midnight(since.to_zoned(self.zone.clone()).date())?;
        let step_seconds = hours * 3600;
        let passed = after.as_second().checked_sub(origin.as_second())?.div_euclid(step_seconds);
        // No window opens before the schedule exists.
        let steps =
            passed.max(since.as_second().checked_sub(origin.as_second())?.div_euclid(step_seconds)) + 1;
        origin.checked_add(SignedDuration::from_secs(steps.checked_mul(step_seconds)?)).ok()
    }

    fn next_due_day(&self, basis: Basis, days: u16, after: Timestamp) -> Option<Timestamp> {
        let local_date = |at: Timestamp| at.to_zoned(self.zone.clone()).date();
        let written = basis.last_written.filter(|written| *written > basis.since);
        let counted_from = local_date(basis.last_rotation.max(written).unwrap_or(basis.since));
        let due = counted_from.checked_add(i64::from(days).days()).ok()?;
        let not_before = due.max(local_date(after));
        [not_before, not_before.tomorrow().ok()?]
            .into_iter()
            .filter_map(|date| self.midnight(date))
            .find(|opens| *opens > after)
    }

    /// The library walks plain calendar time; this zone's clock is laid over its answers here, so that gaps and
    /// folds are ours to decide.
    fn next_by_cron(&self, cron: &Cron, after: Timestamp) -> Option<Timestamp> {
        let yesterday = after.to_zoned(self.zone.clone()).datetime().checked_sub(1.day()).ok()?;
        let mut at = yesterday.to_zoned(TimeZone::UTC).ok()?;
        loop {
            at = cron.find_next_occurrence(&at, false).ok()?;
            let opens = self.resolve(at.datetime())?;
            if opens > after {
                return Some(opens);
            }
        }
    }

    fn closing(&self, opens: Timestamp) -> Option<Timestamp> {
        let date = opens.to_zoned(self.zone.clone()).date();
        let day_ends = self.midnight(date.tomorrow().ok()?)?;
        let Some(hours) = self.window_hours() else { return Some(day_ends) };
        let closes = opens.checked_add(SignedDuration::from_hours(i64::from(hours))).ok()?;
        Some(closes.min(day_ends))
    }

    fn midnight(&self, date: Date) -> Option<Timestamp> {
        self.resolve(date.at(0, 0, 0, 0))
    }

    fn resolve(&self, local: DateTime) -> Option<Timestamp> {
        self.zone.to_ambiguous_timestamp(local).compatible().ok()
    }
}

fn between<'a>(expression: &'a str, opening: &str) -> Option<&'a str> {
    expression.strip_prefix(opening)?.strip_suffix(')')
}

fn zone_named(name: &str) -> Result<TimeZone, ScheduleError> {
    TimeZoneDatabase::bundled().get(name).map_err(|_| ScheduleError::TimeZone(name.to_owned()))
}

fn window_length(text: &str) -> Result<u8, ScheduleError> {
    let bad = || ScheduleError::Window(text.to_owned());
    let digits = text.strip_suffix('h').ok_or_else(bad)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    digits.parse().ok().filter(|hours| (1..=24).contains(hours)).ok_or_else(bad)
}

fn rate(body: &str) -> Option<Rule> {
    let (number, unit) = body.trim().split_once(char::is_whitespace)?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u16 = number.parse().ok()?;
    match unit.trim_start() {
        "hour" | "hours" => (4..=RATE_HOURS_MAX).contains(&number).then_some(Rule::RateHours(number)),
        "day" | "days" => (1..=RATE_DAYS_MAX).contains(&number).then_some(Rule::RateDays(number)),
        _ => None,
    }
}

fn cron_rule(body: &str, window_hours: Option<u8>) -> Result<Rule, ScheduleError> {
    let parsed = cron::parse(body)?;
    let apart = hours_apart(&parsed.cron)?;
    if apart < HOURS_APART_MIN {
        return Err(ScheduleError::TooOften(apart));
    }
    if let Some(window) = window_hours {
        if i64::from(window) > apart {
            return Err(ScheduleError::WindowIntoNext { window, apart });
        }
        let hour = parsed.hours.last().copied().unwrap_or_default();
        let most = 24 - hour;
        if window > most {
            return Err(ScheduleError::WindowPastMidnight { window, hour, most });
        }
    }
    Ok(Rule::Cron { cron: Box::new(parsed.cron), hourly: parsed.hourly })
}

/// The fewest hours between two openings, in plain calendar time.
fn hours_apart(cron: &Cron) -> Result<i64, ScheduleError> {
    let start = Date::constant(2023, 12, 31).at(23, 59, 59, 0);
    let start = start.to_zoned(TimeZone::UTC).map_err(|_| ScheduleError::NeverFires)?;
    let mut previous = cron.find_next_occurrence(&start, false).map_err(|_| ScheduleError::NeverFires)?;
    let mut fewest = i64::MAX;
    for _ in 0..MEASURED_WINDOWS {
        let Ok(next) = cron.find_next_occurrence(&previous, false) else { break };
        fewest = fewest.min(next.duration_since(&previous).as_hours());
        previous = next;
    }
    Ok(fewest)
}

#[cfg(test)]
mod tests;
