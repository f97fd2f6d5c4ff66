//! AWS's cron expressions, field by field: what AWS takes becomes an expression that the cron library takes, and
//! what AWS refuses is refused here with a word on what would be right. The library is laxer than AWS and, on a
//! bare `L` as day of the week, silently never fires; so it never sees what the user wrote.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::schedule::ScheduleError;

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// One understood expression.
#[derive(Debug)]
pub(super) struct Parsed {
    pub cron: Cron,
    /// The hours at which a window opens, ascending; never empty.
    pub hours: Vec<u8>,
    /// Whether AWS would call it an hour schedule, whose window defaults to one hour.
    pub hourly: bool,
}

/// Parses what stands between the parentheses of `cron(...)`.
pub(super) fn parse(body: &str) -> Result<Parsed, ScheduleError> {
    let fields: Vec<&str> = body.split_whitespace().collect();
    let &[minute, hour, day, month, weekday, year] = fields.as_slice() else {
        return Err(ScheduleError::FieldCount(fields.len()));
    };
    if minute != "0" {
        return Err(ScheduleError::Minute(minute.to_owned()));
    }
    if year != "*" {
        return Err(ScheduleError::Year(year.to_owned()));
    }
    // `SUNL` among the days of the month is AWS's other way to say "the last Sunday".
    let (day, weekday) = match day.strip_suffix(['L', 'l']).and_then(|name| weekday_number(name).ok()) {
        Some(_) if weekday == "?" => ("?", day),
        _ => (day, weekday),
    };
    if (day == "?") == (weekday == "?") {
        return Err(ScheduleError::QuestionMark);
    }
    let hours = values("hour", hour, 0, 23, |text| number("hour", text, 0, 23, "0 to 23"))?;
    let month =
        if month == "*" { "*".to_owned() } else { join(&values("month", month, 1, 12, month_number)?) };
    let canonical = format!("0 0 {} {} {month} {} *", join(&hours), days(day)?, weekdays(weekday)?);
    let cron = CronParser::builder()
        .seconds(Seconds::Required)
        .year(Year::Required)
        .alternative_weekdays(true)
        .build()
        .parse(&canonical)
        .map_err(|_| ScheduleError::Grammar(body.to_owned()))?;
    let hourly = hours.len() > 1 || hour.contains('/');
    Ok(Parsed { cron, hours, hourly })
}

/// The day of the month: numbers, ranges, steps, `L` (the last day), `LW` (the last working day), `15W` (the
/// working day nearest the 15th).
fn days(field: &str) -> Result<String, ScheduleError> {
    if matches!(field, "?" | "*") {
        return Ok(field.to_owned());
    }
    let upper = field.to_ascii_uppercase();
    if upper == "LW" {
        return Ok(upper);
    }
    let mut out = Vec::new();
    for item in upper.split(',') {
        if item == "L" {
            out.push(item.to_owned());
        } else if let Some(day) = item.strip_suffix('W') {
            out.push(format!("{}W", day_number(day)?));
        } else {
            out.push(join(&values("day of month", item, 1, 31, day_number)?));
        }
    }
    Ok(out.join(","))
}

/// The day of the week: numbers (1 is Sunday) or names, ranges, steps, `L` (Saturday, the week's last day), `6L`
/// or `FRIL` (the month's last Friday), `FRI#2` (its second).
fn weekdays(field: &str) -> Result<String, ScheduleError> {
    if matches!(field, "?" | "*") {
        return Ok(field.to_owned());
    }
    let mut out = Vec::new();
    for item in field.to_ascii_uppercase().split(',') {
        if item == "L" {
            out.push("7".to_owned());
        } else if let Some((day, nth)) = item.split_once('#') {
            let nth =
                number("day of week", nth, 1, 5, "a weekday of the month is its 1st to 5th, such as FRI#2")?;
            out.push(format!("{}#{nth}", weekday_number(day)?));
        } else if let Some(day) = item.strip_suffix('L') {
            out.push(format!("{}L", weekday_number(day)?));
        } else {
            out.push(join(&values("day of week", item, 1, 7, weekday_number)?));
        }
    }
    Ok(out.join(","))
}

fn day_number(text: &str) -> Result<u8, ScheduleError> {
    number("day of month", text, 1, 31, "1 to 31, L, LW, or a number with W such as 15W")
}

fn month_number(text: &str) -> Result<u8, ScheduleError> {
    named(text, &MONTHS).map_or_else(|| number("month", text, 1, 12, "1 to 12 or JAN to DEC"), Ok)
}

fn weekday_number(text: &str) -> Result<u8, ScheduleError> {
    let right = "1 (Sunday) to 7 or SUN to SAT, with # or L such as FRI#2, 6L";
    named(text, &WEEKDAYS).map_or_else(|| number("day of week", text, 1, 7, right), Ok)
}

fn named(text: &str, names: &[&str]) -> Option<u8> {
    let at = names.iter().position(|name| name.eq_ignore_ascii_case(text))?;
    u8::try_from(at + 1).ok()
}

fn number(
    field: &'static str,
    text: &str,
    min: u8,
    max: u8,
    right: &'static str,
) -> Result<u8, ScheduleError> {
    let bad = || ScheduleError::Field { field, found: text.to_owned(), right };
    // `u8::from_str` takes a leading plus, AWS does not.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    text.parse().ok().filter(|value| (min..=max).contains(value)).ok_or_else(bad)
}

/// The values of a list of numbers, ranges and steps, ascending. A step without an end goes to the field's
/// greatest value, and starts anew each day (month, year): `2/10` hours are 2, 12 and 22.
fn values(
    field: &'static str,
    text: &str,
    min: u8,
    max: u8,
    one: impl Fn(&str) -> Result<u8, ScheduleError>,
) -> Result<Vec<u8>, ScheduleError> {
    let mut set = std::collections::BTreeSet::new();
    for item in text.split(',') {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => {
                (range, Some(number(field, step, 1, max, "a step after / is a number from 1 on")?))
            }
            None => (item, None),
        };
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (one(first)?, one(last)?),
            None if range == "*" || (range.is_empty() && step.is_some()) => (min, max),
            None => {
                let first = one(range)?;
                (first, if step.is_some() { max } else { first })
            }
        };
        if first > last {
            let right = "a range runs from the smaller to the greater; write two of them, such as 6-7,1-2";
            return Err(ScheduleError::Field { field, found: item.to_owned(), right });
        }
        set.extend((first..=last).step_by(usize::from(step.unwrap_or(1))));
    }
    Ok(set.into_iter().collect())
}

fn join(values: &[u8]) -> String {
    values.iter().map(u8::to_string).collect::<Vec<_>>().join(",")
}
