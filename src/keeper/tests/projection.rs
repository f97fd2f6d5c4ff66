//! Mounts: who gets which files, what changes reach them, who counts as holding what.

use super::*;

const NODE: &str = "node-1";
const VALUE: &str = r#"{"username":"orders","password":"p1"}"#;

fn mount(number: u8, attributes: &[(&str, &str)]) -> MountRequest {
    MountRequest {
        mount_id: format!("pod-{number}/tidelock"),
        pod_namespace: "shop".into(),
        pod_name: format!("pod-{number}"),
        pod_uid: format!("pod-{number}"),
        attributes: attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    }
}

fn plain(number: u8) -> MountRequest {
    mount(number, &[("secret", "orders-db")])
}

fn files(projected: &Projected) -> Vec<(String, String)> {
    let files = projected.payload.files.iter();
    files
        .map(|(name, content)| (name.clone(), String::from_utf8(content.expose().to_vec()).unwrap()))
        .collect()
}

fn pairs(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
}

impl Bench {
    async fn attached(&self, request: MountRequest) -> Projected {
        self.keeper.attach(&app(), NODE, request).await.unwrap()
    }

    async fn grant(&self, grants: Vec<GrantRecord>) {
        let wanted = Configure { description: None, grants, recovery_window_days: 30 };
        self.keeper.configure(&Principal::Controller, &id(), &wanted).await.unwrap();
    }

    async fn put(&self, token: u8, value: &str) {
        self.keeper.put(&Principal::Controller, &id(), &v(token), &text(value), None).await.unwrap();
    }

    /// What the one mount of the node has to do: `keep`, the files of `place`, or the reason of `withdraw`.
    async fn refreshed(&self, arn: &Arn) -> String {
        let refreshed = self.keeper.refresh(NODE, arn).await;
        assert_eq!(refreshed.len(), 1);
        match &refreshed[0].1 {
            Refreshed::Unknown => "unknown".into(),
            Refreshed::Keep(FirstMounts::Served) => "keep".into(),
            Refreshed::Keep(FirstMounts::Refused) => "keep, no other".into(),
            Refreshed::Copy(_) => "copy".into(),
            Refreshed::Place(projected) => {
                let names: Vec<_> =
                    files(projected).into_iter().map(|(name, text)| format!("{name}={text}")).collect();
                names.join(" ")
            }
            Refreshed::Withdraw { reason, .. } => (*reason).into(),
        }
    }

    async fn counted(&self, arn: &Arn) -> (usize, usize, usize, usize) {
        let counted = self.keeper.consumers(arn).await.unwrap();
        (counted.total, counted.current, counted.stale, counted.unknown)
    }
}

#[tokio::test]
async fn a_granted_pod_gets_the_whole_value_and_each_key() {
    let bench = bench().await;
    let created = bench.resource(Some(VALUE), vec![grant_of(None)]).await;
    let projected = bench.attached(plain(1)).await;
    assert_eq!(files(&projected), pairs(&[("password", "p1"), ("username", "orders"), ("value", VALUE)]));
    assert_eq!((Some(projected.version), projected.arn), (created.version, created.arn));
    assert!(bench.audit().await.contains(&(app().to_string(), "project".into(), "done".into())));
}

#[tokio::test]
async fn keys_are_chosen_renamed_and_limited_to_those_that_are_granted() {
    let bench = bench().await;
    bench.resource(Some(VALUE), vec![grant_of(Some(&["username", "missing"]))]).await;
    assert_eq!(files(&bench.attached(plain(1)).await), pairs(&[("username", "orders")]));
    let renamed = mount(2, &[("secret", "orders-db"), ("keys", "username=user")]);
    assert_eq!(files(&bench.attached(renamed).await), pairs(&[("user", "orders")]));
    let ungranted = mount(3, &[("secret", "orders-db"), ("keys", "username,password")]);
    assert_eq!(reason(bench.keeper.attach(&app(), NODE, ungranted).await), "AccessDenied");
    bench.answers.allow(&app(), Operation::Project);
    let missing = mount(4, &[("secret", "orders-db"), ("keys", "nothing")]);
    assert_eq!(reason(bench.keeper.attach(&app(), NODE, missing).await), "InvalidParameter");
    assert_eq!(files(&bench.attached(plain(5)).await).len(), 3, "RBAC gives the whole value");
}

