//! A program outside of the cluster with a lasting key and nothing else: the server as it ships beside a real API server,
//! and stock boto3, from the key's making to its end. Must not need nodes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidelock::crd::ManagedSecret;
use tidelock::wire::aws;
use tidelock_e2e::site::{SHOP, Site, run};
use tidelock_e2e::{pypi, wait_for};

const DEADLINE: Duration = Duration::from_secs(90);
const DAY_SECONDS: u64 = 24 * 3600;
const READ: &str = "import boto3\n\
    print(boto3.client('secretsmanager').get_secret_value(SecretId='shop/orders-db')['SecretString'])";
/// The same by names that no DNS has: all of them are this machine, and TLS is told the name.
const READ_BY_NAME: &str = "import socket\n\
    found = socket.getaddrinfo\n\
    socket.getaddrinfo = lambda host, *more, **named: found('localhost', *more, **named)\n";
const WHO: &str = "import boto3\nprint(boto3.client('sts').get_caller_identity()['Arn'])";

async fn make<T>(api: Api<T>, value: Value) -> Result<T>
where
    T: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + DeserializeOwned,
{
    Ok(api.create(&PostParams::default(), &serde_json::from_value(value)?).await?)
}

/// The client of the command line, with a ServiceAccount's token.
fn asking(dressed: &[(String, String)], token: &Path) -> Result<aws::Api> {
    let given = |name: &str| dressed.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let endpoint = given("AWS_ENDPOINT_URL_SECRETS_MANAGER").unwrap_or_default();
    let ca = given("AWS_CA_BUNDLE").map(Path::new);
    Ok(aws::Api::new(endpoint, ca, aws::Credential::TokenFile(token.to_owned()))?)
}

async fn create(
    api: &aws::Api,
    account: &str,
    expires_in_seconds: Option<u64>,
) -> Result<aws::CreatedAccessKey, aws::CallError> {
    api.create_access_key(&aws::CreateAccessKey { service_account: account, expires_in_seconds }).await
}

fn kind<T>(answer: Result<T, aws::CallError>) -> String {
    match answer {
        Err(aws::CallError::Refused { kind, .. }) => kind,
        Err(other) => other.to_string(),
        Ok(_) => "done".to_owned(),
    }
}

/// The ServiceAccount as which the operator asks, with the rights that the ready role admin has.
async fn operator(site: &Site) -> Result<PathBuf> {
    let token = site.pod("operator").await?;
    let rule = json!({
        "apiGroups": ["tidelock.dev"], "resources": ["accesskeys"], "verbs": ["create", "list", "delete"],
    });
    let role = json!({"metadata": {"name": "operator"}, "rules": [rule]});
    make::<Role>(Api::namespaced(site.client.clone(), SHOP), role).await?;
    let binding = json!({
        "metadata": {"name": "operator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"},
        "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": SHOP}],
    });
    make::<RoleBinding>(Api::namespaced(site.client.clone(), SHOP), binding).await?;
    Ok(token)
}

const ACCOUNT: &str = "shop/orders-api";

/// What a program outside is given: an endpoint, the CA, and the pair.
fn outside(dressed: &[(String, String)], key: &aws::CreatedAccessKey) -> Vec<(String, String)> {
    let mut given = dressed.to_vec();
    given.retain(|(name, _)| name != "AWS_ROLE_ARN" && name != "AWS_WEB_IDENTITY_TOKEN_FILE");
    given.push(("AWS_ACCESS_KEY_ID".to_owned(), key.access_key_id.clone()));
    given.push(("AWS_SECRET_ACCESS_KEY".to_owned(), key.secret_access_key.expose().to_owned()));
    given
}

async fn refused(boto3: &Path, given: &[(String, String)], what: &str) -> Result<Duration> {
    let begun = std::time::Instant::now();
    let said = wait_for(what, DEADLINE, async || run(boto3, &["-c", READ], given).await.err()).await?;
    ensure!(said.contains("(UnrecognizedClientException)"), "{what}: {said}");
    Ok(begun.elapsed())
}

async fn by_names_of_ones_own(boto3: &Path, given: &[(String, String)], port: u16) -> Result<()> {
    let program = format!("{READ_BY_NAME}{READ}");
    for (name, is_ours) in
        [("secrets.example.org", true), ("127.0.0.1", true), ("example.org", false), ("127.0.0.2", false)]
    {
        let mut given = given.to_vec();
        given.retain(|(known, _)| !known.starts_with("AWS_ENDPOINT_URL"));
        let endpoint = format!("https://{name}:{port}");
        given.push(("AWS_ENDPOINT_URL_SECRETS_MANAGER".to_owned(), endpoint));
        given.push(("AWS_MAX_ATTEMPTS".to_owned(), "1".to_owned()));
        let ended = run(boto3, &["-c", &program], &given).await;
        let refused = ended.err().unwrap_or_default();
        ensure!(refused.contains("SSL validation failed") != is_ours, "{name}: {refused}");
        ensure!(refused.is_empty() == is_ours, "{name}: {refused}");
    }
    Ok(())
}

