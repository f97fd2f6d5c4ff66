//! May this principal do that? Asks the cluster's authorizer (SubjectAccessReview) with verbs of our own.
//! Must not decide: policies and grants are weighed in `access`. An unanswered question is `Unknown`, never a no.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::{Api, Client, api::PostParams};

use super::together::Together;
use super::{PodReader, within};
use crate::access::{ACCESS_KEYS, KeyOperation, Operation, Principal, RbacAnswer, ServiceAccount};
use crate::clock::Clock;
use crate::keeper::{Rights, RotationJob};
use crate::secret::Name;

/// How long an answer stands. Part of the promised bound on how late a revocation bites.
const ANSWER_STANDS: Duration = Duration::from_secs(5);

/// Beyond this many answers those that no longer stand are dropped, then all.
const ANSWERS_MAX: usize = 16_384;

/// The authorizer of the cluster, with answers remembered for a few seconds.
pub struct AccessReviews {
    reviews: Api<SubjectAccessReview>,
    pods: PodReader,
    clock: Arc<dyn Clock>,
    answers: Mutex<HashMap<Question, (RbacAnswer, Instant)>>,
    /// By account and uid.
    tags: Mutex<HashMap<(ServiceAccount, String), (Tags, Instant)>>,
    asked: Together<Question, Asked>,
    /// Whether each name is asked about by itself, and never all of a namespace at once.
    each_name: bool,
}

/// An answer, and when the question was asked.
type Asked = (RbacAnswer, Instant);

type Tags = BTreeMap<String, String>;

/// All that the authorizer gets to see. Two questions that differ in anything are two questions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    user: String,
    uid: String,
    groups: Arc<[String]>,
    extra: Arc<BTreeMap<String, Vec<String>>>,
    right: Right,
    namespace: String,
    name: String,
}

/// A verb on a resource of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Right {
    resource: &'static str,
    subresource: Option<&'static str>,
    verb: &'static str,
}

impl From<Operation> for Right {
    fn from(operation: Operation) -> Self {
        Self { resource: "managedsecrets", subresource: operation.subresource(), verb: operation.verb() }
    }
}

impl From<KeyOperation> for Right {
    fn from(operation: KeyOperation) -> Self {
        Self { resource: ACCESS_KEYS, subresource: None, verb: operation.verb() }
    }
}

impl AccessReviews {
    pub fn new(client: Client, clock: Arc<dyn Clock>) -> Self {
        let pods = PodReader::new(client.clone());
        let (answers, tags) = (Mutex::default(), Mutex::default());
        Self {
            reviews: Api::all(client),
            pods,
            clock,
            answers,
            tags,
            asked: Together::new(),
            each_name: false,
        }
    }

    /// For an authorizer that says yes to all objects of a namespace, and no to some of them.
    pub fn of_each_name(self, each_name: bool) -> Self {
        Self { each_name, ..self }
    }

    fn remembered(&self, question: &Question) -> Option<RbacAnswer> {
        let now = self.clock.monotonic();
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (answer, asked_at) = answers.get(question)?;
        stands(*asked_at, now).then(|| answer.clone())
    }

    fn review(&self, question: &Question) -> impl Future<Output = Asked> + Send + 'static {
        let (reviews, review, clock) = (self.reviews.clone(), question.review(), Arc::clone(&self.clock));
        async move {
            let asked_at = clock.monotonic();
            let answer = match within(reviews.create(&PostParams::default(), &review)).await {
                Ok(review) => answer(review.status),
                Err(error) => RbacAnswer::Unknown(format!("the access review failed: {error}")),
            };
            (answer, asked_at)
        }
    }

    fn remember(&self, question: Question, answer: &RbacAnswer, asked_at: Instant) {
        if matches!(answer, RbacAnswer::Unknown(_)) {
            return;
        }
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= ANSWERS_MAX {
            answers.retain(|_, (_, at)| stands(*at, asked_at));
            if answers.len() >= ANSWERS_MAX {
                answers.clear();
            }
        }
        answers.insert(question, (answer.clone(), asked_at));
    }
}

#[async_trait]
impl Rights for AccessReviews {
    /// Only an account of the cluster can be asked about, and only a name that lies in a namespace.
    async fn ask(&self, who: &Principal, operation: Operation, name: &Name) -> RbacAnswer {
        let Some(mut question) = Question::of(who, operation, name) else { return RbacAnswer::Denied };
        // A pod asks for files once; a program asks for one secret after the other, and most may have all of a namespace:
        // by Kubernetes' convention a review without a name is about every object.
        if operation != Operation::Project && !self.each_name {
            let name = question.broadened();
            if self.answer(&question).await == RbacAnswer::Allowed {
                return RbacAnswer::Allowed;
            }
            question.name = name;
        }
        self.answer(&question).await
    }

