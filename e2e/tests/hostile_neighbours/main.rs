//! What a neighbour gets who may do everything in a namespace of his own, or much of it: nothing of anybody else's, and a
//! reason. Attacks on mounts, tokens, rights, the server as a deputy, and rotations, in files of their own. One cluster
//! for all: each attack leaves a row, and those that were not fended off fail the test together at its end.
//! Must not look into Tidelock.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "rows of the table of faults that the test run ends with")]

mod deputies;
mod rights;
mod rotations;
mod tokens;
mod volumes;

use std::cell::RefCell;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidelock_e2e::caller::Caller;
use tidelock_e2e::shop::{self, NAMESPACE, PATIENCE, Shop};
use tidelock_e2e::tenant::Tenant;
use tidelock_e2e::{canary, install};

/// The attackers' namespace. The victims are `shop/orders-db`, and in this one `neighbour` and `unshared`.
const MALLORY: &str = "mallory";
const RBAC: &str = "rbac.authorization.k8s.io";

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_neighbour_gets_no_value_and_harms_nobody_but_himself() {
    let shop = Shop::open(1).await.unwrap();
    let stage = Stage::set(&shop).await;
    let begun = Instant::now();
    let mark = |what: &str| println!("{:5.1} s: {what}", begun.elapsed().as_secs_f32());
    // What takes its time on the node does so while the API server is attacked.
    volumes::are_asked_for(&stage).await;
    rotations::are_left_to_controllers(&stage).await;
    mark("hostile pods sent");
    rights::no_role_that_reads_gives_a_value(&stage).await;
    rights::nobody_gives_himself_the_verb_beyond_his_namespace(&stage).await;
    mark("rights attacked");
    deputies::do_nothing_that_their_author_may_not(&stage).await;
    mark("deputies attacked");
    rotations::marks_are_nobody_s_to_give(&stage).await;
    mark("rotations' marks attacked");
    tokens::are_worth_what_their_own_pod_may(&stage).await;
    mark("tokens attacked");
    volumes::that_lie_are_refused(&stage).await;
    volumes::cannot_be_written_to(&stage).await;
    mark("volumes attacked");
    rotations::pods_in_his_namespace_have_one_secret(&stage).await;
    mark("rotations entered");
    volumes::with_planted_folders_go_on(&stage).await;
    mark("folders planted");
    stage.the_victims_are_well().await;
    stage.nothing_was_heard().await;
    mark("looked for canaries");
    let missed = stage.missed.borrow();
    assert!(missed.is_empty(), "{} attacks were not fended off:\n{}", missed.len(), missed.join("\n"));
}

struct Stage<'a> {
    shop: &'a Shop,
    /// A ServiceAccount with the stock ClusterRole `admin` in the namespace.
    mallory: Tenant<'a>,
    /// Somebody with all rights in the namespace, our verbs included.
    owner: Tenant<'a>,
    /// Somebody who may write our resources and pods there, and neither read Secrets nor create Jobs.
    author: Tenant<'a>,
    canaries: Vec<String>,
    heard: RefCell<String>,
    missed: RefCell<Vec<String>>,
}

