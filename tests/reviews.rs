//! The port to the cluster against a real API server: tokens, rights, pods, the Lease. Must not need nodes, nor wait
//! without a condition.

#![expect(clippy::expect_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidelock::access::{Operation, Principal, RbacAnswer};
use tidelock::clock::SystemClock;
use tidelock::cluster::{
    AccessReviews, Elector, LeaseHold, LeaseSettings, MountClaim, PodPresence, PodReader, Presences,
    StorePosition, TokenReviewer,
};
use tidelock::keeper::Rights as _;
use tidelock::secret::Name;
use tidelock::wire::aws;
use tidelock_e2e::site::Site;
use tidelock_e2e::{Cluster, wait_for};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const AUDIENCE: &str = "tidelock.test/api";
const DEADLINE: Duration = Duration::from_secs(30);

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the test writes whole objects")
}

async fn make<T>(api: Api<T>, value: Value) -> Result<T>
where
    T: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + DeserializeOwned,
{
    Ok(api.create(&PostParams::default(), &object(value)).await?)
}

/// A cluster with the namespace `shop` and the ServiceAccount `orders-api` in it.
async fn shop() -> Result<(Cluster, Client)> {
    let cluster = Cluster::api_only().await?;
    let client = cluster.client();
    make::<Namespace>(Api::all(client.clone()), json!({"metadata": {"name": "shop"}})).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "shop");
    make(accounts, json!({"metadata": {"name": "orders-api"}})).await?;
    Ok((cluster, client))
}

async fn pod(client: &Client, change: impl FnOnce(&mut Value)) -> Result<Pod> {
    let mut pod = json!({
        "metadata": {"name": "orders-0"},
        "spec": {
            "nodeName": "node-1",
            "serviceAccountName": "orders-api",
            "automountServiceAccountToken": false,
            "containers": [{"name": "main", "image": "none"}],
            "volumes": [{"name": "orders-db", "csi": {"driver": "csi.tidelock.dev", "readOnly": true,
                "volumeAttributes": {"secret": "orders-db"}}}],
        },
    });
    change(&mut pod);
    make(Api::namespaced(client.clone(), "shop"), pod).await
}

async fn token(client: &Client, audience: &str, pod: Option<&Pod>) -> Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "shop");
    let bound_object_ref = pod.map(|pod| BoundObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
    });
    let spec = TokenRequestSpec {
        audiences: vec![audience.to_owned()],
        bound_object_ref,
        expiration_seconds: Some(600),
    };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts.create_token_request("orders-api", &PostParams::default(), &request).await?;
    Ok(answer.status.expect("an answer has a status").token)
}

async fn refusal(reviewer: &TokenReviewer, token: &str, audience: &str) -> &'static str {
    reviewer.review(token, audience).await.expect_err("the token is refused").reason()
}

#[tokio::test]
async fn a_token_is_good_for_its_audience_only_and_for_as_long_as_its_pod_is_there() -> Result<()> {
    let (_cluster, client) = shop().await?;
    let reviewer = TokenReviewer::new(client.clone());
    let of_pod = pod(&client, |_| ()).await?;
    let bound = token(&client, AUDIENCE, Some(&of_pod)).await?;

    let who = reviewer.review(&bound, AUDIENCE).await?;
    assert_eq!(who.account().map(ToString::to_string).as_deref(), Some("shop/orders-api"));
    let identity = who.pod().expect("the token is bound to a pod");
    assert_eq!(Some(&identity.uid), of_pod.metadata.uid.as_ref());
    assert_eq!(identity.node.as_deref(), Some("node-1"));

    assert_eq!(refusal(&reviewer, &bound, "tidelock.test/stream").await, "TokenNotAccepted");
    assert_eq!(refusal(&reviewer, &bound, "tidelock.test/node").await, "TokenNotAccepted");
    assert_eq!(refusal(&reviewer, &format!("{bound}x"), AUDIENCE).await, "TokenNotAccepted");
    let of_api_server = token(&client, "https://kubernetes.default.svc.cluster.local", None).await?;
    assert_eq!(refusal(&reviewer, &of_api_server, AUDIENCE).await, "TokenNotAccepted");

    let unbound = reviewer.review(&token(&client, AUDIENCE, None).await?, AUDIENCE).await?;
    assert_eq!(unbound.pod(), None);

    // Keys that were issued for a pod have no review of their own: their holder is looked up.
    let presences = Presences::new(client.clone(), SystemClock::shared());
    presences.check(&who).await?;
    presences.check(&unbound).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "shop");
    pods.delete("orders-0", &DeleteParams::default().grace_period(0)).await?;
    wait_for("the holder of a deleted pod's keys to be gone", DEADLINE, async || {
        presences.check(&who).await.err().filter(|refused| refused.reason() == "PodGone").map(drop)
    })
    .await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "shop");
    accounts.delete("orders-api", &DeleteParams::default()).await?;
    make(accounts, json!({"metadata": {"name": "orders-api"}})).await?;
    wait_for("the holder of another ServiceAccount of that name to be gone", DEADLINE, async || {
        let said = presences.check(&unbound).await;
        said.err().filter(|refused| refused.reason() == "ServiceAccountGone").map(drop)
    })
    .await?;
    wait_for("the token of a deleted pod to be refused", DEADLINE, async || {
        reviewer
            .review(&bound, AUDIENCE)
            .await
            .err()
            .filter(|refused| refused.reason() == "TokenNotAccepted")
            .map(drop)
    })
    .await
}

