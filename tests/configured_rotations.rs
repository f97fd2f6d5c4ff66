//! Secrets whose rotation the AWS API configured: the server as it ships beside a real API server makes their Jobs, sees
//! them end and deletes them. Must not need nodes: nobody runs the Jobs; the test does what a rotator would.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use tidelock::wire::aws::{Api as Aws, CallError, Credential, Token};
use tidelock_e2e::{Cluster, wait_for};
use tokio::process::{Child, Command};

const NS: &str = "tidelock";
const ROTATIONS: &str = "tidelock-rotations";
const DEADLINE: Duration = Duration::from_secs(120);
const CRDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
const ROTATORS: &str = "orders: {job: {image: 'registry/rotate:1', env: [{name: HOST, value: pg}]}}\n";

fn command(folder: &Path, rotators: &str, api: u16) -> Result<Command> {
    let file = folder.join("rotators.yaml");
    fs::write(&file, rotators)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidelock"));
    command.args(["server", "--namespace", NS, "--pod-name", "tidelock-server-0", "--image", "none"]);
    command.args(["--installation", "tidelock.tidelock", "--store-dir"]).arg(folder.join("store"));
    command.arg("--rotators-file").arg(file).arg("--api-listen").arg(format!("127.0.0.1:{api}"));
    for listener in ["--webhook-listen", "--node-listen", "--health-listen"] {
        command.arg(listener).arg(format!("127.0.0.1:{}", free_port()?));
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[tokio::test]
async fn a_rotators_file_that_is_not_understood_is_refused_with_its_place() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let wrong = "orders: {job: {image: x, hostNetwork: true}}";
    let output = command(folder.path(), wrong, free_port()?)?.output().await?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && words.contains("orders.job.hostNetwork"), "{words}");
    Ok(())
}

/// The server, and somebody of the namespace `shop` who may do what RotateSecret needs and what a rotator does.
struct Site {
    cluster: Cluster,
    jobs: Api<Job>,
    operator: Aws,
    _server: Child,
    _folder: tempfile::TempDir,
}

impl Site {
    async fn new() -> Result<Self> {
        let cluster = Cluster::api_only().await?;
        let folder = tempfile::tempdir()?;
        cluster.kubectl(&["apply", "-f", CRDS]).await?;
        for namespace in [NS, ROTATIONS, "shop"] {
            cluster.kubectl(&["create", "namespace", namespace]).await?;
        }
        let rbac = "rbac.authorization.k8s.io";
        let metadata = json!({"name": "operator", "namespace": "shop"});
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
            {"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata, "rules": [
                {"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets/value"], "verbs": ["put", "stage"]},
                {"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets/rotation"], "verbs": ["rotate", "cancel"]},
                {"apiGroups": ["tidelock.dev"], "resources": ["managedsecrets"], "verbs": ["get", "create"]},
            ]},
            {"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": metadata,
             "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "operator"},
             "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": "shop"}]},
        ]});
        let file = folder.path().join("objects.json");
        fs::write(&file, objects.to_string())?;
        cluster.kubectl(&["apply", "-f", &file.display().to_string()]).await?;
        let port = free_port()?;
        fs::create_dir(folder.path().join("store"))?;
        let log = fs::File::create(folder.path().join("log"))?;
        let mut server = command(folder.path(), ROTATORS, port)?;
        let server = server.env("KUBECONFIG", cluster.kubeconfig()).stderr(log).spawn()?;
        let words = ["-n", "shop", "create", "token", "operator", "--audience", "tidelock.tidelock/api"];
        let token = Token::new(cluster.kubectl(&words).await?.trim().to_owned());
        let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), NS);
        let ca = async || maps.get_opt("tidelock-ca").await.ok()??.data?.remove("ca.crt");
        let ca = wait_for("the CA to be published", DEADLINE, ca).await?;
        let operator = Aws::trusting(&format!("https://localhost:{port}"), &ca, Credential::Token(token))?;
        let jobs = Api::namespaced(cluster.client(), ROTATIONS);
        Ok(Self { cluster, jobs, operator, _server: server, _folder: folder })
    }

    async fn call(&self, operation: &'static str, request: Value) -> Result<Value, CallError> {
        self.operator.call(operation, &request).await
    }

    /// The one Job of the rotation that makes this version.
    async fn job(&self, version: &str) -> Result<Job> {
        let of_version = |job: &Job| {
            let annotations = job.metadata.annotations.as_ref();
            annotations.is_some_and(|all| all.get("tidelock.dev/version-id").is_some_and(|id| id == version))
        };
        let made = async || {
            let jobs = self.jobs.list(&ListParams::default()).await.ok()?.items;
            jobs.into_iter().find(of_version)
        };
        wait_for("the rotation's Job", DEADLINE, made).await
    }

    async fn event_says(&self, reason: &str) -> Result<()> {
        let words = ["-n", "shop", "get", "events", "-o", "jsonpath={.items[*].reason}"];
        let heard =
            async || self.cluster.kubectl(&words).await.ok().filter(|all| all.contains(reason)).map(drop);
        wait_for(&format!("the event {reason}"), DEADLINE, heard).await
    }
}

