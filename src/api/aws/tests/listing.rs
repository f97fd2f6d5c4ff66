//! Lists: who sees what, in which order, page by page; and several values at once.

use super::*;

async fn names(api: &Api, body: Value) -> Vec<String> {
    let listed = api.ok("ListSecrets", body).await;
    let names = listed["SecretList"].as_array().unwrap().iter();
    names.map(|secret| secret["Name"].as_str().unwrap().to_owned()).collect()
}

/// Five secrets, a second apart, of which `shop/gone` is scheduled for deletion.
async fn stocked() -> Api {
    let api = api().await;
    for (name, description) in
        [("shop/b", "one and two"), ("shop/a", "an secret"), ("shop/c", "asecret"), ("shop/gone", "")]
    {
        let body = json!({"Name": name, "SecretString": name, "Description": description,
            "ClientRequestToken": TOKEN, "Tags": [{"Key": "team", "Value": name}]});
        api.ok("CreateSecret", body).await;
        api.bench.clock.advance(Duration::from_secs(1));
    }
    api.ok("DeleteSecret", json!({"SecretId": "shop/gone"})).await;
    api
}

#[tokio::test]
async fn secrets_are_listed_in_order_filtered_and_without_the_deleted() {
    let api = stocked().await;
    let check = async |body: Value, wanted: &[&str]| {
        assert_eq!(names(&api, body.clone()).await, wanted, "{body}");
    };
    check(json!({}), &["shop/b", "shop/a", "shop/c"]).await;
    check(json!({"SortOrder": "desc"}), &["shop/c", "shop/a", "shop/b"]).await;
    check(json!({"SortBy": "name"}), &["shop/a", "shop/b", "shop/c"]).await;
    let all = ["shop/a", "shop/b", "shop/c", "shop/gone"];
    check(json!({"SortBy": "name", "IncludePlannedDeletion": true}), &all).await;
    let filter = |key: &str, values: Value| json!({"Filters": [{"Key": key, "Values": values}]});
    check(filter("description", json!(["o t"])), &["shop/b"]).await;
    check(filter("description", json!(["a secret"])), &["shop/a"]).await;
    check(filter("name", json!(["shop/a", "shop/c"])), &["shop/a", "shop/c"]).await;
    check(filter("name", json!(["!shop/a"])), &["shop/b", "shop/c"]).await;
    check(filter("tag-value", json!(["shop/c"])), &["shop/c"]).await;
    check(filter("all", json!(["TWO"])), &["shop/b"]).await;
    let twice =
        json!({"Filters": [{"Key": "name", "Values": ["shop"]}, {"Key": "name", "Values": ["shop/b"]}]});
    check(twice, &["shop/b"]).await;
    api.ok("GetSecretValue", json!({"SecretId": "shop/c"})).await;
    check(json!({"SortBy": "last-accessed-date", "SortOrder": "desc", "MaxResults": 1}), &["shop/c"]).await;
    let one = api.ok("ListSecrets", filter("name", json!(["shop/b"]))).await["SecretList"][0].clone();
    assert_eq!(one["SecretVersionsToStages"], json!({TOKEN: ["AWSCURRENT"]}));
    assert_eq!((&one["Description"], &one["Tags"][0]["Key"]), (&json!("one and two"), &json!("team")));
    assert!(!one.to_string().contains("SecretString"), "{one}");
}

#[tokio::test]
async fn pages_go_on_where_the_last_one_ended_in_every_order() {
    let api = stocked().await;
    for order in ["asc", "desc"] {
        for sort in ["created-date", "last-accessed-date", "last-changed-date", "name"] {
            let body = json!({"SortBy": sort, "SortOrder": order, "IncludePlannedDeletion": true});
            let whole = names(&api, body.clone()).await;
            let (mut paged, mut next) = (Vec::new(), Value::Null);
            loop {
                let mut body = body.clone();
                (body["MaxResults"], body["NextToken"]) = (json!(1), next);
                let page = api.ok("ListSecrets", body).await;
                paged.push(page["SecretList"][0]["Name"].as_str().unwrap().to_owned());
                assert_eq!(page["SecretList"].as_array().unwrap().len(), 1);
                next = page.get("NextToken").cloned().unwrap_or_default();
                if next.is_null() {
                    break;
                }
                assert!(paged.len() < 10, "no end: {paged:?}");
            }
            assert_eq!(paged, whole, "{sort} {order}");
        }
    }
    let token = api.ok("ListSecrets", json!({"MaxResults": 1})).await["NextToken"].clone();
    let wrong = told("InvalidNextTokenException", "The NextToken value is invalid.");
    for body in [
        json!({"NextToken": "garbage!"}),
        json!({"NextToken": "Z2FyYmFnZQ"}),
        json!({"NextToken": token, "SortBy": "name"}),
        json!({"NextToken": token, "SortOrder": "desc"}),
    ] {
        assert_eq!(api.error("ListSecrets", body).await, wrong);
    }
    assert_eq!(
        api.error("ListSecretVersionIds", json!({"SecretId": "shop/a", "NextToken": token})).await,
        wrong
    );
}

