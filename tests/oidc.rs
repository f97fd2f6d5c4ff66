//! A job of a CI system that has nothing but the token that its system gives it: the server as it ships beside a real API
//! server, and stock boto3. Must not need nodes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use rcgen::KeyPair;
use serde_json::{Value, json};
use tidelock::clock::{Clock as _, SystemClock};
use tidelock::crd::ManagedSecret;
use tidelock_e2e::site::{SHOP, Site, run};
use tidelock_e2e::{pypi, wait_for};

const DEADLINE: Duration = Duration::from_secs(90);
const ISSUER: &str = "https://token.actions.githubusercontent.com";
const READ: &str = "import boto3\n\
    print(boto3.client('secretsmanager').get_secret_value(SecretId='shop/orders-db')['SecretString'])";
const COPY: &str = "import boto3\n\
    keys = boto3.Session().get_credentials().get_frozen_credentials()\n\
    print(keys.access_key, keys.secret_key, keys.token)";

fn jwk(key: &KeyPair) -> Value {
    let point = key.public_key_raw();
    let (x, y) = (URL.encode(&point[1..33]), URL.encode(&point[33..]));
    json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": "ci", "x": x, "y": y})
}

fn token(key: &KeyPair, sub: &str) -> Result<String> {
    let now = SystemClock.now().as_second();
    let claims = json!({"iss": ISSUER, "aud": "tidelock", "sub": sub, "iat": now, "exp": now + 600});
    let header = Header { kid: Some("ci".into()), ..Header::new(Algorithm::ES256) };
    Ok(jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ec_der(key.serialized_der()))?)
}

#[tokio::test]
async fn a_ci_job_reads_with_its_own_token_until_the_service_account_ends() -> Result<()> {
    let boto3 = pypi::programs("boto3").await?.join("python");
    let (folder, key) = (tempfile::tempdir()?, KeyPair::generate()?);
    let rule = json!({"serviceAccount": "shop/orders-api", "claims": {"sub": ["repo:acme/orders:ref:refs/heads/*"]}});
    let issuers = json!([{
        "issuer": ISSUER, "audience": "tidelock", "jwks": {"keys": [jwk(&key)]}, "rules": [rule],
    }]);
    let file = folder.path().join("issuers.yaml");
    std::fs::write(&file, issuers.to_string())?;
    let words = ["--oidc-issuers-file", &file.display().to_string()];
    let site = Site::with(Path::new(env!("CARGO_BIN_EXE_tidelock")), &words).await?;
    let secret = json!({
        "apiVersion": "tidelock.dev/v1alpha1", "kind": "ManagedSecret", "metadata": {"name": "orders-db"},
        "spec": {"value": {"generate": {}}, "access": [{"serviceAccount": "orders-api"}]},
    });
    let secrets: Api<ManagedSecret> = Api::namespaced(site.client.clone(), SHOP);
    secrets.create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(site.client.clone(), SHOP);
    let account = serde_json::from_value(json!({"metadata": {"name": "orders-api"}}))?;
    accounts.create(&PostParams::default(), &account).await?;

    let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
    std::fs::write(&good, token(&key, "repo:acme/orders:ref:refs/heads/main")?)?;
    std::fs::write(&bad, token(&key, "repo:acme/orders:pull_request")?)?;
    let job = site.dressed("orders-api", &good).await?;
    wait_for("the job to read", DEADLINE, async || run(&boto3, &["-c", READ], &job).await.ok()).await?;
    let refused = run(&boto3, &["-c", READ], &site.dressed("orders-api", &bad).await?).await.unwrap_err();
    ensure!(refused.contains("(IDPRejectedClaim)"), "{refused}");
    let refused = run(&boto3, &["-c", READ], &site.dressed("default", &good).await?).await.unwrap_err();
    ensure!(refused.contains("(IDPRejectedClaim)"), "{refused}");

    let keys = run(&boto3, &["-c", COPY], &job).await.map_err(anyhow::Error::msg)?;
    let mut session = job.clone();
    session.retain(|(name, _)| name != "AWS_ROLE_ARN" && name != "AWS_WEB_IDENTITY_TOKEN_FILE");
    let names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
    session.extend(
        names.iter().zip(keys.split_whitespace()).map(|(name, key)| (name.to_string(), key.to_owned())),
    );
    run(&boto3, &["-c", READ], &session).await.map_err(anyhow::Error::msg)?;
    accounts.delete("orders-api", &DeleteParams::default()).await?;
    let said = wait_for("the session to end with its account", Duration::from_secs(10), async || {
        run(&boto3, &["-c", READ], &session).await.err()
    })
    .await?;
    ensure!(said.contains("(UnrecognizedClientException)"), "{said}");
    let refused = run(&boto3, &["-c", READ], &job).await.unwrap_err();
    ensure!(refused.contains("(IDPRejectedClaim)"), "{refused}");
    let log = site.log()?;
    ensure!(!log.contains(&std::fs::read_to_string(&good)?), "the server logs a token");
    Ok(())
}
