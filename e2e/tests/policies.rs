//! The chart's admission policies and webhook configuration on a real API server, as the people whom they concern.
//! Must not need nodes: nothing here is ever run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::discovery::ApiResource;
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};
use tidelock_e2e::{Cluster, wait_for};

const ADMIN: &str = "";
const ALICE: &str = "alice";
const BOB: &str = "bob";
const SERVER: &str = "system:serviceaccount:tidelock:tidelock-server";
const JOB_CONTROLLER: &str = "system:serviceaccount:kube-system:job-controller";
const DEADLINE: Duration = Duration::from_secs(60);

/// An API server with the CRDs, some of the chart's templates, and people: alice may do everything that an author
/// does in `shop`; bob may write our resources there and nothing else.
struct Stage {
    cluster: Cluster,
}

impl Stage {
    async fn set(templates: &[&str]) -> Result<Stage> {
        let stage = Stage { cluster: Cluster::api_only().await? };
        for ns in ["shop", "tidelock"] {
            let namespace = Namespace { metadata: metadata(ns), ..Namespace::default() };
            Api::all(stage.cluster.client()).create(&PostParams::default(), &namespace).await?;
        }
        // Nothing makes them here, and without them no pod is let in.
        for ns in ["shop", "tidelock", "kube-system"] {
            let account = ServiceAccount { metadata: metadata("default"), ..ServiceAccount::default() };
            let accounts: Api<ServiceAccount> = Api::namespaced(stage.cluster.client(), ns);
            accounts.create(&PostParams::default(), &account).await?;
        }
        let crds = root().join("crds");
        stage.cluster.kubectl(&["apply", "--server-side", "-f", &crds.display().to_string()]).await?;
        for template in templates {
            stage.apply(template).await?;
        }
        stage.cast().await?;
        Ok(stage)
    }

    async fn apply(&self, template: &str) -> Result<()> {
        let chart = root().join("charts/tidelock").display().to_string();
        let shown = format!("templates/{template}");
        let text = self
            .cluster
            .helm(&["template", "tidelock", &chart, "--namespace", "tidelock", "--show-only", &shown])
            .await?;
        self.apply_text(template, &text).await
    }

    async fn apply_text(&self, name: &str, text: &str) -> Result<()> {
        let file = self.cluster.folder().join(name);
        std::fs::write(&file, text)?;
        self.cluster.kubectl(&["apply", "-f", &file.display().to_string()]).await?;
        Ok(())
    }

