//! Reviews as the API server sends them, over a real connection to the real accept loop.
//! Must not judge injection itself: `inject` has its own tables.

use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::SystemClock;
use crate::serve::{self, Door, Limits, Listener, Protocol};

/// Says no to secrets that are called so, and waits for ever about one.
struct ByName;

#[async_trait]
impl MayProject for ByName {
    async fn may_project(&self, question: &Question<'_>) -> Verdict {
        assert_eq!((question.pod_namespace, question.service_account), ("shop", "orders"));
        match question.secret_name {
            "forbidden" => Verdict::No,
            "unknown" => Verdict::Unknown,
            "slow" => std::future::pending().await,
            _ => Verdict::Yes,
        }
    }
}

/// Keeps what pods' authors are told.
#[derive(Default)]
struct Kept(std::sync::Mutex<Vec<(ObjectReference, &'static str, String)>>);

impl Tell for Kept {
    fn tell(&self, about: ObjectReference, reason: &'static str, note: String) {
        self.0.lock().unwrap().push((about, reason, note));
    }
}

fn webhook(tell: Arc<dyn Tell>) -> Webhook {
    let endpoint = Endpoint {
        url: "https://tidelock-server.tidelock.svc:8444".into(),
        region: "local-1".into(),
        account: "000000000000".into(),
        audience: "tidelock.test/api".into(),
    };
    Webhook { may_project: Arc::new(ByName), tell, endpoint, clock: SystemClock::shared() }
}

/// Serves the webhook, posts one body, and returns status and body of the answer.
async fn post(path: &str, body: impl Into<Bytes>) -> (StatusCode, Bytes) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door {
        name: "webhook",
        listener: Listener::Tcp(listener),
        tls: None,
        protocol: Protocol::Http,
        limits: Limits::http(),
    };
    let routes = warp::service(routes(webhook(Arc::new(Kept::default()))));
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(serve::run(door, serve::bounded(routes, BODY_LIMITS), shutdown.clone()));
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut client, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(path).header("host", "webhook").body(Full::new(body.into())).unwrap();
    let response = client.send_request(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    shutdown.cancel();
    server.await.unwrap();
    (status, body)
}

fn review(secrets: &str) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "1234", "operation": "CREATE", "namespace": "shop", "dryRun": false,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "object": {
                "metadata": {"annotations": {"tidelock.dev/inject": secrets}},
                "spec": {"serviceAccountName": "orders", "containers": [{"name": "app"}]},
            },
        },
    })
}

async fn reviewed(review: &Value) -> Value {
    let (status, body) = post("/inject?timeout=5s", review.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(answer["response"]["uid"], "1234");
    answer["response"].clone()
}

#[tokio::test]
async fn an_annotated_pod_is_answered_with_a_base64_json_patch() {
    use base64::Engine;
    let response = reviewed(&review("orders-db")).await;
    assert_eq!(response["allowed"], true);
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = response["patch"].as_str().expect("base64, not a list of numbers");
    let patch = base64::engine::general_purpose::STANDARD.decode(patch).unwrap();
    let patch: Value = serde_json::from_slice(&patch).unwrap();
    assert_eq!(patch[0]["path"], "/spec/volumes");
    assert_eq!(patch[1]["path"], "/spec/containers/0/volumeMounts");
    assert!(response.get("warnings").is_none());
}

#[tokio::test]
async fn a_wrong_annotation_is_refused_with_its_reason() {
    let response = reviewed(&review("Orders!")).await;
    assert_eq!(response["allowed"], false);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("`Orders!` is not the name of a ManagedSecret"), "{message}");
    assert!(response.get("patch").is_none());
}