async fn bind(client: &Client, role: &str, rules: Value) -> Result<()> {
    let metadata = json!({"name": role});
    let roles: Api<ClusterRole> = Api::all(client.clone());
    make(roles, json!({"metadata": metadata, "rules": rules})).await?;
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let subject = json!({"kind": "ServiceAccount", "namespace": "shop", "name": "orders-api"});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role});
    make(bindings, json!({"metadata": metadata, "subjects": [subject], "roleRef": role})).await?;
    Ok(())
}

/// The same in the namespace `shop` alone.
async fn bind_in_shop(client: &Client, role: &str, rules: Value) -> Result<()> {
    let metadata = json!({"name": role});
    let roles: Api<Role> = Api::namespaced(client.clone(), "shop");
    make(roles, json!({"metadata": metadata, "rules": rules})).await?;
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), "shop");
    let subject = json!({"kind": "ServiceAccount", "namespace": "shop", "name": "orders-api"});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role});
    make(bindings, json!({"metadata": metadata, "subjects": [subject], "roleRef": role})).await?;
    Ok(())
}

/// What the cluster answers as soon as it has heard of a change; each question is asked anew.
async fn until_allowed(client: &Client, who: &Principal, operation: Operation, name: &Name) -> Result<()> {
    wait_for("RBAC to allow it", DEADLINE, async || {
        let reviews = AccessReviews::new(client.clone(), SystemClock::shared());
        (reviews.ask(who, operation, name).await == RbacAnswer::Allowed).then_some(())
    })
    .await
}

#[tokio::test]
async fn reading_everything_does_not_reveal_a_value_and_the_verb_reveal_does() -> Result<()> {
    let (_cluster, client) = shop().await?;
    let bearer = token(&client, AUDIENCE, None).await?;
    let who = TokenReviewer::new(client.clone()).review(&bearer, AUDIENCE).await?;
    let name = Name::parse("shop/orders-db")?;
    let reviews = AccessReviews::new(client.clone(), SystemClock::shared());
    assert_eq!(reviews.ask(&who, Operation::Describe, &name).await, RbacAnswer::Denied);
    let list_one = json!([{"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets"],
        "resourceNames": ["orders-db"], "verbs": ["list", "get"]}]);
    bind(&client, "list-one", list_one).await?;
    until_allowed(&client, &who, Operation::Describe, &name).await?;
    let reviews = AccessReviews::new(client.clone(), SystemClock::shared());
    for namespace in [None, Some("shop")] {
        assert_eq!(reviews.list(&who, namespace).await, RbacAnswer::Denied, "a rule for one is none for all");
    }

    let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}]);
    bind(&client, "read-all", everything).await?;
    until_allowed(&client, &who, Operation::Describe, &Name::parse("shop/billing")?).await?;
    let reviews = AccessReviews::new(client.clone(), SystemClock::shared());
    for namespace in [None, Some("shop")] {
        assert_eq!(reviews.list(&who, namespace).await, RbacAnswer::Allowed);
    }
    for operation in [
        Operation::Reveal,
        Operation::Project,
        Operation::Put,
        Operation::MoveStage,
        Operation::Rotate,
        Operation::CancelRotation,
        Operation::ReadPolicy,
        Operation::WritePolicy,
        Operation::Restore,
        Operation::Create,
        Operation::Update,
        Operation::Delete,
    ] {
        assert_eq!(reviews.ask(&who, operation, &name).await, RbacAnswer::Denied, "{operation:?}");
    }

    let reveal = json!([{"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets/value"],
        "resourceNames": ["orders-db"], "verbs": ["reveal"]}]);
    bind(&client, "reveal-one", reveal).await?;
    until_allowed(&client, &who, Operation::Reveal, &name).await?;
    let other = Name::parse("shop/billing")?;
    assert_eq!(reviews.ask(&who, Operation::Reveal, &other).await, RbacAnswer::Denied);
    Ok(())
}

