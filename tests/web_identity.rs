//! Programs with unmodified AWS clients and no key: the server as it ships, a process of this machine beside a real API
//! server, and boto3 and AWS's command line as PyPI has them, over HTTPS with our own CA, with a pod's own token.
//! Must not need nodes: the pods are objects that nobody runs.

#![expect(clippy::expect_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidelock::crd::ManagedSecret;
use tidelock_e2e::{Cluster, pypi, wait_for};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

const NS: &str = "tidelock";
const SHOP: &str = "shop";
const DEADLINE: Duration = Duration::from_secs(90);

/// The cluster, the server beside it, and what a pod would be given.
struct Site {
    cluster: Cluster,
    client: Client,
    folder: tempfile::TempDir,
    ports: Vec<u16>,
    server: Child,
}

async fn make<T>(api: Api<T>, value: Value) -> Result<T>
where
    T: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + DeserializeOwned,
{
    Ok(api.create(&PostParams::default(), &serde_json::from_value(value)?).await?)
}

impl Site {
    async fn new() -> Result<Self> {
        let cluster = Cluster::api_only().await?;
        let client = cluster.client();
        for name in [NS, "tidelock-rotations", SHOP] {
            make::<Namespace>(Api::all(client.clone()), json!({"metadata": {"name": name}})).await?;
        }
        for definition in tidelock::crd::definitions() {
            let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
            definitions.create(&PostParams::default(), &definition).await?;
        }
        let resources: Api<ManagedSecret> = Api::namespaced(client.clone(), SHOP);
        wait_for("the definitions to be served", DEADLINE, async || {
            resources.list(&ListParams::default()).await.ok().map(drop)
        })
        .await?;
        let secret = json!({
            "apiVersion": "tidelock.dev/v1alpha1", "kind": "ManagedSecret", "metadata": {"name": "orders-db"},
            "spec": {
                "value": {"generate": {"template": {"username": "orders"}, "key": "password"}},
                "access": [{"serviceAccount": "orders-api"}],
            },
        });
        make(resources, secret).await?;
        let mut listeners = Vec::new();
        for _ in 0..4 {
            listeners.push(TcpListener::bind("127.0.0.1:0").await?);
        }
        let ports = listeners.iter().map(|held| Ok(held.local_addr()?.port())).collect::<Result<Vec<_>>>()?;
        drop(listeners);
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("store"))?;
        let server = start(&cluster, folder.path(), &ports)?;
        Ok(Self { cluster, client, folder, ports, server })
    }

    /// Kills the server and has another take over its store.
    async fn restart(&mut self) -> Result<()> {
        self.server.kill().await?;
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), NS);
        let free = Patch::Merge(json!({"spec": {"holderIdentity": null}}));
        leases.patch("tidelock-server", &PatchParams::default(), &free).await?;
        self.server = start(&self.cluster, self.folder.path(), &self.ports)?;
        Ok(())
    }

    /// A ServiceAccount and a pod of it, with the token that kubelet would put there.
    async fn pod(&self, account: &str) -> Result<PathBuf> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), SHOP);
        make(accounts, json!({"metadata": {"name": account}})).await?;
        let pod = json!({
            "metadata": {"name": format!("{account}-0")},
            "spec": {
                "nodeName": "node-1", "serviceAccountName": account, "automountServiceAccountToken": false,
                "containers": [{"name": "main", "image": "none"}],
            },
        });
        make::<Pod>(Api::namespaced(self.client.clone(), SHOP), pod).await?;
        let bound = format!("{account}-0");
        let words = ["-n", SHOP, "create", "token", account, "--audience", "tidelock.tidelock/api"];
        let bind = ["--bound-object-kind", "Pod", "--bound-object-name", &bound];
        let token = self.cluster.kubectl(&[&words[..], &bind[..]].concat()).await?;
        let file = self.folder.path().join(account);
        fs::write(&file, token)?;
        Ok(file)
    }

    /// The environment of a program that has nothing but its ServiceAccount.
    async fn dressed(&self, account: &str, token: &Path) -> Result<Vec<(String, String)>> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), NS);
        let bundle = wait_for("the CA to be published", DEADLINE, async || {
            maps.get_opt("tidelock-ca").await.ok()??.data?.remove("ca.crt")
        })
        .await?;
        let file = self.folder.path().join("ca.crt");
        fs::write(&file, bundle)?;
        let endpoint = format!("https://localhost:{}", self.ports[2]);
        let role = format!("arn:aws:iam::000000000000:role/{SHOP}/{account}");
        let (token, bundle) = (token.display().to_string(), file.display().to_string());
        let given = [
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", endpoint.as_str()),
            ("AWS_ENDPOINT_URL_STS", &endpoint),
            ("AWS_REGION", "local-1"),
            ("AWS_DEFAULT_REGION", "local-1"),
            ("AWS_ROLE_ARN", &role),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
            ("AWS_CA_BUNDLE", &bundle),
        ];
        Ok(given.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec())
    }
}

