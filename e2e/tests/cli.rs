//! The command line as people use it, against a cluster: what it shows, what it asks back, what it refuses.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;

use jiff::Timestamp;
use serde_json::{Value, json};
use tidelock_e2e::shop::{self, NAMESPACE, PATIENCE, Shop};
use tidelock_e2e::{Person, install};

const PASSWORD: &str = "/run/tidelock/orders-db/password";
/// Ten may vanish at once without a question.
const MANY: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn people_see_rotate_and_approve_from_the_terminal_what_is_theirs() {
    let shop = Shop::open(1).await.unwrap();
    shop.login("orders-db").await.unwrap();
    shop.schedule("orders-db").await.unwrap();
    shop.apply(&[shop.pod("app", "orders-db", "orders-db", json!({}))]).await.unwrap();
    shop.running("app").await.unwrap();
    shop.status_is("orders-db", "a receipt", |s| s["consumers"]["current"] == 1).await.unwrap();
    cast(&shop).await;
    let admin = Person::administrator(&shop.cluster).await.unwrap();
    secrets_are_listed_and_described(&shop, &admin).await;
    a_value_is_shown_by_the_rights_of_a_service_account(&shop, &admin).await;
    a_key_for_a_program_outside_is_made_listed_and_revoked(&shop, &admin).await;
    a_rotation_is_asked_for_and_awaited(&shop, &admin).await;
    a_namespace_s_next_tenant_gets_old_values_by_approval_only(&shop).await;
    many_deletions_at_once_wait_for_a_yes(&shop, &admin).await;
    a_lost_store_is_begun_anew_only_by_a_person_s_word(&shop, &admin).await;
}

/// dora writes our resources, and ConfigMaps of the server's namespace, and no more; rosa may restore besides.
async fn cast(shop: &Shop) {
    let writes = json!([
        {"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets", "rotationschedules"], "verbs": ["get", "list", "patch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "patch"]},
    ]);
    let restores =
        json!([{"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets"], "verbs": ["restore"]}]);
    let mut items = Vec::new();
    for (role, rules, users) in [("writes", writes, &["dora", "rosa"][..]), ("restores", restores, &["rosa"])]
    {
        let rbac = "rbac.authorization.k8s.io";
        let api_version = format!("{rbac}/v1");
        let subjects: Vec<Value> =
            users.iter().map(|user| json!({"apiGroup": rbac, "kind": "User", "name": user})).collect();
        items.push(json!({"apiVersion": api_version, "kind": "ClusterRole", "metadata": {"name": role}, "rules": rules}));
        items.push(json!({
            "apiVersion": api_version, "kind": "ClusterRoleBinding", "metadata": {"name": role},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role}, "subjects": subjects,
        }));
    }
    let stranger = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "stranger", "namespace": NAMESPACE}});
    items.push(stranger);
    shop.apply(&items).await.unwrap();
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in:\n{text}");
    }
}

