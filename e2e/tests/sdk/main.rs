//! Programs with an unmodified SDK in pods of a real cluster: boto3 as PyPI has it, one annotation, and no key anywhere.
//! What the webhook writes is judged by what such a program then can do, and by what it cannot.

#![expect(clippy::print_stdout, reason = "a test ends at the first surprise, and prints its figures")]

mod stage;

use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};
use stage::{Stage, annotated};
use tidelock_e2e::shop::{NAMESPACE, PATIENCE};

const FILE: &str = "/run/tidelock/orders-db/value";
const ARN: &str = "arn:aws:sts::000000000000:assumed-role/shop";

#[tokio::test(flavor = "multi_thread")]
async fn pods_with_stock_boto3_live_by_one_annotation() {
    let stage = Stage::open().await.unwrap();
    a_pod_reads_its_secret_and_reaches_nothing_else(&stage).await.unwrap();
    another_account_is_refused_in_the_words_of_aws(&stage).await.unwrap();
    a_profile_stands_beside_an_identity_of_ones_own(&stage).await.unwrap();
    copied_keys_end_with_their_pod(&stage).await.unwrap();
    an_identity_of_ones_own_is_kept(&stage).await.unwrap();
    trust_outlives_the_agent_and_follows_the_authority(&stage).await.unwrap();
    a_token_of_an_issuer_that_the_chart_names_becomes_keys(&stage).await.unwrap();
    no_name_of_aws_was_asked_for(&stage).await.unwrap();
}

/// Whether the caller has the role of this ServiceAccount; boto3 chooses the name of the session.
fn is_of(read: &Value, account: &str) -> bool {
    read["who"].as_str().is_some_and(|who| who.starts_with(&format!("{ARN}/{account}/")))
}

async fn a_pod_reads_its_secret_and_reaches_nothing_else(stage: &Stage) -> Result<()> {
    let mut reader = stage.pod("reader", "orders-db", annotated("true"));
    reader["metadata"]["annotations"]["tidelock.dev/inject"] = json!("orders-db");
    stage.shop.apply(&[reader]).await?;
    stage.shop.running("reader").await?;
    stage.fence("reader").await?;
    let environment = stage.says("reader", &["environment"]).await?;
    assert!(environment.get("AWS_ACCESS_KEY_ID").is_none() && environment.get("AWS_ENDPOINT_URL").is_none());
    let read = stage.says("reader", &["read", "environment"]).await?;
    assert!(is_of(&read, "orders-db"), "{read}");
    assert_eq!(read["value"], stage.says("reader", &["file", FILE]).await?["text"]);
    assert_eq!(stage.fenced_off().await?, 0, "boto3 wanted to go somewhere else");
    // Had it wanted to, it would have been seen.
    let places = ["elsewhere", "10.96.0.1:443", "192.0.2.1:443"];
    assert_eq!(stage.says("reader", &places).await?["reached"], json!([]));
    assert!(stage.fenced_off().await? > 0, "the fence does not count");

    let trust = stage.says("reader", &["trust"]).await?;
    println!("bundle: {} authorities, {} bytes", trust["authorities"], trust["bytes"]);
    assert!(trust["authorities"].as_u64() > Some(100));
    Ok(())
}

async fn another_account_is_refused_in_the_words_of_aws(stage: &Stage) -> Result<()> {
    stage.shop.apply(&[stage.pod("stranger", "stranger", annotated("true"))]).await?;
    stage.shop.running("stranger").await?;
    stage.fence("stranger").await?;
    let read = stage.says("stranger", &["read", "environment"]).await?;
    assert_eq!(read["code"], "AccessDeniedException", "{read}");
    let who = read["who"].as_str().unwrap_or_default();
    assert!(is_of(&read, "stranger"), "{read}");
    let text = format!(
        "User: {who} is not authorized to perform: secretsmanager:GetSecretValue on resource: \
         shop/orders-db because no identity-based policy allows the secretsmanager:GetSecretValue action"
    );
    assert_eq!(read["message"], text);
    Ok(())
}

