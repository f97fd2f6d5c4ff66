//! The decision itself: RBAC is the identity side, grants and the resource policy are the resource side; either may
//! allow, an explicit deny wins. Must not look at values, nor ask anybody.

use std::collections::BTreeSet;

use crate::secret::{Arn, Name, Stage, VersionId};

use super::{Operation, Principal, ServiceAccount};
use crate::failpoint;
use crate::policy::Decision;

/// What the cluster answered to the question whether somebody may do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RbacAnswer {
    Allowed,
    /// Nothing in the cluster allows it. A grant still may.
    Denied,
    /// An authorizer of the cluster denies it expressly. No grant helps.
    Forbidden,
    /// The question could not be asked. Not a yes; and not a no either, so it withdraws nothing.
    Unknown(String),
}

/// One line of `spec.access`.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'a> {
    pub account: &'a ServiceAccount,
    /// An empty list grants every stage.
    pub stages: &'a [Stage],
    /// `None` grants the whole value; a list only the projection of these keys.
    pub keys: Option<&'a [String]>,
}

/// The right of a rotation's own pod, for as long as that pod runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationRight {
    pub arn: Arn,
    /// The version that the rotation makes.
    pub version: VersionId,
    /// The pod of a mere test reads, and changes nothing.
    pub is_test: bool,
}

/// Which names a caller of the API may give to new secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamePolicy {
    /// In a cluster a name begins with the namespace of its owner.
    NamespacePrefix,
    /// Outside a cluster there are no namespaces.
    Free,
}

/// Who asks for what.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub principal: &'a Principal,
    pub operation: Operation,
    pub name: &'a Name,
    /// The account of the installation, which is in every ARN.
    pub account: &'a str,
    /// The secret as the caller named it, for the refusal's text.
    pub sent_id: &'a str,
    /// The version that the act writes: the token of a put, the version that a stage goes to or is taken from.
    pub version: Option<&'a VersionId>,
    /// The stages that the act reads or writes. Of a read by version id: the stages on that version.
    pub stages: &'a [Stage],
}

/// The witness that somebody may do one thing to one secret. Only `decide` makes one.
#[derive(Debug)]
pub struct Authorized {
    arn: Arn,
    operation: Operation,
    principal: Principal,
    keys: Option<BTreeSet<String>>,
    stages: Option<BTreeSet<Stage>>,
}

impl Authorized {
    pub fn arn(&self) -> &Arn {
        &self.arn
    }

    pub fn operation(&self) -> Operation {
        self.operation
    }

    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The keys that may be projected; `None` is the whole value.
    pub fn keys(&self) -> Option<&BTreeSet<String>> {
        self.keys.as_ref()
    }

    /// Whether a version that bears these stages may be read.
    pub fn permits_stages<'s>(&self, mut stages: impl Iterator<Item = &'s Stage>) -> bool {
        self.stages.as_ref().is_none_or(|allowed| stages.any(|stage| allowed.contains(stage)))
    }

    /// Whether this permits to open values of that secret: to hand them out (`Reveal`, `Project`), to compare them
    /// with a value that the caller already has (`Create`, `Put`), or to seal one again for a test (`Rotate`).
    pub fn opens(&self, arn: &Arn) -> bool {
        let opening = matches!(
            self.operation,
            Operation::Reveal
                | Operation::Project
                | Operation::Create
                | Operation::Put
                | Operation::UpdateValue
                | Operation::Rotate
        );
        opening && self.arn == *arn
    }
}

/// Why somebody may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The answer is no. The text is AWS's own where the caller came through the API.
    #[error("{0}")]
    No(String),
    /// The cluster could not be asked, and no grant allows it. Withdraws nothing.
    #[error("whether {who} may {verb} {name} could not be found out: {why}")]
    Unknown { who: String, verb: &'static str, name: String, why: String },
}

impl Denied {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::No(_) => "AccessDenied",
            Self::Unknown { .. } => "AccessUnknown",
        }
    }
}

