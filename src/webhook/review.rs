//! AdmissionReview v1 as we read and write it. kube's types would take the pod through a struct that drops newer
//! fields, and write the patch as a list of numbers; these keep the pod as JSON and the patch as base64.
//! Must not put anything that a parser says of an object into a message: it may quote a value.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::ObjectReference;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("the body is not an {KIND} as JSON: line {line}, column {column}")]
    NotJson { line: usize, column: usize },
    #[error("the body is not an {KIND} of {API_VERSION}; set admissionReviewVersions to [v1]")]
    OtherKind,
    #[error("the {KIND} has no request with uid, kind, operation and namespace")]
    NoRequest,
    #[error("the request has no object")]
    NoObject,
}

impl Malformed {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Malformed::NotJson { .. } => "NotJson",
            Malformed::OtherKind => "OtherKind",
            Malformed::NoRequest => "NoRequest",
            Malformed::NoObject => "NoObject",
        }
    }
}

/// What the API server asks.
#[derive(Deserialize)]
pub(super) struct Request {
    uid: String,
    kind: Kind,
    operation: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    object: Value,
    #[serde(default, rename = "subResource")]
    subresource: String,
    #[serde(default, rename = "dryRun")]
    dry_run: Option<bool>,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    group: String,
    kind: String,
}

impl Request {
    pub(super) fn parse(body: &[u8]) -> Result<Request, Malformed> {
        let mut review: Value = serde_json::from_slice(body)
            .map_err(|error| Malformed::NotJson { line: error.line(), column: error.column() })?;
        if review["apiVersion"] != API_VERSION || review["kind"] != KIND {
            return Err(Malformed::OtherKind);
        }
        let request: Request =
            serde_json::from_value(review["request"].take()).map_err(|_| Malformed::NoRequest)?;
        if request.is_creation_of_pod() {
            if request.namespace.is_empty() {
                return Err(Malformed::NoRequest);
            }
            if !request.object.is_object() {
                return Err(Malformed::NoObject);
            }
        }
        Ok(request)
    }

    /// Anything else is none of our business, even when somebody has widened the webhook's rules.
    pub(super) fn is_creation_of_pod(&self) -> bool {
        self.kind.group.is_empty()
            && self.kind.kind == "Pod"
            && self.operation == "CREATE"
            && self.subresource.is_empty()
    }

    pub(super) fn uid(&self) -> &str {
        &self.uid
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(super) fn object(&self) -> &Value {
        &self.object
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run == Some(true)
    }

    /// What makes the pod, as the pod says: its controller, or else the pod itself, which may not have its name yet.
    pub(super) fn maker(&self) -> ObjectReference {
        let metadata = &self.object["metadata"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let namespace = Some(self.namespace.clone());
        let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
        let mut controllers = owners.filter(|owner| owner["controller"] == true);
        if let Some(owner) = controllers.next() {
            return ObjectReference {
                api_version: text(&owner["apiVersion"]),
                kind: text(&owner["kind"]),
                name: text(&owner["name"]),
                uid: text(&owner["uid"]),
                namespace,
                ..ObjectReference::default()
            };
        }
        let named = metadata["name"].as_str().filter(|name| !name.is_empty());
        let name = named.or(metadata["generateName"].as_str()).unwrap_or_default();
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(name.trim_end_matches(['-', '.']).to_owned()),
            namespace,
            ..ObjectReference::default()
        }
    }

    pub(super) fn service_account(&self) -> &str {
        match self.object["spec"]["serviceAccountName"].as_str() {
            Some(name) if !name.is_empty() => name,
            _ => "default",
        }
    }
}

/// What we answer.
pub(super) struct Answer(Response);

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Review {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
}

impl Answer {
    pub(super) fn allow() -> Answer {
        Answer(Response { allowed: true, ..Response::default() })
    }

    pub(super) fn refuse(message: String) -> Answer {
        let status = Status { code: 403, reason: "Forbidden", message };
        Answer(Response { status: Some(status), ..Response::default() })
    }

    pub(super) fn patch(operations: &[Value], warnings: Vec<String>) -> Answer {
        let allowed = Response { allowed: true, warnings, ..Response::default() };
        if operations.is_empty() {
            return Answer(allowed);
        }
        let patch = Value::from(operations).to_string();
        Answer(Response { patch: Some(STANDARD.encode(patch)), patch_type: Some("JSONPatch"), ..allowed })
    }

    pub(super) fn into_review(self, uid: &str) -> Review {
        let response = Response { uid: uid.to_owned(), ..self.0 };
        Review { api_version: API_VERSION, kind: KIND, response }
    }
}
