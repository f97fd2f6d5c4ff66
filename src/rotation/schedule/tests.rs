//! Schedules on worked examples, and against the calendar itself. Must not know a clock.

use jiff::civil::Weekday;
use proptest::prelude::*;

use super::*;

const LONG_AGO: &str = "2020-01-01T00:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn created(text: &str) -> Basis {
    Basis { since: at(text), last_rotation: None, last_written: None }
}

fn parse(expression: &str) -> Schedule {
    Schedule::parse(expression, None, None).unwrap()
}

/// The first openings after `after`, as the UTC clock shows them.
#[track_caller]
fn check_openings(schedule: &Schedule, after: &str, expected: &[&str]) {
    let mut after = at(after);
    for expected in expected {
        let window = schedule.next_window(created(LONG_AGO), after).unwrap();
        assert_eq!(window.opens, at(&format!("{expected}:00Z")), "after {after}");
        after = window.opens;
    }
}

#[track_caller]
fn check_error(expression: &str, time_zone: Option<&str>, window: Option<&str>, says: &str) {
    let error = Schedule::parse(expression, time_zone, window).unwrap_err().to_string();
    assert!(error.contains(says), "{expression}: {error}");
}

#[test]
fn cron_expressions_open_on_the_days_they_name() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("cron(0 4 ? * SUN *)", "2026-02-27T00:00:00Z", &["2026-03-01T04:00", "2026-03-08T04:00"]),
        ("cron(0 4 ? * 1 *)", "2026-02-27T00:00:00Z", &["2026-03-01T04:00"]),
        (
            "cron(0 2/10 * * ? *)",
            "2026-01-01T00:00:00Z",
            &["2026-01-01T02:00", "2026-01-01T12:00", "2026-01-01T22:00", "2026-01-02T02:00"],
        ),
        (
            "cron(0 /8 * * ? *)",
            "2026-01-01T00:00:00Z",
            &["2026-01-01T08:00", "2026-01-01T16:00", "2026-01-02T00:00"],
        ),
        ("cron(0 */12 * * ? *)", "2026-01-01T00:00:00Z", &["2026-01-01T12:00", "2026-01-02T00:00"]),
        ("cron(0 0 1 * ? *)", "2026-01-01T00:00:00Z", &["2026-02-01T00:00", "2026-03-01T00:00"]),
        // month ends
        (
            "cron(0 5 31 * ? *)",
            "2026-01-01T00:00:00Z",
            &["2026-01-31T05:00", "2026-03-31T05:00", "2026-05-31T05:00", "2026-07-31T05:00"],
        ),
        (
            "cron(0 5 L * ? *)",
            "2026-01-31T06:00:00Z",
            &["2026-02-28T05:00", "2026-03-31T05:00", "2026-04-30T05:00"],
        ),
        (
            "cron(0 5 1,L * ? *)",
            "2026-02-01T06:00:00Z",
            &["2026-02-28T05:00", "2026-03-01T05:00", "2026-03-31T05:00"],
        ),
        // leap years, and the century that is none
        ("cron(0 5 29 2 ? *)", "2026-01-01T00:00:00Z", &["2028-02-29T05:00", "2032-02-29T05:00"]),
        ("cron(0 5 29 FEB ? *)", "2096-03-01T00:00:00Z", &["2104-02-29T05:00"]),
        ("cron(0 5 L 2 ? *)", "2028-01-01T00:00:00Z", &["2028-02-29T05:00", "2029-02-28T05:00"]),
        // working days: 15 August 2026 is a Saturday, 1 August a Saturday, 31 May a Sunday
        ("cron(0 5 15W * ? *)", "2026-08-01T00:00:00Z", &["2026-08-14T05:00", "2026-09-15T05:00"]),
        ("cron(0 5 1W 8 ? *)", "2026-07-01T00:00:00Z", &["2026-08-03T05:00"]),
        ("cron(0 5 LW 5 ? *)", "2026-01-01T00:00:00Z", &["2026-05-29T05:00"]),
        // the nth and the last weekday
        ("cron(0 5 ? * FRI#2 *)", "2026-01-01T00:00:00Z", &["2026-01-09T05:00", "2026-02-13T05:00"]),
        ("cron(0 5 ? * 6#1 *)", "2026-01-01T00:00:00Z", &["2026-01-02T05:00"]),
        ("cron(0 5 ? * MON#5 *)", "2026-01-01T00:00:00Z", &["2026-03-30T05:00", "2026-06-29T05:00"]),
        ("cron(0 5 ? * SUNL *)", "2026-01-01T00:00:00Z", &["2026-01-25T05:00", "2026-02-22T05:00"]),
        ("cron(0 5 SUNL * ? *)", "2026-01-01T00:00:00Z", &["2026-01-25T05:00", "2026-02-22T05:00"]),
        ("cron(0 5 ? * 6L *)", "2026-01-01T00:00:00Z", &["2026-01-30T05:00"]),
        // a bare L is the week's last day, Saturday
        ("cron(0 5 ? * L *)", "2026-01-01T00:00:00Z", &["2026-01-03T05:00", "2026-01-10T05:00"]),
        ("cron(0 5 ? * MON-FRI *)", "2026-01-02T06:00:00Z", &["2026-01-05T05:00", "2026-01-06T05:00"]),
        ("cron(0 5 ? 1/3 mon#1 *)", "2026-01-01T00:00:00Z", &["2026-01-05T05:00", "2026-04-06T05:00"]),
        ("cron(0 8,20 * JAN-MAR,DEC ? *)", "2026-03-31T09:00:00Z", &["2026-03-31T20:00", "2026-12-01T08:00"]),
        ("  cron(0  4  ?  *  SUN  *) ", "2026-02-27T00:00:00Z", &["2026-03-01T04:00"]),
    ];
    for (expression, after, expected) in cases {
        check_openings(&parse(expression), after, expected);
    }
}

