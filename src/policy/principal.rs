//! Whom a statement means, and who asks. Must not know tokens: an asker comes as the ARNs he is known by.

use std::fmt;

/// Somebody who asks, by all that a policy may call him.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// `arn:aws:iam::<account>:root`: what holds of everybody in the account.
    root: String,
    /// The role and the session; the account's own root user has none.
    role: Option<(String, String)>,
}

pub fn root_arn(account: &str) -> String {
    format!("arn:aws:iam::{account}:root")
}

/// The one role of a ServiceAccount.
pub fn role_arn(account: &str, namespace: &str, name: &str) -> String {
    format!("arn:aws:iam::{account}:role/{namespace}/{name}")
}

pub fn session_arn(account: &str, namespace: &str, name: &str, session: &str) -> String {
    format!("arn:aws:sts::{account}:assumed-role/{namespace}/{name}/{session}")
}

impl Asker {
    pub fn root(account: &str) -> Self {
        Self { root: root_arn(account), role: None }
    }

    pub fn session(account: &str, namespace: &str, name: &str, session: &str) -> Self {
        let role = role_arn(account, namespace, name);
        Self { root: root_arn(account), role: Some((role, session_arn(account, namespace, name, session))) }
    }

    /// As refusals call him.
    pub fn arn(&self) -> &str {
        self.role.as_ref().map_or(&self.root, |(_, session)| session)
    }

    /// As the key `aws:PrincipalArn` calls him: by his role, never by a session.
    pub fn principal_arn(&self) -> &str {
        self.role.as_ref().map_or(&self.root, |(role, _)| role)
    }

    fn chain(&self) -> impl Iterator<Item = &str> {
        let role = self.role.iter().flat_map(|(role, session)| [role.as_str(), session.as_str()]);
        [self.root.as_str()].into_iter().chain(role)
    }
}

/// Whom a statement means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meant {
    Named(Vec<Named>),
    AllBut(Vec<Named>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    Everybody,
    /// The account's root: everybody in the account where it denies; where it allows, it leaves the decision to the
    /// identity side.
    Account,
    /// A role or one of its sessions, by its ARN.
    One(String),
}

/// How a statement means the asker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// As everybody, or himself.
    Whole,
    /// Only as somebody of the account.
    OfAccount,
}

impl Meant {
    pub(super) fn meaning(&self, asker: &Asker) -> Option<Meaning> {
        match self {
            Self::Named(named) => {
                let whole = named.iter().any(|one| match one {
                    Named::Everybody => true,
                    Named::Account => asker.role.is_none(),
                    Named::One(arn) => asker.chain().any(|known| known == arn),
                });
                let of_account = named.contains(&Named::Account).then_some(Meaning::OfAccount);
                whole.then_some(Meaning::Whole).or(of_account)
            }
            // As with AWS: session, role and account must all be named for one to be left out.
            Self::AllBut(named) => {
                let is_named = |known: &str| {
                    named.iter().any(|one| match one {
                        Named::Everybody => true,
                        Named::Account => known == asker.root,
                        Named::One(arn) => arn == known,
                    })
                };
                (!asker.chain().all(is_named)).then_some(Meaning::Whole)
            }
        }
    }

    pub(super) fn is_everybody(&self) -> bool {
        matches!(self, Self::Named(named) if named.contains(&Named::Everybody))
    }
}

impl Named {
    /// Reads a principal of the kind `AWS`. One that nobody here can be is refused: it would be ignored.
    pub(super) fn parse(text: &str, account: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Everybody);
        }
        if text == account || text == root_arn(account) {
            return Ok(Self::Account);
        }
        let role = text.strip_prefix(&format!("arn:aws:iam::{account}:role/"));
        let session = text.strip_prefix(&format!("arn:aws:sts::{account}:assumed-role/"));
        let is_one = match (role, session) {
            (Some(role), _) => role.split_once('/').is_some_and(|(ns, name)| is_name(ns) && is_name(name)),
            (_, Some(session)) => {
                let parts: Vec<_> = session.splitn(3, '/').collect();
                matches!(parts[..], [ns, name, session] if is_name(ns) && is_name(name) && is_session(session))
            }
            _ => false,
        };
        if is_one {
            return Ok(Self::One(text.to_owned()));
        }
        Err(format!(
            "nobody here is the principal {text}: a principal is *, {account}, {root}, {role} or {session}",
            root = root_arn(account),
            role = role_arn(account, "<namespace>", "<ServiceAccount>"),
            session = session_arn(account, "<namespace>", "<ServiceAccount>", "<session>"),
        ))
    }
}

/// What Kubernetes lets an object be called; no wildcard is in it.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
}

fn is_session(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.arn())
    }
}
