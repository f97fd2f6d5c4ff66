//! AWS STS, as far as a program's identity needs it: the query protocol in, XML out. A pod's own ServiceAccount token
//! becomes keys for an hour, and so does a token of an issuer that is trusted. Must not issue anything to whom neither
//! the cluster nor such an issuer vouched for.

mod proved;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use super::AwsApi;
use super::caller::{Caller, Unrecognized, invalid_token};
use super::xml::Element;
use crate::access::{Principal, ServiceAccount};
use crate::cluster::TokenRefused;
use crate::keeper::KeeperError;
use crate::policy::{role_arn, root_arn, session_arn};
use crate::signature::{Fault, Request, decoded};
use proved::Proved;

pub(super) const SERVICE: &str = "sts";
const VERSION: &str = "2011-06-15";
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
const SECONDS_MIN: i64 = 900;
/// What AWS's own model allows at most; a role's sessions end earlier.
const SECONDS_MODEL_MAX: i64 = 43_200;
const SECONDS_MAX: i64 = 3600;
/// Parameters that would limit what a session may do, or that are for other issuers. Left aside they would grant more
/// than was asked for.
const NOT_BUILT: [&str; 3] = ["Policy", "PolicyArns", "ProviderId"];

/// One request of the query protocol.
pub(super) struct Query(Vec<(String, Zeroizing<String>)>);

/// A refusal, as STS writes it.
#[derive(Debug)]
pub(super) struct StsError {
    pub status: StatusCode,
    pub code: &'static str,
    message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    AssumeRoleWithWebIdentity,
    GetCallerIdentity,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::AssumeRoleWithWebIdentity => "AssumeRoleWithWebIdentity",
            Self::GetCallerIdentity => "GetCallerIdentity",
        }
    }
}

impl Query {
    /// The parameters, when the request is one of this protocol: a form, or a query that names an action.
    pub(super) fn of(method: &Method, headers: &HeaderMap, query: &str, body: &[u8]) -> Option<Self> {
        if headers.contains_key("x-amz-target") {
            return None;
        }
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let is_form =
            method == Method::POST && kind.eq_ignore_ascii_case("application/x-www-form-urlencoded");
        let mut parameters = parameters(query);
        if is_form {
            parameters.extend(std::str::from_utf8(body).map(parameters_of_form).unwrap_or_default());
        }
        let query = Self(parameters);
        let asks = [Method::GET, Method::POST].contains(method) && query.get("Action").is_some();
        (is_form || asks).then_some(query)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn action(&self) -> Result<Action, StsError> {
        let name = self.get("Action").unwrap_or_default();
        let version = self.get("Version").unwrap_or_default();
        let known = [Action::AssumeRoleWithWebIdentity, Action::GetCallerIdentity];
        let found = known.into_iter().find(|action| action.name() == name && version == VERSION);
        found.ok_or_else(|| {
            let shown = |text: &str| text.chars().take(64).collect::<String>();
            let text = format!("Could not find operation {} for version {}", shown(name), shown(version));
            StsError::new(StatusCode::BAD_REQUEST, "InvalidAction", text)
        })
    }

    /// For metrics and logs: never what a caller made up.
    pub(super) fn operation(&self) -> &'static str {
        self.action().map_or("unknown", Action::name)
    }
}

fn parameters(text: &str) -> Vec<(String, Zeroizing<String>)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let read = pairs.filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let text = |part: &str| String::from_utf8(decoded(part)).ok();
        Some((text(name)?, Zeroizing::new(text(value)?)))
    });
    read.collect()
}

/// In a form a plus is a space.
fn parameters_of_form(body: &str) -> Vec<(String, Zeroizing<String>)> {
    parameters(&Zeroizing::new(body.replace('+', "%20")))
}

/// What a request for a session must say.
#[derive(Debug)]
struct Wanted<'a> {
    role: &'a str,
    session: &'a str,
    token: &'a str,
    lasts: SignedDuration,
}