#[test]
fn rate_in_days_counts_from_the_last_rotation() {
    let schedule = parse("rate(30 days)");
    let basis =
        Basis { since: at(LONG_AGO), last_rotation: Some(at("2026-01-31T17:00:00Z")), last_written: None };
    let window = schedule.next_window(basis, at("2026-02-01T00:00:00Z")).unwrap();
    assert_eq!(window.opens, at("2026-03-02T00:00:00Z"));
    assert_eq!(window.closes, at("2026-03-03T00:00:00Z"));
}

#[test]
fn rate_in_days_counts_from_its_creation_before_the_first_rotation() {
    let window =
        parse("rate(1 day)").next_window(created("2026-05-01T09:00:00Z"), at("2026-05-01T09:00:00Z"));
    assert_eq!(window.unwrap().opens, at("2026-05-02T00:00:00Z"));
}

#[test]
fn a_value_written_by_hand_counts_as_a_rotation_for_a_rate_in_days() {
    let schedule = parse("rate(30 days)");
    let opens = |since, last_rotation: Option<&str>, written| {
        let last_rotation = last_rotation.map(at);
        let basis = Basis { since: at(since), last_rotation, last_written: Some(at(written)) };
        schedule.next_window(basis, at("2026-02-15T12:00:00Z")).unwrap().opens
    };
    let (january, february) = ("2026-01-20T17:00:00Z", "2026-02-10T17:00:00Z");
    assert_eq!(opens(LONG_AGO, Some(january), february), at("2026-03-12T00:00:00Z"));
    assert_eq!(opens(LONG_AGO, None, february), at("2026-03-12T00:00:00Z"));
    // What was written before there was a schedule does not count, nor does the rotation's own value.
    assert_eq!(opens(february, None, january), at("2026-03-12T00:00:00Z"));
    assert_eq!(opens(LONG_AGO, Some(february), january), at("2026-03-12T00:00:00Z"));
}

#[test]
fn an_overdue_rate_in_days_opens_every_day_until_it_has_rotated() {
    let schedule = parse("rate(30 days)");
    let basis =
        Basis { since: at(LONG_AGO), last_rotation: Some(at("2026-01-01T17:00:00Z")), last_written: None };
    let now = at("2026-02-10T13:00:00Z");
    assert_eq!(schedule.open_window(basis, now).unwrap().opens, at("2026-02-10T00:00:00Z"));
    assert_eq!(schedule.next_window(basis, now).unwrap().opens, at("2026-02-11T00:00:00Z"));
}