impl<'a> Stage<'a> {
    async fn set(shop: &'a Shop) -> Self {
        let cluster = &shop.cluster;
        shop.login("orders-db").await.unwrap();
        shop.schedule("orders-db").await.unwrap();
        // Without this level a pod could be root on the node, and Kubernetes would have nobody to keep from anybody.
        let level = json!({"pod-security.kubernetes.io/enforce": "baseline"});
        shop.apply(&[
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": MALLORY, "labels": level}}),
            shop.pod("app", "orders-db", "orders-db", json!({})),
            shop.pod("stranger", "orders-db", "default", json!({})),
        ])
        .await
        .unwrap();
        let ours = json!(["managedsecrets", "rotationschedules"]);
        let writes = json!(["get", "list", "create", "update", "patch", "delete"]);
        shop.apply(&[
            account(MALLORY, MALLORY),
            account(MALLORY, "neighbour"),
            binding(MALLORY, "admin", "ClusterRole", "admin", service_account(MALLORY, MALLORY)),
            binding(MALLORY, "owner", "ClusterRole", "cluster-admin", person("owner")),
            role(
                MALLORY,
                "author",
                json!([
                    {"apiGroups": ["tidelock.dev"], "resources": ours, "verbs": writes},
                    {"apiGroups": [""], "resources": ["pods"], "verbs": writes},
                ]),
            ),
            binding(MALLORY, "author", "Role", "author", person("author")),
            secret("mine", json!({"value": login(), "access": [{"serviceAccount": MALLORY}]})),
            secret("neighbour", json!({"value": login(), "access": [{"serviceAccount": "neighbour"}]})),
            secret("unshared", json!({"value": login()})),
            schedule("mine", "mine", json!({"generate": {}})),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bank", "namespace": MALLORY},
                "stringData": {"password": "of the bank"}}),
        ])
        .await
        .unwrap();
        let stage = Self {
            shop,
            mallory: Tenant::account(cluster, MALLORY, MALLORY).await.unwrap(),
            owner: Tenant::person(cluster, MALLORY, "owner").unwrap(),
            author: Tenant::person(cluster, MALLORY, "author").unwrap(),
            canaries: Vec::new(),
            heard: RefCell::default(),
            missed: RefCell::default(),
        };
        stage.with_canaries().await
    }

    /// The victims' values, as those who may have them read them.
    async fn with_canaries(mut self) -> Self {
        for secret in ["mine", "neighbour", "unshared"] {
            let has_value = async |status: Value| status["currentVersion"].is_string();
            self.object_says("managedsecret", secret, "a version", has_value).await.unwrap();
        }
        self.shop.status_is("orders-db", "a version", |s| s["currentVersion"].is_string()).await.unwrap();
        for (ns, account) in [(NAMESPACE, "orders-db"), (MALLORY, "neighbour")] {
            let words = ["-n", ns, "create", "token", account, "--audience", &audience("api")];
            let token = self.shop.cluster.kubectl(&words).await.unwrap();
            let caller = Caller::bearing(self.shop, token.trim()).await.unwrap();
            let (status, body) = caller.reveals(&format!("{ns}/{account}")).await.unwrap();
            assert_eq!(status, 200, "{}", body["__type"]);
            let value: Value = serde_json::from_str(body["SecretString"].as_str().unwrap()).unwrap();
            self.canaries.push(value["password"].as_str().unwrap().to_owned());
        }
        self
    }

    fn row(&self, attack: &str, who: &str, outcome: &str) {
        let who = match who {
            who if *who == self.mallory.user => "administrator of another namespace",
            "owner" => "somebody with all rights in another namespace",
            "author" => "author of resources in another namespace",
            who => who,
        };
        println!("fault: {attack} | as {who} | {outcome}");
    }

    /// An attack that was to be refused in words which tell what is wrong.
    fn refused(&self, attack: &str, who: &Tenant<'_>, answer: Result<String>, says: &str) {
        let text = match &answer {
            Ok(text) => text.clone(),
            Err(error) => format!("{error:#}"),
        };
        self.hears(&text);
        match answer {
            Err(_) if text.contains(says) => self.row(attack, &who.user, &format!("refused: {says}")),
            Err(_) => self.misses(attack, &who.user, &format!("refused, and does not say {says:?}: {text}")),
            Ok(_) => self.misses(attack, &who.user, &format!("NOT REFUSED: {text}")),
        }
    }

    /// The same for the AWS API.
    fn denied(&self, attack: &str, who: &str, (status, body): (u16, Value), kind: &str) {
        self.hears(&body.to_string());
        if status == 400 && body["__type"] == kind && body["Message"].is_string() {
            self.row(attack, who, &format!("refused: {kind}"));
        } else {
            self.misses(attack, who, &format!("{status} {}: {}", body["__type"], body["Message"]));
        }
    }

    /// An attack that goes through and must do no harm.
    fn harmless(&self, attack: &str, who: &str, outcome: &str, proof: Result<()>) {
        match proof {
            Ok(()) => self.row(attack, who, outcome),
            Err(error) => self.misses(attack, who, &format!("{error:#}")),
        }
    }

    fn misses(&self, attack: &str, who: &str, what: &str) {
        self.row(attack, who, "NOT FENDED OFF");
        self.missed.borrow_mut().push(format!("{attack}, as {who}: {what}"));
    }

    fn hears(&self, text: &str) {
        self.heard.borrow_mut().push_str(text);
    }

    /// A pod in the attackers' namespace with this volume of ours at `/login`, as he writes it by hand.
    fn pod(&self, name: &str, account: &str, csi: Value) -> Value {
        let mut pod = self.shop.pod(name, "", account, json!({"volumes": [{"name": "login", "csi": csi}]}));
        pod["metadata"]["namespace"] = json!(MALLORY);
        pod["metadata"]["annotations"] = json!({});
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "login", "mountPath": "/login"}]);
        pod
    }

    /// Somebody who calls the API with a token that Mallory gets for a ServiceAccount of his namespace.
    async fn caller(&self, account: &str, pod: Option<&str>) -> Caller {
        let token = self.mallory.token(account, &audience("api"), pod).await.unwrap();
        Caller::bearing(self.shop, &token).await.unwrap()
    }

    /// Waits until an event about something in the attackers' namespace says this.
    async fn event_says(&self, object: &str, words: &str) -> Result<()> {
        let mut last = String::new();
        let said = async || {
            last = self.shop.cluster.events(MALLORY, object).await.ok()?;
            last.contains(words).then_some(())
        };
        let what = format!("an event about {object} to say {words:?}");
        let waited = self.shop.cluster.wait_for(&what, PATIENCE / 2, said).await;
        self.hears(&last);
        waited.map_err(|error| anyhow::anyhow!("{error:#}; it says: {last}"))
    }

    /// Waits until the status of an object in the attackers' namespace is as wanted.
    async fn object_says(
        &self,
        kind: &str,
        name: &str,
        what: &str,
        wanted: impl AsyncFn(Value) -> bool,
    ) -> Result<()> {
        let words = ["-n", MALLORY, "get", kind, name, "-o", "json"];
        let so = async || {
            let object: Value = serde_json::from_str(&self.shop.cluster.kubectl(&words).await.ok()?).ok()?;
            wanted(object["status"].clone()).await.then_some(())
        };
        self.shop.cluster.wait_for(&format!("{kind} {name} to say {what}"), PATIENCE, so).await
    }

    async fn is_running(&self, pod: &str) -> Result<()> {
        let ready = async |status: Value| shop::has_condition(&status, "Ready", "True");
        self.object_says("pod", pod, "that it is ready", ready).await
    }

    /// What a script prints in a pod of the attackers'.
    async fn in_pod(&self, pod: &str, script: &str) -> Result<String> {
        let output = self.shop.cluster.exec(MALLORY, pod, None, &["sh", "-c", script]).await?;
        self.hears(&output.stdout);
        ensure!(output.success, "{script} in {pod}: {}{}", output.stderr, output.message);
        Ok(output.stdout)
    }

    /// The victim's pod still gets each new version, and nobody of ours had to begin anew.
    async fn the_victims_are_well(&self) {
        let password = "/run/tidelock/orders-db/password";
        let old = self.shop.file("app", password).await.unwrap();
        assert_eq!(old, self.canaries[0], "nobody has changed the victim's value");
        self.shop.rotate("orders-db", "after-all").await.unwrap();
        self.shop.changed("app", password, &old, PATIENCE).await.unwrap();
        let is_well = |status: &Value| {
            shop::has_condition(status, "Ready", "True")
                && status["consumers"]["current"] == 1
                && status["consumers"]["total"] == 1
        };
        self.shop.status_is("orders-db", "its one consumer", is_well).await.unwrap();
        for component in ["server", "node"] {
            for pod in self.shop.own_pods(component).await.unwrap() {
                let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
                let restarts: i32 = statuses.map(|container| container.restart_count).sum();
                assert_eq!(restarts, 0, "{component} had to begin anew");
            }
        }
    }

    /// All that the attackers were told, and all that they can list and read when everything is over.
    async fn nothing_was_heard(&self) {
        let kinds =
            "pods,events,secrets,configmaps,jobs,cronjobs,replicasets,roles,rolebindings,serviceaccounts";
        self.hears(&self.mallory.kubectl(&["get", kinds, "-o", "json"]).await.unwrap());
        let ours = ["get", "managedsecrets,rotationschedules", "-o", "json"];
        self.hears(&self.owner.kubectl(&ours).await.unwrap());
        let list: Value =
            serde_json::from_str(&self.mallory.kubectl(&["get", "pods", "-o", "json"]).await.unwrap())
                .unwrap();
        for pod in list["items"].as_array().unwrap() {
            if pod["status"]["phase"] == "Running" {
                let name = pod["metadata"]["name"].as_str().unwrap();
                self.hears(&self.mallory.kubectl(&["logs", name, "--all-containers"]).await.unwrap());
                self.in_pod(name, "cat $(find /run /login /tmp -type f -o -type l) 2>/dev/null; true")
                    .await
                    .unwrap();
            }
        }
        let heard = self.heard.borrow();
        assert!(heard.len() > 10_000, "so little was heard that its search would prove nothing");
        let is_heard = |canary: &&String| canary::dresses(canary).iter().any(|dress| heard.contains(dress));
        let found = self.canaries.iter().filter(is_heard).count();
        let attack = "all answers, objects, logs and files, searched";
        match found {
            0 => self.row(attack, "all of them", "no victim's value"),
            _ => self.misses(attack, "all of them", &format!("{found} victims' values were heard")),
        }
    }
}