    async fn cast(&self) -> Result<()> {
        let ours = json!({"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets", "rotationschedules"],
            "verbs": ["get", "create", "update", "patch"]});
        let author = json!([
            ours,
            {"apiGroups": ["", "batch"], "resources": ["pods", "jobs"], "verbs": ["get", "create", "update", "patch"]},
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["old"], "verbs": ["get"]},
            {"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets/rotation"],
             "resourceNames": ["orders-db", "custom/name"], "verbs": ["rotate"]},
            {"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets"], "resourceNames": ["orders-db"],
             "verbs": ["restore"]},
        ]);
        let server =
            json!([{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "create", "patch"]}]);
        let mut items = Vec::new();
        items.extend(rights("author", ALICE, &author));
        items.extend(rights("writer", BOB, &json!([ours])));
        items.extend(rights("server", SERVER, &server));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        self.apply_text("people.json", &list.to_string()).await
    }

    async fn client(&self, user: &str) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.cluster.kubeconfig())?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        if !user.is_empty() {
            config.auth_info.impersonate = Some(user.to_owned());
        }
        Ok(Client::try_from(config)?)
    }

    async fn api(&self, user: &str, object: &DynamicObject) -> Result<Api<DynamicObject>> {
        let types = object.types.clone().context("an object has a kind")?;
        let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
        let kind = kube::core::GroupVersionKind::gvk(group, version, &types.kind);
        let ns = object.namespace().context("an object here has a namespace")?;
        Ok(Api::namespaced_with(self.client(user).await?, &ns, &ApiResource::from_gvk(&kind)))
    }

    /// What the API server says when `user` creates the object: nothing, or why not. Nothing is stored.
    async fn creates(&self, user: &str, object: &Value) -> Result<Option<String>> {
        let object: DynamicObject = serde_json::from_value(object.clone())?;
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        Ok(self
            .api(user, &object)
            .await?
            .create(&dry_run, &object)
            .await
            .err()
            .map(|error| error.to_string()))
    }

    /// The same for a merge patch of an object that is there.
    async fn changes(&self, user: &str, object: &Value, patch: &Value) -> Result<Option<String>> {
        let object: DynamicObject = serde_json::from_value(object.clone())?;
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        let api = self.api(user, &object).await?;
        let changed = api.patch(&object.name_any(), &dry_run, &Patch::Merge(patch)).await;
        Ok(changed.err().map(|error| error.to_string()))
    }

    async fn has(&self, object: &Value) -> Result<()> {
        let object: DynamicObject = serde_json::from_value(object.clone())?;
        self.api(ADMIN, &object).await?.create(&PostParams::default(), &object).await?;
        Ok(())
    }

    /// A policy is compiled some moments after it was applied.
    async fn until_refused(&self, user: &str, object: &Value) -> Result<()> {
        wait_for("the policies to be in force", DEADLINE, async || {
            self.creates(user, object).await.ok().flatten().map(|_| ())
        })
        .await
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn metadata(name: &str) -> kube::core::ObjectMeta {
    kube::core::ObjectMeta { name: Some(name.to_owned()), ..kube::core::ObjectMeta::default() }
}

/// A Role in `shop` and its binding.
fn rights(name: &str, user: &str, rules: &Value) -> [Value; 2] {
    [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": name, "namespace": "shop"}, "rules": rules,
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": "shop"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }),
    ]
}

#[track_caller]
fn refused(answer: Option<String>, expected: &str) {
    let answer = answer.unwrap_or_else(|| panic!("was let in, though expected to be refused: {expected}"));
    assert!(answer.contains(expected), "`{answer}` does not say `{expected}`");
}

#[track_caller]
fn allowed(answer: Option<String>) {
    assert_eq!(answer, None);
}

fn pod(ns: &str, inject: Option<&str>, secrets: &[&str]) -> Value {
    let volume = |(number, secret): (usize, &&str)| {
        json!({"name": format!("v{number}"), "csi": {
            "driver": "csi.tidelock.dev", "readOnly": true, "volumeAttributes": {"secret": secret},
        }})
    };
    let volumes: Vec<Value> = secrets.iter().enumerate().map(volume).collect();
    let annotations: BTreeMap<&str, &str> =
        inject.into_iter().map(|list| ("tidelock.dev/inject", list)).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "orders", "namespace": ns, "annotations": annotations},
        "spec": {"containers": [{"name": "app", "image": "a"}], "volumes": volumes},
    })
}

fn labelled(mut object: Value, pointer: &str, label: &str) -> Value {
    if let Some(part) = object.pointer_mut(pointer) {
        part["labels"] = json!({label: "orders-db"});
    }
    object
}

fn job(name: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"template": {"metadata": {}, "spec": {
            "restartPolicy": "Never", "containers": [{"name": "app", "image": "a"}],
        }}},
    })
}

fn secret(name: &str, value: Value, annotations: Value) -> Value {
    json!({
        "apiVersion": "tidelock.dev/v1alpha1", "kind": "ManagedSecret",
        "metadata": {"name": name, "namespace": "shop", "annotations": annotations},
        "spec": {"value": value},
    })
}