#[tokio::test]
async fn filters_out_of_the_model_are_told_in_its_words() {
    let api = api().await;
    let check = async |filters: Value, kind: &str, message: &str| {
        let (found, text) = api.error("ListSecrets", json!({"Filters": filters})).await;
        assert_eq!(found, kind, "{text}");
        assert!(text.contains(message), "{text}");
    };
    let set = "[description, name, tag-key, tag-value, primary-region, owning-service, all]";
    let text = format!(
        "Value 'x' at 'filters.1.member.key' failed to satisfy constraint: Member must satisfy enum value set: {set}"
    );
    check(json!([{"Key": "x", "Values": ["a"]}]), "ValidationException", &text).await;
    let text = "Value '[a,b]' at 'filters.1.member.values' failed to satisfy constraint: Member must satisfy constraint: \
                [Member must have length less than or equal to 512, Member must have length greater than or equal to \
                0, Member must satisfy regular expression pattern: ^\\!?[a-zA-Z0-9 :_@\\/\\+\\=\\.\\-\\!]*$]";
    check(json!([{"Key": "name", "Values": ["a,b"]}]), "ValidationException", text).await;
    check(json!([{"Values": ["a"]}]), "InvalidParameterException", "Key").await;
    check(json!([{"Key": "name"}]), "InvalidParameterException", "Values").await;
    check(json!([7]), "SerializationException", "'filters.1.member'").await;
    check(json!([null]), "SerializationException", "NULL_VALUE").await;
    let many: Vec<_> = (0..11).map(|_| json!({"Key": "name", "Values": ["a"]})).collect();
    check(json!(many), "ValidationException", "length less than or equal to 10").await;
}

#[tokio::test]
async fn who_may_not_list_learns_nothing() {
    let api = stocked().await;
    api.bench.tokens.add("stranger", AUDIENCE, &account("else", "stranger", None));
    let text = "User: arn:aws:sts::000000000000:assumed-role/else/stranger/token is not authorized to perform: secretsmanager:ListSecrets \
                because no identity-based policy allows the secretsmanager:ListSecrets action";
    for (operation, body) in [
        ("ListSecrets", json!({})),
        ("BatchGetSecretValue", json!({"Filters": [{"Key": "name", "Values": ["shop"]}]})),
    ] {
        let answer = api.call_raw("stranger", operation, body.to_string()).await;
        assert_eq!(answer.error(), told("AccessDeniedException", text), "{operation}");
    }
    let answer =
        api.call_raw("stranger", "ListSecretVersionIds", json!({"SecretId": "shop/a"}).to_string()).await;
    assert!(answer.error().1.contains("secretsmanager:ListSecretVersionIds on resource: shop/a"));
}