    /// Asked without a name: a rule that names its objects does not let anybody list.
    async fn list(&self, who: &Principal, namespace: Option<&str>) -> RbacAnswer {
        match Question::by(who, Operation::List.into(), namespace.unwrap_or_default(), "") {
            Some(question) => self.answer(&question).await,
            None => RbacAnswer::Denied,
        }
    }

    /// From the ServiceAccount's labels, remembered as long as an answer.
    async fn tags(&self, who: &Principal) -> Result<Tags, String> {
        let Some(account) = who.account() else { return Ok(Tags::new()) };
        let (question, now) = ((account.clone(), who.uid().to_owned()), self.clock.monotonic());
        let known = self.tags.lock().unwrap_or_else(PoisonError::into_inner).get(&question).cloned();
        if let Some((tags, asked_at)) = known
            && stands(asked_at, now)
        {
            return Ok(tags);
        }
        let tags = self.pods.tags(account, who.uid()).await.map_err(|error| error.to_string())?;
        let mut known = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ANSWERS_MAX {
            known.clear();
        }
        known.insert(question, (tags.clone(), now));
        Ok(tags)
    }

    async fn ask_keys(
        &self,
        who: &Principal,
        operation: KeyOperation,
        account: &ServiceAccount,
    ) -> RbacAnswer {
        // Without a namespace the question would be about all of them.
        let namespace = Some(account.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let question =
            namespace.and_then(|namespace| Question::by(who, operation.into(), namespace, &account.name));
        match question {
            Some(question) => self.answer(&question).await,
            None => RbacAnswer::Denied,
        }
    }

    async fn account_uid(&self, account: &ServiceAccount) -> Result<Option<String>, String> {
        self.pods.account_uid(account).await.map_err(|error| error.to_string())
    }

    async fn rotation_job(&self, who: &Principal) -> Option<RotationJob> {
        self.pods.rotation_job(who).await
    }
}

impl AccessReviews {
    async fn answer(&self, question: &Question) -> RbacAnswer {
        if let Some(answer) = self.remembered(question) {
            return answer;
        }
        let (answer, asked_at) = self.asked.ask(question, || self.review(question)).await;
        self.remember(question.clone(), &answer, asked_at);
        answer
    }
}

/// Counted from when the question was asked, for the authorizer's answer may be as old as that.
fn stands(asked_at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(asked_at) < ANSWER_STANDS
}

impl Question {
    fn of(who: &Principal, operation: Operation, name: &Name) -> Option<Self> {
        let namespace = name.namespace().filter(|namespace| !namespace.is_empty())?;
        Self::by(who, operation.into(), namespace, name.rest().filter(|rest| !rest.is_empty())?)
    }

