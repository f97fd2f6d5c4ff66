//! Secrets through their life: updated, tagged, deleted, restored; and those that a custom resource owns.

use super::*;

const MARKED: &str = "You can't perform this operation on the secret because it was marked for deletion.";

#[tokio::test]
async fn an_update_changes_description_value_or_both() {
    let api = api().await;
    let arn = api.create("shop/db", "one").await["ARN"].clone();
    let update = |n: u8, rest: Value| {
        let mut body = json!({"SecretId": "shop/db", "ClientRequestToken": token(n)});
        body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        body
    };
    let only_text = api.ok("UpdateSecret", update(1, json!({"Description": "orders"}))).await;
    assert_eq!(only_text, json!({"ARN": arn, "Name": "shop/db"}));
    let both = json!({"Description": "orders 2", "SecretString": "two", "KmsKeyId": ""});
    let both = api.ok("UpdateSecret", update(2, both)).await;
    assert_eq!(both, json!({"ARN": arn, "Name": "shop/db", "VersionId": token(2)}));
    let found = api.ok("DescribeSecret", json!({"SecretId": "shop/db"})).await;
    assert_eq!(found["Description"], "orders 2");
    assert_eq!(found["VersionIdsToStages"], json!({token(2): ["AWSCURRENT"], TOKEN: ["AWSPREVIOUS"]}));

    // The same token with the same value succeeds (recorded), though documents say otherwise; with another it fails.
    let again = api.ok("UpdateSecret", update(2, json!({"SecretString": "two"}))).await;
    assert_eq!(again, both);
    let text = format!(
        "You can't use ClientRequestToken {} because that value is already in use for a version of secret {}.",
        token(2),
        arn.as_str().unwrap()
    );
    let other = api.error("UpdateSecret", update(2, json!({"SecretString": "three"}))).await;
    assert_eq!(other, told("ResourceExistsException", &text));
    let text = "You must provide a ClientRequestToken value. We recommend a UUID-type value.";
    let missing = api.error("UpdateSecret", json!({"SecretId": "shop/db", "SecretString": "x"})).await;
    assert_eq!(missing, told("InvalidRequestException", text));
    let unknown =
        api.error("UpdateSecret", json!({"SecretId": "shop/no", "ClientRequestToken": TOKEN})).await;
    assert_eq!(unknown.0, "ResourceNotFoundException");
}

#[tokio::test]
async fn an_update_needs_the_right_to_each_thing_that_it_changes() {
    let api = api().await;
    api.create("shop/db", "one").await;
    let owner = account("shop", "orders-api", None);
    let body = json!({"SecretId": "shop/db", "ClientRequestToken": token(2), "Description": "x", "SecretString": "y"});
    for operation in [Operation::Update, Operation::Put] {
        api.bench.rights.disallow(&owner, operation);
        let (kind, message) = api.error("UpdateSecret", body.clone()).await;
        assert_eq!(kind, "AccessDeniedException");
        assert!(message.contains("secretsmanager:UpdateSecret on resource: shop/db"), "{message}");
        api.bench.rights.allow(&owner, operation);
    }
    api.ok("UpdateSecret", body).await;
}

#[tokio::test]
async fn tags_come_and_go_and_an_empty_list_stays() {
    let api = api().await;
    let tags = json!([{"Key": "team", "Value": "orders"}, {"Key": "env", "Value": ""}]);
    let body = json!({"Name": "shop/db", "SecretString": "x", "ClientRequestToken": TOKEN, "Tags": tags});
    api.ok("CreateSecret", body).await;
    let tags = async || api.ok("DescribeSecret", json!({"SecretId": "shop/db"})).await["Tags"].clone();
    assert_eq!(tags().await, json!([{"Key": "env", "Value": ""}, {"Key": "team", "Value": "orders"}]));
    let more = json!([{"Key": "team", "Value": "shop"}, {"Key": "tier", "Value": "1"}]);
    assert_eq!(api.ok("TagResource", json!({"SecretId": "shop/db", "Tags": more})).await, json!({}));
    let gone = json!({"SecretId": "shop/db", "TagKeys": ["env", "tier", "never-there"]});
    assert_eq!(api.ok("UntagResource", gone).await, json!({}));
    assert_eq!(tags().await, json!([{"Key": "team", "Value": "shop"}]));
    api.ok("UntagResource", json!({"SecretId": "shop/db", "TagKeys": ["team"]})).await;
    assert_eq!(tags().await, json!([]), "an empty list after the last one (recorded)");
    api.create("shop/never", "x").await;
    let never = api.ok("DescribeSecret", json!({"SecretId": "shop/never"})).await;
    assert!(never.get("Tags").is_none(), "{never}");
}