async fn secrets_are_listed_and_described(shop: &Shop, admin: &Person) {
    let status = shop.status("orders-db").await.unwrap();
    let (arn, version) = (status["arn"].as_str().unwrap(), status["currentVersion"].as_str().unwrap());
    let table = admin.types(&["list", "-A"]).await.unwrap().well();
    let (head, rows) = table.split_once('\n').unwrap();
    assert_eq!(
        head.split_whitespace().collect::<Vec<_>>(),
        ["NAMESPACE", "NAME", "READY", "VERSION", "CONSUMERS", "AGE"]
    );
    says(rows, &["shop        orders-db   True", version, "1/1"]);
    assert!(table.lines().all(|line| line.len() < 120), "too wide for a terminal:\n{table}");
    let one = admin.types(&["get", "orders-db", "-n", NAMESPACE]).await.unwrap().well();
    assert_eq!(one.lines().count(), 2, "{one}");

    let list = admin.types(&["list", "-n", NAMESPACE, "-o", "json"]).await.unwrap().well();
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list[0]["status"]["arn"], arn);
    let whole = admin.types(&["get", "orders-db", "-n", NAMESPACE, "-o", "yaml"]).await.unwrap().well();
    says(&whole, &["apiVersion: tidelock.dev/v1alpha1", "kind: ManagedSecret", arn]);
    assert!(!whole.contains("managedFields") && !list.to_string().contains("managedFields"), "{whole}");
    let versions = admin.types(&["versions", "orders-db", "-n", NAMESPACE]).await.unwrap().well();
    says(&versions, &["VERSION", "STAGES", version, "AWSCURRENT"]);

    let told = admin.types(&["describe", "orders-db", "-n", NAMESPACE]).await.unwrap().well();
    let lines = [
        "Name:        orders-db",
        arn,
        "API name:    shop/orders-db",
        "Value from:  generate",
        "Recovery:    30 days",
        "Access:      shop/orders-db: whole value of AWSCURRENT",
        "Consumers:   1 in all: 1 current, 0 stale, 0 unknown",
        "Rotation:    by RotationSchedule orders-db",
        "  Ready=True",
        "Events:",
    ];
    says(&told, &lines);

    let unknown = admin.types(&["describe", "nothing", "-n", NAMESPACE]).await.unwrap().refused();
    says(&unknown, &["no ManagedSecret nothing in namespace shop", "`tidelock list -A` shows all"]);
    let stranger = Person::named(&shop.cluster, "nobody").await.unwrap();
    let forbidden = stranger.types(&["list", "-A"]).await.unwrap().refused();
    says(&forbidden, &["cannot list resource \"managedsecrets\""]);
}

async fn a_value_is_shown_by_the_rights_of_a_service_account(shop: &Shop, admin: &Person) {
    let reveal = ["get", "orders-db", "-n", NAMESPACE, "--reveal"];
    let whole = shop.file("app", "/run/tidelock/orders-db/value").await.unwrap();
    let asked = admin.types(&reveal).await.unwrap().refused();
    says(&asked, &["as whom?", "--service-account NAMESPACE/NAME", "tidelock/config.yaml"]);
    let given = [&reveal[..], &["--service-account", "shop/orders-db"]].concat();
    assert_eq!(admin.types(&given).await.unwrap().well().trim_end(), whole);

    admin.settles("serviceAccount: shop/orders-db\n").unwrap();
    assert_eq!(admin.types(&reveal).await.unwrap().well().trim_end(), whole, "by the settings");
    let other = [&reveal[..], &["--service-account", "shop/stranger"]].concat();
    let refused = admin.types(&other).await.unwrap().refused();
    says(&refused, &["AccessDeniedException", "assumed-role/shop/stranger/"]);
    let nobody = [&reveal[..], &["--service-account", "shop/nobody"]].concat();
    let refused = admin.types(&nobody).await.unwrap().refused();
    says(&refused, &["no ServiceAccount shop/nobody", "correct --service-account"]);
    admin.settles("serviceAccount: shop/orders-db\ntoken: hunter2\n").unwrap();
    let refused = admin.types(&reveal).await.unwrap().refused();
    says(&refused, &["config.yaml", "`token`"]);
    assert!(!refused.contains("hunter2"), "{refused}");
    admin.settles("").unwrap();

    let dora = Person::named(&shop.cluster, "dora").await.unwrap();
    let forbidden = dora.types(&given).await.unwrap().refused();
    says(&forbidden, &["dora", "serviceaccounts/token"]);
}

