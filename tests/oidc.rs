//! A job of a CI system that has nothing but the token that its system gives it: the server as it ships beside a real API
//! server, and stock boto3. Must not need nodes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jsonwebtoken::jwk::Jwk;
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
const SUB: &str = "repo:acme/orders:ref:refs/heads/main";
const READ: &str = "import boto3\n\
    print(boto3.client('secretsmanager').get_secret_value(SecretId='shop/orders-db')['SecretString'])";
const COPY: &str = "import boto3\n\
    keys = boto3.Session().get_credentials().get_frozen_credentials()\n\
    print(keys.access_key, keys.secret_key, keys.token)";

/// What stands before an RSA key of 2048 bits in PKCS#8.
const RSA_HEADER_BYTES: usize = 26;

/// An issuer's key, of the kind that most issuers have.
struct Key(EncodingKey);

impl Key {
    fn new() -> Result<Self> {
        let pair = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)?;
        Ok(Self(EncodingKey::from_rsa_der(&pair.serialized_der()[RSA_HEADER_BYTES..])))
    }

    fn jwk(&self) -> Result<Value> {
        let mut key = serde_json::to_value(Jwk::from_encoding_key(&self.0, Algorithm::RS256)?)?;
        key["kid"] = json!("ci");
        Ok(key)
    }

    fn token(&self, change: Value) -> Result<String> {
        let now = SystemClock.now().as_second();
        let mut claims = json!({"iss": ISSUER, "aud": "tidelock", "sub": SUB, "iat": now, "exp": now + 600});
        for (name, value) in change.as_object().context("claims")? {
            claims[name] = value.clone();
        }
        let header = Header { kid: Some("ci".into()), ..Header::new(Algorithm::RS256) };
        Ok(jsonwebtoken::encode(&header, &claims, &self.0)?)
    }
}

#[tokio::test]
async fn a_ci_job_reads_with_its_own_token_until_the_service_account_ends() -> Result<()> {
    let boto3 = pypi::programs("boto3").await?.join("python");
    let (folder, key) = (tempfile::tempdir()?, Key::new()?);
    let rule = json!({"serviceAccount": "shop/orders-api", "claims": {"sub": ["repo:acme/orders:ref:refs/heads/*"]}});
    let issuers = json!([{
        "issuer": ISSUER, "audience": "tidelock", "jwks": {"keys": [key.jwk()?]}, "rules": [rule],
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
    std::fs::write(&good, key.token(json!({}))?)?;
    let job = site.dressed("orders-api", &good).await?;
    wait_for("the job to read", DEADLINE, async || run(&boto3, &["-c", READ], &job).await.ok()).await?;
    let now = SystemClock.now().as_second();
    let (rejected, invalid) = ("(IDPRejectedClaim)", "(InvalidIdentityToken)");
    for (wrong, token, code) in [
        ("another branch", key.token(json!({"sub": "repo:acme/orders:pull_request"}))?, rejected),
        ("another prefix", key.token(json!({"sub": format!("evil/{SUB}")}))?, rejected),
        ("another audience", key.token(json!({"aud": "sts.amazonaws.com"}))?, rejected),
        ("an end that is over", key.token(json!({"exp": now - 120}))?, "(ExpiredTokenException)"),
        ("another issuer", key.token(json!({"iss": "https://else.example"}))?, invalid),
        ("another key", Key::new()?.token(json!({}))?, invalid),
    ] {
        std::fs::write(&bad, token)?;
        let given = site.dressed("orders-api", &bad).await?;
        let refused = run(&boto3, &["-c", READ], &given).await.err().context(wrong)?;
        ensure!(refused.contains(code), "{wrong}: {refused}");
    }
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
