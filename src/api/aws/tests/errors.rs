//! What a caller is told who may not, who asks for what is not there, or who writes what cannot be.

use proptest::prelude::*;

use super::*;

#[tokio::test]
async fn constraints_are_told_in_the_words_of_aws() {
    let api = api().await;
    let check = async |operation: &str, body: Value, message: &str| {
        assert_eq!(api.error(operation, body).await, told("ValidationException", message));
    };
    check(
        "GetSecretValue",
        json!({}),
        "1 validation error detected: Value null at 'secretId' failed to satisfy constraint: Member must not be null",
    )
    .await;
    check(
        "GetSecretValue",
        json!({"SecretId": "", "VersionId": "short"}),
        "2 validation errors detected: Value '' at 'secretId' failed to satisfy constraint: Member must have length \
         greater than or equal to 1; Value 'short' at 'versionId' failed to satisfy constraint: Member must have \
         length greater than or equal to 32",
    )
    .await;
    check(
        "CreateSecret",
        json!({"Name": "x".repeat(513), "ClientRequestToken": TOKEN}),
        &format!(
            "1 validation error detected: Value '{}...' at 'name' failed to satisfy constraint: Member must have \
             length less than or equal to 512",
            "x".repeat(256)
        ),
    )
    .await;
    check(
        "CreateSecret",
        json!({"Name": "shop/a b", "ClientRequestToken": TOKEN}),
        "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!",
    )
    .await;
    check(
        "GetRandomPassword",
        json!({"PasswordLength": 4097}),
        "1 validation error detected: Value '4097' at 'passwordLength' failed to satisfy constraint: Member must \
         have value less than or equal to 4096",
    )
    .await;
    check(
        "PutSecretValue",
        json!({"SecretId": "shop/db", "SecretString": "x", "VersionStages": [], "ClientRequestToken": TOKEN}),
        "1 validation error detected: Value '[]' at 'versionStages' failed to satisfy constraint: Member must have \
         length greater than or equal to 1",
    )
    .await;
}