#[test]
fn rate_in_hours_stays_on_the_grid_from_the_midnight_of_its_creation() {
    let schedule = parse("rate(10 hours)");
    let basis = created("2026-05-01T09:30:00Z");
    let mut after = basis.since;
    for expected in ["2026-05-01T10:00:00Z", "2026-05-01T20:00:00Z", "2026-05-02T06:00:00Z"] {
        let window = schedule.next_window(basis, after).unwrap();
        assert_eq!(window.opens, at(expected));
        assert_eq!(window.closes.duration_since(window.opens), SignedDuration::from_hours(1));
        after = window.opens;
    }
    let before_it_was_made = schedule.next_window(basis, at("2026-04-01T00:00:00Z")).unwrap();
    assert_eq!(before_it_was_made.opens, at("2026-05-01T10:00:00Z"));
}

#[test]
fn a_rate_in_hours_is_cut_at_midnight() {
    let schedule = Schedule::parse("rate(23 hours)", None, Some("4h")).unwrap();
    let window = schedule.next_window(created("2026-05-01T00:00:00Z"), at("2026-05-01T00:00:00Z")).unwrap();
    assert_eq!((window.opens, window.closes), (at("2026-05-01T23:00:00Z"), at("2026-05-02T00:00:00Z")));
}

#[test]
fn windows_default_to_an_hour_for_hour_schedules_and_to_the_days_end_for_day_schedules() {
    let cases = [
        ("cron(0 4 ? * SUN *)", None, 20),
        ("cron(0 4/8 * * ? *)", None, 1),
        ("cron(0 4,16 * * ? *)", None, 1),
        ("rate(4 hours)", None, 1),
        ("rate(7 days)", None, 24),
        ("cron(0 4 ? * SUN *)", Some("2h"), 2),
        ("cron(0 0 ? * SUN *)", Some("24h"), 24),
        ("rate(4 hours)", Some("3h"), 3),
    ];
    for (expression, window, hours) in cases {
        let schedule = Schedule::parse(expression, None, window).unwrap();
        let window = schedule.next_window(created(LONG_AGO), at("2026-05-05T05:00:00Z")).unwrap();
        assert_eq!(window.closes.duration_since(window.opens).as_hours(), hours, "{expression}");
    }
}

#[test]
fn the_open_window_is_found_from_opening_to_closing() {
    let schedule = Schedule::parse("cron(0 4 ? * SUN *)", None, Some("2h")).unwrap();
    let open = |now| schedule.open_window(created(LONG_AGO), at(now)).map(|window| window.opens);
    assert_eq!(open("2026-03-01T03:59:59Z"), None);
    assert_eq!(open("2026-03-01T04:00:00Z"), Some(at("2026-03-01T04:00:00Z")));
    assert_eq!(open("2026-03-01T05:59:59Z"), Some(at("2026-03-01T04:00:00Z")));
    assert_eq!(open("2026-03-01T06:00:00Z"), None);
}

#[test]
fn the_time_zone_moves_the_hour_and_the_day() {
    let schedule = Schedule::parse("cron(0 2 1 * ? *)", Some("Asia/Tokyo"), None).unwrap();
    check_openings(&schedule, "2026-01-15T00:00:00Z", &["2026-01-31T17:00", "2026-02-28T17:00"]);
    let window = schedule.next_window(created(LONG_AGO), at("2026-01-15T00:00:00Z")).unwrap();
    assert_eq!(window.closes, at("2026-02-01T15:00:00Z"), "the end of the day in Tokyo");
}

#[test]
fn an_opening_in_the_clocks_gap_comes_at_the_gaps_end() {
    // Berlin, 29 March 2026: 02:00 does not exist.
    let schedule = Schedule::parse("cron(0 2 * * ? *)", Some("Europe/Berlin"), Some("2h")).unwrap();
    check_openings(&schedule, "2026-03-28T12:00:00Z", &["2026-03-29T01:00", "2026-03-30T00:00"]);
}

