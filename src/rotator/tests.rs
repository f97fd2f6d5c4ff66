//! The roles against a server on a real socket that keeps one secret in memory, by AWS's rules as far as the steps
//! need them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::serve::{self, Door, Limits, Listener, Protocol};
use crate::wire::aws::{CallError, GetSecretValue, PutSecretValue, SecretText};

const ARN: &str = "arn:aws:secretsmanager:local-1:000000000000:secret:shop/orders-db-AbCdEf";
const OLD: &str = "00000000-0000-4000-8000-000000000001";
const NEW: &str = "00000000-0000-4000-8000-000000000002";

#[derive(Default)]
struct Secret {
    versions: BTreeMap<String, (Option<String>, Vec<String>)>,
    asked: Vec<(String, Option<String>)>,
}

impl Secret {
    /// As a rotation finds it: a current value, and an empty version at AWSPENDING.
    fn begun(current: &str) -> Self {
        let versions = [
            (OLD.to_owned(), (Some(current.to_owned()), vec!["AWSCURRENT".to_owned()])),
            (NEW.to_owned(), (None, vec!["AWSPENDING".to_owned()])),
        ];
        Self { versions: versions.into(), asked: Vec::new() }
    }

    fn text(&self, version: &str) -> String {
        self.versions[version].0.clone().unwrap_or_default()
    }

    fn bears(&self, version: &str, stage: &str) -> bool {
        self.versions[version].1.iter().any(|held| held == stage)
    }

    fn answer(&mut self, operation: &str, request: &Value) -> Result<Value, &'static str> {
        let text = |member: &str| request[member].as_str().map(str::to_owned);
        match operation {
            "DescribeSecret" => {
                let stages: BTreeMap<_, _> =
                    self.versions.iter().map(|(id, (_, stages))| (id.clone(), stages.clone())).collect();
                Ok(
                    json!({"ARN": ARN, "Name": "shop/orders-db", "RotationEnabled": true, "VersionIdsToStages": stages}),
                )
            }
            "GetSecretValue" => {
                let stage = text("VersionStage");
                let wanted = |id: &String, stages: &[String]| {
                    text("VersionId").is_none_or(|wanted| wanted == *id)
                        && stage.as_ref().is_none_or(|stage| stages.contains(stage))
                };
                let found = self.versions.iter().find(|(id, (_, stages))| wanted(id, stages));
                let (id, (value, stages)) = found.ok_or("ResourceNotFoundException")?;
                let value = value.as_ref().ok_or("ResourceNotFoundException")?;
                Ok(
                    json!({"ARN": ARN, "Name": "shop/orders-db", "VersionId": id, "SecretString": value, "VersionStages": stages}),
                )
            }
            "PutSecretValue" => {
                let version = self.versions.get_mut(&text("ClientRequestToken").unwrap()).unwrap();
                assert!(version.0.is_none(), "a value is written once");
                assert_eq!(request["VersionStages"], json!(["AWSPENDING"]));
                version.0 = text("SecretString").or_else(|| text("SecretBinary"));
                Ok(json!({}))
            }
            "UpdateSecretVersionStage" => {
                let from = self.versions.get_mut(&text("RemoveFromVersionId").unwrap()).unwrap();
                from.1 = vec!["AWSPREVIOUS".to_owned()];
                let to = self.versions.get_mut(&text("MoveToVersionId").unwrap()).unwrap();
                to.1.push(text("VersionStage").unwrap());
                Ok(json!({}))
            }
            "GetRandomPassword" => {
                Ok(json!({"RandomPassword": format!("made-{}", request["PasswordLength"])}))
            }
            _ => Err("InvalidParameterException"),
        }
    }
}

struct Server {
    address: SocketAddr,
    secret: Arc<Mutex<Secret>>,
    _stop: tokio_util::sync::DropGuard,
}