/// All who have a say, and what they say.
#[derive(Clone, Copy)]
pub struct Sides<'a> {
    pub rbac: &'a RbacAnswer,
    pub grants: &'a [Grant<'a>],
    /// The secret's resource policy, about this request.
    pub policy: Decision,
    pub rotation: Option<&'a RotationRight>,
    pub names: NamePolicy,
}

/// Decides about an existing secret, or, for `Create`, about the one that would get this ARN.
pub fn decide(request: Request<'_>, arn: &Arn, sides: Sides<'_>) -> Result<Authorized, Denied> {
    let whole = |()| (None, None);
    let denied = sides.policy == Decision::Deny && failpoint::guard("policy-deny");
    let (keys, stages) = match request.principal {
        // A policy is about the account's principals, and the server is none: what Git says stays done.
        Principal::Controller => controller_may(request).map(whole)?,
        _ if denied => return Err(refusal(request, Because::PolicyDenies)),
        Principal::Local => (None, None),
        Principal::ServiceAccount { account, .. } => {
            own_prefix(request, account, sides.names)?;
            let by_rotation = sides.rotation.is_some_and(|right| right.arn == *arn && right.covers(request));
            // A policy is about a secret that is there.
            let by_policy = sides.policy == Decision::Allow && request.operation != Operation::Create;
            match sides.rbac {
                RbacAnswer::Forbidden => return Err(refusal(request, Because::ExplicitDeny)),
                RbacAnswer::Allowed => (None, None),
                RbacAnswer::Denied | RbacAnswer::Unknown(_) if by_rotation || by_policy => (None, None),
                answer => {
                    by_grants(request, account, sides.grants).ok_or_else(|| not_granted(request, answer))?
                }
            }
        }
    };
    let (operation, principal) = (request.operation, request.principal.clone());
    Ok(Authorized { arn: arn.clone(), operation, principal, keys, stages })
}

/// Decides about a name that no secret has: whoever may not act on it learns no more than that.
pub fn decide_unknown(request: Request<'_>, rbac: &RbacAnswer) -> Result<(), Denied> {
    match (request.principal, rbac) {
        (Principal::Controller, _) => controller_may(request),
        (Principal::Local, _) => Ok(()),
        (_, RbacAnswer::Allowed) => Ok(()),
        (_, RbacAnswer::Forbidden) => Err(refusal(request, Because::ExplicitDeny)),
        (_, answer) => Err(not_granted(request, answer)),
    }
}

impl RotationRight {
    /// Reads anything of its own secret; writes only its own version, and puts a value only as AWSPENDING, so that
    /// nothing becomes current but by the last step.
    fn covers(&self, request: Request<'_>) -> bool {
        let own = request.version == Some(&self.version);
        let only = |allowed: &[&str]| request.stages.iter().all(|stage| allowed.contains(&stage.as_str()));
        match request.operation {
            Operation::Describe | Operation::ListVersions | Operation::Reveal => true,
            _ if self.is_test => false,
            Operation::Put => own && !request.stages.is_empty() && only(&[Stage::PENDING]),
            Operation::MoveStage => own && only(&[Stage::CURRENT, Stage::PENDING]),
            _ => false,
        }
    }
}

/// The server acts for a custom resource: it may write, and never see.
fn controller_may(request: Request<'_>) -> Result<(), Denied> {
    match request.operation {
        Operation::Create
        | Operation::Describe
        | Operation::ListVersions
        | Operation::List
        | Operation::Put
        | Operation::MoveStage
        | Operation::Update
        | Operation::UpdateValue
        | Operation::Delete
        | Operation::Restore
        | Operation::Rotate
        | Operation::CancelRotation => Ok(()),
        // No resource has tags: they are their callers' alone.
        Operation::Reveal
        | Operation::Project
        | Operation::ReadPolicy
        | Operation::ListPolicies
        | Operation::WritePolicy
        | Operation::DeletePolicy
        | Operation::ValidatePolicy
        | Operation::Tag
        | Operation::Untag => Err(refusal(request, Because::NoPolicy)),
    }
}

