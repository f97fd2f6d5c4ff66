//! Custom resources as nobody should write them, before a real server process on a real API server: each is told what
//! is wrong with it, and none keeps the others from being served. Must not need nodes.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ApiResource, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tidelock::cluster::TokenReviewer;
use tidelock::crd::{ManagedSecret, RotationSchedule};
use tidelock_e2e::{Cluster, wait_for};
use tokio::process::{Child, Command};

const SYSTEM: &str = "tidelock-system";
const CRDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
/// Nothing here is a promise to users; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

struct Stage {
    cluster: Cluster,
    client: Client,
}

impl Stage {
    fn api<K: kube::Resource<DynamicType = ()>>(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), "shop", &ApiResource::erase::<K>(&()))
    }

    async fn apply<K: kube::Resource<DynamicType = ()>>(
        &self,
        name: &str,
        spec: Value,
    ) -> Result<DynamicObject> {
        let object = json!({"apiVersion": "tidelock.dev/v1alpha1", "kind": K::kind(&()), "metadata": {"name": name},
            "spec": spec});
        let params = PatchParams::apply("test").force();
        Ok(self.api::<K>().patch(name, &params, &Patch::Apply(object)).await?)
    }

    async fn refused(&self, name: &str, spec: Value, says: &str) -> Result<()> {
        let refused =
            self.apply::<ManagedSecret>(name, spec).await.err().context("it was taken")?.to_string();
        ensure!(refused.contains(says), "`{refused}` does not say `{says}`");
        Ok(())
    }

    /// Waits until a condition has this reason, and gives its message back.
    async fn until<K: kube::Resource<DynamicType = ()>>(
        &self,
        name: &str,
        kind: &str,
        reason: &str,
    ) -> Result<String> {
        wait_for(&format!("{name} to be {reason}"), PATIENCE, async || {
            let object = self.api::<K>().get(name).await.ok()?;
            let conditions = object.data["status"]["conditions"].as_array()?;
            let found = conditions.iter().find(|found| found["type"] == kind && found["reason"] == reason)?;
            found["message"].as_str().map(str::to_owned)
        })
        .await
    }

    async fn until_made(&self, name: &str) -> Result<()> {
        self.until::<ManagedSecret>(name, "Ready", "Available").await.map(drop)
    }
}

fn start(cluster: &Cluster, store: &Path) -> Result<Child> {
    let port = || TcpListener::bind("127.0.0.1:0").and_then(|held| held.local_addr());
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidelock"));
    command.args(["server", "--namespace", SYSTEM, "--pod-name", "one", "--installation", "tidelock.test"]);
    command.args(["--image", "none", "--store-dir"]).arg(store);
    for listener in ["--webhook-listen", "--api-listen", "--node-listen", "--health-listen"] {
        command.arg(listener).arg(port()?.to_string());
    }
    command.env("KUBECONFIG", cluster.kubeconfig()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().context("the server cannot be started")
}

fn generated() -> Value {
    json!({"value": {"generate": {}}})
}

#[tokio::test]
async fn resources_that_are_wrong_are_told_so_and_the_others_are_served() -> Result<()> {
    let cluster = Cluster::api_only().await?;
    let stage = Stage { client: cluster.client(), cluster };
    stage.cluster.kubectl(&["apply", "-f", CRDS]).await?;
    for namespace in [SYSTEM, "tidelock-rotations", "shop"] {
        stage.cluster.kubectl(&["create", "namespace", namespace]).await?;
    }
    a_status_is_patched_before_the_server_sees_it(&stage).await?;
    people_see_it_too(&stage).await?;
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/tidelock");
    let show = ["--namespace", SYSTEM, "--show-only", "templates/policies.yaml"];
    let policies = stage.cluster.helm(&[&["template", "tidelock", chart], &show[..]].concat()).await?;
    let file = stage.cluster.folder().join("policies.yaml");
    std::fs::write(&file, policies)?;
    stage.cluster.kubectl(&["apply", "-f", &file.display().to_string()]).await?;
    let folder = tempfile::tempdir()?;
    let mut server = start(&stage.cluster, folder.path())?;
    stage.until_made("patched").await?;
    let patched = stage.api::<ManagedSecret>().get("patched").await?;
    ensure!(patched.data["status"].get("lastRotation").is_none(), "the status is written anew");
    a_spec_of_another_schema(&stage).await?;
    what_the_schema_refuses(&stage).await?;
    names_of_others(&stage).await?;
    at_the_limits_of_an_object(&stage).await?;
    sources(&stage).await?;
    schedules(&stage).await?;
    ensure!(server.try_wait()?.is_none(), "the server lives");
    Ok(())
}

/// The API server takes this time for one, and no parser of times does.
async fn a_status_is_patched_before_the_server_sees_it(stage: &Stage) -> Result<()> {
    stage.apply::<ManagedSecret>("patched", generated()).await?;
    let status = json!({"status": {"lastRotation": "2026-01-01T00:00:00+99:99"}});
    let params = PatchParams::default();
    stage.api::<ManagedSecret>().patch_status("patched", &params, &Patch::Merge(status)).await?;
    Ok(())
}

async fn people_see_it_too(stage: &Stage) -> Result<()> {
    for words in [&["list", "-A"][..], &["describe", "patched", "-n", "shop"], &["list", "-A", "-o", "yaml"]]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidelock"));
        let output = command.args(words).env("KUBECONFIG", stage.cluster.kubeconfig()).output().await?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success() && text.contains("patched"), "tidelock {words:?} shows it: {text}");
    }
    Ok(())
}