/// As a ServiceAccount that has the ready role admin in the namespace; nobody else makes keys.
async fn a_key_for_a_program_outside_is_made_listed_and_revoked(shop: &Shop, admin: &Person) {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "keeper", "namespace": NAMESPACE}});
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "keeper", "namespace": NAMESPACE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "tidelock-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "keeper", "namespace": NAMESPACE}],
    });
    shop.apply(&[account, binding]).await.unwrap();
    let make = ["access-key", "create", "shop/orders-db", "--expires-in", "30d", "-o", "json"];
    let by = |account| ["--service-account", account];
    let refused = admin.types(&[&make[..], &by("shop/stranger")].concat()).await.unwrap().refused();
    says(&refused, &["AccessDeniedException", "the verb create on accesskeys of group tidelock.dev"]);
    let made = admin.types(&[&make[..], &by("shop/keeper")].concat()).await.unwrap().well();
    let made: Value = serde_json::from_str(&made).unwrap();
    let (id, secret) = (made["accessKeyId"].as_str().unwrap(), made["secretAccessKey"].as_str().unwrap());
    assert_eq!((id.len(), secret.len(), &made["serviceAccount"]), (20, 40, &json!("shop/orders-db")));
    let expires: Timestamp = made["expires"].as_str().unwrap().parse().unwrap();
    let hours = expires.duration_since(now()).as_hours();
    assert!((30 * 24 - 1..=30 * 24).contains(&hours), "it expires in {hours} hours, not in 30 days");
    let list = [&["access-key", "list", "-n", NAMESPACE][..], &by("shop/keeper")].concat();
    let listed = admin.types(&list).await.unwrap().well();
    says(&listed, &["LAST USED", id, "shop/orders-db", "never"]);
    assert!(!listed.contains(secret), "a list shows a secret");
    admin.types(&[&["access-key", "revoke", id][..], &by("shop/keeper")].concat()).await.unwrap().well();
    assert!(!admin.types(&list).await.unwrap().well().contains(id));
}

#[expect(clippy::disallowed_methods, reason = "compared with the time that the server gives")]
fn now() -> Timestamp {
    Timestamp::now()
}

async fn a_rotation_is_asked_for_and_awaited(shop: &Shop, admin: &Person) {
    let old = shop.file("app", PASSWORD).await.unwrap();
    let rotate = ["rotate", "orders-db", "-n", NAMESPACE];
    let dora = Person::named(&shop.cluster, "dora").await.unwrap();
    says(&dora.types(&rotate).await.unwrap().refused(), &["you may not rotate this secret", "verb rotate"]);
    let done = admin.types(&rotate).await.unwrap();
    assert!(done.success && done.answer.is_empty(), "{done:?}");
    says(&done.aside, &["asked for a rotation of shop/orders-db", "is AWSCURRENT"]);
    let new = shop.changed("app", PASSWORD, &old, PATIENCE).await.unwrap();

    let reveal = ["get", "orders-db", "-n", NAMESPACE, "--reveal", "--service-account", "shop/orders-db"];
    let shown: Value = serde_json::from_str(&admin.types(&reveal).await.unwrap().well()).unwrap();
    assert!(shown["password"] == new.as_str(), "another value than in the pod");
    let previous = [&reveal[..], &["--stage", "AWSPREVIOUS"]].concat();
    says(&admin.types(&previous).await.unwrap().refused(), &["AccessDeniedException"]);

    shop.apply(&[shop::login("alone", "orders-db")]).await.unwrap();
    shop.status_is("alone", "Ready", |s| shop::has_condition(s, "Ready", "True")).await.unwrap();
    let nothing = admin.types(&["rotate", "alone", "-n", NAMESPACE]).await.unwrap().refused();
    says(&nothing, &["no RotationSchedule in namespace shop names the secret alone", "apply one first"]);
}

/// A ManagedSecret in another namespace than the shop's.
fn elsewhere(namespace: &str, name: &str) -> Value {
    let mut secret = shop::login(name, "default");
    secret["metadata"]["namespace"] = json!(namespace);
    secret
}

async fn status_of(shop: &Shop, namespace: &str, name: &str) -> Option<Value> {
    let words = ["-n", namespace, "get", "managedsecret", name, "-o", "jsonpath={.status}"];
    serde_json::from_str(&shop.cluster.kubectl(&words).await.ok()?).ok()
}

async fn condition_says(shop: &Shop, namespace: &str, name: &str, word: &str) -> Value {
    let found = async || {
        let status = status_of(shop, namespace, name).await?;
        let conditions = status["conditions"].as_array()?;
        let told = |c: &Value| c["reason"] == word || (c["type"] == "Ready" && c["status"] == word);
        conditions.iter().any(told).then_some(status)
    };
    shop.cluster.wait_for(&format!("{namespace}/{name} to say {word}"), PATIENCE, found).await.unwrap()
}

