//! Resource policies over the wire: put, read, validated, deleted, and what callers are told of them.

use super::*;

fn named(effect: &str, role: &str, action: &str) -> String {
    let principal = format!("arn:aws:iam::000000000000:role/{role}");
    json!({"Version": "2012-10-17", "Statement": [{
        "Effect": effect, "Principal": {"AWS": principal}, "Action": action, "Resource": "*",
    }]})
    .to_string()
}

#[tokio::test]
async fn a_policy_is_put_read_listed_and_deleted_under_the_name_default() {
    let api = api().await;
    let arn = api.create("shop/db", "x").await["ARN"].clone();
    let id = json!({"SecretId": "shop/db"});
    let none = json!({"ARN": arn, "Name": "shop/db", "PolicyName": "default"});
    assert_eq!(api.ok("GetResourcePolicy", id.clone()).await, none);
    assert_eq!(api.ok("DeleteResourcePolicy", id.clone()).await, none);
    assert_eq!(api.ok("ListResourcePolicies", id.clone()).await, json!({"ResourcePolicies": []}));

    let text = named("Deny", "else/stranger", "secretsmanager:GetSecretValue");
    let put = json!({"SecretId": "shop/db", "ResourcePolicy": text, "BlockPublicPolicy": true});
    assert_eq!(api.ok("PutResourcePolicy", put).await, none);
    let mut whole = none.clone();
    whole["ResourcePolicy"] = json!(text);
    assert_eq!(api.ok("GetResourcePolicy", id.clone()).await, whole);
    let listed = json!({"ResourcePolicies": [{"PolicyName": "default"}]});
    assert_eq!(api.ok("ListResourcePolicies", id.clone()).await, listed);
    assert_eq!(api.ok("DeleteResourcePolicy", id.clone()).await, none);
    assert_eq!(api.ok("GetResourcePolicy", id.clone()).await, none);

    let other = json!({"SecretId": "shop/db", "PolicyName": "other", "ResourcePolicy": text});
    assert_eq!(api.error("GetResourcePolicy", other.clone()).await.0, "ResourceNotFoundException");
    assert_eq!(api.error("DeleteResourcePolicy", other.clone()).await.0, "InvalidParameterException");
    assert_eq!(api.error("PutResourcePolicy", other).await.0, "InvalidParameterException");
    let page = json!({"SecretId": "shop/db", "NextToken": "x"});
    assert_eq!(api.error("ListResourcePolicies", page).await.0, "InvalidNextTokenException");

    let owner = account("shop", "orders-api", None);
    let body = json!({"SecretId": "shop/db", "ResourcePolicy": text});
    for (allowed, operations) in [
        (Operation::ReadPolicy, ["GetResourcePolicy", "ListResourcePolicies"].as_slice()),
        (Operation::WritePolicy, &["DeleteResourcePolicy", "PutResourcePolicy", "ValidateResourcePolicy"]),
    ] {
        api.bench.rights.disallow(&owner, allowed);
        for operation in operations {
            let (kind, message) = api.error(operation, body.clone()).await;
            assert_eq!(kind, "AccessDeniedException");
            assert!(
                message.contains(&format!("secretsmanager:{operation} on resource: shop/db")),
                "{message}"
            );
        }
    }
}