fn start(cluster: &Cluster, folder: &Path, ports: &[u16]) -> Result<Child> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidelock"));
    command
        .args(["server", "--namespace", NS, "--pod-name", "tidelock-server-0", "--image", "none"])
        .args(["--installation", "tidelock.tidelock", "--relist-every", "2s", "--log-level", "debug"])
        .arg("--store-dir")
        .arg(folder.join("store"));
    let flags = ["--health-listen", "--webhook-listen", "--api-listen", "--node-listen"];
    for (flag, port) in flags.into_iter().zip(ports) {
        command.arg(flag).arg(format!("127.0.0.1:{port}"));
    }
    let log = fs::File::options().create(true).append(true).open(folder.join("log"))?;
    let kubeconfig = cluster.kubeconfig();
    command.env("KUBECONFIG", kubeconfig).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.kill_on_drop(true).spawn().context("the server does not start")
}

/// Runs a program with these variables and no others; its output, or what it said was wrong.
async fn run(program: &Path, words: &[&str], given: &[(String, String)]) -> Result<String, String> {
    let home = tempfile::tempdir().expect("a folder");
    let output = Command::new(program)
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", "/usr/bin:/bin")
        .envs(given.iter().cloned())
        .args(words)
        .output()
        .await
        .expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

const READ: &str = "import boto3\n\
    print(boto3.client('secretsmanager').get_secret_value(SecretId='shop/orders-db')['SecretString'])";
const COPY: &str = "import boto3\n\
    keys = boto3.Session().get_credentials().get_frozen_credentials()\n\
    print(keys.access_key, keys.secret_key, keys.token)";
/// A request that is signed in its query, sent by somebody else.
const PRESIGNED: &str = "import boto3, os, ssl, urllib.request\n\
    url = boto3.client('sts').generate_presigned_url('get_caller_identity', HttpMethod='GET')\n\
    trust = ssl.create_default_context(cafile=os.environ['AWS_CA_BUNDLE'])\n\
    print(urllib.request.urlopen(url, context=trust).read().decode())";
const TELL: [&str; 4] = ["secretsmanager", "get-secret-value", "--secret-id", "shop/orders-db"];

#[tokio::test]
async fn a_pod_reads_its_secret_with_no_key_and_its_copied_keys_end_with_it() -> Result<()> {
    let (boto3, cli) =
        (pypi::programs("boto3").await?.join("python"), pypi::programs("awscli").await?.join("aws"));
    let mut site = Site::new().await?;
    let own = site.dressed("orders-api", &site.pod("orders-api").await?).await?;
    let other = site.dressed("stranger", &site.pod("stranger").await?).await?;

    // Until the server is ready and has made the value.
    let value =
        wait_for("boto3 to read the secret", DEADLINE, async || run(&boto3, &["-c", READ], &own).await.ok())
            .await
            .with_context(|| fs::read_to_string(site.folder.path().join("log")).unwrap_or_default())?;
    let value: Value = serde_json::from_str(&value)?;
    assert_eq!(value["username"], "orders");
    let told = run(&cli, &TELL, &own).await.expect("the command line reads it as well");
    let told: Value = serde_json::from_str(&told)?;
    assert_eq!(told["SecretString"].as_str().map(serde_json::from_str).transpose()?, Some(value));
    let arn = "arn:aws:sts::000000000000:assumed-role/shop/orders-api/";
    let identity = run(&boto3, &["-c", PRESIGNED], &own).await.expect("a presigned request is answered");
    assert!(identity.contains(&format!("<Arn>{arn}")), "{identity}");

    let refused = run(&cli, &TELL, &other).await.expect_err("somebody else's secret");
    let text = "An error occurred (AccessDeniedException) when calling the GetSecretValue operation: User: \
                arn:aws:sts::000000000000:assumed-role/shop/stranger/";
    let why = " is not authorized to perform: secretsmanager:GetSecretValue on resource: shop/orders-db because no \
               identity-based policy allows the secretsmanager:GetSecretValue action";
    assert!(refused.contains(text) && refused.contains(why), "{refused}");
    let mut borrowed = other.clone();
    borrowed.iter_mut().filter(|(name, _)| name == "AWS_ROLE_ARN").for_each(|(_, role)| {
        *role = role.replace("stranger", "orders-api");
    });
    let refused = run(&cli, &TELL, &borrowed).await.expect_err("somebody else's role");
    assert!(
        refused.contains("(AccessDenied) when calling the AssumeRoleWithWebIdentity operation"),
        "{refused}"
    );
    denied_by_policy(&site, &boto3, &cli, &own).await?;
    copied_keys(&mut site, &boto3, &cli, own).await
}

/// A resource policy that somebody else puts: its Deny wins over what the resource grants.
async fn denied_by_policy(site: &Site, boto3: &Path, cli: &Path, own: &[(String, String)]) -> Result<()> {
    let warden = site.dressed("warden", &site.pod("warden").await?).await?;
    let rule = json!({
        "apiGroups": ["tidelock.dev"], "resources": ["managedsecrets/policy"], "verbs": ["readpolicy", "writepolicy"],
    });
    let role = json!({"metadata": {"name": "warden"}, "rules": [rule]});
    make::<Role>(Api::namespaced(site.client.clone(), SHOP), role).await?;
    let binding = json!({
        "metadata": {"name": "warden"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "warden"},
        "subjects": [{"kind": "ServiceAccount", "name": "warden", "namespace": SHOP}],
    });
    make::<RoleBinding>(Api::namespaced(site.client.clone(), SHOP), binding).await?;
    let policy = json!({"Version": "2012-10-17", "Statement": {
        "Effect": "Deny", "Principal": {"AWS": format!("arn:aws:iam::000000000000:role/{SHOP}/orders-api")},
        "Action": "secretsmanager:GetSecretValue", "Resource": "*",
    }})
    .to_string();
    let on = ["--secret-id", "shop/orders-db"];
    let put = [&["secretsmanager", "put-resource-policy", "--resource-policy", &policy], &on[..]].concat();
    wait_for("the policy to be put", DEADLINE, async || run(cli, &put, &warden).await.ok()).await?;
    let refused = run(boto3, &["-c", READ], own).await.expect_err("a secret that a policy denies");
    let text = "(AccessDeniedException) when calling the GetSecretValue operation: User: \
                arn:aws:sts::000000000000:assumed-role/shop/orders-api/";
    let why = "on resource: shop/orders-db with an explicit deny in a resource-based policy";
    assert!(refused.contains(text) && refused.contains(why), "{refused}");
    let shown = [&["secretsmanager", "get-resource-policy"], &on[..]].concat();
    let shown: Value = serde_json::from_str(&run(cli, &shown, &warden).await.expect("it is shown"))?;
    assert_eq!(shown["ResourcePolicy"], policy);
    let delete = [&["secretsmanager", "delete-resource-policy"], &on[..]].concat();
    run(cli, &delete, &warden).await.expect("it is deleted");
    run(boto3, &["-c", READ], own).await.expect("without the policy it is read again");
    Ok(())
}

/// Keys that were carried out of a pod: good after a restart of the server, and refused after the pod's end.
async fn copied_keys(site: &mut Site, boto3: &Path, cli: &Path, own: Vec<(String, String)>) -> Result<()> {
    let keys = run(boto3, &["-c", COPY], &own).await.expect("boto3 tells its keys");
    let keys: Vec<&str> = keys.split_whitespace().collect();
    let [id, secret, token] = keys[..] else { anyhow::bail!("{} words", keys.len()) };
    let mut copied = own;
    copied.retain(|(name, _)| name != "AWS_ROLE_ARN" && name != "AWS_WEB_IDENTITY_TOKEN_FILE");
    for (name, value) in
        [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret), ("AWS_SESSION_TOKEN", token)]
    {
        copied.push((name.to_owned(), value.to_owned()));
    }
    run(cli, &TELL, &copied).await.expect("copied keys work while the pod is there");
    site.restart().await?;
    wait_for("the keys to be good after a restart", DEADLINE, async || run(cli, &TELL, &copied).await.ok())
        .await?;

    let pods: Api<Pod> = Api::namespaced(site.client.clone(), SHOP);
    pods.delete("orders-api-0", &DeleteParams::default().grace_period(0)).await?;
    let begun = std::time::Instant::now();
    let refused = wait_for("the keys of a pod that is gone to be refused", DEADLINE, async || {
        run(cli, &TELL, &copied).await.err()
    })
    .await?;
    ensure!(refused.contains("(UnrecognizedClientException)"), "{refused}");
    let _ = writeln!(
        std::io::stdout(),
        "\nfault: copied keys of a pod | after the pod's end | refused within {:.1} s",
        begun.elapsed().as_secs_f32()
    );
    let log = fs::read_to_string(site.folder.path().join("log"))?;
    ensure!(!log.contains(secret) && !log.contains(token), "the server logs keys");
    Ok(())
}
