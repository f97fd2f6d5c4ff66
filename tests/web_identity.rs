//! Programs with unmodified AWS clients and no key: the server as it ships, a process of this machine beside a real API
//! server, and boto3 and AWS's command line as PyPI has them, over HTTPS with our own CA, with a pod's own token.
//! Must not need nodes: the pods are objects that nobody runs.

#![expect(clippy::expect_used, reason = "a test ends at the first surprise")]

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidelock::crd::ManagedSecret;
use tidelock_e2e::site::{SHOP, Site, run};
use tidelock_e2e::{pypi, wait_for};

const DEADLINE: Duration = Duration::from_secs(90);

async fn make<T>(api: Api<T>, value: Value) -> Result<T>
where
    T: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + DeserializeOwned,
{
    Ok(api.create(&PostParams::default(), &serde_json::from_value(value)?).await?)
}

/// With a secret that one ServiceAccount may read.
async fn site() -> Result<Site> {
    let site = Site::new(Path::new(env!("CARGO_BIN_EXE_tidelock"))).await?;
    let secret = json!({
        "apiVersion": "tidelock.dev/v1alpha1", "kind": "ManagedSecret", "metadata": {"name": "orders-db"},
        "spec": {
            "value": {"generate": {"template": {"username": "orders"}, "key": "password"}},
            "access": [{"serviceAccount": "orders-api"}],
        },
    });
    make::<ManagedSecret>(Api::namespaced(site.client.clone(), SHOP), secret).await?;
    Ok(site)
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
    let mut site = site().await?;
    let own = site.dressed("orders-api", &site.pod("orders-api").await?).await?;
    let other = site.dressed("stranger", &site.pod("stranger").await?).await?;

    // Until the server is ready and has made the value.
    let value =
        wait_for("boto3 to read the secret", DEADLINE, async || run(&boto3, &["-c", READ], &own).await.ok())
            .await
            .with_context(|| site.log().unwrap_or_default())?;
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
    let log = site.log()?;
    ensure!(!log.contains(secret) && !log.contains(token), "the server logs keys");
    Ok(())
}
