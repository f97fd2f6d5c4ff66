//! How long a copy lives, for whom, and what ends it. Must not make threads: the table is asked and told.

use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::wire::node as wire;

const WINDOW: Duration = Duration::from_secs(600);
const ARN: &str = "arn:orders-db";
const UID: &str = "uid-of-orders-api";

fn holder(namespace: &str, account: &str, attributes: &[(&str, &str)]) -> Holder {
    let pod = Pod { namespace: namespace.into(), name: "web-0".into(), service_account: account.into() };
    let attributes = attributes.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Holder::new(&pod, &attributes)
}

fn ours() -> Holder {
    holder("shop", "orders-api", &[("secret", "orders-db")])
}

fn placement(session: u64, version: &str, first_mounts: FirstMounts) -> Placement {
    let payload =
        wire::Payload { secret_arn: ARN.into(), version_id: version.into(), ..wire::Payload::default() };
    Placement {
        session,
        payload: Arc::new(Payload::from(payload)),
        mount: None,
        source: Source::Server { first_mounts, account_uid: UID.into() },
    }
}

fn held(version: &str) -> Held {
    Held { secret_arn: ARN.into(), version_id: version.into() }
}

fn after(seconds: u64) -> Instant {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(|| SystemClock.monotonic());
    *START + Duration::from_secs(seconds)
}

/// Session 1 is up and has placed v1 for our holder.
fn with_copy() -> Trust {
    let trust = Trust::new(WINDOW);
    trust.session_is_up(1, &HashSet::new());
    trust.learn(ours(), &placement(1, "v1", FirstMounts::Served));
    trust
}

fn found(trust: &Trust, at: u64) -> Result<String, Untrusted> {
    trust.find(&ours(), Some(UID), after(at)).map(|payload| payload.version_id.clone())
}

#[test]
fn a_copy_is_given_from_the_loss_of_the_server_to_the_end_of_the_window() {
    let trust = with_copy();
    assert_eq!(found(&trust, 5), Err(Untrusted::Connecting), "the server is there: it is asked");
    trust.session_ended(1, after(10));
    assert_eq!(found(&trust, 10), Ok("v1".into()));
    // Attempts that fail do not prolong it.
    trust.session_ended(2, after(300));
    trust.session_ended(3, after(608));
    assert_eq!(found(&trust, 609), Ok("v1".into()));
    assert_eq!(found(&trust, 610), Err(Untrusted::Over));
    trust.session_ended(4, after(610));
    assert!(!trust.has(&ours(), &held("v1")), "what is of no use is wiped");
    assert_eq!(found(&trust, 611), Err(Untrusted::Over));
}

#[test]
fn nobody_else_is_given_it() {
    let trust = with_copy();
    trust.session_ended(1, after(0));
    let secret = ("secret", "orders-db");
    for other in [
        holder("shop-2", "orders-api", &[secret]),
        holder("shop", "default", &[secret]),
        holder("shop", "orders-api", &[("secret", "payments-db")]),
        holder("shop", "orders-api", &[secret, ("keys", "password")]),
        holder("shop", "orders-api", &[secret, ("mode", "0444")]),
    ] {
        assert_eq!(trust.find(&other, Some(UID), after(1)).err(), Some(Untrusted::NoCopy), "{other:?}");
    }
    // A namesake: the namespace or the ServiceAccount was deleted and made anew.
    assert_eq!(trust.find(&ours(), Some("another-uid"), after(1)).err(), Some(Untrusted::NoCopy));
    assert_eq!(trust.find(&ours(), None, after(1)).err(), Some(Untrusted::NoCopy));
}

#[test]
fn without_a_window_nothing_is_kept() {
    let trust = Trust::new(Duration::ZERO);
    trust.session_is_up(1, &HashSet::new());
    trust.learn(ours(), &placement(1, "v1", FirstMounts::Served));
    assert!(!trust.has(&ours(), &held("v1")));
    trust.session_ended(1, after(0));
    assert_eq!(found(&trust, 0), Err(Untrusted::Off));
}

#[test]
fn what_the_server_would_refuse_is_refused() {
    let refused = |act: &dyn Fn(&Trust)| {
        let trust = with_copy();
        act(&trust);
        trust.session_ended(1, after(0));
        assert_eq!(found(&trust, 1), Err(Untrusted::NoCopy));
    };
    refused(&|trust| trust.forget(&ours(), ARN));
    refused(&|trust| trust.keep(&ours(), &held("v1"), FirstMounts::Refused, 1));
    refused(&|trust| trust.learn(ours(), &placement(1, "v2", FirstMounts::Refused)));
    // An older server does not say.
    refused(&|trust| trust.learn(ours(), &placement(1, "v2", FirstMounts::Unknown)));
    // Of the same ServiceAccount with other attributes.
    refused(&|trust| trust.forget(&holder("shop", "orders-api", &[("secret", "shop/orders-db")]), ARN));
}

#[test]
fn a_withdrawal_from_one_account_takes_nothing_from_another() {
    let trust = with_copy();
    trust.forget(&holder("shop", "payments-api", &[("secret", "orders-db")]), ARN);
    trust.session_ended(1, after(0));
    assert_eq!(found(&trust, 1), Ok("v1".into()));
}

#[test]
fn a_stream_on_which_the_server_did_not_stand_by_it_does_not_prolong_the_window() {
    let trust = with_copy();
    trust.session_ended(1, after(0));
    let holders = HashSet::from([ours()]);
    trust.session_is_up(2, &holders);
    trust.keep(&ours(), &held("v1"), FirstMounts::Unknown, 2);
    trust.session_ended(2, after(500));
    assert_eq!(found(&trust, 599), Ok("v1".into()));
    assert_eq!(found(&trust, 600), Err(Untrusted::Over));

    let trust = with_copy();
    trust.session_ended(1, after(0));
    trust.session_is_up(2, &holders);
    trust.keep(&ours(), &held("v1"), FirstMounts::Served, 2);
    trust.session_ended(2, after(500));
    assert_eq!(found(&trust, 1000), Ok("v1".into()), "stood by on the second stream");
}

#[test]
fn a_copy_of_another_version_than_the_server_keeps_is_wiped() {
    let trust = with_copy();
    trust.keep(&ours(), &held("v0"), FirstMounts::Served, 1);
    assert!(!trust.has(&ours(), &held("v1")));
    let trust = with_copy();
    trust.learn(ours(), &placement(1, "v2", FirstMounts::Served));
    trust.session_ended(1, after(0));
    assert_eq!(found(&trust, 1), Ok("v2".into()), "the newest that the server wanted");
}

#[test]
fn a_copy_goes_with_its_last_mount_or_with_the_window() {
    let trust = with_copy();
    trust.let_go(&ours());
    assert!(!trust.has(&ours(), &held("v1")), "the server is there and does not know that we keep it");

    let trust = with_copy();
    trust.session_ended(1, after(0));
    trust.let_go(&ours());
    assert_eq!(found(&trust, 1), Ok("v1".into()), "a pod that is replaced ends before the next one begins");
    trust.session_is_up(2, &HashSet::new());
    assert!(!trust.has(&ours(), &held("v1")), "no mount is left of it");
}

#[test]
fn an_agent_that_has_never_had_a_stream_has_nothing_to_give() {
    let trust = Trust::new(WINDOW);
    trust.session_ended(1, after(0));
    assert_eq!(found(&trust, 0), Err(Untrusted::NoCopy));
}