#[test]
fn an_opening_in_the_clocks_fold_comes_once_at_its_first_pass() {
    // Berlin, 25 October 2026: 02:00 comes at 00:00Z and again at 01:00Z.
    let schedule = Schedule::parse("cron(0 2 * * ? *)", Some("Europe/Berlin"), Some("2h")).unwrap();
    check_openings(&schedule, "2026-10-24T12:00:00Z", &["2026-10-25T00:00", "2026-10-26T01:00"]);
    check_openings(&schedule, "2026-10-25T00:30:00Z", &["2026-10-26T01:00"]);
}

#[test]
fn a_midnight_that_does_not_exist_opens_at_the_days_first_moment() {
    // Santiago, 6 September 2026: the clock goes from 24:00 to 01:00.
    let schedule = Schedule::parse("cron(0 0 6 9 ? *)", Some("America/Santiago"), None).unwrap();
    check_openings(&schedule, "2026-01-01T00:00:00Z", &["2026-09-06T04:00"]);
}

#[test]
fn a_window_never_reaches_the_next_one_on_a_short_day() {
    let schedule = Schedule::parse("cron(0 0/4 * * ? *)", Some("Europe/Berlin"), Some("4h")).unwrap();
    let window = schedule.next_window(created(LONG_AGO), at("2026-03-28T22:30:00Z")).unwrap();
    let next = schedule.next_window(created(LONG_AGO), window.opens).unwrap();
    assert_eq!(window.opens, at("2026-03-28T23:00:00Z"));
    assert_eq!(window.closes, next.opens);
}

#[test]
fn what_is_refused_says_what_would_be_right() {
    let cases: &[(&str, &str)] = &[
        ("daily", "write rate(<n> hours)"),
        ("rate(30)", "rate(30 days)"),
        ("rate(0 days)", "rate(30 days)"),
        ("rate(3 hours)", "at least every 4 hours"),
        ("rate(2 weeks)", "rate(30 days)"),
        ("rate(+5 days)", "rate(30 days)"),
        ("rate(1001 days)", "at most every 1000 days"),
        (
            "cron(0 4 * * ?)",
            "cron takes 6 fields (minute, hour, day of month, month, day of week, year), found 5",
        ),
        ("cron(30 4 * * ? *)", "minute must be 0, found `30`"),
        ("cron(00 4 * * ? *)", "minute must be 0"),
        ("cron(0 4 * * ? 2026)", "year must be *, found `2026`"),
        ("cron(0 4 * * * *)", "exactly one of day of month and day of week must be ?"),
        ("cron(0 4 ? * ? *)", "exactly one of day of month and day of week must be ?"),
        ("cron(0 24 * * ? *)", "hour `24` is not right: 0 to 23"),
        ("cron(0 ? * * ? *)", "hour `?` is not right"),
        ("cron(0 4 32 * ? *)", "day of month `32` is not right: 1 to 31"),
        ("cron(0 4 L-3 * ? *)", "day of month `L` is not right"),
        ("cron(0 4 1,LW * ? *)", "day of month `L` is not right"),
        ("cron(0 4 1 13 ? *)", "month `13` is not right: 1 to 12 or JAN to DEC"),
        ("cron(0 4 ? * 0 *)", "day of week `0` is not right: 1 (Sunday) to 7"),
        ("cron(0 4 ? * SUN#6 *)", "day of week `6` is not right"),
        ("cron(0 4 ? * SAT-SUN *)", "from the smaller to the greater"),
        ("cron(0 4 1/0 * ? *)", "a step after /"),
        ("cron(0 4 , * ? *)", "day of month `` is not right"),
        ("cron(0 * * * ? *)", "windows open 1 h apart, at least 4"),
        ("cron(0 0/3 * * ? *)", "windows open 3 h apart"),
        ("cron(0 1,23 * * ? *)", "windows open 2 h apart"),
        ("cron(0 1,23 1,L * ? *)", "windows open 2 h apart"),
        ("cron(0 4 30 2 ? *)", "no calendar has a day"),
        ("cron(0 4 31 4,6,9 ? *)", "no calendar has a day"),
    ];
    for (expression, says) in cases {
        check_error(expression, None, None, says);
    }
}

#[test]
fn hours_that_are_near_only_across_days_pass_where_no_two_days_follow_each_other() {
    check_openings(
        &parse("cron(0 1,23 15 * ? *)"),
        "2026-01-01T00:00:00Z",
        &["2026-01-15T01:00", "2026-01-15T23:00"],
    );
}

