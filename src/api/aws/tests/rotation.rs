//! RotateSecret and CancelRotateSecret as clients ask for them. The rotation itself is the engine's.

use super::*;
use crate::api::tests::ROTATOR;

fn wanted(n: u8) -> Value {
    json!({"SecretId": "shop/db", "ClientRequestToken": token(n), "RotationLambdaARN": ROTATOR,
           "RotationRules": {"ScheduleExpression": "cron(0 4 1 * ? *)", "Duration": "2h"}})
}

#[tokio::test]
async fn a_rotation_is_configured_begun_shown_and_cancelled() {
    let api = api().await;
    api.create("shop/db", "old").await;
    let rotating = api.ok("RotateSecret", wanted(1)).await;
    assert_eq!((&rotating["Name"], &rotating["VersionId"]), (&json!("shop/db"), &json!(token(1))));
    let shown = api.ok("DescribeSecret", json!({"SecretId": "shop/db"})).await;
    assert_eq!((&shown["RotationEnabled"], &shown["RotationLambdaARN"]), (&json!(true), &json!(ROTATOR)));
    let rules = json!({"ScheduleExpression": "cron(0 4 1 * ? *)", "Duration": "2h"});
    assert_eq!(shown["RotationRules"], rules);
    assert_eq!(shown["VersionIdsToStages"][token(1)], json!(["AWSPENDING"]));
    let listed = api.ok("ListSecrets", json!({})).await["SecretList"][0].clone();
    for member in ["RotationEnabled", "RotationLambdaARN", "RotationRules", "NextRotationDate"] {
        assert!(!listed[member].is_null() && listed[member] == shown[member], "{member}: {listed}");
    }
    let empty = json!({"SecretId": "shop/db", "VersionId": token(1), "VersionStage": "AWSPENDING"});
    assert_eq!(api.error("GetSecretValue", empty).await.0, "ResourceNotFoundException");
    let cancelled = api.ok("CancelRotateSecret", json!({"SecretId": "shop/db"})).await;
    assert_eq!(cancelled["VersionId"], token(1));
    let shown = api.ok("DescribeSecret", json!({"SecretId": "shop/db"})).await;
    assert_eq!((&shown["RotationEnabled"], &shown["RotationRules"]), (&json!(false), &rules));
    assert_eq!(shown.get("NextRotationDate"), None);
    assert_eq!(shown["VersionIdsToStages"][token(1)], json!(["AWSPENDING"]));
}

#[tokio::test]
async fn rotations_that_cannot_be_are_refused_in_the_words_of_aws() {
    let api = api().await;
    api.create("shop/db", "old").await;
    let mut without = wanted(1);
    without.as_object_mut().unwrap().remove("ClientRequestToken");
    let token_words = "You must provide a ClientRequestToken value. We recommend a UUID-type value.";
    assert_eq!(api.error("RotateSecret", without).await, told("InvalidParameterException", token_words));
    let mut unknown = wanted(1);
    unknown["RotationLambdaARN"] = json!("arn:aws:lambda:eu-west-1:123456789012:function:nobody");
    let words = "Secrets Manager cannot invoke the specified Lambda function. Ensure that the function policy grants \
                 access to the principal secretsmanager.amazonaws.com.";
    assert_eq!(api.error("RotateSecret", unknown).await, told("AccessDeniedException", words));
    let bare = json!({"SecretId": "shop/db", "ClientRequestToken": token(1)});
    let words = "No Lambda rotation function ARN is associated with this secret.";
    assert_eq!(api.error("RotateSecret", bare).await, told("InvalidRequestException", words));
    let mut both = wanted(1);
    both["RotationRules"]["AutomaticallyAfterDays"] = json!(7);
    assert_eq!(api.error("RotateSecret", both).await.0, "InvalidParameterException");
    let mut external = wanted(1);
    external["ExternalSecretRotationRoleArn"] = json!("arn:aws:iam::123456789012:role/rotator");
    let refused = api.error("RotateSecret", external).await;
    assert!(refused.1.contains("ExternalSecretRotationRoleArn is not supported"), "{}", refused.1);
    let shown = api.ok("DescribeSecret", json!({"SecretId": "shop/db"})).await;
    assert_eq!(shown.get("RotationEnabled"), None);
    api.ok("RotateSecret", wanted(1)).await;
    let words = "A previous rotation isn't complete. That rotation will be reattempted.";
    assert_eq!(api.error("RotateSecret", wanted(2)).await, told("InvalidRequestException", words));
}
