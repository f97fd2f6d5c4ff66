//! What a caller who may gets: the members of each answer, their form, and what a later call sees.

use super::*;

#[tokio::test]
async fn a_created_secret_is_read_back_with_the_members_and_dates_of_aws() {
    let api = api().await;
    let created = api.create("shop/orders-db", CANARY).await;
    let arn = created["ARN"].as_str().unwrap();
    assert!(arn.starts_with("arn:aws:secretsmanager:local-1:000000000000:secret:shop/orders-db-"), "{arn}");
    assert_eq!(created, json!({"ARN": arn, "Name": "shop/orders-db", "VersionId": TOKEN}));

    let read = api.call("GetSecretValue", json!({"SecretId": arn})).await;
    assert_eq!(read.headers["content-type"], "application/x-amz-json-1.1");
    assert_eq!(read.headers["x-amzn-requestid"].len(), 36);
    assert!(read.headers.contains_key("date"));
    assert!(read.text.contains("\"CreatedDate\":1893456000.250"), "{}", read.text);
    let mut read = read.json();
    read.as_object_mut().unwrap().remove("CreatedDate");
    let expected = json!({"ARN": arn, "Name": "shop/orders-db", "VersionId": TOKEN,
        "SecretString": CANARY, "VersionStages": ["AWSCURRENT"]});
    assert_eq!(read, expected);

    let described = api.call("DescribeSecret", json!({"SecretId": "shop/orders-db"})).await;
    assert!(described.text.contains("\"LastAccessedDate\":1893456000.000"), "{}", described.text);
    let described = described.json();
    assert_eq!(described["VersionIdsToStages"], json!({TOKEN: ["AWSCURRENT"]}));
    for absent in ["DeletedDate", "RotationEnabled", "Description", "KmsKeyId", "LastRotatedDate"] {
        assert_eq!(described.get(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn a_secret_without_a_value_has_no_version_anywhere() {
    let api = api().await;
    let body = json!({"Name": "shop/empty", "ClientRequestToken": TOKEN, "Description": "later"});
    let created = api.ok("CreateSecret", body).await;
    assert_eq!(created.get("VersionId"), None);
    let described = api.ok("DescribeSecret", json!({"SecretId": "shop/empty"})).await;
    assert_eq!(described.get("VersionIdsToStages"), None);
    assert_eq!(described["Description"], "later");
    let missing = api.error("GetSecretValue", json!({"SecretId": "shop/empty"})).await;
    let text = "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT";
    assert_eq!(missing, told("ResourceNotFoundException", text));
}

#[tokio::test]
async fn bytes_come_back_as_they_were_sent_and_text_with_every_character() {
    let api = api().await;
    let body = json!({"Name": "shop/bin", "SecretBinary": "AAEC/v8=", "ClientRequestToken": TOKEN});
    api.ok("CreateSecret", body).await;
    let read = api.ok("GetSecretValue", json!({"SecretId": "shop/bin"})).await;
    assert_eq!((&read["SecretBinary"], read.get("SecretString")), (&json!("AAEC/v8="), None));

    let text = "\"\\/\u{8}\u{c}\n\r\t\u{1f}\u{7f}é€😀{\"password\": \"x\"}";
    let body = json!({"SecretId": "shop/bin", "SecretString": text, "ClientRequestToken": token(2)});
    api.ok("PutSecretValue", body).await;
    let read = api.ok("GetSecretValue", json!({"SecretId": "shop/bin"})).await;
    assert_eq!((&read["SecretString"], read.get("SecretBinary")), (&json!(text), None));
}

#[tokio::test]
async fn the_largest_value_is_taken_however_it_is_written() {
    let api = api().await;
    let escaped = "\\u0001".repeat(Plaintext::BYTES_MAX);
    let body = format!(
        "{{\"Name\":\"shop/large\",\"ClientRequestToken\":\"{TOKEN}\",\"SecretString\":\"{escaped}\"}}"
    );
    let created = api.call_raw("owner", "CreateSecret", body).await;
    assert_eq!(created.status, StatusCode::OK, "{}", created.text);
    let read = api.ok("GetSecretValue", json!({"SecretId": "shop/large"})).await;
    assert_eq!(read["SecretString"].as_str().unwrap().len(), Plaintext::BYTES_MAX);
}

#[tokio::test]
async fn a_rotation_s_calls_move_stages_as_aws_moves_them() {
    let api = api().await;
    api.create("shop/db", "one").await;
    let (id, pending) = ("shop/db", token(2));
    let put = json!({"SecretId": id, "SecretString": "two", "ClientRequestToken": pending,
        "VersionStages": ["AWSPENDING"]});
    let answered = api.ok("PutSecretValue", put.clone()).await;
    assert_eq!(
        (&answered["VersionId"], &answered["VersionStages"]),
        (&json!(pending), &json!(["AWSPENDING"]))
    );
    // The same token with the same value is the same call once more.
    assert_eq!(api.ok("PutSecretValue", put).await, answered);
    let read = api.ok("GetSecretValue", json!({"SecretId": id, "VersionStage": "AWSPENDING"})).await;
    assert_eq!(read["SecretString"], "two");

    let moved = json!({"SecretId": id, "VersionStage": "AWSCURRENT", "MoveToVersionId": pending,
        "RemoveFromVersionId": TOKEN});
    let moved = api.ok("UpdateSecretVersionStage", moved).await;
    assert_eq!(moved, json!({"ARN": answered["ARN"], "Name": id}));
    let described = api.ok("DescribeSecret", json!({"SecretId": id})).await;
    let mut stages = described["VersionIdsToStages"][&pending].as_array().unwrap().clone();
    stages.sort_by_key(ToString::to_string);
    assert_eq!(json!(stages), json!(["AWSCURRENT", "AWSPENDING"]));
    assert_eq!(described["VersionIdsToStages"][TOKEN], json!(["AWSPREVIOUS"]));
    let read = api.ok("GetSecretValue", json!({"SecretId": id, "VersionId": TOKEN})).await;
    assert_eq!(read["SecretString"], "one");
}

#[tokio::test]
async fn random_passwords_keep_to_their_rules() {
    let api = api().await;
    let drawn = api.ok("GetRandomPassword", json!({})).await;
    assert_eq!(drawn["RandomPassword"].as_str().unwrap().len(), 32);
    let rules = json!({"PasswordLength": 4, "ExcludePunctuation": true, "ExcludeUppercase": true,
        "ExcludeLowercase": true, "IncludeSpace": true, "ExcludeCharacters": "0123"});
    for _ in 0..50 {
        let drawn = api.ok("GetRandomPassword", rules.clone()).await;
        let password = drawn["RandomPassword"].as_str().unwrap();
        assert!(password.len() == 4 && password.chars().all(|c| " 456789".contains(c)), "{password}");
        assert!(password.contains(' ') && password.chars().any(|c| c.is_ascii_digit()), "{password}");
    }
    let short = api.error("GetRandomPassword", json!({"PasswordLength": 3})).await;
    let text = "Password length is too short based on the required types.";
    assert_eq!(short, told("InvalidParameterException", text));
}

#[tokio::test]
async fn what_a_newer_client_adds_and_what_says_nothing_is_ignored() {
    let api = api().await;
    let body = json!({"Name": "shop/db", "ClientRequestToken": TOKEN, "SecretString": "x", "SecretBinary": null,
        "SomethingOfNextYear": {"a": [1]}, "ForceOverwriteReplicaSecret": false, "Tags": [], "KmsKeyId": ""});
    api.ok("CreateSecret", body).await;
}