fn own_prefix(request: Request<'_>, account: &ServiceAccount, names: NamePolicy) -> Result<(), Denied> {
    let free = request.operation != Operation::Create || names == NamePolicy::Free;
    if free || request.name.namespace() == Some(account.namespace.as_str()) {
        return Ok(());
    }
    Err(refusal(request, Because::ForeignPrefix(&account.namespace)))
}

type Limits = (Option<BTreeSet<String>>, Option<BTreeSet<Stage>>);

/// What the grants to this account give together, for the stages asked for; `None` when they give nothing.
fn by_grants(request: Request<'_>, account: &ServiceAccount, grants: &[Grant<'_>]) -> Option<Limits> {
    let for_stage = |grant: &&Grant<'_>| {
        grant.stages.is_empty() || request.stages.iter().any(|stage| grant.stages.contains(stage))
    };
    let own: Vec<_> = grants.iter().filter(|grant| grant.account == account).collect();
    let of_stage: Vec<_> = own.iter().copied().filter(for_stage).collect();
    let whole: Vec<_> = of_stage.iter().copied().filter(|grant| grant.keys.is_none()).collect();
    let stages = |grants: &[&Grant<'_>]| {
        let unlimited = grants.iter().any(|grant| grant.stages.is_empty());
        (!unlimited).then(|| grants.iter().flat_map(|grant| grant.stages.iter().cloned()).collect())
    };
    match request.operation {
        // Names and dates, which whoever reads the value may know: caching clients ask for them first.
        Operation::Describe | Operation::ListVersions if own.iter().any(|grant| grant.keys.is_none()) => {
            Some((None, None))
        }
        Operation::Reveal | Operation::Project if !whole.is_empty() => Some((None, stages(&whole))),
        Operation::Project if !of_stage.is_empty() => {
            let keys = of_stage.iter().filter_map(|grant| grant.keys).flatten().cloned().collect();
            Some((Some(keys), stages(&of_stage)))
        }
        _ => None,
    }
}

fn not_granted(request: Request<'_>, answer: &RbacAnswer) -> Denied {
    match answer {
        RbacAnswer::Unknown(why) => Denied::Unknown {
            who: request.principal.to_string(),
            verb: request.operation.verb(),
            name: request.name.to_string(),
            why: why.clone(),
        },
        _ => refusal(request, Because::NoPolicy),
    }
}

#[derive(Clone, Copy)]
enum Because<'a> {
    NoPolicy,
    ExplicitDeny,
    PolicyDenies,
    ForeignPrefix(&'a str),
}

/// AWS's words, for clients match on them; a projection was never asked of AWS and says what to do instead.
fn refusal(request: Request<'_>, because: Because<'_>) -> Denied {
    let (who, name) = (request.principal, request.name);
    if request.operation == Operation::Project {
        let account = who.account().map_or_else(|| who.to_string(), ToString::to_string);
        return Denied::No(match because {
            Because::ExplicitDeny => {
                format!("an authorizer of the cluster denies ServiceAccount {account} the secret {name}")
            }
            Because::PolicyDenies => {
                format!("the resource policy of the secret {name} denies it to ServiceAccount {account}")
            }
            _ => format!(
                "ServiceAccount {account} may not have the secret {name}: name it under spec.access of the \
                 ManagedSecret, or allow it the verb project on managedsecrets/value"
            ),
        });
    }
    let action = request.operation.action();
    let on = match request.operation {
        Operation::List => String::new(),
        _ => format!(" on resource: {}", request.sent_id),
    };
    let why = match because {
        Because::ExplicitDeny => "with an explicit deny in an identity-based policy".to_owned(),
        Because::PolicyDenies => "with an explicit deny in a resource-based policy".to_owned(),
        Because::NoPolicy => {
            format!("because no identity-based policy allows the secretsmanager:{action} action")
        }
        Because::ForeignPrefix(namespace) => format!(
            "because no identity-based policy allows the secretsmanager:{action} action: names here start with \
             `{namespace}/`"
        ),
    };
    let who = who.asker(request.account).map_or_else(|| who.to_string(), |asker| asker.to_string());
    Denied::No(format!("User: {who} is not authorized to perform: secretsmanager:{action}{on} {why}"))
}

#[cfg(test)]
mod tests;
