//! What is deleted, what is held, and what is only looked at again.

use super::*;
use crate::secret::Randomness;
use crate::secret::{ArnParts, Name};

struct Fixed;

impl Randomness for Fixed {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

fn arn(namespace: &str, name: &str) -> Arn {
    let name = Name::parse(&format!("{namespace}/{name}")).unwrap();
    Arn::make(ArnParts { region: "local-1", account: "000000000000", name: &name }, &mut Fixed)
}

fn kept(namespace: &str, count: usize) -> Vec<Kept> {
    (0..count)
        .map(|i| Kept {
            arn: arn(namespace, &format!("s{i}")),
            key: (namespace.to_owned(), format!("s{i}")),
            namespace_uid: format!("uid of {namespace}"),
        })
        .collect()
}

fn place() -> Place {
    Place { cluster_id: "cluster".into(), crd_uid: "crd".into() }
}

/// A look that shows the resources of these secrets and these namespaces.
fn look(secrets: &[Kept], namespaces: &[&str]) -> Listing {
    Listing {
        resources: secrets.iter().map(|secret| secret.key.clone()).collect(),
        namespaces: namespaces.iter().map(|n| ((*n).to_owned(), format!("uid of {n}"))).collect(),
        place: place(),
    }
}

fn check(all: &[Kept], looks: [&Listing; 2], deleted: usize, held: usize) {
    let verdict = judge(all, &[], looks, &place(), &|_| false);
    let found = (verdict.delete.len(), verdict.held.as_ref().map_or(0, |held| held.arns.len()));
    assert_eq!(found, (deleted, held), "{verdict:?}");
}

#[test]
fn one_look_is_not_enough() {
    let all = kept("shop", 3);
    let (full, short) = (look(&all, &["shop"]), look(&all[..2], &["shop"]));
    check(&all, [&full, &full], 0, 0);
    check(&all, [&short, &full], 0, 0);
    check(&all, [&full, &short], 0, 0);
    check(&all, [&short, &short], 1, 0);
}

#[test]
fn ten_or_a_fifth_may_vanish_at_once_and_no_more() {
    for (count, left, deleted, held) in
        [(12, 2, 10, 0), (12, 1, 0, 11), (100, 80, 20, 0), (100, 79, 0, 21), (10, 0, 10, 0), (11, 0, 0, 11)]
    {
        let all = kept("shop", count);
        let now = look(&all[..left], &["shop"]);
        check(&all, [&now, &now], deleted, held);
    }
}

#[test]
fn the_end_of_a_namespace_counts_as_one() {
    let mut all = kept("shop", 50);
    all.extend(kept("bank", 5));
    let bank: Vec<Kept> = all.iter().filter(|secret| secret.key.0 == "bank").cloned().collect();
    let now = look(&bank, &["bank"]);
    check(&all, [&now, &now], 50, 0);
    // The same secrets gone from a namespace that is still there are a mass deletion.
    let now = look(&bank, &["bank", "shop"]);
    check(&all, [&now, &now], 0, 50);
    // A namespace of the same name is another one.
    let mut other = look(&bank, &["bank", "shop"]);
    other.namespaces.insert("shop".into(), "uid of another".into());
    check(&all, [&other, &other], 50, 0);
}

#[test]
fn many_namespaces_at_once_are_held_too_and_others_go_on() {
    let mut all: Vec<Kept> = (0..11).flat_map(|i| kept(&format!("n{i}"), 1)).collect();
    all.extend(kept("shop", 2));
    let shop: Vec<Kept> =
        all.iter().filter(|secret| secret.key == ("shop".into(), "s0".into())).cloned().collect();
    let now = look(&shop, &["shop"]);
    check(&all, [&now, &now], 1, 11);
}

#[test]
fn at_another_place_everything_is_held_until_somebody_approves() {
    let all = kept("shop", 3);
    for (cluster_id, crd_uid) in [("other", "crd"), ("cluster", "other")] {
        let now = Listing {
            place: Place { cluster_id: cluster_id.into(), crd_uid: crd_uid.into() },
            ..look(&all[..2], &["shop"])
        };
        check(&all, [&now, &now], 0, 1);
        let verdict = judge(&all, &[], [&now, &now], &place(), &|arns| arns.len() == 1);
        assert_eq!((verdict.delete.len(), verdict.held), (1, None));
    }
    // Before the first record every place is the right one.
    let now = look(&all[..2], &["shop"]);
    let verdict = judge(&all, &[], [&now, &now], &Place::default(), &|_| false);
    assert_eq!((verdict.delete.len(), verdict.held), (1, None));
}

#[test]
fn what_is_approved_is_deleted_and_only_that() {
    let all = kept("shop", 30);
    let now = look(&[], &["shop"]);
    let verdict = judge(&all, &[], [&now, &now], &place(), &|arns| arns.len() == 30);
    assert_eq!((verdict.delete.len(), verdict.held), (30, None));
    check(&all, [&now, &now], 0, 30);
}

#[test]
fn deletions_one_after_the_other_count_together() {
    let all = kept("shop", 14);
    let (earlier, left) = all.split_at(6);
    let now = look(&[], &["shop"]);
    let verdict = judge(left, earlier, [&now, &now], &place(), &|_| false);
    assert_eq!((verdict.delete.len(), verdict.held.map(|held| held.arns.len())), (0, Some(8)));
    let verdict = judge(&left[..4], earlier, [&now, &now], &place(), &|_| false);
    assert_eq!((verdict.delete.len(), verdict.held), (4, None));
}
