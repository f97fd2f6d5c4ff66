//! Whether the table can be used as it stands, and what the model says may come back. Must not try the API.

pub mod declared;

use super::*;

/// What an operation may give back: errors of its own, and the members of its answer.
pub struct Declared {
    pub name: &'static str,
    pub errors: &'static [&'static str],
    pub answer: &'static [&'static str],
}

#[test]
fn every_pattern_of_the_model_can_be_read() {
    let mut patterns = Vec::new();
    OPERATIONS.iter().for_each(|operation| collect(operation.members, &mut patterns));
    assert!(patterns.len() >= 6, "{patterns:?}");
    let unread: Vec<_> = patterns.into_iter().filter(|pattern| compiled(pattern).is_none()).collect();
    assert!(unread.is_empty(), "{unread:?}");
}

#[test]
fn a_pattern_is_asked_of_the_whole_text() {
    let check = |pattern, text, fits_it| assert_eq!(fits(pattern, text), fits_it, "{pattern} {text}");
    check("[0-9]+h", "12h", true);
    check("[0-9]+h", "12hh", false);
    check(r"^([a-z]+-)+\d+$", "eu-west-1", true);
    check(r"^([a-z]+-)+\d+$", "Mars", false);
    check(r"^\!?[a-zA-Z0-9 :_@\/\+\=\.\-\!]*$", "!prod/db", true);
    check(r"^\!?[a-zA-Z0-9 :_@\/\+\=\.\-\!]*$", "a,b", false);
}