#[tokio::test]
async fn versions_are_listed_with_their_stages_and_those_without_only_when_asked() {
    let api = api().await;
    let arn = api.create("shop/db", "0").await["ARN"].clone();
    for n in 1..=3 {
        api.bench.clock.advance(Duration::from_secs(1));
        let put =
            json!({"SecretId": "shop/db", "SecretString": n.to_string(), "ClientRequestToken": token(n)});
        api.ok("PutSecretValue", put).await;
    }
    let shown = api.ok("ListSecretVersionIds", json!({"SecretId": "shop/db"})).await;
    let version = |n: u8, stage: &str, at: f64| {
        json!({"VersionId": token(n), "VersionStages": [stage], "CreatedDate": at,
            "KmsKeyIds": ["DefaultEncryptionKey"]})
    };
    let wanted = [version(2, "AWSPREVIOUS", 1_893_456_002.250), version(3, "AWSCURRENT", 1_893_456_003.250)];
    assert_eq!(shown, json!({"ARN": arn, "Name": "shop/db", "Versions": wanted}));
    // Each version has a day of its own on which it was last read.
    api.ok("GetSecretValue", json!({"SecretId": "shop/db", "VersionStage": "AWSPREVIOUS"})).await;
    api.bench.clock.advance(Duration::from_secs(86_400));
    api.ok("GetSecretValue", json!({"SecretId": "shop/db"})).await;
    let shown = api.ok("ListSecretVersionIds", json!({"SecretId": "shop/db"})).await;
    let read =
        shown["Versions"].as_array().unwrap().iter().map(|version| version["LastAccessedDate"].as_f64());
    assert_eq!(read.collect::<Vec<_>>(), [Some(1_893_456_000.0), Some(1_893_542_400.0)]);
    let (mut ids, mut next) = (Vec::new(), Value::Null);
    for _ in 0..4 {
        let body =
            json!({"SecretId": "shop/db", "IncludeDeprecated": true, "MaxResults": 1, "NextToken": next});
        let page = api.ok("ListSecretVersionIds", body).await;
        ids.push(page["Versions"][0]["VersionId"].as_str().unwrap().to_owned());
        next = page.get("NextToken").cloned().unwrap_or_default();
    }
    assert_eq!((ids, next), (vec![TOKEN.to_owned(), token(1), token(2), token(3)], Value::Null));
}

#[tokio::test]
async fn a_batch_gives_what_it_can_and_says_why_not_the_rest() {
    let api = stocked().await;
    let binary = json!({"Name": "shop/bin", "SecretBinary": "AP8=", "ClientRequestToken": TOKEN});
    api.ok("CreateSecret", binary).await;
    let ids = json!(["shop/a", "shop/no", "shop/gone", "a b", "shop/bin"]);
    let body = json!({"SecretIdList": ids});
    let batch = api.ok("BatchGetSecretValue", body.clone()).await;
    let values = batch["SecretValues"].as_array().unwrap();
    assert_eq!(values.len(), 2);
    assert_eq!((&values[0]["SecretString"], &values[1]["SecretBinary"]), (&json!("shop/a"), &json!("AP8=")));
    assert_eq!(values[0]["VersionStages"], json!(["AWSCURRENT"]));
    let errors: Vec<_> = batch["Errors"].as_array().unwrap().iter().collect();
    let wanted = [
        ("shop/no", "ResourceNotFoundException", "Secrets Manager can't find the specified secret."),
        (
            "shop/gone",
            "InvalidRequestException",
            "You can't perform this operation on the secret because it was marked for deletion.",
        ),
        (
            "a b",
            "InvalidParameterException",
            "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!",
        ),
    ];
    for (error, (id, code, message)) in errors.iter().zip(wanted) {
        assert_eq!(**error, json!({"SecretId": id, "ErrorCode": code, "Message": message}));
    }
    assert_eq!(errors.len(), 3);

    let owner = account("shop", "orders-api", None);
    api.bench.rights.disallow(&owner, Operation::Reveal);
    let batch = api.ok("BatchGetSecretValue", json!({"SecretIdList": ["shop/a"]})).await;
    assert_eq!(batch["Errors"][0]["ErrorCode"], "AccessDeniedException");
    assert_eq!(batch["SecretValues"], json!([]));
}

#[tokio::test]
async fn a_batch_by_filters_goes_on_in_pages() {
    let api = stocked().await;
    let filters = json!([{"Key": "name", "Values": ["shop/"]}]);
    let first = api.ok("BatchGetSecretValue", json!({"Filters": filters, "MaxResults": 2})).await;
    let of = |batch: &Value| {
        let values = batch["SecretValues"].as_array().unwrap().iter();
        values.map(|value| value["SecretString"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of(&first), ["shop/b", "shop/a"]);
    let rest = json!({"Filters": filters, "MaxResults": 2, "NextToken": first["NextToken"]});
    let rest = api.ok("BatchGetSecretValue", rest).await;
    assert_eq!((of(&rest), rest.get("NextToken")), (vec!["shop/c".to_owned()], None));
    for body in [
        json!({}),
        json!({"SecretIdList": ["shop/a"], "Filters": filters}),
        json!({"SecretIdList": ["shop/a"], "MaxResults": 2}),
    ] {
        assert_eq!(api.error("BatchGetSecretValue", body).await.0, "InvalidParameterException");
    }
}