#[tokio::test]
async fn no_error_shows_a_value_whatever_is_wrong_with_it() {
    let api = api().await;
    api.create("shop/db", CANARY).await;
    let long = CANARY.repeat(Plaintext::BYTES_MAX);
    let put =
        |value: Value| json!({"SecretId": "shop/db", "ClientRequestToken": token(3), "SecretString": value});
    let text = "1 validation error detected: Value at 'secretString' failed to satisfy constraint: Member must have \
                length less than or equal to 65536";
    assert_eq!(
        api.error("PutSecretValue", put(json!(long[..65_537]))).await,
        told("ValidationException", text)
    );
    let bodies = [
        put(json!([CANARY])).to_string(),
        put(json!({CANARY: CANARY})).to_string(),
        json!({"SecretId": "shop/db", "ClientRequestToken": token(3), "SecretBinary": CANARY}).to_string(),
        json!({"SecretId": "shop/db", "ClientRequestToken": TOKEN, "SecretString": format!("{CANARY}2")})
            .to_string(),
        format!("{{\"SecretId\": \"shop/db\", \"SecretString\": \"{CANARY}\\ud800\"}}"),
        format!("{{\"SecretString\": \"{CANARY}\""),
        format!("\"{CANARY}\""),
        CANARY.to_owned(),
    ];
    for body in bodies {
        let answer = api.call_raw("owner", "PutSecretValue", body.clone()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(!answer.text.contains(CANARY), "{body}: {}", answer.text);
    }
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(|text| Value::from(format!("{CANARY}{text}"))),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            inner.prop_map(|inner| json!({CANARY: inner})),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_a_member_holds_it_is_taken_or_its_name_is_in_the_error(
        given in proptest::collection::btree_map(
            proptest::sample::select(vec![
                "SecretId", "Name", "ClientRequestToken", "SecretString", "SecretBinary", "VersionStages",
                "VersionStage", "PasswordLength", "ExcludeNumbers", "Tags", "KmsKeyId", "RotationToken", "Other",
            ]),
            anything(),
            0..4,
        ),
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let body = serde_json::to_vec(&given).unwrap();
        for name in ["CreateSecret", "GetSecretValue", "PutSecretValue", "GetRandomPassword"] {
            let action = Action::named(name).unwrap();
            let shape = model::members_of(name);
            // Random bytes are no object, or say nothing that is known.
            let _ = action.members(&bytes);
            let Err(error) = action.members(&body) else { continue };
            let text = serde_json::to_string(&error.body()).unwrap();
            let lower = text.to_lowercase();
            let is_named = shape.iter().any(|member| lower.contains(&member.name.to_lowercase()));
            prop_assert!(is_named, "{text}");
            for sensitive in ["SecretString", "SecretBinary"] {
                let alone = given.keys().all(|name| *name == sensitive);
                prop_assert!(!alone || !text.contains(CANARY), "{text}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_of_the_wrong_type_is_named_by_member() {
    let api = api().await;
    let wrong = api.error("GetSecretValue", json!({"SecretId": 7})).await;
    let text = "NUMBER_VALUE can not be converted to a String at 'secretId'.";
    assert_eq!(wrong, told("SerializationException", text));
    let (kind, _) = api.call_raw("owner", "GetSecretValue", "[]").await.error();
    assert_eq!(kind, "SerializationException");
}

#[tokio::test]
async fn tokens_of_requests_are_demanded_and_kept_apart() {
    let api = api().await;
    let text = "You must provide a ClientRequestToken value. We recommend a UUID-type value.";
    let missing = told("InvalidRequestException", text);
    assert_eq!(api.error("CreateSecret", json!({"Name": "shop/db", "SecretString": "x"})).await, missing);
    let created = api.create("shop/db", "one").await;
    assert_eq!(
        api.error("PutSecretValue", json!({"SecretId": "shop/db", "SecretString": "x"})).await,
        missing
    );
    // The same call once more is the same answer.
    assert_eq!(api.create("shop/db", "one").await, created);

    let arn = created["ARN"].as_str().unwrap();
    let other = json!({"Name": "shop/db", "SecretString": "two", "ClientRequestToken": TOKEN});
    let text = format!(
        "You can't use ClientRequestToken {TOKEN} because that value is already in use for a version of secret {arn}."
    );
    assert_eq!(api.error("CreateSecret", other).await, told("ResourceExistsException", &text));
    let again = json!({"Name": "shop/db", "SecretString": "one", "ClientRequestToken": token(9)});
    let text = "The operation failed because the secret shop/db already exists.";
    assert_eq!(api.error("CreateSecret", again).await, told("ResourceExistsException", text));
}

#[tokio::test]
async fn one_kind_of_value_is_given_and_no_other() {
    let api = api().await;
    let both =
        json!({"Name": "shop/db", "SecretString": "x", "SecretBinary": "eA==", "ClientRequestToken": TOKEN});
    let text = "You can't specify both a binary secret value and a string secret value in the same secret.";
    assert_eq!(api.error("CreateSecret", both).await, told("InvalidParameterException", text));
    api.create("shop/db", "x").await;
    let none = json!({"SecretId": "shop/db", "ClientRequestToken": token(2)});
    let text = "You must provide either SecretString or SecretBinary.";
    assert_eq!(api.error("PutSecretValue", none).await, told("InvalidRequestException", text));
}

#[tokio::test]
async fn what_is_not_there_is_told_in_the_words_of_aws() {
    let api = api().await;
    let check = async |body: Value, kind: &str, message: &str| {
        assert_eq!(api.error("GetSecretValue", body).await, told(kind, message));
    };
    let not_found = "ResourceNotFoundException";
    check(json!({"SecretId": "shop/no"}), not_found, "Secrets Manager can't find the specified secret.")
        .await;
    api.create("shop/db", "x").await;
    let unknown = token(8);
    let text = format!("Secrets Manager can't find the specified secret value for VersionId: {unknown}");
    check(json!({"SecretId": "shop/db", "VersionId": unknown}), not_found, &text).await;
    let text = "Secrets Manager can't find the specified secret value for staging label: AWSPENDING";
    check(json!({"SecretId": "shop/db", "VersionStage": "AWSPENDING"}), not_found, text).await;
    let text = "You provided a VersionStage that is not associated to the provided VersionId.";
    let both = json!({"SecretId": "shop/db", "VersionId": TOKEN, "VersionStage": "AWSPENDING"});
    check(both, "InvalidRequestException", text).await;
}

#[tokio::test]
async fn members_that_are_not_built_are_refused_by_name() {
    let api = api().await;
    let check = async |operation: &str, member: &str, value: Value| {
        let mut body = json!({"Name": "shop/db", "SecretId": "shop/db", "ClientRequestToken": TOKEN,
            "SecretString": "x"});
        body[member] = value;
        let text =
            format!("The parameter {member} is not supported by this version of Tidelock: leave it out.");
        assert_eq!(api.error(operation, body).await, told("InvalidParameterException", &text));
    };
    check("CreateSecret", "KmsKeyId", json!("alias/x")).await;
    check("CreateSecret", "AddReplicaRegions", json!([{"Region": "eu-west-1"}])).await;
    check("CreateSecret", "ForceOverwriteReplicaSecret", json!(true)).await;
    check("CreateSecret", "Type", json!("x")).await;
    check("CreateSecret", "CrossAccountPrimaryARN", json!("arn:aws:secretsmanager:x")).await;
    check("UpdateSecret", "KmsKeyId", json!("alias/x")).await;
    check("PutSecretValue", "RotationToken", json!("a".repeat(36))).await;
}

#[tokio::test]
async fn operations_that_do_not_exist_are_unknown() {
    let api = api().await;
    let (kind, message) = api.error("DropTables", json!({})).await;
    assert!(kind == "UnknownOperationException" && !message.contains("DropTables"), "{message}");
    let get = api.send(http::Request::get("/").header("Authorization", "Bearer owner"), "").await;
    assert_eq!(get.error().0, "UnknownOperationException");
    let other = http::Request::post("/").header("X-Amz-Target", "DynamoDB_20120810.GetSecretValue");
    assert_eq!(api.send(other, "{}").await.error().0, "UnknownOperationException");
}

#[tokio::test]
async fn nobody_is_served_without_one_token_for_this_audience() {
    let api = api().await;
    let pod = account("shop", "orders-api", Some(("orders-0", "node-1")));
    api.bench.tokens.add("mount-token", "tidelock.t/node", &pod);
    let target = || http::Request::post("/").header("X-Amz-Target", "secretsmanager.GetRandomPassword");
    let kind = async |request: http::request::Builder| {
        let answer = api.send(request, "{}").await;
        (answer.status.as_u16(), answer.error().0)
    };
    let missing = (400, "MissingAuthenticationTokenException".to_owned());
    assert_eq!(kind(target()).await, missing);
    let incomplete = (400, "IncompleteSignatureException".to_owned());
    assert_eq!(kind(target().header("Authorization", "AWS4-HMAC-SHA256 Credential=x")).await, incomplete);
    let two = target().header("Authorization", "Bearer owner").header("Authorization", "Bearer owner");
    assert_eq!(kind(two).await, missing);
    for wrong in ["unknown", "mount-token"] {
        let answer = api.call_raw(wrong, "GetRandomPassword", "{}").await;
        let (kind, message) = answer.error();
        assert_eq!((answer.status.as_u16(), kind.as_str()), (400, "UnrecognizedClientException"));
        assert!(message.starts_with("The security token included in the request is invalid."), "{message}");
        assert!(!message.contains(wrong), "{message}");
    }
    let away = api.call_raw("cluster-away", "GetRandomPassword", "{}").await;
    assert_eq!((away.status.as_u16(), away.error().0.as_str()), (500, "InternalServiceError"));
}

#[tokio::test]
async fn whoever_may_not_learns_no_more_than_that() {
    let api = api().await;
    api.create("shop/db", CANARY).await;
    api.bench.tokens.add("stranger", AUDIENCE, &account("else", "stranger", None));
    for (operation, name) in [
        ("GetSecretValue", "shop/db"),
        ("GetSecretValue", "shop/no"),
        ("DescribeSecret", "shop/db"),
        ("DescribeSecret", "shop/no"),
    ] {
        let answer = api.call_raw("stranger", operation, json!({"SecretId": name}).to_string()).await;
        let text = format!(
            "User: arn:aws:sts::000000000000:assumed-role/else/stranger/token is not authorized to perform: secretsmanager:{operation} on \
             resource: {name} because no identity-based policy allows the secretsmanager:{operation} action"
        );
        assert_eq!(answer.error(), told("AccessDeniedException", &text));
    }
    let foreign = json!({"Name": "else/db", "SecretString": "x", "ClientRequestToken": TOKEN});
    let (kind, message) = api.error("CreateSecret", foreign).await;
    assert_eq!(kind, "AccessDeniedException");
    assert!(message.contains("names here start with `shop/`"), "{message}");
}

#[tokio::test]
async fn a_body_beyond_all_values_is_not_read() {
    let api = api().await;
    let answer = api.call_raw("owner", "PutSecretValue", vec![b' '; BODY_BYTES_MAX + 1]).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
}
