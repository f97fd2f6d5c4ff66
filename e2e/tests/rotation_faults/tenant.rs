//! The tenant of these tests: a secret for each moment of a rotation, a system that the passwords are for, and a pod
//! that logs in with all of them on and on. Must not know what befalls them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tidelock_e2e::images;
use tidelock_e2e::shop::{self, NAMESPACE, Shop};

const STEPS: [&str; 4] = ["createSecret", "setSecret", "testSecret", "finishSecret"];
const MOMENTS: [&str; 3] = ["before", "in", "after"];
const TENANT: &str = include_str!("tenant.yaml");
const ROTATE: &str = include_str!("rotate.sh");
const READER: &str = include_str!("reader.sh");

/// Where a rotation is held: a step's word and a moment of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub step: &'static str,
    pub when: &'static str,
}

impl Moment {
    pub fn all() -> impl Iterator<Item = Self> {
        STEPS.into_iter().flat_map(|step| MOMENTS.map(|when| Self { step, when }))
    }

    /// The secret that is always held here.
    pub fn secret(self) -> String {
        format!("{}-{}", self.step, self.when).to_lowercase()
    }

    /// Whether the rotation's version has its value by now.
    pub fn has_value(self) -> bool {
        self.step != "createSecret" || self.when == "after"
    }

    /// Whether AWSCURRENT has been moved by now.
    pub fn is_promoted(self) -> bool {
        self == Self { step: "finishSecret", when: "after" }
    }
}

pub async fn moves_in(shop: &Shop) {
    let busybox = images::busybox().await.unwrap().name();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tenant.yaml");
    std::fs::write(&file, TENANT.replace("@IMAGE@", &busybox)).unwrap();
    shop.cluster.kubectl(&["apply", "-f", &file.display().to_string()]).await.unwrap();
    let words = ["-n", NAMESPACE, "get", "service", "target", "-o", "jsonpath={.spec.clusterIP}"];
    let address = format!("http://{}", shop.cluster.kubectl(&words).await.unwrap());
    let mut objects = vec![json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rotator", "namespace": NAMESPACE},
        "data": {"rotate.sh": ROTATE},
    })];
    for moment in Moment::all() {
        let metadata = json!({"name": moment.secret(), "namespace": NAMESPACE});
        objects.push(json!({
            "apiVersion": "tidelock.dev/v1alpha1", "kind": "ManagedSecret", "metadata": metadata,
            "spec": {
                "value": {"generate": {"password": {"length": 40, "excludePunctuation": true}}},
                "access": [{"serviceAccount": "reader"}],
            },
        }));
        let env = [
            ("TARGET", address.clone()),
            ("NAME", moment.secret()),
            ("HOLD", format!("{} {}", moment.step, moment.when)),
        ];
        let env = env.map(|(name, value)| json!({"name": name, "value": value}));
        objects.push(json!({
            "apiVersion": "tidelock.dev/v1alpha1", "kind": "RotationSchedule", "metadata": metadata,
            "spec": {
                "secret": moment.secret(), "schedule": "rate(365 days)", "rotateImmediately": false,
                // Whoever waits for a node uses none up.
                "retries": {"limit": 5, "backoff": {"min": "1s", "max": "2s"}},
                "rotator": {"job": {
                    "image": busybox, "command": ["sh", "/rotator/rotate.sh"], "env": env,
                    "volumes": [{"name": "rotator", "mountPath": "/rotator", "configMap": {"name": "rotator"}}],
                }},
            },
        }));
    }
    shop.apply(&objects).await.unwrap();
    let names: Vec<String> = Moment::all().map(Moment::secret).collect();
    let mut reader = shop.pod("reader", &names.join(","), "reader", json!({"nodeName": "node1"}));
    reader["spec"]["containers"][0]["command"] = json!(["sh", "-c", READER]);
    reader["spec"]["containers"][0]["env"] = json!([{"name": "TARGET", "value": address}]);
    shop.apply(&[reader]).await.unwrap();
    shop.running("reader").await.unwrap();
    shop.running("target").await.unwrap();
    let learn = "for s in /run/tidelock/*; do wget -q -O /dev/null --post-file $s/value $TARGET/cgi-bin/token?${s##*/} \
                 || exit 1; done; rm -f /tmp/wrong";
    in_pod(shop, "reader", learn).await;
}

/// Runs a script in a pod and returns what it printed.
pub async fn in_pod(shop: &Shop, pod: &str, script: &str) -> String {
    let output = shop.cluster.exec(NAMESPACE, pod, None, &["sh", "-c", script]).await.unwrap();
    assert!(output.success, "{script} in {pod}: {}{}", output.stderr, output.message);
    output.stdout
}

pub async fn set_gate(shop: &Shop, to: &str) {
    in_pod(shop, "target", &format!("echo {to} >/data/www/gate.new && mv /data/www/gate.new /data/www/gate"))
        .await;
}

/// What the rotators have said since the last [`forget`]: `here-<secret>`, `ended-<secret>.<step>.<exit code>`.
pub async fn said(shop: &Shop) -> BTreeSet<String> {
    in_pod(shop, "target", "ls /data").await.split_whitespace().map(str::to_owned).collect()
}

pub async fn forget(shop: &Shop) {
    in_pod(shop, "target", "rm -f /data/here-* /data/ended-*").await;
}

/// Two more passes of the reader, neither of which, nor any before, failed to log in.
pub async fn always_logged_in(shop: &Shop) {
    let passes = async || shop.file("reader", "/tmp/passes").await.ok()?.trim().parse::<u64>().ok();
    let before = passes().await.unwrap_or_default();
    let more = async || passes().await.filter(|now| *now >= before + 2);
    shop.cluster.wait_for("the reader to log in again", shop::PATIENCE, more).await.unwrap();
    let wrong = in_pod(shop, "reader", "cat /tmp/wrong 2>/dev/null; true").await;
    assert_eq!(wrong, "", "AWSCURRENT could not log in");
}

/// All objects of a kind in the shop, by name.
pub async fn objects(shop: &Shop, kind: &str) -> Option<BTreeMap<String, Value>> {
    let text = shop.cluster.kubectl(&["-n", NAMESPACE, "get", kind, "-o", "json"]).await.ok()?;
    let list: Value = serde_json::from_str(&text).ok()?;
    let all = list["items"].as_array()?.iter();
    Some(all.map(|item| (item["metadata"]["name"].as_str().unwrap().to_owned(), item.clone())).collect())
}
