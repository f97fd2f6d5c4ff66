//! The AWS API over real HTTP, in this process: requests as clients write them, answers as they read them.

use std::num::NonZeroU32;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::*;
use crate::access::Operation;
use crate::api::tests::{Bench, Open, account, bench, door};
use crate::keeper::AccessKey;
use crate::seal::SystemRandom;
use crate::serve::{BodyLimits, Limits, Protocol, bounded};

mod access_keys;
mod conformance;
mod documented;
mod errors;
mod issued;
mod limits;
mod listing;
mod policies;
mod rotation;
mod secrets;
mod sessions;
mod stages;
mod values;

const AUDIENCE: &str = "tidelock.t/api";
const TOKEN: &str = "11111111-2222-3333-4444-555555555555";
const CANARY: &str = "c4nary-6f1f";

struct Api {
    bench: Bench,
    client: Client<HttpConnector, Full<Bytes>>,
    open: Open,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// Type and message of an error, which must not be a success.
    fn error(&self) -> (String, String) {
        assert!(!self.status.is_success(), "{} {}", self.status, self.text);
        let body = self.json();
        (body["__type"].as_str().unwrap().to_owned(), body["Message"].as_str().unwrap().to_owned())
    }
}

/// An API with one caller, `shop/orders-api`, who may do everything and bears the token `owner`.
async fn api() -> Api {
    api_with(|_| None).await
}

async fn api_with(local: fn(&Keeper) -> Option<AccessKey>) -> Api {
    api_within(local, PER_CALLER, BODY_BYTES_MAX).await
}

async fn api_within(
    local: fn(&Keeper) -> Option<AccessKey>,
    per_second: NonZeroU32,
    bytes_max: usize,
) -> Api {
    api_trusting(local, per_second, bytes_max, |_| Arc::default()).await
}

async fn api_trusting(
    local: fn(&Keeper) -> Option<AccessKey>,
    per_second: NonZeroU32,
    bytes_max: usize,
    issuers: impl FnOnce(&Bench) -> Arc<Issuers>,
) -> Api {
    let bench = bench().await;
    let owner = account("shop", "orders-api", None);
    bench.tokens.add("owner", AUDIENCE, &owner);
    for operation in [
        Operation::Create,
        Operation::Describe,
        Operation::Reveal,
        Operation::Put,
        Operation::MoveStage,
        Operation::Update,
        Operation::Delete,
        Operation::Restore,
        Operation::List,
        Operation::ReadPolicy,
        Operation::WritePolicy,
        Operation::Rotate,
        Operation::CancelRotation,
    ] {
        bench.rights.allow(&owner, operation);
    }
    let routes = routes(Arc::new(AwsApi {
        keeper: bench.keeper.clone(),
        tokens: bench.tokens.clone(),
        issuers: issuers(&bench),
        still_there: bench.tokens.clone(),
        local: local(&bench.keeper).map(Into::into),
        clock: bench.clock.clone(),
        throttle: Throttle::per_second(per_second),
        audience: AUDIENCE.into(),
        draw_password: |rules| rules.draw(&mut SystemRandom),
    }));
    let limits = BodyLimits { bytes_max, timeout: Duration::from_secs(5), large_max: 4 };
    let (open, door) = door("api", Protocol::Http, Limits::http()).await;
    let routes = bounded(warp::service(routes), limits).worded(unread);
    tokio::spawn(crate::serve::run(door, routes, open.stop.clone()));
    Api { bench, client: Client::builder(TokioExecutor::new()).build_http(), open }
}

impl Api {
    async fn send(&self, request: http::request::Builder, body: impl Into<Bytes>) -> Answer {
        let request = request.uri(format!("http://{}/", self.open.address));
        let answer = self.client.request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, text: String::from_utf8(body.into()).unwrap() }
    }

    async fn call_raw(&self, bearer: &str, operation: &str, body: impl Into<Bytes>) -> Answer {
        let request = http::Request::post("/")
            .header("X-Amz-Target", format!("secretsmanager.{operation}"))
            .header("Content-Type", "application/x-amz-json-1.1")
            .header("Authorization", format!("Bearer {bearer}"));
        self.send(request, body).await
    }

    async fn call(&self, operation: &str, body: Value) -> Answer {
        self.call_raw("owner", operation, body.to_string()).await
    }

    async fn ok(&self, operation: &str, body: Value) -> Value {
        let answer = self.call(operation, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answer.json()
    }

    async fn error(&self, operation: &str, body: Value) -> (String, String) {
        let answer = self.call(operation, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
        answer.error()
    }

    async fn create(&self, name: &str, value: &str) -> Value {
        self.ok("CreateSecret", json!({"Name": name, "SecretString": value, "ClientRequestToken": TOKEN}))
            .await
    }
}

fn token(n: u8) -> String {
    format!("{n:032}")
}

fn told(kind: &str, message: &str) -> (String, String) {
    (kind.to_owned(), message.to_owned())
}