async fn a_namespace_s_next_tenant_gets_old_values_by_approval_only(shop: &Shop) {
    shop.cluster.kubectl(&["create", "namespace", "let"]).await.unwrap();
    shop.apply(&[elsewhere("let", "login")]).await.unwrap();
    let before = condition_says(shop, "let", "login", "True").await;
    shop.cluster.kubectl(&["delete", "namespace", "let", "--timeout=100s"]).await.unwrap();
    shop.cluster.kubectl(&["create", "namespace", "let"]).await.unwrap();
    shop.apply(&[elsewhere("let", "login")]).await.unwrap();
    let held = condition_says(shop, "let", "login", "RestoreNeedsApproval").await;
    assert!(held["currentVersion"].is_null(), "nothing was made anew: {held}");

    let approve = ["approve", "restore", "login", "-n", "let"];
    let dora = Person::named(&shop.cluster, "dora").await.unwrap();
    says(
        &dora.types(&approve).await.unwrap().refused(),
        &["you may not restore this secret", "verb restore"],
    );
    condition_says(shop, "let", "login", "RestoreNeedsApproval").await;
    let rosa = Person::named(&shop.cluster, "rosa").await.unwrap();
    let done = rosa.types(&approve).await.unwrap();
    assert!(done.success, "{done:?}");
    says(&done.aside, &["approved: let/login gets back the versions of", before["arn"].as_str().unwrap()]);
    let back = condition_says(shop, "let", "login", "True").await;
    assert_eq!((&back["arn"], &back["currentVersion"]), (&before["arn"], &before["currentVersion"]));
    says(&rosa.types(&approve).await.unwrap().refused(), &["does not wait for an approval"]);
}