impl Server {
    async fn start(secret: Secret) -> Self {
        let secret = Arc::new(Mutex::new(secret));
        let held = Arc::clone(&secret);
        let service = tower::service_fn(move |request: Request<Incoming>| {
            let secret = Arc::clone(&held);
            async move {
                let header =
                    |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
                let operation = header("x-amz-target").unwrap_or_default();
                let operation = operation.strip_prefix("secretsmanager.").unwrap_or_default().to_owned();
                let authorization = header("authorization");
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut secret = secret.lock().unwrap();
                secret.asked.push((operation.clone(), authorization));
                let (status, body) = match secret.answer(&operation, &serde_json::from_slice(&body).unwrap())
                {
                    Ok(answer) => (StatusCode::OK, answer),
                    Err(kind) => (StatusCode::BAD_REQUEST, json!({"__type": kind, "Message": "so it is"})),
                };
                let response = Response::builder().status(status).header("x-amzn-requestid", "r1");
                Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body.to_string()))).unwrap())
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let door = Door {
            name: "test",
            listener: Listener::Tcp(listener),
            tls: None,
            protocol: Protocol::Http,
            limits: Limits::http(),
        };
        tokio::spawn(serve::run(door, service, stop.clone()));
        Self { address, secret, _stop: stop.drop_guard() }
    }

    fn api(&self) -> Api {
        Api::new(&format!("http://{}", self.address), None, Credential::None).unwrap()
    }

    async fn step(&self, step: Step, rules: &str) -> Result<(), RotatorError> {
        let event = event::Event { secret_id: ARN.to_owned(), client_request_token: NEW.to_owned() };
        self.run_on(&event, step, rules, false).await
    }

    /// Of a copy of the current value: a test for itself.
    async fn run_on(
        &self,
        event: &event::Event,
        step: Step,
        rules: &str,
        of_copy: bool,
    ) -> Result<(), RotatorError> {
        let rules = rules.parse().unwrap();
        generate::run(&self.api(), event, step, Subject { rules: &rules, of_copy }).await
    }

    fn secret(&self) -> std::sync::MutexGuard<'_, Secret> {
        self.secret.lock().unwrap()
    }
}

const RULES: &str = r#"{"password":{"key":"password","password":{"length":40}}}"#;
const CURRENT: &str = r#"{"username":"orders","password":"old"}"#;

#[tokio::test]
async fn four_steps_replace_the_generated_key_and_keep_the_others() {
    let server = Server::start(Secret::begun(CURRENT)).await;
    for step in Step::ALL {
        server.step(step, RULES).await.unwrap();
    }
    let secret = server.secret();
    let made: Value = serde_json::from_str(&secret.text(NEW)).unwrap();
    assert_eq!(made, json!({"username": "orders", "password": "made-40"}));
    assert!(secret.bears(NEW, "AWSCURRENT") && secret.bears(OLD, "AWSPREVIOUS"));
}

#[tokio::test]
async fn every_step_may_run_again() {
    let server = Server::start(Secret::begun(CURRENT)).await;
    for step in Step::ALL.into_iter().flat_map(|step| [step, step]) {
        server.step(step, RULES).await.unwrap();
    }
    for step in Step::ALL {
        server.step(step, RULES).await.unwrap();
    }
    let asked =
        |operation: &str| server.secret().asked.iter().filter(|(asked, _)| asked == operation).count();
    assert_eq!((asked("PutSecretValue"), asked("UpdateSecretVersionStage")), (1, 1));
}

