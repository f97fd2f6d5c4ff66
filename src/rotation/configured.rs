//! Rotation as the AWS API configures it: the rotator's name in what a caller gave, and the schedule in AWS's
//! RotationRules. It must not know which rotators there are.

use super::{Schedule, ScheduleError};

/// The built-in rotator that every installation has.
pub const GENERATE: &str = "generate";

/// AWS's least and most days between two rotations.
const DAYS: std::ops::RangeInclusive<i64> = 1..=1000;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    #[error("RotationRules: give AutomaticallyAfterDays or ScheduleExpression, not both.")]
    Both,
    #[error("RotationRules: a Duration needs AutomaticallyAfterDays or ScheduleExpression beside it.")]
    Neither,
    #[error("RotationRules: AutomaticallyAfterDays {0} is not right: 1 to 1000.")]
    Days(i64),
    #[error("RotationRules: {0}.")]
    Schedule(#[from] ScheduleError),
}

/// The name that a rotator is registered under: the end of a function's ARN, or all of what was given. A version or
/// alias behind the function's name chooses nothing here.
pub fn rotator_name(given: &str) -> &str {
    let parts: Vec<&str> = given.split(':').collect();
    match parts.as_slice() {
        ["arn", _, "lambda", _, _, "function", name] | ["arn", _, "lambda", _, _, "function", name, _] => {
            name
        }
        _ => given,
    }
}

/// Whether a rotator can be registered under this name: what AWS takes for the name of a function.
pub fn is_rotator_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl Schedule {
    /// The schedule of AWS's rules, all in UTC; none when they name no time, and rotation happens on request only.
    pub fn of_rules(
        after_days: Option<i64>,
        expression: Option<&str>,
        duration: Option<&str>,
    ) -> Result<Option<Self>, RulesError> {
        let expression = match (after_days, expression) {
            (Some(_), Some(_)) => return Err(RulesError::Both),
            (None, None) if duration.is_some() => return Err(RulesError::Neither),
            (None, None) => return Ok(None),
            (Some(days), None) if !DAYS.contains(&days) => return Err(RulesError::Days(days)),
            (Some(days), None) => format!("rate({days} days)"),
            (None, Some(expression)) => expression.to_owned(),
        };
        Ok(Some(Self::parse(&expression, None, duration)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotator_is_named_by_itself_or_by_a_function_s_arn() {
        let arn = "arn:aws:lambda:eu-west-1:123456789012:function:orders-db";
        assert_eq!(rotator_name(arn), "orders-db");
        assert_eq!(rotator_name(&format!("{arn}:live")), "orders-db");
        assert_eq!(rotator_name("orders-db"), "orders-db");
        // Of no function: nothing is registered under it.
        for other in ["arn:aws:lambda:eu-west-1:123456789012:layer:orders-db", "a:orders-db", ""] {
            assert_eq!(rotator_name(other), other);
            assert!(!is_rotator_name(rotator_name(other)));
        }
        assert!(is_rotator_name("orders-db") && !is_rotator_name("orders.db"));
    }

    #[test]
    fn rules_are_a_schedule_or_none() {
        let rules = |days, expression, duration| Schedule::of_rules(days, expression, duration);
        assert!(rules(None, None, None).unwrap().is_none());
        assert!(rules(Some(30), None, Some("2h")).unwrap().is_some_and(|s| s.window_hours() == Some(2)));
        assert!(rules(None, Some("cron(0 4 ? * SUN *)"), None).unwrap().is_some());
        assert_eq!(rules(Some(1), Some("rate(1 day)"), None).unwrap_err(), RulesError::Both);
        assert_eq!(rules(None, None, Some("2h")).unwrap_err(), RulesError::Neither);
        assert_eq!(rules(Some(0), None, None).unwrap_err(), RulesError::Days(0));
        assert_eq!(rules(Some(1001), None, None).unwrap_err(), RulesError::Days(1001));
        for (expression, duration) in [("rate(1 hour)", None), ("rate(1 day)", Some("0h")), ("daily", None)] {
            let refused = rules(None, Some(expression), duration).unwrap_err();
            assert!(refused.to_string().starts_with("RotationRules: "), "{refused}");
        }
    }
}