fn schedule(rotator: Value) -> Value {
    json!({
        "apiVersion": "tidelock.dev/v1alpha1", "kind": "RotationSchedule",
        "metadata": {"name": "orders-db", "namespace": "shop"},
        "spec": {"secret": "orders-db", "schedule": "rate(30 days)", "rotator": rotator},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_annotated_pod_without_what_it_asks_for_is_refused_everywhere() -> Result<()> {
    let stage = Stage::set(&["policies.yaml"]).await?;
    stage.until_refused(ADMIN, &pod("shop", Some("orders-db"), &[])).await?;
    let not_seen = "Tidelock's webhook has not seen it";
    for ns in ["shop", "kube-system", "tidelock"] {
        refused(stage.creates(ADMIN, &pod(ns, Some("orders-db"), &[])).await?, not_seen);
        allowed(stage.creates(ADMIN, &pod(ns, None, &[])).await?);
        allowed(stage.creates(ADMIN, &pod(ns, None, &["orders-db"])).await?);
    }
    for (list, carried) in [("a,b", &["a"][..]), ("a", &["b"]), ("platform/a", &["a"]), ("a,", &["a"])] {
        refused(stage.creates(ALICE, &pod("shop", Some(list), carried)).await?, not_seen);
    }
    for (list, carried) in [("a, b", &["b", "a"][..]), ("shop/a", &["a"]), ("x/a,a", &["a", "x/a"])] {
        allowed(stage.creates(ALICE, &pod("shop", Some(list), carried)).await?);
    }
    let mut other_driver = pod("shop", Some("a"), &["a"]);
    other_driver["spec"]["volumes"][0]["csi"]["driver"] = json!("csi.example.com");
    refused(stage.creates(ALICE, &other_driver).await?, not_seen);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_asks_for_an_identity_has_it_or_one_of_its_own() -> Result<()> {
    let stage = Stage::set(&["policies.yaml"]).await?;
    let not_seen = "the annotation tidelock.dev/aws-sdk but not the volumes that come with it";
    let trust = json!({"name": "trust", "csi": {
        "driver": "csi.tidelock.dev", "readOnly": true, "volumeAttributes": {"bundle": "ca"},
    }});
    let token = |audience: &str| {
        json!({"name": "identity", "projected": {"sources": [
            {"downwardAPI": {"items": [{"path": "config", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            {"serviceAccountToken": {"audience": audience, "path": "token"}},
        ]}})
    };
    let asking = |ns: &str, value: &str, volumes: Value| {
        let mut pod = pod(ns, None, &[]);
        pod["metadata"]["annotations"] = json!({"tidelock.dev/aws-sdk": value});
        pod["spec"]["volumes"] = volumes;
        pod
    };
    let ours = token("tidelock.tidelock/api");
    stage.until_refused(ADMIN, &asking("shop", "true", json!([]))).await?;
    for value in ["true", "profile", "false"] {
        for ns in ["shop", "kube-system", "tidelock"] {
            refused(stage.creates(ADMIN, &asking(ns, value, json!([]))).await?, not_seen);
            allowed(stage.creates(ADMIN, &asking(ns, value, json!([ours, trust]))).await?);
        }
    }
    let no_bundle = json!({"name": "trust", "csi": {
        "driver": "csi.tidelock.dev", "readOnly": true, "volumeAttributes": {"secret": "orders-db"},
    }});
    for lacking in [json!([ours]), json!([trust]), json!([token("another"), trust]), json!([ours, no_bundle])]
    {
        refused(stage.creates(ALICE, &asking("shop", "true", lacking)).await?, not_seen);
    }
    let status = |status: &str| {
        let mut pod = asking("shop", "true", json!([]));
        pod["metadata"]["annotations"]["tidelock.dev/aws-sdk-status"] = json!(status);
        pod
    };
    allowed(stage.creates(ALICE, &status("AwsIdentityPresent")).await?);
    refused(stage.creates(ALICE, &status("Injected")).await?, not_seen);
    // Each annotation is looked at, also where the other is satisfied.
    let mut both = status("AwsIdentityPresent");
    both["metadata"]["annotations"]["tidelock.dev/inject"] = json!("orders-db");
    refused(stage.creates(ALICE, &both).await?, "the annotation tidelock.dev/inject but not the volumes");
    let mut half = pod("shop", Some("orders-db"), &["orders-db"]);
    half["metadata"]["annotations"]["tidelock.dev/aws-sdk"] = json!("true");
    refused(stage.creates(ALICE, &half).await?, not_seen);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_labels_are_the_job_controller_s_and_the_server_s_alone() -> Result<()> {
    let stage = Stage::set(&["policies.yaml"]).await?;
    let plain = pod("shop", None, &[]);
    let rotation = "tidelock.dev/rotation";
    stage.until_refused(ALICE, &labelled(plain.clone(), "/metadata", rotation)).await?;
    stage.until_refused(ALICE, &labelled(job("forged"), "/metadata", rotation)).await?;
    stage.has(&plain).await?;
    stage.has(&job("plain")).await?;
    let (no_pod, no_job) = ("reserved for pods of Tidelock's", "reserved for Jobs that Tidelock's server");
    for label in [rotation, "tidelock.dev/attempt"] {
        let mut forged = labelled(plain.clone(), "/metadata", label);
        forged["metadata"]["name"] = json!("forged");
        let patch = json!({"metadata": {"labels": {label: "orders-db"}}});
        for user in [ADMIN, ALICE] {
            refused(stage.creates(user, &forged).await?, no_pod);
        }
        refused(stage.changes(ALICE, &plain, &patch).await?, no_pod);
        allowed(stage.creates(JOB_CONTROLLER, &forged).await?);
        refused(stage.changes(ALICE, &job("plain"), &patch).await?, no_job);
        for pointer in ["/metadata", "/spec/template/metadata"] {
            let forged = labelled(job("forged"), pointer, label);
            refused(stage.creates(ALICE, &forged).await?, no_job);
            refused(stage.creates(ADMIN, &forged).await?, no_job);
            allowed(stage.creates(SERVER, &forged).await?);
        }
    }
    labels_come_by_no_other_resource(&stage).await?;
    // What others do with ordinary pods and Jobs is none of our business.
    let other = json!({"metadata": {"labels": {"app": "orders"}}});
    allowed(stage.changes(ALICE, &plain, &other).await?);
    allowed(stage.changes(ALICE, &job("plain"), &other).await?);
    allowed(stage.creates(ALICE, &job("another")).await?);
    Ok(())
}

/// A status carries labels along, and a binding's become the pod's. Also with all rights.
async fn labels_come_by_no_other_resource(stage: &Stage) -> Result<()> {
    let labels = json!({"tidelock.dev/rotation": "orders-db", "tidelock.dev/attempt": "1"});
    let patch = json!({"metadata": {"labels": labels}}).to_string();
    for (object, says) in [("pod/orders", "reserved for pods"), ("job/plain", "reserved for Jobs")] {
        let words = ["-n", "shop", "patch", object, "--subresource=status", "-p", &patch];
        refused(stage.cluster.kubectl(&words).await.err().map(|error| format!("{error:#}")), says);
    }
    let target = json!({"apiVersion": "v1", "kind": "Node", "name": "node1"});
    let mut binding = json!({"apiVersion": "v1", "kind": "Binding", "target": target,
        "metadata": {"name": "orders", "namespace": "shop", "labels": labels}});
    let file = stage.cluster.folder().join("binding.json");
    let shown = file.display().to_string();
    let binds = async |binding: &Value, path: &str| {
        std::fs::write(&file, binding.to_string())?;
        let raw = format!("/api/v1/namespaces/shop/{path}");
        stage.cluster.kubectl(&["create", "--raw", &raw, "-f", &shown]).await
    };
    for path in ["pods/orders/binding", "bindings"] {
        let answer = binds(&binding, path).await.err().map(|error| format!("{error:#}"));
        refused(answer, "reserved for pods");
    }
    binding["metadata"]["labels"] = json!({"zone": "a"});
    allowed(binds(&binding, "pods/orders/binding").await.err().map(|error| format!("{error:#}")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_author_gets_done_only_what_he_may_do_himself() -> Result<()> {
    let stage = Stage::set(&["policies.yaml"]).await?;
    let generated = || json!({"generate": {}});
    let takes_over = |source: &str| {
        secret("orders-db", json!({"fromSecret": {"name": source, "key": "password"}}), json!({}))
    };
    stage.until_refused(BOB, &takes_over("old")).await?;
    refused(stage.creates(BOB, &takes_over("old")).await?, "you may not get Secret old in namespace shop");
    allowed(stage.creates(ALICE, &takes_over("old")).await?);
    refused(stage.creates(ALICE, &takes_over("other")).await?, "you may not get Secret other");
    allowed(stage.creates(BOB, &secret("orders-db", generated(), json!({}))).await?);

    // Whoever only labels an object answers for nothing in it.
    stage.has(&takes_over("old")).await?;
    let label = json!({"metadata": {"labels": {"team": "b"}}});
    allowed(stage.changes(BOB, &takes_over("old"), &label).await?);

    for (annotation, word) in
        [("tidelock.dev/rotate", "may not rotate"), ("tidelock.dev/approve-restore", "may not restore")]
    {
        let asks = json!({annotation: "1"});
        let patch = json!({"metadata": {"annotations": asks}});
        refused(stage.changes(BOB, &takes_over("old"), &patch).await?, word);
        allowed(stage.changes(ALICE, &takes_over("old"), &patch).await?);
        // The rights are for one name.
        let other = secret("other", generated(), asks);
        refused(stage.creates(BOB, &other).await?, word);
        refused(stage.creates(ALICE, &other).await?, "name other, in namespace shop");
    }
    let mut named = secret("other", generated(), json!({"tidelock.dev/rotate": "1"}));
    named["spec"]["name"] = json!("shop/custom/name");
    allowed(stage.creates(ALICE, &named).await?);

    let rotates = secret("billing", generated(), json!({"tidelock.dev/rotate": "1"}));
    stage.has(&rotates).await?;
    allowed(stage.changes(BOB, &rotates, &label).await?);
    let again = json!({"metadata": {"annotations": {"tidelock.dev/rotate": "2"}}});
    refused(stage.changes(BOB, &rotates, &again).await?, "may not rotate");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_create_jobs_has_jobs_created() -> Result<()> {
    let stage = Stage::set(&["policies.yaml"]).await?;
    let runs = |image: &str| schedule(json!({"job": {"image": image}}));
    stage.until_refused(BOB, &runs("a")).await?;
    refused(stage.creates(BOB, &runs("a")).await?, "you may not create Jobs in namespace shop");
    allowed(stage.creates(BOB, &schedule(json!({"generate": {}}))).await?);
    allowed(stage.creates(ALICE, &runs("a")).await?);
    stage.has(&runs("a")).await?;
    let suspend = json!({"spec": {"suspend": true}});
    allowed(stage.changes(BOB, &runs("a"), &suspend).await?);
    let image = json!({"spec": {"rotator": {"job": {"image": "b"}}}});
    refused(stage.changes(BOB, &runs("a"), &image).await?, "you may not create Jobs");
    allowed(stage.changes(ALICE, &runs("a"), &image).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn held_deletions_are_approved_only_by_who_may_restore_everywhere() -> Result<()> {
    let stage = Stage::set(&["policies.yaml"]).await?;
    let rbac = "rbac.authorization.k8s.io";
    let configmaps =
        json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch"]}]);
    let mut items = Vec::new();
    for mut object in
        rights("asked", ALICE, &configmaps).into_iter().chain(rights("asking", BOB, &configmaps))
    {
        object["metadata"]["namespace"] = json!("tidelock");
        items.push(object);
    }
    items.push(json!({
        "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": {"name": "restorer"},
        "rules": [{"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets"], "verbs": ["restore"]}],
    }));
    items.push(json!({
        "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "restorer"},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "restorer"},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": ALICE}],
    }));
    stage
        .apply_text(
            "restorers.json",
            &json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string(),
        )
        .await?;
    let held = |name: &str, annotations: Value| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "tidelock", "annotations": annotations}})
    };
    let asked = "tidelock-held-deletions";
    let approves = json!({"tidelock.dev/approve-deletions": "12-0"});
    stage.until_refused(BOB, &held(asked, approves.clone())).await?;
    stage.has(&held(asked, json!({}))).await?;
    let patch = json!({"metadata": {"annotations": approves}});
    refused(stage.changes(BOB, &held(asked, json!({})), &patch).await?, "you may not approve deletions");
    allowed(stage.changes(ALICE, &held(asked, json!({})), &patch).await?);
    // Other ConfigMaps, and other changes of this one, are none of our business.
    allowed(stage.creates(BOB, &held("other", approves)).await?);
    let mut nameless = held("", json!({}));
    nameless["metadata"] = json!({"namespace": "tidelock", "generateName": "any-"});
    allowed(stage.creates(BOB, &nameless).await?);
    allowed(stage.changes(BOB, &held(asked, json!({})), &json!({"data": {"count": "1"}})).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_only_annotated_pods_are_refused_and_the_refusal_says_why() -> Result<()> {
    let stage = Stage::set(&["webhook.yaml"]).await?;
    let annotated = pod("shop", Some("orders-db"), &[]);
    stage.until_refused(ALICE, &annotated).await?;
    let why = "annotated-pods-need-tidelock-server-running.tidelock.dev";
    refused(stage.creates(ALICE, &annotated).await?, why);
    let mut asks_for_an_identity = pod("shop", None, &[]);
    asks_for_an_identity["metadata"]["annotations"] = json!({"tidelock.dev/aws-sdk": "true"});
    refused(stage.creates(ALICE, &asks_for_an_identity).await?, why);
    allowed(stage.creates(ALICE, &pod("shop", None, &[])).await?);
    // The server's own pods and the cluster's own must be able to start without it.
    for ns in ["tidelock", "kube-system"] {
        allowed(stage.creates(ADMIN, &pod(ns, Some("orders-db"), &[])).await?);
    }
    // A pod that is there is changed without a question, even into one that would ask.
    let plain = pod("shop", None, &[]);
    stage.has(&plain).await?;
    let annotates = json!({"metadata": {"annotations": {"tidelock.dev/inject": "orders-db"}}});
    allowed(stage.changes(ALICE, &plain, &annotates).await?);

    // Without the configuration nobody asks the server; then the policy refuses, and says what to look at.
    stage.apply("policies.yaml").await?;
    stage.cluster.kubectl(&["delete", "mutatingwebhookconfiguration", "tidelock"]).await?;
    wait_for("the policy to refuse in the webhook's stead", DEADLINE, async || {
        let answer = stage.creates(ALICE, &annotated).await.ok()??;
        answer.contains("the MutatingWebhookConfiguration tidelock is as the chart made it").then_some(())
    })
    .await?;
    let mut other = plain.clone();
    other["metadata"]["name"] = json!("other");
    allowed(stage.creates(ALICE, &other).await?);
    allowed(stage.changes(ALICE, &plain, &annotates).await?);
    Ok(())
}