#[tokio::test]
async fn a_value_of_an_earlier_attempt_is_kept() {
    let mut secret = Secret::begun(CURRENT);
    secret.versions.get_mut(NEW).unwrap().0 = Some(r#"{"password":"earlier"}"#.to_owned());
    let server = Server::start(secret).await;
    for step in Step::ALL {
        server.step(step, RULES).await.unwrap();
    }
    assert_eq!(server.secret().text(NEW), r#"{"password":"earlier"}"#);
}

#[tokio::test]
async fn a_password_alone_and_a_key_of_bytes_need_no_current_object() {
    let server = Server::start(Secret::begun("old")).await;
    server.step(Step::CreateSecret, r#"{"password":{}}"#).await.unwrap();
    assert_eq!(server.secret().text(NEW), "made-null");
    for (encoding, length) in [("Raw", 44), ("Base64", 44), ("Hex", 64)] {
        let server = Server::start(Secret::begun("old")).await;
        let rules = format!(r#"{{"symmetricKey":{{"bytes":32,"encoding":"{encoding}"}}}}"#);
        for step in Step::ALL {
            server.step(step, &rules).await.unwrap();
        }
        assert_eq!(server.secret().text(NEW).len(), length, "{encoding}");
    }
}

#[tokio::test]
async fn a_password_is_replaced_where_the_current_value_has_it() {
    let rules = r#"{"passwordOrKey":{"key":"password","password":{"length":40}}}"#;
    for (current, made) in
        [("old", "made-40"), (CURRENT, r#"{"password":"made-40","username":"orders"}"#), ("[1]", "made-40")]
    {
        let server = Server::start(Secret::begun(current)).await;
        for step in Step::ALL {
            server.step(step, rules).await.unwrap();
        }
        assert_eq!(server.secret().text(NEW), made);
    }
    let server = Server::start(Secret::begun(r#"{"other":"canary"}"#)).await;
    let error = server.step(Step::CreateSecret, rules).await.unwrap_err();
    assert!(matches!(error, RotatorError::NoKey(_)) && !error.to_string().contains("canary"), "{error}");
}

#[tokio::test]
async fn a_current_value_without_the_key_is_refused_without_being_shown() {
    for current in ["canary", r#"["canary"]"#, r#"{"other":"canary"}"#] {
        let server = Server::start(Secret::begun(current)).await;
        let error = server.step(Step::CreateSecret, RULES).await.unwrap_err();
        assert!(matches!(error, RotatorError::NoKey(_)), "{error}");
        assert!(!format!("{error} {error:?}").contains("canary"));
        assert!(server.secret().versions[NEW].0.is_none());
    }
}

#[tokio::test]
async fn the_test_step_refuses_a_missing_or_unchanged_value() {
    let server = Server::start(Secret::begun(CURRENT)).await;
    let missing = server.step(Step::TestSecret, RULES).await.unwrap_err();
    assert!(matches!(missing, RotatorError::BadPending("it is missing")), "{missing}");
    server.secret().versions.get_mut(NEW).unwrap().0 = Some(CURRENT.to_owned());
    let unchanged = server.step(Step::TestSecret, RULES).await.unwrap_err();
    assert!(matches!(unchanged, RotatorError::BadPending("it is the current value")), "{unchanged}");
}

#[tokio::test]
async fn a_test_on_a_copy_says_whether_a_new_value_can_be_made_from_it() {
    let password_or_key = r#"{"passwordOrKey":{"key":"password"}}"#;
    for (current, rules, is_right) in [
        (CURRENT, RULES, true),
        ("canary", RULES, false),
        (CURRENT, password_or_key, true),
        ("canary", password_or_key, true),
        (r#"{"other":"canary"}"#, password_or_key, false),
        ("canary", r#"{"password":{}}"#, true),
    ] {
        let server = Server::start(Secret::begun(current)).await;
        let event = event::Event { secret_id: ARN.to_owned(), client_request_token: NEW.to_owned() };
        let test = async || server.run_on(&event, Step::TestSecret, rules, true).await;
        assert!(matches!(test().await, Err(RotatorError::BadPending("it is missing"))));
        server.secret().versions.get_mut(NEW).unwrap().0 = Some(current.to_owned());
        let tested = test().await;
        assert_eq!(tested.is_ok(), is_right, "{current} {rules}: {tested:?}");
        assert!(!format!("{tested:?}").contains("canary"));
        report::run(&server.api(), &event, true).await.unwrap();
        server.secret().versions.get_mut(NEW).unwrap().1.clear();
        let gone = report::run(&server.api(), &event, true).await;
        assert!(matches!(gone, Err(RotatorError::NotPending(_))));
    }
}

#[tokio::test]
async fn a_version_that_is_not_pending_is_left_alone() {
    let mut secret = Secret::begun(CURRENT);
    secret.versions.get_mut(NEW).unwrap().1.clear();
    let server = Server::start(secret).await;
    for step in Step::ALL {
        assert!(matches!(server.step(step, RULES).await, Err(RotatorError::NotPending(_))));
    }
}

#[tokio::test]
async fn the_report_fails_until_the_version_is_current() {
    let server = Server::start(Secret::begun(CURRENT)).await;
    let event = event::Event { secret_id: ARN.to_owned(), client_request_token: NEW.to_owned() };
    assert!(matches!(report::run(&server.api(), &event, false).await, Err(RotatorError::NotPromoted(_))));
    for step in Step::ALL {
        server.step(step, RULES).await.unwrap();
    }
    report::run(&server.api(), &event, false).await.unwrap();
}

/// A relay in front of the server, with a token file of its own.
async fn relayed(server: &Server) -> (SocketAddr, tokio_util::sync::DropGuard, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "pod-token\n").unwrap();
    let credential = Credential::TokenFile(token_file);
    let api = Api::new(&format!("http://{}", server.address), None, credential).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(relay::serve_on(listener, api, ARN.to_owned(), stop.clone()));
    (address, stop.drop_guard(), folder)
}

#[tokio::test]
async fn the_relay_puts_the_pods_token_in_place_of_any_credentials() {
    let server = Server::start(Secret::begun(CURRENT)).await;
    let (relay, _stop, _folder) = relayed(&server).await;
    let forged = Credential::Token(crate::wire::aws::Token::new("forged".to_owned()));
    let api = Api::new(&format!("http://{relay}"), None, forged).unwrap();
    let value = api.secret_value(&GetSecretValue { secret_id: ARN, ..Default::default() }).await.unwrap();
    assert_eq!(value.secret_string.as_ref().map(SecretText::expose), Some(CURRENT));
    let asked = server.secret().asked.clone();
    assert_eq!(asked, [("GetSecretValue".to_owned(), Some("Bearer pod-token".to_owned()))]);
}

#[tokio::test]
async fn the_relay_passes_refusals_on_as_they_are() {
    let server = Server::start(Secret::begun(CURRENT)).await;
    let (relay, _stop, _folder) = relayed(&server).await;
    let api = Api::new(&format!("http://{relay}"), None, Credential::None).unwrap();
    let request = GetSecretValue { secret_id: ARN, version_id: Some(NEW), version_stage: Some("AWSPENDING") };
    let error = api.secret_value(&request).await.err().unwrap();
    assert!(error.is_not_found() && !error.is_passing(), "{error}");
    assert_eq!(error.to_string(), "ResourceNotFoundException: so it is");
}

#[tokio::test]
async fn the_relay_is_ready_once_the_server_accepts_the_pod() {
    let server = Server::start(Secret::begun(CURRENT)).await;
    let (relay, _stop, folder) = relayed(&server).await;
    super::relay::ready(relay).await.unwrap();
    std::fs::remove_file(folder.path().join("token")).unwrap();
    assert!(matches!(super::relay::ready(relay).await, Err(RotatorError::NotReady)));
}

#[tokio::test]
async fn the_relay_answers_what_it_cannot_relay_in_the_language_of_aws() {
    let server = Server::start(Secret::begun(CURRENT)).await;
    let (relay, _stop, _folder) = relayed(&server).await;
    let api = Api::new(&format!("http://{relay}"), None, Credential::None).unwrap();
    let long = PutSecretValue {
        secret_id: ARN,
        client_request_token: NEW,
        secret_string: Some(SecretText::new("x".repeat(crate::wire::aws::BODY_BYTES_MAX))),
        secret_binary: None,
        version_stages: &["AWSPENDING"],
    };
    assert!(matches!(api.put_secret_value(&long).await, Err(CallError::TooLong)));
    assert!(server.secret().asked.is_empty());
    let elsewhere = Api::new(&format!("http://{relay}/elsewhere"), None, Credential::None).unwrap();
    let refused = elsewhere.describe_secret(ARN).await.unwrap_err();
    assert!(refused.to_string().contains("send POST /"), "{refused}");
}

#[tokio::test]
async fn the_relay_listens_on_loopback_only() {
    let arguments = RelayArguments {
        listen: "0.0.0.0:8099".parse().unwrap(),
        server: "https://tidelock".to_owned(),
        ca_file: "/nonexistent".into(),
        token_file: "/nonexistent".into(),
        secret_id: ARN.to_owned(),
    };
    let refused = run(Role::Relay(arguments), CancellationToken::new()).await;
    assert!(matches!(refused, Err(RotatorError::NotLoopback(_))));
}

#[tokio::test]
async fn a_wrong_event_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("createSecret.json");
    assert!(matches!(event::read(&file).await, Err(RotatorError::EventFile { .. })));
    std::fs::write(&file, "{}").unwrap();
    assert!(matches!(event::read(&file).await, Err(RotatorError::Event(_))));
    std::fs::write(
        &file,
        format!(r#"{{"Step":"createSecret","SecretId":"{ARN}","ClientRequestToken":"{NEW}"}}"#),
    )
    .unwrap();
    assert_eq!(event::read(&file).await.unwrap().client_request_token, NEW);
}