#[tokio::test]
async fn a_pod_that_waits_is_told_for_what() {
    let bench = bench().await;
    let attach = async |who: &Principal, request| reason(bench.keeper.attach(who, NODE, request).await);
    assert_eq!(attach(&app(), plain(1)).await, "SecretNotFound");
    let foreign = || mount(1, &[("secret", "billing/key")]);
    assert_eq!(attach(&app(), foreign()).await, "AccessDenied", "another namespace tells nothing");
    bench.answers.allow(&app(), Operation::Project);
    assert_eq!(attach(&app(), foreign()).await, "SecretNotFound");
    bench.answers.disallow(&app(), Operation::Project);
    let created = bench.resource(None, vec![grant_of(None)]).await;
    assert_eq!(attach(&app(), plain(1)).await, "NoValueForStage");
    assert_eq!(attach(&pod_of("shop", "other"), plain(1)).await, "AccessDenied");
    bench.answers.go_away(true);
    assert_eq!(attach(&pod_of("shop", "other"), plain(1)).await, "AccessUnknown");
    assert_eq!(attach(&app(), mount(1, &[("secret", "../etc")])).await, "InvalidParameter");
    bench.put(1, VALUE).await;
    assert_eq!(attach(&app(), plain(1)).await, "done");
    assert_eq!(bench.counted(&created.arn).await.0, 1, "a refused mount is no consumer");
}