impl<'a> Wanted<'a> {
    fn read(query: &'a Query) -> Result<Self, StsError> {
        let text = |name: &str| query.get(name).filter(|value| !value.is_empty());
        let mut wrong = Vec::new();
        let mut check = |name: &'static str, member: &str, least: usize, most: usize, sensitive: bool| {
            let value = text(name);
            let shown = |value: &str| if sensitive { String::new() } else { format!(" '{value}'") };
            let told = |value: String, why: &str| {
                format!("Value{value} at '{member}' failed to satisfy constraint: Member must {why}")
            };
            match value {
                None => wrong.push(told(" null".into(), "not be null")),
                Some(value) if value.chars().count() < least => {
                    wrong.push(told(shown(value), &format!("have length greater than or equal to {least}")));
                }
                Some(value) if value.chars().count() > most => {
                    let begin: String = value.chars().take(256).collect();
                    wrong.push(told(shown(&begin), &format!("have length less than or equal to {most}")));
                }
                Some(_) => {}
            }
            value.unwrap_or_default()
        };
        let role = check("RoleArn", "roleArn", 20, 2048, false);
        let session = check("RoleSessionName", "roleSessionName", 2, 64, false);
        let token = check("WebIdentityToken", "webIdentityToken", 4, 20_000, true);
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
        if !session.chars().all(allowed) {
            let why = "satisfy regular expression pattern: [\\w+=,.@-]*";
            wrong.push(format!(
                "Value '{session}' at 'roleSessionName' failed to satisfy constraint: Member must {why}"
            ));
        }
        let seconds = seconds(text("DurationSeconds"), &mut wrong);
        if !wrong.is_empty() {
            let noun = if wrong.len() == 1 { "error" } else { "errors" };
            return Err(validation(format!(
                "{} validation {noun} detected: {}",
                wrong.len(),
                wrong.join("; ")
            )));
        }
        let given = |name: &&&str| query.0.iter().any(|(known, _)| known.split('.').next() == Some(**name));
        if let Some(name) = NOT_BUILT.iter().find(given) {
            let text =
                format!("The parameter {name} is not supported by this version of Tidelock: leave it out.");
            return Err(validation(text));
        }
        if seconds > SECONDS_MAX {
            let text = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";
            return Err(validation(text));
        }
        Ok(Self { role, session, token, lasts: SignedDuration::from_secs(seconds) })
    }
}

fn seconds(given: Option<&str>, wrong: &mut Vec<String>) -> i64 {
    let Some(given) = given else { return SECONDS_MAX };
    let begin: String = given.chars().take(20).collect();
    let mut say = |why: String| {
        wrong.push(format!(
            "Value '{begin}' at 'durationSeconds' failed to satisfy constraint: Member must {why}"
        ));
    };
    match given.parse::<i64>() {
        Ok(seconds) if seconds < SECONDS_MIN => {
            say(format!("have value greater than or equal to {SECONDS_MIN}"));
        }
        Ok(seconds) if seconds > SECONDS_MODEL_MAX => {
            say(format!("have value less than or equal to {SECONDS_MODEL_MAX}"));
        }
        Ok(seconds) => return seconds,
        Err(_) => say("be a number".to_owned()),
    }
    SECONDS_MAX
}

impl AwsApi {
    pub(super) async fn answer_sts(
        &self,
        query: &Query,
        request: Request<'_>,
        id: &str,
    ) -> Result<Bytes, StsError> {
        let action = query.action()?;
        let result = match action {
            Action::AssumeRoleWithWebIdentity => self.assume_role(query).await?,
            Action::GetCallerIdentity => {
                let Caller { who } = self.caller(request, None, SERVICE).await?;
                self.identity(&who)
            }
        };
        let name = action.name();
        let metadata = Element::new("ResponseMetadata").text("RequestId", id);
        let whole = Element::new(&format!("{name}Response")).child(result).child(metadata);
        Ok(whole.document(NAMESPACE))
    }

    async fn assume_role(&self, query: &Query) -> Result<Element, StsError> {
        let wanted = Wanted::read(query)?;
        let Proved { who, subject, audience, outsider } = self.proved(&wanted).await?;
        let account = who.account().ok_or_else(StsError::internal)?;
        let issued = self.keeper.issue_session(&who, outsider.as_ref(), wanted.session, wanted.lasts).await?;
        let credentials = Element::new("Credentials")
            .text("AccessKeyId", &issued.key.id)
            .text("SecretAccessKey", &issued.key.secret)
            .text("SessionToken", &issued.token)
            .text("Expiration", &written(issued.expires_at));
        let user = Element::new("AssumedRoleUser")
            .text("AssumedRoleId", &role_id(&who, wanted.session))
            .text("Arn", &self.assumed_role_arn(account, wanted.session));
        let result = Element::new("AssumeRoleWithWebIdentityResult")
            .text("SubjectFromWebIdentityToken", &subject)
            .text("Audience", &audience);
        let result = match outsider {
            Some(outsider) => result.text("Provider", &outsider.issuer),
            None => result,
        };
        Ok(result.child(user).child(credentials))
    }