#[tokio::test]
async fn a_service_account_without_the_right_is_warned_about_and_not_refused() {
    let response = reviewed(&review("orders-db,forbidden,unknown")).await;
    assert_eq!(response["allowed"], true);
    let warnings = response["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1);
    let warning = warnings[0].as_str().unwrap();
    assert!(warning.starts_with("ServiceAccount orders may not have secret forbidden"), "{warning}");
    assert!(warning.len() <= 256, "the API server wants them short");
}

#[tokio::test]
async fn an_answer_that_does_not_come_costs_the_warning_and_not_the_pod() {
    let review = review("forbidden,slow").to_string();
    let response = answer(review.as_bytes(), &webhook(Arc::new(Kept::default()))).await;
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["response"]["allowed"], true);
    assert_eq!(answer["response"]["warnings"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn who_keeps_an_identity_of_his_own_is_warned_and_told_in_the_events_of_what_makes_the_pod() {
    let mut review = review("orders-db");
    let annotations = json!({"tidelock.dev/aws-sdk": "true"});
    let env = json!([{"name": "AWS_PROFILE", "value": "prod"}]);
    review["request"]["object"] = json!({
        "metadata": {"generateName": "orders-7d4f-", "annotations": annotations, "ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "u0"},
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "orders-7d4f", "uid": "u1", "controller": true},
        ]},
        "spec": {"serviceAccountName": "orders", "containers": [{"name": "app", "env": env}]},
    });
    let kept = Arc::new(Kept::default());
    let reviewed = async |review: &Value| {
        let response = answer(review.to_string().as_bytes(), &webhook(Arc::clone(&kept) as _)).await;
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(answer["response"]["allowed"], true);
        let warning = answer["response"]["warnings"][0].as_str().unwrap().to_owned();
        assert!(warning.len() <= 256, "the API server wants them short: {warning}");
        warning
    };
    let warning = reviewed(&review).await;
    assert!(warning.starts_with("AwsIdentityPresent: the pod has AWS_PROFILE in container app"), "{warning}");
    review["request"]["object"]["metadata"]["ownerReferences"] = json!([]);
    reviewed(&review).await;
    review["request"]["dryRun"] = json!(true);
    reviewed(&review).await;

    let told = kept.0.lock().unwrap();
    let [(owner, reason, note), (pod, ..)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((*reason, note), ("AwsIdentityPresent", &warning));
    assert_eq!((owner.kind.as_deref(), owner.uid.as_deref()), (Some("ReplicaSet"), Some("u1")));
    assert_eq!((owner.name.as_deref(), owner.namespace.as_deref()), (Some("orders-7d4f"), Some("shop")));
    assert_eq!((pod.kind.as_deref(), pod.name.as_deref()), (Some("Pod"), Some("orders-7d4f")));
}

#[tokio::test]
async fn what_is_not_the_creation_of_a_pod_is_let_through() {
    let base = review("Wrong Name");
    let mut update = base.clone();
    update["request"]["operation"] = json!("UPDATE");
    let mut job = base.clone();
    job["request"]["kind"] = json!({"group": "batch", "version": "v1", "kind": "Job"});
    let mut exec = base.clone();
    exec["request"]["subResource"] = json!("exec");
    let mut plain = base;
    plain["request"]["object"]["metadata"]["annotations"] = Value::Null;
    for other in [update, job, exec, plain] {
        let response = reviewed(&other).await;
        assert_eq!(response["allowed"], true);
        assert!(response.get("patch").is_none());
    }
}

#[tokio::test]
async fn malformed_reviews_get_a_clear_400_that_quotes_nothing() {
    let broken = review("a");
    let without = |pointer: &str| {
        let mut review = broken.clone();
        *review.pointer_mut(pointer).unwrap() = Value::Null;
        review.to_string()
    };
    let mut old = broken.clone();
    old["apiVersion"] = json!("admission.k8s.io/v1beta1");
    for (body, expected) in [
        (String::new(), "not an AdmissionReview as JSON"),
        ("{\"password\": hunter2".to_owned(), "not an AdmissionReview as JSON: line 1"),
        ("[]".to_owned(), "set admissionReviewVersions to [v1]"),
        (old.to_string(), "set admissionReviewVersions to [v1]"),
        (without("/request"), "has no request"),
        (without("/request/uid"), "has no request"),
        (without("/request/object"), "has no object"),
        (without("/request/object").replace("\"shop\"", "\"\""), "has no request"),
        (broken.to_string().replace("\"1234\"", "[\"hunter2\"]"), "has no request"),
    ] {
        let (status, answer) = post("/inject", body.clone()).await;
        let answer = String::from_utf8(answer.to_vec()).unwrap();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(answer.contains(expected), "`{answer}` does not say `{expected}`");
        assert!(!answer.contains("hunter2"), "{answer}");
    }
}

#[tokio::test]
async fn other_paths_and_too_large_bodies_are_refused() {
    let (status, _) = post("/other", "{}").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, _) = post("/inject", vec![b' '; BODY_LIMITS.bytes_max + 1]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_review_of_three_megabytes_is_answered_and_one_byte_above_the_limit_is_not_read() {
    let mut large = review("orders-db");
    large["request"]["object"]["metadata"]["annotations"]["example.com/large"] = json!("x".repeat(3_000_000));
    let response = reviewed(&large).await;
    assert_eq!(response["patchType"], "JSONPatch");
    // The same size in the annotation that is ours: refused in a sentence, not in three megabytes.
    let response = reviewed(&review(&"a,".repeat(1_500_000))).await;
    assert_eq!(response["allowed"], false);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("tidelock.dev/inject") && message.len() < 1000, "{} bytes", message.len());
    let (status, answer) = post("/inject", vec![b'['; BODY_LIMITS.bytes_max]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer.starts_with(b"the body is not an AdmissionReview as JSON"), "depth is bounded");
}

fn anything() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(json!([])),
        Just(json!({"tidelock.dev/inject": 7})),
        Just(json!([{"name": 1, "volumeMounts": [null, {"mountPath": []}]}, "hunter2"])),
        "\\PC{0,8}".prop_map(|text| Value::from(format!("hunter2{text}"))),
    ]
}

proptest! {
    #[test]
    fn whatever_stands_in_a_review_it_is_answered_or_told_to_be_malformed(
        place in proptest::sample::select(vec![
            "", "/apiVersion", "/kind", "/request", "/request/uid", "/request/operation", "/request/namespace",
            "/request/kind", "/request/kind/kind", "/request/object", "/request/object/metadata",
            "/request/object/metadata/annotations", "/request/object/metadata/annotations/tidelock.dev~1inject",
            "/request/object/spec", "/request/object/spec/containers", "/request/object/spec/serviceAccountName",
        ]),
        thing in anything(),
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        prop_assert!(Request::parse(&bytes).is_err());
        let mut review = review("orders-db");
        *review.pointer_mut(place).unwrap() = thing;
        match Request::parse(review.to_string().as_bytes()) {
            Err(malformed) => prop_assert!(!malformed.to_string().contains("hunter2")),
            Ok(request) => {
                let endpoint = webhook(Arc::new(Kept::default())).endpoint;
                let _ = inject::inject(request.object(), request.namespace(), &endpoint);
                let _ = (request.maker(), request.service_account());
            }
        }
    }
}

#[test]
fn every_review_is_measured_by_its_outcome() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let webhook = webhook(Arc::new(Kept::default()));
            answer(review("a").to_string().as_bytes(), &webhook).await;
            answer(b"nonsense", &webhook).await;
        });
    });
    let page = handle.render();
    for outcome in ["injected", "malformed"] {
        let line = format!("tidelock_webhook_seconds_count{{outcome=\"{outcome}\"}} 1");
        assert!(page.contains(&line), "{page}");
    }
}
