//! Access keys: who may make them, how many, what ends them, and what is kept of them.

use jiff::SignedDuration;

use super::*;
use crate::access::Via;

fn operator() -> Principal {
    pod_of("shop", "operator")
}

fn ci() -> ServiceAccount {
    ServiceAccount { namespace: "shop".into(), name: "ci".into() }
}

fn wanted(name: &str) -> CreateAccessKey {
    CreateAccessKey { account: ServiceAccount { name: name.into(), ..ci() }, lasts: None }
}

impl Bench {
    async fn made(&self, name: &str) -> CreatedAccessKey {
        self.keeper.create_access_key(&operator(), &wanted(name)).await.unwrap()
    }

    async fn ids(&self) -> Vec<String> {
        let listed = self.keeper.list_access_keys(&operator(), "shop").await.unwrap();
        listed.into_iter().map(|key| key.id).collect()
    }
}

async fn with_operator() -> Bench {
    let bench = bench().await;
    KeyOperation::ALL.into_iter().for_each(|operation| bench.answers.allow_keys(&operator(), operation));
    bench
}

#[tokio::test]
async fn a_key_is_made_for_whom_the_cluster_lets_and_opens_after_a_restart() {
    let bench = with_operator().await;
    let key = bench.made("ci").await;
    assert_eq!(key.expires_at.duration_since(key.created_at), SignedDuration::from_hours(90 * 24));
    for keeper in [&bench.keeper, &bench.restarted().await] {
        let held = keeper.access_key(&key.key.id).await.unwrap().unwrap();
        let given = ScopedSecret::new(key.key.secret.clone());
        assert!(held.secret.key("AWS4", &["20261128"]) == given.key("AWS4", &["20261128"]));
        assert_eq!(held.expires_at, key.expires_at);
        let via = Via { session: Some(key.key.id.clone()), ..Via::default() };
        assert_eq!(held.who, Principal::of_account(ci(), "uid-of-shop/ci".into(), via));
        assert!(keeper.access_key("AKIAABCDEFGH234567ZZ").await.unwrap().is_none());
        assert!(keeper.access_key("x").await.unwrap().is_none());
    }
    let done = format!("done ({} of shop/ci)", key.key.id);
    assert_eq!(bench.audit().await, [(operator().to_string(), "createkey".into(), done)]);

    let no = |result: Result<CreatedAccessKey, KeeperError>| result.err().unwrap();
    let refused = no(bench.keeper.create_access_key(&app(), &wanted("ci")).await);
    assert_eq!(
        refused.to_string(),
        "User: arn:aws:sts::000000000000:assumed-role/shop/api/pod is not authorized to perform: \
         tidelock:CreateAccessKey on resource: shop/ci because nothing in the cluster allows it the verb create on \
         accesskeys of group tidelock.dev there"
    );
    let row = (app().to_string(), "createkey".to_owned(), "AccessDenied".to_owned());
    assert_eq!(bench.audit().await.last(), Some(&row));
    let nobody = no(bench.keeper.create_access_key(&operator(), &wanted("nobody")).await);
    assert_eq!(nobody.to_string(), "There is no ServiceAccount shop/nobody in the cluster.");
    for hours in [0, 365 * 24 + 1] {
        let lasts = Some(SignedDuration::from_hours(hours));
        let wanted = CreateAccessKey { lasts, ..wanted("ci") };
        assert_eq!(reason(bench.keeper.create_access_key(&operator(), &wanted).await), "InvalidParameter");
    }
    // Whoever signs with a key, even if the account of that key may.
    let held = bench.keeper.access_key(&key.key.id).await.unwrap().unwrap().who;
    KeyOperation::ALL.into_iter().for_each(|operation| bench.answers.allow_keys(&held, operation));
    let chained = no(bench.keeper.create_access_key(&held, &wanted("ci")).await);
    assert!(chained.to_string().ends_with("keys make no keys: send a ServiceAccount's token"), "{chained}");
}