    fn identity(&self, who: &Principal) -> Element {
        let account = &self.keeper.settings().account;
        let session = who.session_name();
        let (arn, id) = match who.account() {
            Some(own) => (self.assumed_role_arn(own, session), role_id(who, session)),
            None => (root_arn(account), account.clone()),
        };
        Element::new("GetCallerIdentityResult").text("Arn", &arn).text("UserId", &id).text("Account", account)
    }

    /// The one role of a ServiceAccount.
    fn role_arn(&self, account: &ServiceAccount) -> String {
        role_arn(&self.keeper.settings().account, &account.namespace, &account.name)
    }

    fn assumed_role_arn(&self, account: &ServiceAccount, session: &str) -> String {
        session_arn(&self.keeper.settings().account, &account.namespace, &account.name, session)
    }
}

/// Shaped as AWS's: the role's unchanging id, here from the ServiceAccount's UID, and the session's name.
fn role_id(who: &Principal, session: &str) -> String {
    let Principal::ServiceAccount { uid, .. } = who else { return session.to_owned() };
    let unique: String = uid.chars().filter(char::is_ascii_alphanumeric).take(17).collect();
    format!("AROA{}:{session}", unique.to_ascii_uppercase())
}

fn written(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn validation(message: impl Into<String>) -> StsError {
    StsError::new(StatusCode::BAD_REQUEST, "ValidationError", message)
}

impl StsError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn internal() -> Self {
        let text = "The request processing has failed because of an unknown error, exception or failure.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure", text)
    }

    pub(super) fn document(&self, id: &str) -> Bytes {
        let side = if self.status.is_server_error() { "Receiver" } else { "Sender" };
        let error =
            Element::new("Error").text("Type", side).text("Code", self.code).text("Message", &self.message);
        Element::new("ErrorResponse").child(error).text("RequestId", id).document(NAMESPACE)
    }
}

impl From<Unrecognized> for StsError {
    fn from(unrecognized: Unrecognized) -> Self {
        let forbid = |code, text| Self::new(StatusCode::FORBIDDEN, code, text);
        match unrecognized {
            Unrecognized::Missing(_) => {
                forbid("MissingAuthenticationToken", "Request is missing Authentication Token".to_owned())
            }
            Unrecognized::Token(TokenRefused::Unavailable(_)) | Unrecognized::Unavailable => Self::internal(),
            Unrecognized::Token(refused) => forbid("InvalidClientTokenId", invalid_token(Some(&refused))),
            Unrecognized::Signature(fault @ Fault::Incomplete(_)) => {
                Self::new(StatusCode::BAD_REQUEST, "IncompleteSignature", fault.to_string())
            }
            Unrecognized::Signature(fault) => forbid("SignatureDoesNotMatch", fault.to_string()),
            Unrecognized::UnknownKey => forbid("InvalidClientTokenId", invalid_token(None)),
            Unrecognized::Gone(gone) => forbid("InvalidClientTokenId", invalid_token(Some(&gone))),
            Unrecognized::Expired => {
                forbid("ExpiredToken", "The security token included in the request is expired".to_owned())
            }
        }
    }
}

impl From<TokenRefused> for StsError {
    fn from(refused: TokenRefused) -> Self {
        let reject = |code, text: String| Self::new(StatusCode::BAD_REQUEST, code, text);
        match refused {
            TokenRefused::Unavailable(_) => {
                tracing::error!(reason = refused.reason(), error = %refused, "a web identity could not be reviewed");
                // Clients try this one again.
                reject("IDPCommunicationError", "The cluster could not be asked about the token.".to_owned())
            }
            TokenRefused::WrongAudience { .. } => {
                reject("InvalidIdentityToken", format!("Incorrect token audience: {refused}"))
            }
            refused => reject("InvalidIdentityToken", refused.to_string()),
        }
    }
}

impl From<KeeperError> for StsError {
    fn from(error: KeeperError) -> Self {
        tracing::error!(reason = error.reason(), %error, "a session could not be issued");
        Self::internal()
    }
}
