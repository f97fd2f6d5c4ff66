//! Identities of issuers outside of the cluster: which are trusted, and of which ServiceAccount their tokens are good for
//! the role. Must not verify a token, nor fetch anything: claims come in proved.

mod claims;
mod file;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::access::ServiceAccount;

pub use claims::{LEEWAY_SECONDS, Rejected, check, is_for};
pub use file::{IssuersError, parse};

/// The claims of a token.
pub type Claims = Map<String, Value>;

/// An OpenID Connect issuer that is trusted, as the configuration has it.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// Exactly as in its tokens.
    pub url: String,
    pub audience: String,
    pub authority: Authority,
    /// Its keys, where they cannot be fetched: a JWK set.
    pub jwks: Option<Value>,
    rules: Vec<Rule>,
}

/// What an issuer's certificate must come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    PublicRoots,
    /// Certificates in PEM.
    Bundle(String),
    /// A file of such, which may change while the server runs.
    File(PathBuf),
}

/// Whose role is for which tokens.
#[derive(Debug, Clone)]
struct Rule {
    account: ServiceAccount,
    /// By claim: texts with `*`, of which one must match.
    claims: BTreeMap<String, Vec<String>>,
}

impl Issuer {
    /// The ServiceAccount whose role is asked for, when some rule gives it to these claims.
    pub fn account(
        &self,
        is_asked_for: impl Fn(&ServiceAccount) -> bool,
        claims: &Claims,
    ) -> Option<&ServiceAccount> {
        let asked = self.rules.iter().filter(|rule| is_asked_for(&rule.account));
        asked.into_iter().find(|rule| rule.fits(claims)).map(|rule| &rule.account)
    }
}

impl Rule {
    fn fits(&self, claims: &Claims) -> bool {
        self.claims.iter().all(|(name, patterns)| {
            let found = claims.get(name).map(texts).unwrap_or_default();
            found.iter().any(|text| patterns.iter().any(|pattern| matches(pattern, text)))
        })
    }
}

/// What of a claim is compared: a text, a number or a truth value as JSON writes it, or each member of a list.
fn texts(value: &Value) -> Vec<String> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    match value {
        Value::Array(members) => members.iter().filter_map(one).collect(),
        other => one(other).into_iter().collect(),
    }
}

/// `*` stands for any text, also none; everything else for itself. The parts between are looked for from left to right,
/// each where it first is: the last one must be the end.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(begin) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(end)
}
