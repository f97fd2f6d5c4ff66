//! The file that names the trusted issuers. Must not take what it does not understand: a condition that is ignored would
//! let somebody in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use super::{Authority, Issuer, Rule};
use crate::access::ServiceAccount;

/// Says which field is wrong, and what would be right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuersError {
    #[error("the file is not YAML: {0}; write a list of issuers, docs/outside.md has the fields")]
    Yaml(String),
    #[error("oidcIssuers{at}: {wrong}")]
    Field { at: String, wrong: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Entry {
    issuer: String,
    audience: String,
    ca_bundle: Option<String>,
    ca_file: Option<PathBuf>,
    jwks: Option<Value>,
    rules: Vec<RuleEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RuleEntry {
    service_account: String,
    claims: BTreeMap<String, Vec<String>>,
}

/// `[{issuer, audience, caBundle or caFile or jwks?, rules: [{serviceAccount, claims}]}]`, in YAML.
pub fn parse(text: &str) -> Result<Vec<Issuer>, IssuersError> {
    let given: Value = serde_yaml::from_str::<Option<Value>>(text)
        .map_err(|error| IssuersError::Yaml(first_line(&error.to_string())))?
        .unwrap_or_else(|| Value::Array(Vec::new()));
    let entries: Vec<Entry> = serde_path_to_error::deserialize(given).map_err(|error| {
        let path = error.path().to_string();
        let at = if path.starts_with('[') { path } else { String::new() };
        IssuersError::Field { at, wrong: format!("{}; docs/outside.md has the fields", error.inner()) }
    })?;
    let mut issuers: Vec<Issuer> = Vec::new();
    for (n, entry) in entries.into_iter().enumerate() {
        let issuer = issuer(entry, &format!("[{n}]"))?;
        if issuers.iter().any(|other| other.url == issuer.url) {
            return Err(wrong(
                format!("[{n}].issuer"),
                "it is there already: put all rules of an issuer together",
            ));
        }
        issuers.push(issuer);
    }
    Ok(issuers)
}

/// A parser of YAML draws the place below it.
fn first_line(error: &str) -> String {
    error.trim_start_matches("error: ").lines().next().unwrap_or_default().to_owned()
}

fn wrong(at: String, wrong: impl Into<String>) -> IssuersError {
    IssuersError::Field { at, wrong: wrong.into() }
}

fn issuer(entry: Entry, at: &str) -> Result<Issuer, IssuersError> {
    if !is_https(&entry.issuer) {
        let right =
            "write the issuer's URL as its tokens have it: https://, a host, and no query or fragment";
        return Err(wrong(format!("{at}.issuer"), right));
    }
    if entry.audience.is_empty() {
        return Err(wrong(format!("{at}.audience"), "write the audience that the tokens are made for"));
    }
    let authority = authority(&entry, at)?;
    if entry.jwks.is_some() && authority != Authority::PublicRoots {
        let field = if entry.ca_file.is_some() { "caFile" } else { "caBundle" };
        return Err(wrong(format!("{at}.{field}"), "leave it out: with jwks nothing is fetched"));
    }
    let keys = entry.jwks.as_ref().map(|jwks| jwks.get("keys").and_then(Value::as_array));
    if keys.is_some_and(|keys| keys.is_none_or(Vec::is_empty)) {
        return Err(wrong(format!("{at}.jwks"), "write a JWK set: {keys: [...]}, with at least one key"));
    }
    if entry.rules.is_empty() {
        return Err(wrong(
            format!("{at}.rules"),
            "write at least one rule: without one no token is good for anything",
        ));
    }
    let rules = entry.rules.into_iter().enumerate();
    let rules = rules.map(|(n, entry)| rule(entry, &format!("{at}.rules[{n}]"))).collect::<Result<_, _>>()?;
    let Entry { issuer: url, audience, jwks, .. } = entry;
    Ok(Issuer { url, audience, authority, jwks, rules })
}

fn authority(entry: &Entry, at: &str) -> Result<Authority, IssuersError> {
    match (&entry.ca_bundle, &entry.ca_file) {
        (None, None) => Ok(Authority::PublicRoots),
        (Some(_), Some(_)) => {
            Err(wrong(format!("{at}.caFile"), "there is a caBundle as well: write one of the two"))
        }
        (Some(pem), None) if !pem.contains("-----BEGIN CERTIFICATE-----") => {
            Err(wrong(format!("{at}.caBundle"), "write certificates in PEM"))
        }
        (Some(pem), None) => Ok(Authority::Bundle(pem.clone())),
        (None, Some(path)) if !path.is_absolute() => {
            Err(wrong(format!("{at}.caFile"), "write the whole path of a file of certificates, from / on"))
        }
        (None, Some(path)) => Ok(Authority::File(path.clone())),
    }
}

fn rule(entry: RuleEntry, at: &str) -> Result<Rule, IssuersError> {
    let account = ServiceAccount::read(&entry.service_account)
        .ok_or_else(|| wrong(format!("{at}.serviceAccount"), "write NAMESPACE/NAME"))?;
    let is_all = |pattern: &String| pattern.chars().all(|c| c == '*');
    for (name, patterns) in &entry.claims {
        if patterns.is_empty() || patterns.iter().any(String::is_empty) {
            return Err(wrong(
                format!("{at}.claims.{name}"),
                "write at least one text, and none that is empty",
            ));
        }
    }
    if !entry.claims.values().any(|patterns| !patterns.iter().any(is_all)) {
        let right = "write at least one claim with a condition that is not just *, such as sub: [\"repo:acme/orders:*\"]: \
                     otherwise everybody who has a token of this issuer gets the role";
        return Err(wrong(format!("{at}.claims"), right));
    }
    Ok(Rule { account, claims: entry.claims })
}

fn is_https(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else { return false };
    let host = uri.host().is_some_and(|host| !host.is_empty());
    let plain = !url.contains(['@', '?', '#']);
    uri.scheme_str() == Some("https") && host && plain
}