#[tokio::test]
async fn tags_that_cannot_be_are_refused() {
    let api = api().await;
    api.create("shop/db", "x").await;
    let error =
        async |tags: Value| api.error("TagResource", json!({"SecretId": "shop/db", "Tags": tags})).await;
    let many: Vec<_> = (0..51).map(|n| json!({"Key": n.to_string(), "Value": "x"})).collect();
    let text = "A secret can have up to 50 tags, this would make 51.";
    assert_eq!(error(json!(many)).await, told("InvalidParameterException", text));
    assert_eq!(error(json!([{"Key": "aws:x", "Value": "x"}])).await.0, "InvalidParameterException");
    assert_eq!(
        error(json!([{"Value": "x"}])).await,
        told("InvalidParameterException", "Each tag needs a Key.")
    );
    let text = format!(
        "1 validation error detected: Value '{}' at 'tags.2.member.key' failed to satisfy constraint: Member must \
         have length less than or equal to 128",
        "k".repeat(129)
    );
    let long = json!([{"Key": "a", "Value": "b"}, {"Key": "k".repeat(129), "Value": "x"}]);
    assert_eq!(error(long).await, told("ValidationException", &text));

    let owner = account("shop", "orders-api", None);
    api.bench.rights.disallow(&owner, Operation::Tag);
    let tagged =
        json!({"Name": "shop/new", "ClientRequestToken": TOKEN, "Tags": [{"Key": "a", "Value": "b"}]});
    let (kind, message) = api.error("CreateSecret", tagged).await;
    assert!(kind == "AccessDeniedException" && message.contains("TagResource"), "{message}");
    let text = "Secrets Manager can't find the specified secret.";
    assert_eq!(
        api.error("DescribeSecret", json!({"SecretId": "shop/new"})).await,
        told("ResourceNotFoundException", text)
    );
}

#[tokio::test]
async fn a_deleted_secret_is_refused_hidden_and_restored() {
    let api = api().await;
    let arn = api.create("shop/db", "one").await["ARN"].clone();
    let id = json!({"SecretId": "shop/db"});
    let deleted = api.ok("DeleteSecret", json!({"SecretId": "shop/db", "RecoveryWindowInDays": 7})).await;
    // 2030-01-08T00:00:00.250Z
    assert_eq!(deleted, json!({"ARN": arn, "Name": "shop/db", "DeletionDate": 1_894_060_800.250}));
    let marked = told("InvalidRequestException", MARKED);
    let with = |rest: Value| {
        let mut body = id.clone();
        body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        body
    };
    for (operation, rest) in [
        ("GetSecretValue", json!({})),
        ("PutSecretValue", json!({"SecretString": "x", "ClientRequestToken": token(2)})),
        ("UpdateSecret", json!({"Description": "x", "ClientRequestToken": token(2)})),
        ("UpdateSecret", json!({"SecretString": "x", "ClientRequestToken": token(2)})),
        ("TagResource", json!({"Tags": [{"Key": "a", "Value": "b"}]})),
        ("UntagResource", json!({"TagKeys": ["a"]})),
        ("DeleteSecret", json!({})),
    ] {
        assert_eq!(api.error(operation, with(rest)).await, marked, "{operation}");
    }
    let create = json!({"Name": "shop/db", "SecretString": "x", "ClientRequestToken": token(2)});
    let text =
        "You can't create this secret because a secret with this name is already scheduled for deletion.";
    assert_eq!(api.error("CreateSecret", create).await, told("InvalidRequestException", text));
    let described = api.ok("DescribeSecret", id.clone()).await;
    assert_eq!(described["DeletedDate"], 1_894_060_800.250);

    assert_eq!(api.ok("RestoreSecret", id.clone()).await, json!({"ARN": arn, "Name": "shop/db"}));
    assert_eq!(api.ok("RestoreSecret", id.clone()).await["ARN"], arn, "again");
    assert_eq!(api.ok("GetSecretValue", id).await["SecretString"], "one");
}