async fn a_profile_stands_beside_an_identity_of_ones_own(stage: &Stage) -> Result<()> {
    let own = json!([{"name": "AWS_ROLE_ARN", "value": "arn:aws:iam::111111111111:role/own"},
        {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/own/token"}, {"name": "AWS_REGION", "value": "eu-west-1"}]);
    let mut pod = stage.pod("profiled", "orders-db", annotated("profile"));
    pod["spec"]["containers"][0]["env"] = own;
    stage.shop.apply(&[pod]).await?;
    stage.shop.running("profiled").await?;
    stage.fence("profiled").await?;
    let before = stage.fenced_off().await?;
    let environment = stage.says("profiled", &["environment"]).await?;
    let expected = json!({"AWS_ROLE_ARN": "arn:aws:iam::111111111111:role/own",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/own/token", "AWS_REGION": "eu-west-1"});
    assert_eq!(environment, expected);
    for how in ["profile", "session"] {
        let read = stage.says("profiled", &["read", how]).await?;
        assert!(is_of(&read, "orders-db"), "{how}: {read}");
        assert!(read["value"].as_str().is_some_and(|value| value.contains("password")), "{how}: {read}");
    }
    assert_eq!(stage.fenced_off().await?, before, "boto3 wanted to go somewhere else");
    Ok(())
}

async fn copied_keys_end_with_their_pod(stage: &Stage) -> Result<()> {
    let keys = stage.says("reader", &["keys"]).await?.to_string();
    // The pod `profiled` has a way to the server and nothing to read the secret by in its environment.
    assert!(stage.says("profiled", &["steal", &keys, stage::SERVER]).await?["value"].is_string());
    stage.shop.cluster.kubectl(&["-n", NAMESPACE, "delete", "pod", "reader"]).await?;
    let gone = Instant::now();
    let refused = stage.says("profiled", &["until-refused", &keys, stage::SERVER]).await?;
    println!(
        "copied keys: refused {:.1} s after their pod was gone: {refused}",
        gone.elapsed().as_secs_f64()
    );
    let codes = ["UnrecognizedClientException", "ExpiredTokenException"];
    assert!(codes.iter().any(|code| refused["code"] == *code), "{refused}");
    assert!(refused["seconds"].as_f64() < Some(10.0), "{refused}");
    Ok(())
}

async fn an_identity_of_ones_own_is_kept(stage: &Stage) -> Result<()> {
    let mut pod = stage.pod("keeper", "orders-db", annotated("true"));
    pod["spec"]["containers"][0]["env"] = json!([{"name": "AWS_PROFILE", "value": "prod"}]);
    let (metadata, spec) = (pod["metadata"].clone(), pod["spec"].clone());
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "keepers", "namespace": NAMESPACE},
        "spec": {"selector": {"matchLabels": {"app": "keepers"}}, "template": {
            "metadata": {"labels": {"app": "keepers"}, "annotations": metadata["annotations"]}, "spec": spec,
        }},
    });
    let warned = stage.warnings(&pod).await?;
    assert!(warned.contains("AwsIdentityPresent: the pod has AWS_PROFILE in container app"), "{warned}");
    stage.shop.running("keeper").await?;
    assert_eq!(stage.says("keeper", &["environment"]).await?, json!({"AWS_PROFILE": "prod"}));
    let made = stage.object("pod", "keeper").await?;
    assert_eq!(made["metadata"]["annotations"]["tidelock.dev/aws-sdk-status"], "AwsIdentityPresent");
    assert!(!made["spec"]["volumes"].to_string().contains("tidelock"), "{made}");

    stage.shop.apply(&[deployment]).await?;
    let told = async || {
        let sets =
            stage.shop.cluster.kubectl(&["-n", NAMESPACE, "get", "replicaset", "-o", "name"]).await.ok()?;
        let set = sets.lines().find_map(|name| name.split_once('/'))?.1.to_owned();
        let events = stage.shop.cluster.events(NAMESPACE, &set).await.ok()?;
        events.contains("Warning AwsIdentityPresent").then_some(())
    };
    stage.shop.cluster.wait_for("an event on the ReplicaSet", PATIENCE, told).await
}

/// The agent's authorities are changed where it reads them, with no server to put them back.
async fn trust_outlives_the_agent_and_follows_the_authority(stage: &Stage) -> Result<()> {
    let before = stage.says("stranger", &["trust"]).await?;
    stage.kill_agent().await?;
    let after = stage.says("stranger", &["trust"]).await?;
    assert_eq!(after["link"], before["link"], "nothing has changed, so nothing was written");

    stage.scale_server(0).await?;
    let agent = stage.agent().await?;
    let another = stage.add_authority().await?;
    stage.hand_authorities_to_agent().await?;
    gets_to_trust(stage, &another).await?;
    assert_eq!(stage.agent().await?, agent, "the agent that was there has followed");
    let third = stage.add_authority().await?;
    stage.replace_agent().await?;
    gets_to_trust(stage, &third).await?;
    stage.scale_server(1).await?;
    let reads = async || {
        let read = stage.says("profiled", &["read", "profile"]).await.ok()?;
        read["value"].is_string().then_some(())
    };
    stage.shop.cluster.wait_for("the secret to be read again", PATIENCE, reads).await
}

/// The file changes under the pod, which runs on.
async fn gets_to_trust(stage: &Stage, authority: &str) -> Result<()> {
    let holds_it = async || {
        let trust = stage.says("stranger", &["trust"]).await.ok()?;
        trust["text"].as_str()?.replace(['\n', '\r'], "").contains(authority).then_some(())
    };
    stage.shop.cluster.wait_for("the other authority in the pod's file", PATIENCE, holds_it).await
}

/// The cluster itself is the issuer: discovery, key set and certificates are an API server's own.
async fn a_token_of_an_issuer_that_the_chart_names_becomes_keys(stage: &Stage) -> Result<()> {
    let role = "arn:aws:iam::000000000000:role/shop/orders-db";
    stage.trust_issuer("jobs", "shop/orders-db", "system:serviceaccount:shop:ci").await?;
    let good = stage.token("ci", "jobs").await?;
    let read = stage.says("stranger", &["exchange", &good, role]).await?;
    assert!(read["value"].as_str().is_some_and(|value| value.contains("password")), "{read}");
    assert_eq!(read["provider"], stage::ISSUER);
    assert_eq!(read["subject"], "system:serviceaccount:shop:ci");
    for (token, role) in [
        (stage.token("stranger", "jobs").await?, role),
        (stage.token("ci", "others").await?, role),
        (good, "arn:aws:iam::000000000000:role/shop/stranger"),
    ] {
        let refused = stage.says("stranger", &["exchange", &token, role]).await?;
        assert_eq!(refused["code"], "IDPRejectedClaim", "{refused}");
    }
    // A pod's own token is of the same issuer, and the cluster's for all that.
    let read = stage.says("profiled", &["read", "profile"]).await?;
    assert!(is_of(&read, "orders-db") && read["value"].is_string(), "{read}");
    Ok(())
}

async fn no_name_of_aws_was_asked_for(stage: &Stage) -> Result<()> {
    let log = stage.names_asked_for().await?;
    let of_aws: Vec<&str> = log.lines().filter(|line| line.contains("amazonaws")).collect();
    assert!(of_aws.is_empty(), "{of_aws:?}");
    assert!(log.contains("tidelock-server."), "the DNS server's log tells of no name: {log}");
    Ok(())
}