fn audience(end: &str) -> String {
    format!("tidelock.{}/{end}", install::NAMESPACE)
}

fn account(ns: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": ns}})
}

fn service_account(ns: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "namespace": ns, "name": name})
}

fn person(name: &str) -> Value {
    json!({"apiGroup": RBAC, "kind": "User", "name": name})
}

fn role(ns: &str, name: &str, rules: Value) -> Value {
    json!({"apiVersion": format!("{RBAC}/v1"), "kind": "Role", "metadata": {"name": name, "namespace": ns}, "rules": rules})
}

fn binding(ns: &str, name: &str, kind: &str, role: &str, subject: Value) -> Value {
    json!({"apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding", "metadata": {"name": name, "namespace": ns},
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role}, "subjects": [subject]})
}

fn login() -> Value {
    json!({"generate": {"template": {"username": "x"}, "key": "password"}})
}

/// A ManagedSecret in the attackers' namespace.
fn secret(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "tidelock.dev/v1alpha1", "kind": "ManagedSecret",
        "metadata": {"name": name, "namespace": MALLORY}, "spec": spec})
}

/// A RotationSchedule there that is due on request only.
fn schedule(name: &str, of: &str, rotator: Value) -> Value {
    json!({"apiVersion": "tidelock.dev/v1alpha1", "kind": "RotationSchedule",
        "metadata": {"name": name, "namespace": MALLORY},
        "spec": {"secret": of, "schedule": "rate(365 days)", "rotateImmediately": false, "rotator": rotator}})
}