    /// An empty namespace is every one, an empty name every object.
    fn by(who: &Principal, right: Right, namespace: &str, name: &str) -> Option<Self> {
        let Principal::ServiceAccount { account, uid, groups, extra, .. } = who else {
            return None;
        };
        Some(Self {
            user: account.user(),
            uid: uid.clone(),
            groups: Arc::clone(groups),
            extra: Arc::clone(extra),
            right,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// From now on it is about all names. Gives the one that it was about.
    fn broadened(&mut self) -> String {
        std::mem::take(&mut self.name)
    }

    fn review(&self) -> SubjectAccessReview {
        SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(self.user.clone()),
                uid: Some(self.uid.clone()),
                groups: Some(self.groups.to_vec()),
                extra: Some(BTreeMap::clone(&self.extra)),
                non_resource_attributes: None,
                resource_attributes: Some(ResourceAttributes {
                    group: Some("tidelock.dev".into()),
                    resource: Some(self.right.resource.into()),
                    subresource: self.right.subresource.map(str::to_owned),
                    verb: Some(self.right.verb.into()),
                    namespace: Some(self.namespace.clone()),
                    name: Some(self.name.clone()),
                    ..ResourceAttributes::default()
                }),
            },
            ..SubjectAccessReview::default()
        }
    }
}

/// An explicit no and a plain yes are answers. Without a yes, an evaluation that went wrong is no answer at all: the
/// authorizer may not have seen the rule that allows.
fn answer(status: Option<SubjectAccessReviewStatus>) -> RbacAnswer {
    let Some(status) = status else {
        return RbacAnswer::Unknown("the access review came back without a status".into());
    };
    let broken = status.evaluation_error.filter(|error| !error.is_empty());
    match (status.denied.unwrap_or(false), status.allowed, broken) {
        (true, _, _) => RbacAnswer::Forbidden,
        (false, true, _) => RbacAnswer::Allowed,
        (false, false, Some(error)) => RbacAnswer::Unknown(format!("the authorizer could not tell: {error}")),
        (false, false, None) => RbacAnswer::Denied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who() -> Principal {
        Principal::ServiceAccount {
            account: ServiceAccount { namespace: "shop".into(), name: "orders-api".into() },
            uid: "uid-1".into(),
            groups: ["system:authenticated".into()].into(),
            extra: BTreeMap::from([("k".to_owned(), vec!["v".to_owned()])]).into(),
            pod: None,
            via: Box::default(),
        }
    }

    #[test]
    fn a_question_names_user_uid_groups_extra_namespace_and_the_rest_of_the_name() {
        let name = Name::parse("shop/db/main").unwrap();
        let spec = Question::of(&who(), Operation::Reveal, &name).unwrap().review().spec;
        let resource = spec.resource_attributes.unwrap();
        assert_eq!(spec.user.as_deref(), Some("system:serviceaccount:shop:orders-api"));
        assert_eq!(spec.uid.as_deref(), Some("uid-1"));
        assert_eq!(spec.groups.unwrap(), ["system:authenticated"]);
        assert_eq!(spec.extra.unwrap()["k"], ["v"]);
        assert_eq!(resource.group.as_deref(), Some("tidelock.dev"));
        assert_eq!(resource.resource.as_deref(), Some("managedsecrets"));
        assert_eq!(resource.subresource.as_deref(), Some("value"));
        assert_eq!(resource.verb.as_deref(), Some("reveal"));
        assert_eq!(resource.namespace.as_deref(), Some("shop"));
        assert_eq!(resource.name.as_deref(), Some("db/main"));
    }

    #[test]
    fn a_question_of_all_names_is_one_of_the_same_right_in_the_same_namespace() {
        let of_one = Question::of(&who(), Operation::Reveal, &Name::parse("shop/db").unwrap()).unwrap();
        let mut of_all = of_one.clone();
        assert_eq!(of_all.broadened(), "db");
        let (one, all) = (of_one.review().spec, of_all.review().spec);
        let expected = one
            .resource_attributes
            .clone()
            .map(|named| ResourceAttributes { name: Some(String::new()), ..named });
        assert_eq!(all, SubjectAccessReviewSpec { resource_attributes: expected, ..one });
    }

    #[test]
    fn a_name_outside_every_namespace_and_the_controller_are_never_asked_about() {
        for name in ["db", "/db", "shop/"] {
            assert_eq!(Question::of(&who(), Operation::Reveal, &Name::parse(name).unwrap()), None, "{name}");
        }
        let name = Name::parse("shop/db").unwrap();
        assert_eq!(Question::of(&Principal::Controller, Operation::Reveal, &name), None);
    }

    #[test]
    fn only_a_plain_answer_is_an_answer() {
        let check = |allowed, denied, error: Option<&str>, expected: &str| {
            let evaluation_error = error.map(str::to_owned);
            let status = SubjectAccessReviewStatus { allowed, denied, evaluation_error, reason: None };
            let word = match answer(Some(status)) {
                RbacAnswer::Allowed => "yes",
                RbacAnswer::Denied => "no",
                RbacAnswer::Forbidden => "expressly no",
                RbacAnswer::Unknown(_) => "unknown",
            };
            assert_eq!(word, expected, "{allowed} {denied:?} {error:?}");
        };
        check(true, None, None, "yes");
        check(true, Some(false), Some("one role is missing"), "yes");
        check(true, Some(true), None, "expressly no");
        check(false, None, None, "no");
        check(false, None, Some(""), "no");
        check(false, Some(false), Some("webhook timed out"), "unknown");
        assert!(matches!(answer(None), RbacAnswer::Unknown(_)));
    }

    #[test]
    fn an_answer_stands_for_five_seconds_from_the_question() {
        let asked_at = crate::clock::SystemClock.monotonic();
        assert!(stands(asked_at, asked_at + Duration::from_millis(4999)));
        assert!(!stands(asked_at, asked_at + Duration::from_secs(5)));
    }
}