async fn a_spec_of_another_schema(stage: &Stage) -> Result<()> {
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/value/properties/symmetricKey/\
                properties/encoding/enum/-";
    let patch = json!([{"op": "add", "path": path, "value": "Base32"}]).to_string();
    let crd = "managedsecrets.tidelock.dev";
    stage.cluster.kubectl(&["patch", "crd", crd, "--type=json", "-p", &patch]).await?;
    let spec = json!({"value": {"symmetricKey": {"encoding": "Base32"}}});
    wait_for("the wider schema to be in force", PATIENCE, async || {
        stage.apply::<ManagedSecret>("newer", spec.clone()).await.ok()
    })
    .await?;
    let message = stage.until::<ManagedSecret>("newer", "Synced", "SpecInvalid").await?;
    ensure!(
        message.starts_with("spec.value.symmetricKey.encoding: cannot be read; write one of"),
        "{message}"
    );
    ensure!(!message.contains("Base32"), "{message}");
    stage.apply::<ManagedSecret>("after-newer", generated()).await?;
    stage.until_made("after-newer").await?;
    stage.apply::<ManagedSecret>("newer", json!({"value": {"symmetricKey": {"encoding": "Hex"}}})).await?;
    stage.until_made("newer").await
}

async fn what_the_schema_refuses(stage: &Stage) -> Result<()> {
    let named = |name: String| json!({"name": name, "value": {"generate": {}}});
    stage.refused("bad", named(format!("shop/{}", "x".repeat(508))), "spec.name").await?;
    stage.refused("bad", named("shop/a\u{7}b".to_owned()), "spec.name").await?;
    stage.apply::<ManagedSecret>("longest", named(format!("shop/{}", "x".repeat(507)))).await?;
    stage.until_made("longest").await?;
    for template in [json!("{\"user\""), json!(["user"]), json!({"user": {"name": "x"}})] {
        let spec = json!({"value": {"generate": {"template": template, "key": "password"}}});
        stage.refused("bad", spec, "spec.value.generate.template").await?;
    }
    let large = json!({"value": {"generate": {}}, "description": "x".repeat(2049)});
    stage.refused("bad", large, "spec.description").await
}