#[test]
fn windows_are_refused_where_they_leave_their_day_or_reach_the_next_one() {
    check_error("cron(0 20 ? * SUN *)", None, Some("6h"), "opens at 20:00, so it is at most 4h");
    check_error("cron(0 0/6 * * ? *)", None, Some("7h"), "they open 6 h apart, so it is at most 6h");
    check_error("rate(5 hours)", None, Some("6h"), "they open 5 h apart");
    for window in ["0h", "25h", "2", "h", "2 h", "120m", "+2h", "-1h"] {
        check_error("rate(30 days)", None, Some(window), "whole hours from 1h to 24h");
    }
}

#[test]
fn an_unknown_time_zone_is_refused() {
    check_error("rate(30 days)", Some("Europe/Berlinn"), None, "timeZone `Europe/Berlinn` is not known");
    check_error("rate(30 days)", Some("../../etc/passwd"), None, "is not known");
}

#[test]
fn time_zones_come_from_the_program_and_not_from_files() {
    let zone = zone_named("Australia/Lord_Howe").unwrap();
    assert_eq!(zone.iana_name(), Some("Australia/Lord_Howe"));
    assert_eq!(parse("rate(30 days)").time_zone(), "UTC");
}

fn hours() -> impl Strategy<Value = String> {
    prop_oneof![
        (0..24u8).prop_map(|hour| hour.to_string()),
        (0..24u8, 4..12u8).prop_map(|(from, step)| format!("{from}/{step}")),
        Just("*/6".to_owned()),
    ]
}

fn day_fields() -> impl Strategy<Value = String> {
    prop_oneof![
        (1..=28u8, 1..=12u8).prop_map(|(day, month)| format!("{day} {month} ?")),
        (1..=28u8).prop_map(|day| format!("{day}W * ?")),
        Just("L * ?".to_owned()),
        Just("LW * ?".to_owned()),
        Just("* * ?".to_owned()),
        (1..=7u8, 1..=5u8).prop_map(|(day, nth)| format!("? * {day}#{nth}")),
        (1..=7u8).prop_map(|day| format!("? * {day}L")),
        (1..=7u8).prop_map(|day| format!("? * {day}")),
    ]
}

fn zones() -> impl Strategy<Value = Option<&'static str>> {
    prop::sample::select(vec![
        None,
        Some("Europe/Berlin"),
        Some("America/New_York"),
        Some("Australia/Lord_Howe"),
        Some("Asia/Kathmandu"),
        Some("America/Santiago"),
        Some("Pacific/Apia"),
    ])
}

/// Whether the date is one that the three day fields name: written from AWS's text, apart from the parser.
fn names_date(fields: &str, date: Date) -> bool {
    let parts: Vec<&str> = fields.split(' ').collect();
    let (day, month, weekday) = (parts[0], parts[1], parts[2]);
    let number = |text: &str| text.trim_end_matches(['W', 'L']).parse::<i8>().unwrap_or(0);
    let works = |date: Date| !matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday);
    let in_month = month == "*" || number(month) == date.month();
    let on_weekday = |text: &str| date.weekday().to_sunday_one_offset() == number(text);
    let day_fits = match day {
        "?" => match weekday.split_once('#') {
            Some((name, nth)) => on_weekday(name) && (date.day() - 1) / 7 + 1 == number(nth),
            None if weekday.ends_with('L') => on_weekday(weekday) && date.day() + 7 > date.days_in_month(),
            None => on_weekday(weekday),
        },
        "*" => true,
        "L" => date.day() == date.days_in_month(),
        "LW" => (date.day()..=date.days_in_month())
            .all(|day| works(date.with().day(day).build().unwrap()) == (day == date.day())),
        _ if day.ends_with('W') => {
            let wanted = date.with().day(number(day)).build().unwrap();
            let distance = |day: i8| (day - number(day_text(fields))).abs();
            works(date)
                && (works(wanted) && date == wanted
                    || !works(wanted)
                        && (1..=date.days_in_month())
                            .filter(|day| works(date.with().day(*day).build().unwrap()))
                            .min_by_key(|day| distance(*day))
                            == Some(date.day()))
        }
        _ => number(day) == date.day(),
    };
    in_month && day_fits
}

