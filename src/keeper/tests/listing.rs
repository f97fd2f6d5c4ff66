//! Who sees which secrets in a list.

use super::*;

pub(super) fn everything() -> Listing {
    let (filters, sort_by) = (Vec::new(), SortBy::Name);
    Listing { filters, deleted: true, sort_by, descending: false, after: None, limit: 100 }
}

async fn seen(bench: &Bench) -> Result<Vec<String>, KeeperError> {
    let listed = bench.keeper.list(&app(), &everything()).await?;
    Ok(listed.secrets.into_iter().map(|secret| secret.name.to_string()).collect())
}

#[tokio::test]
async fn a_caller_sees_the_secrets_of_the_namespaces_that_he_may_list() {
    let bench = bench().await;
    let names = ["billing/a", "else/a", "shop/a", "shop/b", "shop-else/a"];
    for (n, name) in names.into_iter().enumerate() {
        let wanted = by_api(name, n as u8, None);
        bench.keeper.create(&Principal::Controller, &wanted).await.unwrap();
    }
    let allow = |namespace: &str| {
        bench.answers.lists.lock().unwrap().insert((app().to_string(), namespace.to_owned()));
    };
    assert_eq!(reason(seen(&bench).await), "AccessDenied");
    let audit = bench.audit().await;
    assert!(audit.iter().any(|(_, verb, outcome)| verb == "list" && outcome == "AccessDenied"), "{audit:?}");
    allow("else");
    assert_eq!(seen(&bench).await.unwrap(), ["else/a"], "a namespace of others, and not his own");
    allow("shop");
    assert_eq!(seen(&bench).await.unwrap(), ["else/a", "shop/a", "shop/b"]);
    allow("*");
    assert_eq!(seen(&bench).await.unwrap(), ["billing/a", "else/a", "shop-else/a", "shop/a", "shop/b"]);
    bench.answers.go_away(true);
    assert_eq!(reason(seen(&bench).await), "AccessUnknown", "half a list would look like a whole one");
}

#[tokio::test]
async fn who_may_list_his_own_namespace_sees_that_it_is_empty() {
    let bench = bench().await;
    let own = (app().to_string(), "shop".to_owned());
    bench.answers.lists.lock().unwrap().insert(own);
    bench.keeper.create(&Principal::Controller, &by_api("else/a", 1, None)).await.unwrap();
    assert!(seen(&bench).await.unwrap().is_empty());
}