#[tokio::test]
async fn a_policy_that_cannot_be_is_refused_or_told_of() {
    let api = api().await;
    api.create("shop/db", "x").await;
    let put = |text: &str| json!({"SecretId": "shop/db", "ResourcePolicy": text, "BlockPublicPolicy": true});
    let (kind, message) = api.error("PutResourcePolicy", put("{\"Statement\": 1}")).await;
    assert_eq!(kind, "MalformedPolicyDocumentException");
    assert_eq!(message, "This resource policy is not valid: it has no Statement.");
    let public = json!({"Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}})
        .to_string();
    let text = "The BlockPublicPolicy parameter is set to true, and the resource policy did not prevent broad access \
                to the secret.";
    assert_eq!(api.error("PutResourcePolicy", put(&public)).await, told("PublicPolicyException", text));
    let locks = named("Deny", "shop/orders-api", "*");
    assert_eq!(api.error("PutResourcePolicy", put(&locks)).await.0, "MalformedPolicyDocumentException");

    let validate = |text: &str| json!({"SecretId": "shop/db", "ResourcePolicy": text});
    let passed = json!({"PolicyValidationPassed": true, "ValidationErrors": []});
    let harmless = named("Deny", "else/stranger", "*");
    assert_eq!(api.ok("ValidateResourcePolicy", validate(&harmless)).await, passed);
    assert_eq!(api.ok("ValidateResourcePolicy", json!({"ResourcePolicy": harmless})).await, passed);
    for (text, check) in [(&public, "BROAD_ACCESS"), (&locks, "CALLER_LOCKOUT")] {
        let failed = api.ok("ValidateResourcePolicy", validate(text)).await;
        assert_eq!(failed["PolicyValidationPassed"], false);
        assert_eq!(failed["ValidationErrors"][0]["CheckName"], check);
    }
    let malformed = api.error("ValidateResourcePolicy", json!({"ResourcePolicy": "x"})).await;
    assert_eq!(malformed.0, "MalformedPolicyDocumentException");
    let unknown = json!({"SecretId": "shop/none", "ResourcePolicy": harmless});
    assert_eq!(api.error("PutResourcePolicy", unknown).await.0, "ResourceNotFoundException");
}

#[tokio::test]
async fn a_policy_decides_over_the_wire_and_explains_itself() {
    let api = api().await;
    api.create("shop/db", "x").await;
    api.bench.tokens.add("friend", AUDIENCE, &account("else", "friend", None));
    let get = json!({"SecretId": "shop/db"}).to_string();
    let put = async |condition: Value| {
        let mut policy: Value =
            serde_json::from_str(&named("Allow", "else/friend", "secretsmanager:GetSecretValue")).unwrap();
        policy["Statement"][0]["Condition"] = condition;
        api.ok("PutResourcePolicy", json!({"SecretId": "shop/db", "ResourcePolicy": policy.to_string()}))
            .await
    };
    put(json!({"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}, "Bool": {"aws:SecureTransport": true}})).await;
    assert_eq!(api.call_raw("friend", "GetSecretValue", get.clone()).await.json()["SecretString"], "x");
    put(json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})).await;
    assert_eq!(api.call_raw("friend", "GetSecretValue", get).await.error().0, "AccessDeniedException");

    let explain = async |operation: &str, principal: &str| {
        let request = http::Request::post("/")
            .header("X-Amz-Target", "tidelock.ExplainAccess")
            .header("Authorization", "Bearer owner");
        let body = json!({"SecretId": "shop/db", "Principal": principal, "Operation": operation});
        api.send(request, body.to_string()).await
    };
    let explained = explain("GetSecretValue", "else/friend").await.json();
    assert_eq!(explained["Decision"], "Denied");
    assert_eq!(
        explained["Sides"][2],
        json!({
            "Side": "policy",
            "Says": "statement number 1 does not apply: its condition IpAddress on aws:SourceIp does not hold",
        })
    );
    assert_eq!(explain("GetSecretValue", "friend").await.error().0, "InvalidParameterException");
    assert_eq!(explain("GetSecretValu", "else/friend").await.error().0, "InvalidParameterException");
    assert_eq!(api.bench.audit("explain").await.len(), 1);
}

#[test]
fn the_actions_of_policies_are_operations_of_the_model() {
    use crate::api::aws::model::OPERATIONS;
    let all: Vec<_> = OPERATIONS.iter().map(|operation| operation.name).collect();
    let of_none = ["BatchGetSecretValue", "GetRandomPassword", "ListSecrets"];
    let on_a_secret: Vec<_> = all.iter().copied().filter(|name| !of_none.contains(name)).collect();
    assert_eq!(crate::policy::ACTIONS, on_a_secret);
}