#[tokio::test]
async fn a_forced_deletion_is_at_once_and_may_be_repeated() {
    let api = api().await;
    let arn = api.create("shop/db", "one").await["ARN"].clone();
    api.ok("DeleteSecret", json!({"SecretId": "shop/db"})).await;
    let force = json!({"SecretId": "shop/db", "ForceDeleteWithoutRecovery": true});
    assert_eq!(api.ok("DeleteSecret", force.clone()).await["ARN"], arn);
    let again = api.ok("DeleteSecret", force).await;
    assert_eq!(again["Name"], "shop/db");
    let unforced = api.error("DeleteSecret", json!({"SecretId": "shop/db"})).await;
    assert_eq!(unforced.0, "ResourceNotFoundException");
    assert_ne!(api.create("shop/db", "two").await["ARN"], arn, "a new secret has a new ARN");

    let both = json!({"SecretId": "shop/db", "ForceDeleteWithoutRecovery": true, "RecoveryWindowInDays": 7});
    let text = "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.";
    assert_eq!(api.error("DeleteSecret", both).await, told("InvalidParameterException", text));
    for days in [-1, 6, 31, 1000] {
        let (kind, message) =
            api.error("DeleteSecret", json!({"SecretId": "shop/db", "RecoveryWindowInDays": days})).await;
        assert_eq!(kind, "InvalidParameterException");
        assert!(message.contains("between 7 and 30 days (inclusive)"), "{message}");
    }
}

#[tokio::test]
async fn what_git_owns_is_refused_by_the_name_of_its_resource() {
    let api = api().await;
    api.bench.resource("orders-db", Some("one")).await;
    let check = async |operation: &str, rest: Value, how: &str| {
        let mut body = json!({"SecretId": "shop/orders-db"});
        body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        let text = format!("The secret shop/orders-db belongs to the ManagedSecret shop/orders-db: {how}.");
        assert_eq!(api.error(operation, body).await, told("InvalidRequestException", &text), "{operation}");
    };
    let delete = "delete that resource instead, and its secret goes with it";
    check("DeleteSecret", json!({}), delete).await;
    check("DeleteSecret", json!({"ForceDeleteWithoutRecovery": true}), delete).await;
    check("RestoreSecret", json!({}), "apply that resource again, and its secret comes back").await;
    let describe = "change its description there, in spec.description";
    let token = |n| token(n);
    check("UpdateSecret", json!({"Description": "x", "ClientRequestToken": token(1)}), describe).await;
    let both = json!({"Description": "x", "SecretString": "two", "ClientRequestToken": token(1)});
    check("UpdateSecret", both, describe).await;
    // Its value is nobody's but its callers', as PutSecretValue always had it; and so are tags.
    let value = json!({"SecretId": "shop/orders-db", "SecretString": "two", "ClientRequestToken": token(2)});
    api.ok("UpdateSecret", value).await;
    let tags = json!({"SecretId": "shop/orders-db", "Tags": [{"Key": "a", "Value": "b"}]});
    api.ok("TagResource", tags).await;
}

#[tokio::test]
async fn replication_is_refused_in_one_way_whatever_it_is_asked_of() {
    let api = api().await;
    api.create("shop/db", "x").await;
    let regions = json!([{"Region": "eu-west-1"}]);
    let arn = "arn:aws:secretsmanager:eu-west-1:000000000000:secret:x-AbCdEf";
    for id in ["shop/db", "shop/no"] {
        for (operation, body, text) in [
            (
                "ReplicateSecretToRegions",
                json!({"SecretId": id, "AddReplicaRegions": regions}),
                "Replication is",
            ),
            (
                "RemoveRegionsFromReplication",
                json!({"SecretId": id, "RemoveReplicaRegions": ["eu-west-1"]}),
                "Replication is",
            ),
            ("StopReplicationToReplica", json!({"SecretId": id}), "Replication is"),
            (
                "AssociateCrossAccountReplica",
                json!({"SecretId": id, "CrossAccountReplicaARN": arn}),
                "Replication across accounts is",
            ),
            (
                "DisassociateCrossAccountReplica",
                json!({"SecretId": id, "CrossAccountReplicaARN": arn}),
                "Replication across accounts is",
            ),
        ] {
            let text = format!("{text} not supported by this version of Tidelock.");
            assert_eq!(
                api.error(operation, body).await,
                told("InvalidRequestException", &text),
                "{operation}"
            );
        }
    }
}
