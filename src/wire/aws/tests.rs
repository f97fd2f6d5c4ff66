//! What the client writes, reads and refuses, without a server. Must not leave this machine.

use super::*;

#[test]
fn a_value_crosses_only_tls_or_this_machine() {
    for endpoint in ["http://tidelock.tidelock.svc:8443", "ftp://127.0.0.1", "127.0.0.1:80", ""] {
        assert!(
            matches!(Api::new(endpoint, None, Credential::None), Err(CallError::Endpoint(_))),
            "{endpoint}"
        );
    }
    assert!(Api::new("http://127.0.0.1:8099", None, Credential::None).is_ok());
    // TLS without our CA would trust nobody, or everybody.
    assert!(matches!(Api::new("https://tidelock", None, Credential::None), Err(CallError::Endpoint(_))));
}

#[test]
fn a_ca_file_without_certificates_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.crt");
    std::fs::write(&file, "").unwrap();
    let refusal = Api::new("https://tidelock", Some(&file), Credential::None).err().unwrap();
    assert!(refusal.to_string().contains("holds no certificate"), "{refusal}");
    let missing = folder.path().join("none");
    assert!(matches!(
        Api::new("https://tidelock", Some(&missing), Credential::None),
        Err(CallError::Trust { .. })
    ));
}

#[test]
fn messages_have_the_names_of_aws() {
    let shown = |bytes: Option<Zeroizing<Vec<u8>>>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
    let get = GetSecretValue { secret_id: "a", version_id: Some("v"), version_stage: None };
    assert_eq!(shown(written(&get)), r#"{"SecretId":"a","VersionId":"v"}"#);
    let put = PutSecretValue {
        secret_id: "a",
        client_request_token: "t",
        secret_string: Some(SecretText::new("s\"".to_owned())),
        secret_binary: None,
        version_stages: &["AWSPENDING"],
    };
    assert_eq!(
        shown(written(&put)),
        r#"{"SecretId":"a","ClientRequestToken":"t","SecretString":"s\"","VersionStages":["AWSPENDING"]}"#
    );
    let stage = UpdateSecretVersionStage {
        secret_id: "a",
        version_stage: "AWSCURRENT",
        move_to_version_id: Some("n"),
        remove_from_version_id: Some("o"),
    };
    assert_eq!(
        shown(written(&stage)),
        r#"{"SecretId":"a","VersionStage":"AWSCURRENT","MoveToVersionId":"n","RemoveFromVersionId":"o"}"#
    );
    let rules =
        GetRandomPassword { password_length: Some(40), include_space: Some(true), ..Default::default() };
    assert_eq!(shown(written(&rules)), r#"{"PasswordLength":40,"IncludeSpace":true}"#);
}

#[test]
fn a_message_is_written_without_growing_its_buffer_and_not_beyond_the_limit() {
    let value = SecretText::new("\u{1}".repeat(65_536));
    let body = written(&value).unwrap();
    assert_eq!(body.len(), body.capacity());
    assert!(written(&SecretText::new("x".repeat(BODY_BYTES_MAX))).is_none());
}

#[test]
fn a_description_knows_where_each_stage_sits() {
    let text = r#"{"ARN":"arn:a","Name":"shop/db","RotationEnabled":true,"Future":1,
        "VersionIdsToStages":{"one":["AWSPREVIOUS"],"two":["AWSCURRENT","AWSPENDING"]}}"#;
    let description: SecretDescription = serde_json::from_str(text).unwrap();
    assert_eq!(description.version_at("AWSPENDING"), Some("two"));
    assert_eq!(description.version_at("AWSPREVIOUS"), Some("one"));
    assert_eq!(description.version_at("MINE"), None);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_not_collected() {
    let long = Full::new(Bytes::from(vec![0; BODY_BYTES_MAX + 1]));
    assert!(matches!(collect(long).await, Err(CallError::TooLong)));
    let chunks = (0..=BODY_BYTES_MAX / 1024)
        .map(|_| Ok::<_, std::convert::Infallible>(hyper::body::Frame::data(Bytes::from(vec![0; 1024]))));
    let unannounced = http_body_util::StreamBody::new(futures::stream::iter(chunks));
    assert!(matches!(collect(unannounced).await, Err(CallError::TooLong)));
    let fits = Full::new(Bytes::from(vec![7; BODY_BYTES_MAX]));
    assert_eq!(collect(fits).await.unwrap().len(), BODY_BYTES_MAX);
}

#[tokio::test]
async fn a_missing_token_file_is_named() {
    let credential = Credential::TokenFile("/nonexistent/token".into());
    let api = Api::new("http://127.0.0.1:1", None, credential).unwrap();
    let error = api.describe_secret("a").await.unwrap_err();
    assert_eq!(error.to_string(), "the token file /nonexistent/token cannot be read");
}

#[test]
fn a_token_is_never_printed() {
    let shown = format!("{:?}", Credential::Token(Token::new("canary".to_owned())));
    assert!(!shown.contains("canary"), "{shown}");
}