fn day_text(fields: &str) -> &str {
    fields.split(' ').next().unwrap().trim_end_matches('W').trim_start_matches('?')
}

proptest! {
    // Each case parses a schedule, which measures 800 windows.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_written_as_a_schedule_is_read_or_refused_in_words(
        text in "((rate|cron)\\([0-9*?/, LW#A-Z-]{0,20}( (days?|hours?))?\\)|rate\\([0-9]{1,20} (days?|hours?)\\)|\\PC{0,30})",
        zone in proptest::option::of("(UTC|Europe/Berlin|\\.\\./\\.\\./etc/passwd|\\PC{0,12})"),
        window in proptest::option::of("([0-9]{1,12}h|\\PC{0,6})"),
    ) {
        match Schedule::parse(&text, zone.as_deref(), window.as_deref()) {
            Ok(schedule) => prop_assert!(schedule.next_window(created(LONG_AGO), at("2030-01-01T00:00:00Z")).is_none_or(|window| window.opens < window.closes)),
            Err(refused) => prop_assert!(!refused.to_string().is_empty()),
        }
    }

    #[test]
    fn windows_follow_each_other_on_the_days_and_hours_named(
        hours in hours(), days in day_fields(), zone in zones(), start in 1_700_000_000i64..2_500_000_000,
    ) {
        let Ok(schedule) = Schedule::parse(&format!("cron(0 {hours} {days} *)"), zone, None) else {
            return Ok(());
        };
        let mut after = Timestamp::from_second(start).unwrap();
        for _ in 0..5 {
            let window = schedule.next_window(created(LONG_AGO), after).unwrap();
            prop_assert!(window.opens > after);
            prop_assert!(window.closes > window.opens);
            let local = window.opens.to_zoned(schedule.zone.clone());
            // Apia has no 30 December 2011 and its neighbours' gaps are below a day: the date itself stands.
            prop_assert!(names_date(&days, local.date()), "{} is not {days}", local);
            prop_assert_eq!(window.closes.checked_sub(SignedDuration::from_nanos(1)).unwrap()
                .to_zoned(schedule.zone.clone()).date(), local.date());
            prop_assert_eq!(schedule.open_window(created(LONG_AGO), window.opens), Some(window));
            after = window.opens;
        }
    }

    #[test]
    fn no_day_between_two_windows_was_left_out(days in day_fields(), start in 1_700_000_000i64..2_500_000_000) {
        let Ok(schedule) = Schedule::parse(&format!("cron(0 12 {days} *)"), None, None) else { return Ok(()) };
        let first = schedule.next_window(created(LONG_AGO), Timestamp::from_second(start).unwrap()).unwrap();
        let next = schedule.next_window(created(LONG_AGO), first.opens).unwrap();
        let date = |at: Timestamp| at.to_zoned(TimeZone::UTC).date();
        let mut day = date(first.opens).tomorrow().unwrap();
        while day < date(next.opens) {
            prop_assert!(!names_date(&days, day), "{day} was left out of {days}");
            day = day.tomorrow().unwrap();
        }
    }

    #[test]
    fn rates_move_strictly_on_and_keep_their_distance(
        hours in 4..200u16, zone in zones(), since in 1_700_000_000i64..1_800_000_000, ahead in 0..50_000_000i64,
    ) {
        let schedule = Schedule::parse(&format!("rate({hours} hours)"), zone, None).unwrap();
        let basis = Basis { since: Timestamp::from_second(since).unwrap(), last_rotation: None, last_written: None };
        let after = Timestamp::from_second(since + ahead).unwrap();
        let first = schedule.next_window(basis, after).unwrap();
        let second = schedule.next_window(basis, first.opens).unwrap();
        prop_assert!(first.opens > after);
        prop_assert_eq!(second.opens.duration_since(first.opens).as_hours(), i64::from(hours));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,40}", window in "\\PC{0,4}") {
        let _ = Schedule::parse(&text, None, Some(&window));
        let _ = Schedule::parse(&format!("cron({text})"), None, None);
        let _ = Schedule::parse(&format!("cron(0 4 {text} *)"), Some(&window), None);
    }
}