/// How many access reviews the API server has answered.
async fn reviewed(client: &Client) -> Result<u64> {
    let page = client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
    let counted = page.lines().filter(|line| {
        line.starts_with("apiserver_request_total{") && line.contains("resource=\"subjectaccessreviews\"")
    });
    let numbers = counted.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    Ok(numbers.sum())
}

#[tokio::test]
async fn about_who_may_have_all_of_a_namespace_the_cluster_is_not_asked_for_each_secret() -> Result<()> {
    const NAMES: u64 = 20;
    let (_cluster, client) = shop().await?;
    let bearer = token(&client, AUDIENCE, None).await?;
    let who = TokenReviewer::new(client.clone()).review(&bearer, AUDIENCE).await?;
    let named = |n| Name::parse(&format!("shop/orders-db-{n}"));
    let asked = async |reviews: AccessReviews, operation, wanted| -> Result<u64> {
        let before = reviewed(&client).await?;
        for n in 0..NAMES {
            assert_eq!(reviews.ask(&who, operation, &named(n)?).await, wanted, "{operation:?} {n}");
        }
        Ok(reviewed(&client).await? - before)
    };
    let new = || AccessReviews::new(client.clone(), SystemClock::shared());
    let all = json!([{"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets/value"], "verbs": ["reveal", "project"]}]);
    bind_in_shop(&client, "reveal-all", all).await?;
    until_allowed(&client, &who, Operation::Reveal, &named(0)?).await?;
    assert_eq!(asked(new(), Operation::Reveal, RbacAnswer::Allowed).await?, 1);
    assert_eq!(asked(new().of_each_name(true), Operation::Reveal, RbacAnswer::Allowed).await?, NAMES);
    // A pod has its files for long, so it is asked about its own secret only.
    assert_eq!(asked(new(), Operation::Project, RbacAnswer::Allowed).await?, NAMES);
    // Who may not have all may have this one: so each is asked about.
    assert_eq!(asked(new(), Operation::Put, RbacAnswer::Denied).await?, NAMES + 1);
    // An answer about one namespace says nothing of another.
    let (reviews, elsewhere) = (new(), Name::parse("billing/orders-db-0")?);
    let (yes, no) = (RbacAnswer::Allowed, RbacAnswer::Denied);
    for (name, wanted) in [(&named(0)?, &yes), (&elsewhere, &no), (&named(1)?, &yes)] {
        assert_eq!(reviews.ask(&who, Operation::Reveal, name).await, *wanted, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_asks_about_each_name_when_it_is_told_to() -> Result<()> {
    let site = Site::with(Path::new(env!("CARGO_BIN_EXE_tidelock")), &["--review-each-name"]).await?;
    let token = site.pod("orders-api").await?;
    let all = json!([{"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets"], "verbs": ["get"]}]);
    bind_in_shop(&site.client, "get-all", all).await?;
    let endpoint = format!("https://localhost:{}", site.port());
    let ca = site.authority().await?;
    let api = aws::Api::new(&endpoint, Some(&ca), aws::Credential::TokenFile(token))?;
    // That there is no such secret is told to whoever may see it.
    let may = async |name: &str| api.describe_secret(name).await.is_err_and(|error| error.is_not_found());
    wait_for("the role to count", DEADLINE, async || may("shop/first").await.then_some(())).await?;
    let before = reviewed(&site.client).await?;
    assert!(may("shop/second").await && may("shop/third").await);
    assert_eq!(reviewed(&site.client).await? - before, 2);
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_cannot_be_asked_gives_no_answer_and_refuses_no_one_for_good() -> Result<()> {
    let (cluster, client) = shop().await?;
    let bearer = token(&client, AUDIENCE, None).await?;
    let reviewer = TokenReviewer::new(client.clone());
    let who = reviewer.review(&bearer, AUDIENCE).await?;
    let reviews = AccessReviews::new(client.clone(), SystemClock::shared());
    let presences = Presences::new(client.clone(), SystemClock::shared());
    drop(cluster);
    assert_eq!(presences.check(&who).await.expect_err("nobody can be asked").reason(), "PodUnavailable");
    let answer = reviews.ask(&who, Operation::Reveal, &Name::parse("shop/orders-db")?).await;
    assert!(matches!(answer, RbacAnswer::Unknown(_)), "{answer:?}");
    let refused = reviewer.review(&bearer, AUDIENCE).await.expect_err("nobody can be asked");
    assert_eq!(refused.reason(), "TokenReviewUnavailable");
    assert!(!refused.to_string().contains(&bearer), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_mount_is_vouched_for_by_the_pod_s_own_object() -> Result<()> {
    let (_cluster, client) = shop().await?;
    let reader = PodReader::new(client.clone());
    let there = pod(&client, |_| ()).await?;
    let uid = there.metadata.uid.clone().unwrap_or_default();
    let claim = MountClaim {
        pod_namespace: "shop".into(),
        pod_name: "orders-0".into(),
        pod_uid: uid.clone(),
        node: "node-1".into(),
        service_account: "orders-api".into(),
        volume: "orders-db".into(),
        attributes: BTreeMap::from([("secret".to_owned(), "orders-db".to_owned())]),
    };
    let who = reader.vouch(&claim).await?;
    assert_eq!(who.to_string(), "system:serviceaccount:shop:orders-api");
    assert_eq!(reader.presence("shop", "orders-0", &uid).await?, PodPresence::There);
    assert_eq!(reader.presence("shop", "orders-0", "another").await?, PodPresence::Gone);
    let check = async |claim: MountClaim, reason: &str| {
        let refused = reader.vouch(&claim).await.expect_err("the claim is refused");
        assert_eq!(refused.reason(), reason);
    };
    check(MountClaim { node: "node-2".into(), ..claim.clone() }, "PodOnOtherNode").await;
    check(MountClaim { pod_name: "orders-1".into(), ..claim.clone() }, "PodGone").await;
    check(MountClaim { pod_name: "../../secrets/x".into(), ..claim.clone() }, "PodGone").await;
    check(MountClaim { service_account: "default".into(), ..claim.clone() }, "PodOfOtherServiceAccount")
        .await;
    check(MountClaim { attributes: BTreeMap::new(), ..claim }, "PodWithoutVolume").await;
    Ok(())
}

#[tokio::test]
async fn a_pod_that_names_a_job_as_its_owner_is_not_yet_a_rotation_s_pod() -> Result<()> {
    let (_cluster, client) = shop().await?;
    let owner = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "orders-db-1", "uid": "of-the-journal",
        "controller": true}]);
    let forged = pod(&client, |pod| pod["metadata"]["ownerReferences"] = owner).await?;
    let bearer = token(&client, AUDIENCE, Some(&forged)).await?;
    let who = TokenReviewer::new(client.clone()).review(&bearer, AUDIENCE).await?;
    let reviews = AccessReviews::new(client, SystemClock::shared());
    assert_eq!(reviews.rotation_job(&who).await, None);
    Ok(())
}

struct Candidate {
    hold: watch::Receiver<LeaseHold>,
    positions: watch::Sender<Option<StorePosition>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn settings(identity: &str) -> LeaseSettings {
    LeaseSettings {
        lasts: Duration::from_secs(3),
        renew_every: Duration::from_millis(500),
        ..LeaseSettings::new("shop".into(), "tidelock".into(), identity.into())
    }
}

fn candidate(client: &Client, identity: &str) -> Candidate {
    let (positions, seen) = watch::channel(None);
    let (elector, hold) = Elector::new(client.clone(), SystemClock::shared(), settings(identity), seen);
    let stop = CancellationToken::new();
    let task = tokio::spawn(elector.run(stop.clone()));
    Candidate { hold, positions, stop, task }
}

impl Candidate {
    async fn until(&mut self, wanted: impl FnMut(&LeaseHold) -> bool) -> Result<()> {
        tokio::time::timeout(DEADLINE, self.hold.wait_for(wanted)).await??;
        Ok(())
    }

    fn leads(&self) -> bool {
        *self.hold.borrow() == LeaseHold::Leading
    }
}

async fn noted(client: &Client) -> Result<Option<StorePosition>> {
    let (clerk, _) =
        Elector::new(client.clone(), SystemClock::shared(), settings("clerk"), watch::channel(None).1);
    Ok(clerk.noted_position().await?)
}

async fn until_noted(client: &Client, position: StorePosition) -> Result<()> {
    wait_for("the position to be noted", DEADLINE, async || {
        (noted(client).await.ok()? == Some(position)).then_some(())
    })
    .await
}

#[tokio::test]
async fn one_of_two_leads_and_the_other_follows_a_death_late_and_a_farewell_at_once() -> Result<()> {
    let (_cluster, client) = shop().await?;
    let mut first = candidate(&client, "first");
    first.until(|hold| *hold == LeaseHold::Leading).await?;
    let mut second = candidate(&client, "second");
    let by_first = LeaseHold::Standby { holder: Some("first".into()) };
    second.until(|hold| *hold == by_first).await?;
    assert!(first.leads());

    let (epoch_3, epoch_4) = (StorePosition { epoch: 3, commit: 17 }, StorePosition { epoch: 4, commit: 20 });
    first.positions.send_replace(Some(epoch_3));
    until_noted(&client, epoch_3).await?;

    // A death: nobody says goodbye, and the Lease has to run out.
    first.task.abort();
    second.until(|hold| *hold == LeaseHold::Leading).await?;
    let leases: Api<Lease> = Api::namespaced(client.clone(), "shop");
    let lease = leases.get("tidelock").await?.spec.unwrap_or_default();
    assert_eq!((lease.holder_identity.as_deref(), lease.lease_transitions), (Some("second"), Some(1)));
    assert_eq!(noted(&client).await?, Some(epoch_3));
    second.positions.send_replace(Some(StorePosition { epoch: 2, commit: 99 }));
    second.positions.send_replace(Some(epoch_4));
    until_noted(&client, epoch_4).await?;
    assert!(epoch_3.is_behind(epoch_4));

    let mut third = candidate(&client, "third");
    let by_second = LeaseHold::Standby { holder: Some("second".into()) };
    third.until(|hold| *hold == by_second).await?;
    second.stop.cancel();
    second.task.await?;
    third.until(|hold| *hold == LeaseHold::Leading).await?;
    assert!(!second.hold.borrow().eq(&LeaseHold::Leading));
    assert_eq!(noted(&client).await?, Some(epoch_4));
    third.stop.cancel();
    third.task.await?;
    Ok(())
}

#[tokio::test]
async fn a_leader_that_finds_another_s_name_on_the_lease_leads_no_more() -> Result<()> {
    let (_cluster, client) = shop().await?;
    let mut first = candidate(&client, "first");
    first.until(|hold| *hold == LeaseHold::Leading).await?;
    let leases: Api<Lease> = Api::namespaced(client.clone(), "shop");
    wait_for("the Lease to be taken away", DEADLINE, async || {
        let mut lease = leases.get("tidelock").await.ok()?;
        lease.spec.as_mut()?.holder_identity = Some("other".into());
        leases.replace("tidelock", &PostParams::default(), &lease).await.ok()
    })
    .await?;
    let by_other = LeaseHold::Standby { holder: Some("other".into()) };
    first.until(|hold| *hold == by_other).await?;
    first.stop.cancel();
    first.task.await?;
    // It was not its own any more: it gave nothing back.
    let lease = leases.get("tidelock").await?.spec.unwrap_or_default();
    assert_eq!(lease.holder_identity.as_deref(), Some("other"));
    Ok(())
}

#[tokio::test]
async fn two_that_ask_at_once_never_lead_at_once() -> Result<()> {
    let (_cluster, client) = shop().await?;
    let candidates: Vec<Candidate> =
        ["a", "b", "c", "d"].iter().map(|identity| candidate(&client, identity)).collect();
    let candidates = Arc::new(candidates);
    let mut rounds = 0;
    wait_for("thirty looks with a leader", DEADLINE, async || {
        let leading = candidates.iter().filter(|candidate| candidate.leads()).count();
        assert!(leading <= 1, "{leading} lead at once");
        rounds += leading;
        (rounds >= 30).then_some(())
    })
    .await?;
    for candidate in candidates.iter() {
        candidate.stop.cancel();
    }
    Ok(())
}

#[tokio::test]
async fn a_question_that_many_ask_at_once_is_asked_once() -> Result<()> {
    let (cluster, client) = shop().await?;
    let rights = AccessReviews::new(client.clone(), SystemClock::shared());
    let who = Principal::ServiceAccount {
        account: tidelock::access::ServiceAccount { namespace: "shop".into(), name: "orders-api".into() },
        uid: "uid-1".into(),
        groups: ["system:authenticated".into()].into(),
        extra: Arc::default(),
        pod: None,
        via: Box::default(),
    };
    let asked = async || -> Result<usize> {
        let page = client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
        let of_reviews = |line: &&str| line.contains("resource=\"subjectaccessreviews\"");
        let rows =
            page.lines().filter(|line| line.starts_with("apiserver_request_total{")).filter(of_reviews);
        Ok(rows.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum())
    };
    let (before, name) = (asked().await?, Name::parse("shop/orders-db")?);
    let questions = (0..50).map(|_| rights.ask(&who, Operation::Project, &name));
    let answers = futures::future::join_all(questions).await;
    assert!(answers.iter().all(|answer| *answer == RbacAnswer::Denied), "{answers:?}");
    assert_eq!(asked().await? - before, 1);
    cluster.check()
}