async fn names_of_others(stage: &Stage) -> Result<()> {
    let named = |name: &str| json!({"name": name, "value": {"generate": {}}});
    stage.apply::<ManagedSecret>("first", named("shop/one")).await?;
    stage.until_made("first").await?;
    stage.apply::<ManagedSecret>("second", named("shop/one")).await?;
    let message = stage.until::<ManagedSecret>("second", "Synced", "NameTaken").await?;
    ensure!(message.contains("ManagedSecret shop/first"), "{message}");
    stage.apply::<ManagedSecret>("foreign", named("tidelock-system/one")).await?;
    let message = stage.until::<ManagedSecret>("foreign", "Synced", "NameOutsideNamespace").await?;
    ensure!(message.contains("`shop/one`"), "{message}");
    stage.until_made("first").await
}

async fn schedules(stage: &Stage) -> Result<()> {
    let spec = |secret: &str, days: usize| json!({"secret": secret, "schedule": format!("rate({days} days)"), "rotator": {"generate": {}}});
    stage.apply::<RotationSchedule>("orphan", spec("nobody", 30)).await?;
    let message = stage.until::<RotationSchedule>("orphan", "Ready", "SecretNotFound").await?;
    ensure!(message.contains("no ManagedSecret nobody"), "{message}");
    let mut generation = None;
    for days in 2..40 {
        generation =
            stage.apply::<RotationSchedule>("restless", spec("first", days)).await?.metadata.generation;
    }
    wait_for("the last of many changes to be in force", PATIENCE, async || {
        let seen = stage.api::<RotationSchedule>().get("restless").await.ok()?;
        let status = &seen.data["status"];
        let is_last = status["observedGeneration"].as_i64() == generation;
        (is_last && status["effective"]["schedule"] == "rate(39 days)").then_some(())
    })
    .await?;
    let first = stage.api::<ManagedSecret>().get("first").await?;
    let versions = first.data["status"]["versions"].as_array().map_or(0, Vec::len);
    ensure!(versions == 1, "edits of a schedule make no version, and there are {versions}");
    Ok(())
}

async fn at_the_limits_of_an_object(stage: &Stage) -> Result<()> {
    let longest = "n".repeat(253);
    stage.apply::<ManagedSecret>(&longest, generated()).await?;
    stage.until_made(&longest).await?;
    stage.refused(&"n".repeat(254), generated(), "must be no more than 253").await?;
    let annotate = async |name: &str, bytes: usize| {
        let patch = json!({"metadata": {"annotations": {"example.com/huge": "\u{7}".repeat(bytes)}}});
        stage.api::<ManagedSecret>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
    };
    let spec = json!({"value": {"generate": {}}, "description": "a\u{7}b\u{202e}c\u{0}"});
    stage.apply::<ManagedSecret>("decorated", spec).await?;
    annotate("decorated", 255 * 1024).await?;
    stage.until_made("decorated").await?;
    let refused = annotate("decorated", 257 * 1024).await.err().context("it was taken")?.to_string();
    ensure!(refused.contains("262144"), "{refused}");
    Ok(())
}

/// A value of 65,536 bytes is the largest.
async fn sources(stage: &Stage) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), "shop");
    let bytes = |count: usize| ByteString(vec![b'v'; count]);
    let data = [("edge", bytes(65_536)), ("above", bytes(65_537)), ("empty", bytes(0))];
    let source = Secret {
        metadata: ObjectMeta { name: Some("old".to_owned()), ..ObjectMeta::default() },
        data: Some(data.map(|(key, value)| (key.to_owned(), value)).into()),
        ..Secret::default()
    };
    secrets.create(&PostParams::default(), &source).await?;
    let from = |name: &str, key: &str| json!({"value": {"fromSecret": {"name": name, "key": key}}});
    stage.apply::<ManagedSecret>("from-edge", from("old", "edge")).await?;
    stage.until_made("from-edge").await?;
    for (name, key, reason, says) in [
        (
            "old",
            "above",
            "SourceUnusable",
            "key `above` of the Secret has 65537 bytes: a value has 1 to 65536",
        ),
        ("old", "empty", "SourceUnusable", "has 0 bytes"),
        ("old", "none", "SourceNotFound", "has no key `none`"),
        ("nobody", "none", "SourceNotFound", "there is no Secret shop/nobody"),
    ] {
        let resource = format!("from-{name}-{key}");
        stage.apply::<ManagedSecret>(&resource, from(name, key)).await?;
        let message = stage.until::<ManagedSecret>(&resource, "Synced", reason).await?;
        ensure!(message.contains(says), "`{message}` does not say `{says}`");
    }
    Ok(())
}