#[tokio::test]
async fn a_key_called_value_needs_another_name() {
    let bench = bench().await;
    bench.resource(Some(r#"{"value":"1","a/b":"2","c":"3"}"#), vec![grant_of(None)]).await;
    let refused = bench.keeper.attach(&app(), NODE, plain(1)).await.err().unwrap();
    assert!(refused.to_string().contains("`value=<another name>`"), "{refused}");
    let named = mount(1, &[("secret", "orders-db"), ("keys", "value=v,a/b=ab")]);
    assert_eq!(files(&bench.attached(named).await), pairs(&[("ab", "2"), ("v", "1")]));
}

#[tokio::test]
async fn a_value_that_is_no_object_is_one_file() {
    let bench = bench().await;
    bench.resource(Some("plain"), vec![grant_of(None)]).await;
    assert_eq!(files(&bench.attached(plain(1)).await), pairs(&[("value", "plain")]));
    let keys = mount(2, &[("secret", "orders-db"), ("keys", "a")]);
    assert_eq!(reason(bench.keeper.attach(&app(), NODE, keys).await), "InvalidParameter");
}

#[tokio::test]
async fn a_new_version_reaches_the_mount_once_and_receipts_count() {
    let bench = bench().await;
    let arn = bench.resource(Some(VALUE), vec![grant_of(None)]).await.arn;
    bench.keeper.node_connected(NODE);
    let first = bench.attached(plain(1)).await;
    assert_eq!(bench.counted(&arn).await, (1, 0, 1, 0), "no receipt yet");
    bench.receipt(NODE, "pod-1/tidelock", &arn, &first.version).await;
    assert_eq!(bench.counted(&arn).await, (1, 1, 0, 0));
    bench.put(2, r#"{"password":"p2"}"#).await;
    assert_eq!(bench.counted(&arn).await, (1, 0, 1, 0));
    assert_eq!(bench.refreshed(&arn).await, r#"password=p2 value={"password":"p2"}"#);
    assert_eq!(bench.refreshed(&arn).await, "keep");
    bench.receipt(NODE, "pod-1/tidelock", &arn, &v(2)).await;
    assert_eq!(bench.counted(&arn).await, (1, 1, 0, 0));
    assert_eq!(bench.keeper.consumers(&arn).await.unwrap().by_version, BTreeMap::from([(v(2), 1)]));
    bench.keeper.detach(NODE, "pod-1/tidelock").await.unwrap();
    assert_eq!(bench.counted(&arn).await, (0, 0, 0, 0));
}

#[tokio::test]
async fn a_receipt_for_a_version_that_is_no_longer_current_brings_the_current_one() {
    let bench = bench().await;
    let arn = bench.resource(Some(VALUE), vec![grant_of(None)]).await.arn;
    let first = bench.attached(plain(1)).await;
    bench.put(2, "two").await;
    assert_eq!(bench.refreshed(&arn).await, "value=two");
    let mut changes = bench.keeper.changes();
    bench.receipt(NODE, "pod-1/tidelock", &arn, &first.version).await;
    assert_eq!(changes.try_recv().unwrap().what, What::Consumers);
    assert_eq!(changes.try_recv().unwrap().what, What::Value);
    assert_eq!(bench.refreshed(&arn).await, "value=two", "whichever arrived last, the mount ends with this");
}

#[tokio::test]
async fn mounts_that_ask_for_the_same_share_one_payload() {
    let bench = bench().await;
    let arn = bench.resource(Some(VALUE), vec![grant_of(None)]).await.arn;
    for number in 1..=3 {
        bench.attached(plain(number)).await;
    }
    bench.attached(mount(4, &[("secret", "orders-db"), ("keys", "password")])).await;
    bench.put(2, VALUE).await;
    let refreshed = bench.keeper.refresh(NODE, &arn).await;
    let ids: BTreeSet<_> = refreshed
        .iter()
        .map(|(_, what)| match what {
            Refreshed::Place(projected) => (projected.payload.id.clone(), Arc::as_ptr(&projected.payload)),
            _ => panic!("every mount has something to place"),
        })
        .collect();
    assert_eq!((refreshed.len(), ids.len()), (4, 2));
    assert!(bench.keeper.refresh("node-2", &arn).await.is_empty());
}

#[tokio::test]
async fn a_right_that_is_taken_away_takes_the_files_and_a_question_unanswered_does_not() {
    let bench = bench().await;
    let arn = bench.resource(Some(VALUE), vec![]).await.arn;
    bench.answers.allow(&app(), Operation::Project);
    bench.attached(plain(1)).await;
    bench.answers.go_away(true);
    assert_eq!(bench.refreshed(&arn).await, "unknown");
    bench.put(2, "two").await;
    assert_eq!(bench.refreshed(&arn).await, "unknown", "not a yes either");
    bench.answers.go_away(false);
    bench.answers.disallow(&app(), Operation::Project);
    assert_eq!(bench.refreshed(&arn).await, "AccessDenied");
    assert_eq!(bench.refreshed(&arn).await, "keep, no other", "it is gone already");
    assert!(
        bench.audit().await.iter().any(|(_, verb, outcome)| verb == "withdraw" && outcome == "AccessDenied")
    );
    bench.grant(vec![grant_of(None)]).await;
    assert_eq!(bench.refreshed(&arn).await, "value=two", "a right that returns brings the files back");
}

#[tokio::test]
async fn narrowed_keys_take_their_files() {
    let bench = bench().await;
    let arn = bench.resource(Some(VALUE), vec![grant_of(Some(&["username", "password"]))]).await.arn;
    bench.attached(mount(1, &[("secret", "orders-db"), ("keys", "username,password")])).await;
    bench.grant(vec![grant_of(Some(&["username"]))]).await;
    assert_eq!(bench.refreshed(&arn).await, "username=orders");
    assert_eq!(bench.refreshed(&arn).await, "keep, no other", "who asks for both is refused now");
    bench.grant(vec![grant_of(Some(&["other"]))]).await;
    assert_eq!(bench.refreshed(&arn).await, "AccessDenied");
}

#[tokio::test]
async fn a_new_value_that_lacks_a_wanted_key_leaves_the_files_as_they_are() {
    let bench = bench().await;
    let arn = bench.resource(Some(VALUE), vec![grant_of(None)]).await.arn;
    bench.attached(mount(1, &[("secret", "orders-db"), ("keys", "password")])).await;
    bench.put(2, r#"{"username":"x"}"#).await;
    assert_eq!(bench.refreshed(&arn).await, "keep, no other");
    bench.put(3, r#"{"password":"p3"}"#).await;
    assert_eq!(bench.refreshed(&arn).await, "password=p3");
}

#[tokio::test]
async fn a_scheduled_deletion_refuses_new_mounts_and_keeps_the_running_ones() {
    let bench = bench().await;
    let arn = bench.resource(Some(VALUE), vec![grant_of(None)]).await.arn;
    let first = bench.attached(plain(1)).await;
    bench.receipt(NODE, "pod-1/tidelock", &arn, &first.version).await;
    bench.keeper.schedule_deletion(&Principal::Controller, &id(), DeletionMode::OwnWindow).await.unwrap();
    assert_eq!(bench.refreshed(&arn).await, "keep, no other");
    assert_eq!(reason(bench.keeper.attach(&app(), NODE, plain(2)).await), "MarkedForDeletion");
    assert_eq!(
        reason(bench.keeper.attach(&app(), NODE, plain(1)).await),
        "done",
        "it has had its files before"
    );
    bench.clock.advance(Duration::from_secs(31 * 86_400));
    bench.keeper.purge_due().await.unwrap();
    assert_eq!(bench.refreshed(&arn).await, "SecretRemoved");
    assert_eq!(bench.counted(&arn).await, (0, 0, 0, 0));
}

#[tokio::test]
async fn after_a_restart_files_that_are_right_stay_and_others_are_replaced() {
    let bench = bench().await;
    let arn = bench.resource(Some(VALUE), vec![grant_of(None)]).await.arn;
    let first = bench.attached(plain(1)).await;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let held = |version: &VersionId, files: &[&str]| {
        Some(Held {
            arn: arn.clone(),
            version: version.clone(),
            file_names: names(files),
            copy_wanted: false,
        })
    };
    let all = ["password", "username", "value"];
    let resume = async |held| {
        let restarted = bench.restarted().await;
        let resumed = restarted.resume(&app(), NODE, plain(1), held).await.unwrap();
        match resumed {
            Refreshed::Unknown => "unknown",
            Refreshed::Keep(FirstMounts::Served) => "keep",
            Refreshed::Keep(FirstMounts::Refused) => "keep, no other",
            Refreshed::Copy(_) => "copy",
            Refreshed::Place(_) => "place",
            Refreshed::Withdraw { reason, .. } => reason,
        }
    };
    assert_eq!(resume(held(&first.version, &all)).await, "keep");
    let without_copy = held(&first.version, &all).map(|held| Held { copy_wanted: true, ..held });
    assert_eq!(resume(without_copy).await, "copy");
    assert_eq!(bench.counted(&arn).await.1, 1, "the manifest stands for the receipt that was lost");
    assert_eq!(resume(held(&first.version, &["value"])).await, "place");
    assert_eq!(resume(None).await, "place");
    bench.put(2, VALUE).await;
    assert_eq!(resume(held(&first.version, &all)).await, "place");
    bench.grant(vec![]).await;
    assert_eq!(resume(held(&v(2), &all)).await, "AccessDenied");
    bench.keeper.schedule_deletion(&Principal::Controller, &id(), DeletionMode::Force).await.unwrap();
    assert_eq!(resume(held(&v(2), &all)).await, "SecretRemoved");
}

#[tokio::test]
async fn a_silent_node_s_pods_are_unknown_and_a_gone_node_s_are_none() {
    let bench = bench().await;
    let arn = bench.resource(Some(VALUE), vec![grant_of(None)]).await.arn;
    bench.keeper.node_connected(NODE);
    let first = bench.attached(plain(1)).await;
    bench.receipt(NODE, "pod-1/tidelock", &arn, &first.version).await;
    bench.keeper.node_connected(NODE);
    bench.keeper.node_lost(NODE);
    bench.clock.advance(Duration::from_secs(60));
    assert_eq!(bench.counted(&arn).await, (1, 1, 0, 0), "one of two streams is left");
    bench.keeper.node_lost(NODE);
    bench.clock.advance(Duration::from_secs(29));
    assert_eq!(bench.counted(&arn).await, (1, 1, 0, 0));
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.counted(&arn).await, (1, 0, 0, 1));
    let mut changes = bench.keeper.changes();
    bench.keeper.tell_of_silence().await.unwrap();
    bench.keeper.tell_of_silence().await.unwrap();
    assert_eq!(changes.try_recv().unwrap().what, What::Consumers);
    assert!(changes.try_recv().is_err(), "once");
    let restarted = bench.restarted().await;
    assert_eq!(restarted.consumers(&arn).await.unwrap().unknown, 0, "a new server waits before it says so");
    bench.clock.advance(Duration::from_secs(30));
    assert_eq!(restarted.consumers(&arn).await.unwrap().unknown, 1);
    let mut changes = restarted.changes();
    restarted.tell_of_silence().await.unwrap();
    assert_eq!(changes.try_recv().unwrap().what, What::Consumers, "also of a node that it never heard of");
    bench.keeper.node_gone(NODE).await.unwrap();
    assert_eq!(bench.counted(&arn).await, (0, 0, 0, 0));
}

#[tokio::test]
async fn a_node_has_no_say_over_another_s_mounts() {
    let bench = bench().await;
    let arn = bench.resource(Some(VALUE), vec![grant_of(None)]).await.arn;
    let first = bench.attached(plain(1)).await;
    bench.receipt("node-2", "pod-1/tidelock", &arn, &first.version).await;
    bench.keeper.detach("node-2", "pod-1/tidelock").await.unwrap();
    bench.keeper.node_connected(NODE);
    assert_eq!(bench.counted(&arn).await, (1, 0, 1, 0));
    assert_eq!(bench.keeper.refresh(NODE, &arn).await.len(), 1);
}
