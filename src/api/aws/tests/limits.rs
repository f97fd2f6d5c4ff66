//! What one caller can take: his share of requests, and bodies that are not read.

use super::*;

fn nobody(_: &Keeper) -> Option<AccessKey> {
    None
}

#[tokio::test]
async fn a_caller_beyond_his_share_is_told_to_slow_down_and_others_are_served() {
    let api = api_within(nobody, NonZeroU32::MIN, BODY_BYTES_MAX).await;
    let other = account("shop", "reports", None);
    api.bench.tokens.add("other", AUDIENCE, &other);
    let ask = async |bearer: &str| api.call_raw(bearer, "GetRandomPassword", "{}").await;
    assert_eq!(ask("owner").await.status, StatusCode::OK);
    let beyond = ask("owner").await;
    assert_eq!(beyond.status, StatusCode::BAD_REQUEST);
    assert_eq!(beyond.error(), told("ThrottlingException", "Rate exceeded"));
    assert_eq!(ask("other").await.status, StatusCode::OK);
    // Who is not recognised takes nobody's share.
    let unknown = ask("nobody").await;
    assert_eq!(unknown.error().0, "UnrecognizedClientException");
}

#[tokio::test]
async fn a_body_that_is_not_read_is_answered_in_the_protocol_s_own_form() {
    let api = api_within(nobody, PER_CALLER, 1024).await;
    let answer = api.call_raw("owner", "PutSecretValue", vec![b' '; 2048]).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.headers[header::CONTENT_TYPE], JSON);
    assert_eq!(answer.error(), told("SerializationException", "the body is larger than 1024 bytes"));
    for (wrong, kind) in [
        (Unread::TooSlow, "RequestTimeoutException"),
        (Unread::NoRoom, "ThrottlingException"),
        (Unread::Broken, "SerializationException"),
    ] {
        let (content_type, body) = unread(wrong, "why");
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((content_type, body), (JSON, json!({"__type": kind, "Message": "why"})));
    }
}