/// The parts of a token, and how this cluster's key would sign others.
struct Forge {
    key: EcdsaKeyPair,
    header: String,
    claims: Value,
}

impl Forge {
    fn of(token: &str, key: &[u8]) -> Result<Self> {
        let parts: Vec<&str> = token.split('.').collect();
        let [header, claims, _] = parts[..] else { bail!("a token has three parts") };
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key)?;
        let claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
        Ok(Self { key, header: header.to_owned(), claims })
    }

    /// The token with other claims, signed as the API server signs.
    fn signed(&self, change: impl FnOnce(&mut Value)) -> Result<String> {
        let mut claims = self.claims.clone();
        change(&mut claims);
        let signed = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[tokio::test]
async fn tokens_that_are_expired_foreign_forged_or_bent_are_nobody_s() -> Result<()> {
    let cluster = Cluster::api_only().await?;
    cluster.kubectl(&["create", "namespace", "shop"]).await?;
    cluster.kubectl(&["-n", "shop", "create", "serviceaccount", "orders-api"]).await?;
    let reviewer = TokenReviewer::new(cluster.client());
    let pem = std::fs::read(cluster.token_key())?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(&pem)?;
    let foreign = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?.to_pkcs8v1()?;
    // The same question for both doors: mounts, and the API.
    for audience in ["tidelock.test/node", "tidelock.test/api"] {
        let words = ["-n", "shop", "create", "token", "orders-api", "--audience", audience];
        let real = cluster.kubectl(&words).await?.trim().to_owned();
        let forge = Forge::of(&real, key.secret_pkcs8_der())?;
        let now = forge.claims["iat"].as_i64().context("a token has a time")?;
        for good in [real.clone(), forge.signed(|_| ())?] {
            ensure!(reviewer.review(&good, audience).await.is_ok(), "what is whole is taken");
        }
        let (header, payload) = (&forge.header, URL_SAFE_NO_PAD.encode(forge.claims.to_string()));
        let unsigned = URL_SAFE_NO_PAD.encode(json!({"alg": "none", "typ": "JWT"}).to_string());
        let foreign = Forge::of(&real, foreign.as_ref())?;
        let mut wrong = vec![
            ("expired", forge.signed(|claims| claims["exp"] = json!(now - 3600))?),
            ("not valid yet", forge.signed(|claims| claims["nbf"] = json!(now + 3600))?),
            ("of another issuer", forge.signed(|claims| claims["iss"] = json!("https://elsewhere.example"))?),
            ("of another audience", forge.signed(|claims| claims["aud"] = json!(["tidelock.test/stream"]))?),
            (
                "of an account that is not there",
                forge.signed(|claims| {
                    claims["sub"] = json!("system:serviceaccount:shop:nobody");
                    claims["kubernetes.io"]["serviceaccount"]["name"] = json!("nobody");
                })?,
            ),
            ("signed by another key", foreign.signed(|_| ())?),
            ("without a signature", format!("{header}.{payload}.")),
            ("of no algorithm", format!("{unsigned}.{payload}.")),
        ];
        // One character anywhere, but for the last of the signature, of which not every bit counts.
        for at in (0..real.len() - 1).step_by(97).filter(|at| real.as_bytes()[*at] != b'.') {
            let mut bent = real.clone().into_bytes();
            bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
            wrong.push(("bent", String::from_utf8(bent)?));
        }
        for (what, token) in &wrong {
            let refused = reviewer.review(token, audience).await.err().map(|refused| refused.reason());
            ensure!(refused == Some("TokenNotAccepted"), "a token {what} for {audience}: {refused:?}");
        }
    }
    Ok(())
}