fn id(n: u8) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

#[tokio::test]
async fn a_registered_rotator_gets_a_job_which_ends_with_the_rotation_or_its_cancellation() -> Result<()> {
    let site = Site::new().await?;
    let made = json!({"Name": "shop/db", "ClientRequestToken": id(1), "SecretString": "old"});
    let create = async || site.call("CreateSecret", made.clone()).await.ok();
    wait_for("the server to serve", DEADLINE, create).await?;
    let rotate = |rotator: &str, n| json!({"SecretId": "shop/db", "ClientRequestToken": id(n), "RotationLambdaARN": rotator});
    let refused = site.call("RotateSecret", rotate("nobody", 2)).await.expect_err("nobody is registered");
    ensure!(refused.to_string().starts_with("AccessDeniedException"), "{refused}");
    site.call("RotateSecret", rotate("arn:aws:lambda:local-1:000000000000:function:orders", 2)).await?;
    let job = site.job(&id(2)).await?;
    let pod = job.spec.and_then(|spec| spec.template.spec).context("the Job has no pod")?;
    ensure!(
        pod.service_account_name.as_deref() == Some("tidelock-rotation"),
        "{:?}",
        pod.service_account_name
    );
    let images =
        pod.init_containers.iter().flatten().filter(|one| one.image.as_deref() == Some("registry/rotate:1"));
    ensure!(images.count() == 4, "each step is the rotator's");

    // What the rotator would do, had the Job run; then the Job ends.
    let put = json!({"SecretId": "shop/db", "ClientRequestToken": id(2), "SecretString": "new",
        "VersionStages": ["AWSPENDING"]});
    site.call("PutSecretValue", put).await?;
    let finish = json!({"SecretId": "shop/db", "VersionStage": "AWSCURRENT", "MoveToVersionId": id(2),
        "RemoveFromVersionId": id(1)});
    site.call("UpdateSecretVersionStage", finish).await?;
    let name = job.metadata.name.context("the Job has no name")?;
    site.jobs.delete(&name, &DeleteParams::background()).await?;
    site.event_says("RotationSucceeded").await?;

    site.call("RotateSecret", rotate("generate", 3)).await?;
    let job = site.job(&id(3)).await?.metadata.name.context("the Job has no name")?;
    let cancelled = site.call("CancelRotateSecret", json!({"SecretId": "shop/db"})).await?;
    ensure!(cancelled["VersionId"] == json!(id(3)), "{cancelled}");
    let gone = async || {
        let found = site.jobs.get_opt(&job).await.ok()?;
        // Without a controller of Jobs nobody takes the finalizer of one away.
        found.is_none_or(|job| job.metadata.deletion_timestamp.is_some()).then_some(())
    };
    wait_for("the cancelled Job to be deleted", DEADLINE, gone).await?;
    let described = site.call("DescribeSecret", json!({"SecretId": "shop/db"})).await?;
    ensure!(described["RotationEnabled"] == json!(false), "{described}");
    ensure!(described["VersionIdsToStages"][id(3)] == json!(["AWSPENDING"]), "{described}");
    Ok(())
}