async fn metric(shop: &Shop, name: &str) -> Option<f64> {
    let path = format!("/api/v1/namespaces/{}/pods/tidelock-server-0:8080/proxy/metrics", install::NAMESPACE);
    let page = shop.cluster.kubectl(&["get", "--raw", &path]).await.ok()?;
    page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

async fn metric_is(shop: &Shop, name: &str, wanted: f64) {
    let found = async || (metric(shop, name).await? == wanted).then_some(());
    shop.cluster.wait_for(&format!("the metric {name} to be {wanted}"), PATIENCE, found).await.unwrap();
}

async fn many_deletions_at_once_wait_for_a_yes(shop: &Shop, admin: &Person) {
    shop.cluster.kubectl(&["create", "namespace", "many"]).await.unwrap();
    let all: Vec<Value> = (1..=MANY).map(|n| elsewhere("many", &format!("login-{n}"))).collect();
    shop.apply(&all).await.unwrap();
    for n in 1..=MANY {
        condition_says(shop, "many", &format!("login-{n}"), "True").await;
    }
    let before = status_of(shop, "many", "login-1").await.unwrap();
    let scheduled = metric(shop, "tidelock_deletions_scheduled_total").await.unwrap_or_default();
    let approve = ["approve", "deletions"];
    says(&admin.types(&approve).await.unwrap().refused(), &["no deletions are held: nothing was changed"]);
    shop.cluster.kubectl(&["delete", "managedsecrets", "--all", "-n", "many"]).await.unwrap();

    // kubectl deletes one after the other: the first looks may see few enough to go, the rest is held.
    let all_seen = async || {
        let held = metric(shop, "tidelock_deletions_held").await?;
        let gone = metric(shop, "tidelock_deletions_scheduled_total").await.unwrap_or_default() - scheduled;
        (held > 0.0 && held + gone == MANY as f64).then_some(held)
    };
    let held =
        shop.cluster.wait_for("the rest of the deletions to be held", PATIENCE, all_seen).await.unwrap();
    let own = install::NAMESPACE;
    let words = ["-n", own, "get", "configmap", "tidelock-held-deletions", "-o", "yaml"];
    let question = shop.cluster.kubectl(&words).await.unwrap();
    says(&question, &["MassDeletionHeld", "secret:many/login-", "12 of", "vanished within minutes"]);
    let event = async || {
        let events = shop.cluster.events(own, "tidelock-held-deletions").await.ok()?;
        (events.contains("MassDeletionHeld") && events.contains("tidelock approve deletions")).then_some(())
    };
    shop.cluster.wait_for("an event about held deletions", PATIENCE, event).await.unwrap();

    let dora = Person::named(&shop.cluster, "dora").await.unwrap();
    let refused = dora.types(&approve).await.unwrap().refused();
    says(&refused, &["you may not approve deletions", "verb restore"]);
    let done = admin.types(&approve).await.unwrap();
    assert!(done.success, "{done:?}");
    let told = format!("approved: {held} secrets are scheduled for deletion");
    says(&done.aside, &[&told, "secret:many/login-"]);
    metric_is(shop, "tidelock_deletions_held", 0.0).await;
    metric_is(shop, "tidelock_deletions_scheduled_total", scheduled + MANY as f64).await;
    says(&admin.types(&approve).await.unwrap().refused(), &["no deletions are held"]);

    shop.apply(&[elsewhere("many", "login-1")]).await.unwrap();
    let back = condition_says(shop, "many", "login-1", "True").await;
    assert_eq!(
        (&back["arn"], &back["currentVersion"]),
        (&before["arn"], &before["currentVersion"]),
        "restored"
    );
}

async fn a_lost_store_is_begun_anew_only_by_a_person_s_word(shop: &Shop, admin: &Person) {
    let own = install::NAMESPACE;
    let scale = async |replicas: &str| {
        shop.cluster.kubectl(&["-n", own, "scale", "statefulset/tidelock-server", replicas]).await.unwrap();
    };
    let (status, old) = (shop.status("orders-db").await.unwrap(), shop.file("app", PASSWORD).await.unwrap());
    scale("--replicas=0").await;
    let none = async || shop.own_pods("server").await.ok().filter(Vec::is_empty).map(drop);
    shop.cluster.wait_for("no server to be left", PATIENCE, none).await.unwrap();
    let volume = shop.cluster.node(1).inside("/var/lib/tidelock-volumes/tidelock-store").unwrap();
    let mut emptied = 0;
    for entry in fs::read_dir(&volume).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        emptied += 1;
    }
    assert!(emptied > 0, "the store was not where it was looked for");
    scale("--replicas=1").await;

    let refusal = async || {
        let log = shop.cluster.kubectl(&["-n", own, "logs", "tidelock-server-0"]).await.ok()?;
        Some(log.split_once("init --accept-loss=")?.1.split('`').next()?.to_owned())
    };
    let lost = shop.cluster.wait_for("the server to say what is lost", PATIENCE, refusal).await.unwrap();
    let pods = shop.own_pods("server").await.unwrap();
    assert!(!pods.iter().any(install::is_ready), "a server without its store is not ready");
    assert_eq!(shop.status("orders-db").await.unwrap(), status, "nothing was made anew");
    assert_eq!(shop.file("app", PASSWORD).await.unwrap(), old);

    let accept = format!("--accept-loss={lost}");
    let asked = admin.types(&["init", &accept]).await.unwrap().refused();
    says(&asked, &["each password made anew", "Restore the volume", "--yes"]);
    let done = admin.types(&["init", &accept, "--yes"]).await.unwrap();
    assert!(done.success, "{done:?}");
    says(&done.aside, &["the loss of", &lost, "is accepted"]);
    install::ready(&shop.cluster).await.unwrap();
    let anew = |s: &Value| {
        s["currentVersion"] != status["currentVersion"] && shop::has_condition(s, "Ready", "True")
    };
    shop.status_is("orders-db", "that it was made anew", anew).await.unwrap();
    shop.changed("app", PASSWORD, &old, PATIENCE).await.unwrap();
}