#[tokio::test]
async fn a_service_account_has_two_keys_at_most_and_those_that_are_over_make_room() {
    let bench = with_operator().await;
    let both = [bench.made("ci").await.key.id, bench.made("ci").await.key.id];
    let third = bench.keeper.create_access_key(&operator(), &wanted("ci")).await.err().unwrap();
    assert_eq!((third.reason(), third.aws_type()), ("LimitExceeded", "LimitExceededException"));
    assert!(both.iter().all(|id| third.to_string().contains(id)), "{third}");
    // At the same time as well.
    let (one, two) = (wanted("other"), wanted("other"));
    let by = operator();
    let make = |wanted| bench.keeper.create_access_key(&by, wanted);
    let all = tokio::join!(make(&one), make(&two), make(&one));
    assert_eq!([all.0.is_ok(), all.1.is_ok(), all.2.is_ok()].iter().filter(|made| **made).count(), 2);

    assert_eq!(bench.keeper.revoke_access_key(&operator(), &both[0]).await.unwrap(), ci());
    assert!(bench.keeper.access_key(&both[0]).await.unwrap().is_none());
    bench.made("ci").await;
    assert_eq!(bench.ids().await.len(), 4);
    bench.clock.advance(Duration::from_secs(91 * 86_400));
    assert_eq!(bench.ids().await.len(), 4, "those that are over are shown");
    let newest = bench.made("ci").await.key.id;
    assert_eq!(bench.ids().await.len(), 3);
    assert!(bench.ids().await.contains(&newest));
}

#[tokio::test]
async fn nobody_learns_of_a_key_that_he_may_not_revoke() {
    let bench = with_operator().await;
    let id = bench.made("ci").await.key.id;
    let refuse = async |id: &str| {
        let refused = bench.keeper.revoke_access_key(&app(), id).await.err().unwrap();
        refused.to_string().replace(id, "ID")
    };
    assert_eq!(refuse(&id).await, refuse("AKIAABCDEFGH234567ZZ").await);
    let row = (app().to_string(), "revokekey".to_owned(), "AccessDenied".to_owned());
    assert_eq!(bench.audit().await.last(), Some(&row));
    assert_eq!(reason(bench.keeper.list_access_keys(&app(), "shop").await), "AccessDenied");
    assert!(bench.keeper.access_key(&id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_use_is_written_down_once_in_a_quarter_of_an_hour_and_brings_no_revoked_key_back() {
    let mut bench = with_operator().await;
    let id = bench.made("ci").await.key.id;
    let (answers, clock) = (bench.answers.clone(), bench.clock.clone());
    let other = bench.restarted().await;
    let keeper = Arc::new(std::mem::replace(&mut bench.keeper, other));
    let used = async || keeper.list_access_keys(&operator(), "shop").await.unwrap()[0].used_at;
    let rows = async || bench.audit().await.into_iter().filter(|row| row.1 == "usekey").count();
    assert_eq!(used().await, None);
    for (minutes, written) in [(0, 1), (14, 1), (2, 2), (1, 2)] {
        clock.advance(Duration::from_secs(minutes * 60));
        for _ in 0..3 {
            let held = keeper.access_key(&id).await.unwrap().unwrap();
            keeper.access_key_used(&held);
        }
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            if rows().await == written {
                break;
            }
        }
        assert_eq!(rows().await, written, "{minutes}");
    }
    let since = clock.now().duration_since(used().await.unwrap());
    assert_eq!(since, SignedDuration::from_mins(1));

    let held = keeper.access_key(&id).await.unwrap().unwrap();
    clock.advance(Duration::from_secs(3600));
    keeper.revoke_access_key(&operator(), &id).await.unwrap();
    keeper.access_key_used(&held);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(keeper.access_key(&id).await.unwrap().is_none());
    assert!(!answers.allowed.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_key_that_expired_is_shown_for_a_week_and_then_it_is_gone() {
    let bench = with_operator().await;
    let (day, key) = (Duration::from_secs(24 * 3600), bench.made("ci").await);
    bench.clock.advance(83 * day);
    let other = bench.made("other").await;
    for days in [7, 7] {
        bench.keeper.purge_access_keys().await.unwrap();
        assert_eq!(bench.ids().await.len(), 2);
        bench.clock.advance(days * day - Duration::from_secs(1));
    }
    bench.keeper.purge_access_keys().await.unwrap();
    assert_eq!(bench.ids().await.len(), 2);
    bench.clock.advance(Duration::from_secs(2));
    bench.keeper.purge_access_keys().await.unwrap();
    assert_eq!(bench.ids().await, [other.key.id]);
    let rows: Vec<_> = bench.audit().await.into_iter().filter(|row| row.1 == "purgekey").collect();
    let done = format!("done ({} of shop/ci)", key.key.id);
    assert_eq!(rows, [("tidelock:controller".to_owned(), "purgekey".to_owned(), done)]);
}
