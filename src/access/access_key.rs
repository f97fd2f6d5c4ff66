//! Who may make, see and revoke access keys: whoever may make one for a ServiceAccount may act as it from anywhere.
//! Must not know keys, nor ask anybody.

use super::{Denied, Principal, RbacAnswer};

/// The resource of group `tidelock.dev` that RBAC is asked about, by the ServiceAccount's namespace and name.
pub const ACCESS_KEYS: &str = "accesskeys";

/// How many keys a ServiceAccount may have, as a user on AWS.
pub const ACCESS_KEYS_MAX: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyOperation {
    Create,
    List,
    Revoke,
}

impl KeyOperation {
    pub const ALL: [Self; 3] = [Self::Create, Self::List, Self::Revoke];

    pub fn verb(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::List => "list",
            Self::Revoke => "delete",
        }
    }

    /// As the AWS API's port knows it.
    pub fn action(self) -> &'static str {
        match self {
            Self::Create => "CreateAccessKey",
            Self::List => "ListAccessKeys",
            Self::Revoke => "RevokeAccessKey",
        }
    }
}

/// `on` is the ServiceAccount, or the namespace of those that are listed; `account` the installation's account id.
pub fn decide_keys(
    principal: &Principal,
    operation: KeyOperation,
    (on, account): (&str, &str),
    rbac: &RbacAnswer,
) -> Result<(), Denied> {
    let why = match (principal, rbac) {
        (Principal::Local, _) => {
            "because `tidelock dev` has one key, which it prints when it starts".to_owned()
        }
        (Principal::Controller, _) => "because no key is made for a resource".to_owned(),
        // Somebody whose key is about to be revoked must not have made himself another one.
        _ if operation == KeyOperation::Create && principal.signs_with_keys() => {
            "because it is signed with keys, and keys make no keys: send a ServiceAccount's token".to_owned()
        }
        (_, RbacAnswer::Allowed) => return Ok(()),
        (_, RbacAnswer::Unknown(why)) => {
            let (who, verb, name) =
                (principal.to_string(), operation.verb(), format!("{ACCESS_KEYS} of {on}"));
            return Err(Denied::Unknown { who, verb, name, why: why.clone() });
        }
        (_, RbacAnswer::Forbidden) => "with an explicit deny in an identity-based policy".to_owned(),
        (_, RbacAnswer::Denied) => format!(
            "because nothing in the cluster allows it the verb {} on {ACCESS_KEYS} of group tidelock.dev there",
            operation.verb()
        ),
    };
    let who = principal.asker(account).map_or_else(|| principal.to_string(), |asker| asker.to_string());
    let action = operation.action();
    Err(Denied::No(format!(
        "User: {who} is not authorized to perform: tidelock:{action} on resource: {on} {why}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{ServiceAccount, Via};

    fn who(session: Option<&str>) -> Principal {
        let account = ServiceAccount { namespace: "shop".into(), name: "operator".into() };
        let via = Via { session: session.map(str::to_owned), ..Via::default() };
        Principal::of_account(account, "uid-1".into(), via)
    }

    #[test]
    fn only_a_plain_yes_of_the_cluster_is_one_and_keys_make_no_keys() {
        let answers = [
            (RbacAnswer::Allowed, true),
            (RbacAnswer::Denied, false),
            (RbacAnswer::Forbidden, false),
            (RbacAnswer::Unknown("away".into()), false),
        ];
        for operation in KeyOperation::ALL {
            for (rbac, allowed) in &answers {
                let decide = |who: &Principal| decide_keys(who, operation, ("shop/ci", "0"), rbac).is_ok();
                assert_eq!(decide(&who(None)), *allowed, "{operation:?} {rbac:?}");
                let with_keys = *allowed && operation != KeyOperation::Create;
                assert_eq!(decide(&who(Some("AKIA"))), with_keys, "{operation:?} {rbac:?}");
                assert!(!decide(&Principal::Local) && !decide(&Principal::Controller));
            }
        }
    }

    #[test]
    fn the_table_of_verbs_for_keys_is_whole() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(root.join("docs/authorisation.md")).unwrap();
        for operation in KeyOperation::ALL {
            let row = format!("| `{}` | `{}` | `{ACCESS_KEYS}` |", operation.action(), operation.verb());
            assert!(text.lines().any(|line| line == row), "docs/authorisation.md lacks {row}");
        }
    }
}
