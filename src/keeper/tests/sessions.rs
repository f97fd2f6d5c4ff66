//! Sessions: what their keys and tokens tell, for how long, and what is kept open of them.

use jiff::SignedDuration;

use super::session::{OPENED_MAX, Session};
use super::*;
use crate::access::Via;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

impl Bench {
    async fn issued(&self, lasts: SignedDuration) -> IssuedSession {
        self.keeper.issue_session(&whole(), None, "orders", lasts).await.unwrap()
    }

    /// As a server issues one that sets itself no limits.
    fn forged(&self, issued_at: Timestamp, expires_at: Timestamp) -> (AccessKey, String) {
        let told = serde_json::json!({
            "namespace": "shop", "account": "api", "uid": "account-uid", "groups": [], "extra": {}, "pod": null,
            "session": "orders", "expires": expires_at.as_second(),
        });
        let told = told.to_string();
        self.keeper.sessions.issue(told.as_bytes(), issued_at.as_second(), &mut SystemRandom).unwrap()
    }
}

/// Somebody of whom a token tells all that one can.
fn whole() -> Principal {
    let Principal::ServiceAccount { account, uid, pod, via, .. } = app() else {
        panic!("a pod has an account")
    };
    let groups = ["system:serviceaccounts".to_owned(), "system:authenticated".to_owned()].into();
    let extra =
        BTreeMap::from([("example.org/claim".to_owned(), vec!["a".to_owned(), "b".to_owned()])]).into();
    Principal::ServiceAccount { account, uid, groups, extra, pod, via }
}

fn open(keeper: &Keeper, key: &AccessKey, token: &str) -> Option<Arc<Session>> {
    keeper.session(&key.id, token)
}

/// Whether both have the same secret.
fn signs_as(session: &Session, issued: &IssuedSession) -> bool {
    let given = ScopedSecret::new(issued.key.secret.clone());
    session.secret.key("AWS4", &["20300101"]) == given.key("AWS4", &["20300101"])
}

#[tokio::test]
async fn a_session_is_its_holder_s_whole_identity_and_its_end_whoever_opens_it_and_however_often() {
    let bench = bench().await;
    let issued = bench.issued(SignedDuration::from_mins(20)).await;
    assert_eq!(issued.expires_at.duration_since(bench.clock.now()), SignedDuration::from_mins(20));
    let via = Via { session: Some("orders".into()), key: Some(issued.key.id.clone()), address: None };
    let restarted = bench.restarted().await;
    for keeper in [&bench.keeper, &bench.keeper, &restarted] {
        let session = open(keeper, &issued.key, &issued.token).unwrap();
        assert_eq!(session.who, whole().by_way_of(via.clone()));
        assert_eq!((session.name.as_str(), session.expires_at), ("orders", issued.expires_at));
        assert!(signs_as(&session, &issued));
        // It says so itself, also when it was kept open meanwhile.
        bench.clock.advance(Duration::from_secs(3600));
    }
    for nobody in [Principal::Controller, Principal::Local] {
        assert_eq!(reason(bench.keeper.issue_session(&nobody, None, "x", HOUR).await), "InvalidRequest");
    }
}

#[tokio::test]
async fn no_session_is_good_for_more_than_an_hour_nor_begins_later() {
    let bench = bench().await;
    let now = bench.clock.now();
    let after = |lasts: SignedDuration| now.checked_add(lasts).unwrap();
    let issued = bench.issued(HOUR * 2).await;
    assert_eq!(issued.expires_at, after(HOUR));
    assert_eq!(open(&bench.keeper, &issued.key, &issued.token).unwrap().expires_at, after(HOUR));
    let (key, token) = bench.forged(now, after(HOUR * 24));
    assert_eq!(open(&bench.keeper, &key, &token).unwrap().expires_at, after(HOUR), "whatever it tells");

    let (minutes, second) = (SignedDuration::from_mins(5), SignedDuration::from_secs(1));
    let (key, token) = bench.forged(after(minutes), after(HOUR));
    assert!(open(&bench.keeper, &key, &token).is_some(), "another replica's clock may be ahead");
    let (key, token) = bench.forged(after(minutes + second), after(HOUR));
    assert!(open(&bench.keeper, &key, &token).is_none());
    bench.clock.advance(Duration::from_secs(1));
    assert!(open(&bench.keeper, &key, &token).is_some(), "a refusal is not kept");
}

#[tokio::test]
async fn what_is_kept_open_answers_for_its_own_key_and_its_own_token_only() {
    let bench = bench().await;
    let (one, other) = (bench.issued(HOUR).await, bench.issued(HOUR).await);
    let of = |issued: &IssuedSession| open(&bench.keeper, &issued.key, &issued.token).unwrap();
    let kept = of(&one);
    for _ in 0..2 {
        assert!(open(&bench.keeper, &one.key, &other.token).is_none());
        assert!(open(&bench.keeper, &other.key, &one.token).is_none());
        assert!(open(&bench.keeper, &one.key, &format!("{}A", one.token)).is_none());
        assert!(open(&bench.keeper, &one.key, "").is_none());
        assert!(bench.keeper.session("", &one.token).is_none());
    }
    assert!(Arc::ptr_eq(&of(&one), &kept), "it is opened once");
    let theirs = of(&other);
    assert!(signs_as(&theirs, &other) && !signs_as(&theirs, &one));
}

#[tokio::test]
async fn so_many_sessions_are_kept_open_and_those_that_are_in_use_among_them() {
    let bench = bench().await;
    let in_use = bench.issued(HOUR).await;
    let open_it = || open(&bench.keeper, &in_use.key, &in_use.token).unwrap();
    let first = open_it();
    let now = bench.clock.now();
    let mut seen = Vec::new();
    for _ in 0..2 * OPENED_MAX {
        let (key, token) = bench.forged(now, now);
        seen.push(open(&bench.keeper, &key, &token).unwrap());
        assert!(Arc::ptr_eq(&open_it(), &first), "after {} others", seen.len());
    }
    // Whoever else holds one is the keeper.
    let kept = seen.iter().filter(|session| Arc::strong_count(session) > 1).count();
    assert!((OPENED_MAX / 2..OPENED_MAX).contains(&kept), "{kept}");
}
