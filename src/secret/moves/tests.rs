//! Moves as AWS was recorded to make them, and what holds after any sequence of them.

use proptest::prelude::*;

use super::*;

fn v(n: u8) -> VersionId {
    VersionId::parse(&format!("version-{n:-<32}")).unwrap()
}

fn stage(text: &str) -> Stage {
    Stage::parse(match text {
        "C" => Stage::CURRENT,
        "P" => Stage::PENDING,
        "V" => Stage::PREVIOUS,
        other => other,
    })
    .unwrap()
}

/// `C1 P2 custom3`: the last character is the version.
fn stages(text: &str) -> Stages {
    text.split_whitespace()
        .map(|word| {
            let (label, number) = word.split_at(word.len() - 1);
            (stage(label), v(number.parse().unwrap()))
        })
        .collect()
}

#[track_caller]
fn check_put(before: &str, id: u8, asked: Option<&str>, after: &str) {
    let asked: Option<Vec<Stage>> = asked.map(|text| text.split_whitespace().map(stage).collect());
    assert_eq!(after_put(&stages(before), &v(id), asked.as_deref()), Ok(stages(after)));
}

#[track_caller]
fn check_move(before: &str, label: &str, to: Option<u8>, from: Option<u8>) -> Result<Stages, MoveError> {
    after_move(&stages(before), &stage(label), to.map(v).as_ref(), from.map(v).as_ref())
}

#[test]
fn the_first_value_is_current_whatever_was_asked_for() {
    check_put("", 1, None, "C1");
    check_put("", 1, Some("x"), "C1 x1");
    check_put("P1", 1, Some("P"), "C1 P1");
}

#[test]
fn a_plain_put_takes_current_and_leaves_previous_behind() {
    check_put("C1", 2, None, "C2 V1");
    check_put("C2 V1", 3, None, "C3 V2");
}

#[test]
fn a_put_with_stages_takes_exactly_those() {
    check_put("C1 V0", 2, Some("P"), "C1 V0 P2");
    check_put("C1", 2, Some("x y"), "C1 x2 y2");
    check_put("C1 x1", 2, Some("x"), "C1 x2");
    check_put("C1", 2, Some("C P"), "C2 P2 V1");
}

#[test]
fn custom_stages_stay_on_the_version_that_stops_being_current() {
    check_put("C1 PUT11 AWSSOMETHING1", 2, None, "C2 V1 PUT11 AWSSOMETHING1");
}

#[test]
fn a_version_that_was_current_and_pending_ends_as_previous_alone() {
    check_put("C1 P1", 2, None, "C2 V1");
    check_put("C1 P1", 2, Some("C P"), "C2 P2 V1");
}

#[test]
fn a_new_pending_value_takes_the_stage_from_the_current_version() {
    check_put("C1 P1", 2, Some("P"), "C1 P2");
}

#[test]
fn a_current_put_leaves_another_version_s_pending_stage_alone() {
    check_put("C1 P2", 3, None, "C3 V1 P2");
}

#[test]
fn moving_current_takes_previous_along_and_leaves_pending() {
    assert_eq!(check_move("C1 P2", "C", Some(2), Some(1)), Ok(stages("C2 P2 V1")));
    assert_eq!(check_move("C2 V1", "C", Some(1), Some(2)), Ok(stages("C1 V2")));
}

#[test]
fn a_move_that_is_so_already_changes_nothing() {
    assert_eq!(check_move("C2 V1", "C", Some(2), Some(1)), Ok(stages("C2 V1")));
    assert_eq!(check_move("C2 V1", "C", Some(2), None), Ok(stages("C2 V1")));
}

#[test]
fn a_stage_that_sits_elsewhere_moves_only_from_where_it_is_named() {
    let refused = check_move("C1", "C", Some(2), None).unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "The parameter RemoveFromVersionId can't be empty. Staging label AWSCURRENT is currently attached to \
             version {0}, so you must explicitly reference that version in RemoveFromVersionId.",
            v(1)
        )
    );
    assert!(matches!(check_move("C1", "C", Some(2), Some(3)), Err(MoveError::OtherHolder { .. })));
    assert!(matches!(check_move("C1", "x", Some(2), Some(1)), Err(MoveError::NoHolder { .. })));
    assert_eq!(check_move("C1", "x", None, None), Err(MoveError::Nowhere));
}

#[test]
fn a_stage_is_removed_and_previous_is_not_touched() {
    assert_eq!(check_move("C3 V2 x3", "x", None, Some(3)), Ok(stages("C3 V2")));
    assert_eq!(check_move("C3 V2 P3", "P", None, Some(3)), Ok(stages("C3 V2")));
    assert_eq!(check_move("C3 V2", "C", None, Some(3)), Err(MoveError::CurrentMustStay));
}

#[test]
fn no_secret_gets_more_than_twenty_stages() {
    let full: String = (0..19).map(|n| format!("s{n}x1 ")).collect::<String>() + "C1";
    let refused = after_put(&stages(&full), &v(2), Some(&[stage("one-more")]));
    assert_eq!(refused, Err(MoveError::TooMany(21)));
    assert_eq!(check_move(&full, "one-more", Some(1), None), Err(MoveError::TooMany(21)));
    assert_eq!(after_put(&stages("C1"), &v(2), Some(&[])), Err(MoveError::Asked(0)));
}

#[derive(Debug, Clone)]
enum Act {
    Put(u8, Option<Vec<&'static str>>),
    Move(&'static str, Option<u8>, Option<u8>),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let label = || prop::sample::select(vec!["C", "P", "V", "x", "y"]);
    let put =
        (0u8..6, prop::option::of(prop::collection::vec(label(), 1..4))).prop_map(|(id, l)| Act::Put(id, l));
    let moved = (label(), prop::option::of(0u8..6), prop::option::of(0u8..6))
        .prop_map(|(l, to, from)| Act::Move(l, to, from));
    prop::collection::vec(prop_oneof![put, moved], 0..40)
}

proptest! {
    #[test]
    fn once_there_is_a_current_version_there_always_is_one(acts in acts()) {
        let mut now = Stages::new();
        for act in acts {
            let (was, put) = (now.get(&Stage::current()).cloned(), matches!(act, Act::Put(..)));
            let next = match act {
                Act::Put(id, labels) => {
                    let labels: Option<Vec<Stage>> = labels.map(|l| l.into_iter().map(stage).collect());
                    after_put(&now, &v(id), labels.as_deref())
                }
                Act::Move(label, to, from) => {
                    after_move(&now, &stage(label), to.map(v).as_ref(), from.map(v).as_ref())
                }
            };
            let Ok(next) = next else { continue };
            prop_assert!(next.len() <= STAGES_MAX);
            prop_assert!(next.contains_key(&Stage::current()) || (was.is_none() && !put));
            let current = next.get(&Stage::current()).cloned();
            // Whoever stops being current is the previous one, unless a request put that stage elsewhere by name.
            if let Some(left) = was.filter(|left| Some(left) != current.as_ref()) {
                let previous = next.get(&Stage::previous());
                prop_assert!(previous == Some(&left) || previous == current.as_ref());
            }
            now = next;
        }
    }
}