#[tokio::test]
async fn a_program_outside_reads_with_a_key_until_it_is_revoked_or_its_account_ends() -> Result<()> {
    let boto3 = pypi::programs("boto3").await?.join("python");
    let words = ["--api-name", "secrets.example.org", "--api-name", "127.0.0.1"];
    let mut site = Site::with(Path::new(env!("CARGO_BIN_EXE_tidelock")), &words).await?;
    let secret = json!({
        "apiVersion": "tidelock.dev/v1alpha1", "kind": "ManagedSecret", "metadata": {"name": "orders-db"},
        "spec": {"value": {"generate": {}}, "access": [{"serviceAccount": "orders-api"}]},
    });
    make::<ManagedSecret>(Api::namespaced(site.client.clone(), SHOP), secret).await?;
    let own = site.dressed("orders-api", &site.pod("orders-api").await?).await?;
    wait_for("the secret to be made", DEADLINE, async || run(&boto3, &["-c", READ], &own).await.ok()).await?;
    let (token, stranger) = (operator(&site).await?, site.pod("stranger").await?);
    let operator = asking(&own, &token)?;
    let no = "AccessDeniedException";
    assert_eq!(kind(create(&asking(&own, &stranger)?, ACCOUNT, None).await), no);
    assert_eq!(kind(create(&operator, "tidelock/default", None).await), no, "a role in another namespace");

    let keys =
        [create(&operator, ACCOUNT, None).await?, create(&operator, ACCOUNT, Some(DAY_SECONDS)).await?];
    assert_eq!(kind(create(&operator, ACCOUNT, None).await), "LimitExceededException");
    wait_for("the keys to be counted on the server's rounds", DEADLINE, async || {
        let count =
            async |state| site.metric(&format!("tidelock_access_keys{{state=\"{state}\"}}")).await.ok();
        (count("good").await? == 1.0 && count("expiring").await? == 1.0).then_some(())
    })
    .await?;
    let given = keys.each_ref().map(|key| outside(&own, key));
    for given in &given {
        run(&boto3, &["-c", READ], given).await.expect("boto3 reads with the key");
    }
    let said = run(&boto3, &["-c", WHO], &given[0]).await.expect("it is told who it is");
    by_names_of_ones_own(&boto3, &given[0], site.port()).await?;
    let id = keys[0].access_key_id.as_str();
    ensure!(said.trim().ends_with(&format!("assumed-role/shop/orders-api/{id}")), "{said}");
    wait_for("the last use to be shown", DEADLINE, async || {
        let keys = operator.list_access_keys(SHOP).await.ok()?.access_keys;
        (keys.len() == 2 && keys.iter().all(|key| key.last_used.is_some())).then_some(())
    })
    .await?;

    site.restart().await?;
    wait_for("the key to be good after a restart", DEADLINE, async || {
        run(&boto3, &["-c", READ], &given[0]).await.ok()
    })
    .await?;
    asking(&own, &token)?.revoke_access_key(id).await?;
    let said = run(&boto3, &["-c", READ], &given[0]).await.expect_err("a key that is revoked");
    ensure!(said.contains("(UnrecognizedClientException)"), "{said}");
    run(&boto3, &["-c", READ], &given[1]).await.expect("the other key is good");

    let accounts: Api<ServiceAccount> = Api::namespaced(site.client.clone(), SHOP);
    accounts.delete("orders-api", &DeleteParams::default()).await?;
    let took = refused(&boto3, &given[1], "the key of an account that is gone to be refused").await?;
    ensure!(took < Duration::from_secs(10), "after {took:?}");
    make(accounts, json!({"metadata": {"name": "orders-api"}})).await?;
    // A server that was told that the account is gone asks no more.
    site.restart().await?;
    site.ready().await?;
    refused(&boto3, &given[1], "the key of an earlier account of that name to be refused").await?;
    let log = site.log()?;
    for key in &keys {
        let secret = key.secret_access_key.expose();
        ensure!(secret.len() == 40 && !log.contains(secret), "the server logs a key's secret");
    }
    Ok(())
}
