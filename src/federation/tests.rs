//! The file of issuers, and which claims are whose.

use jiff::Timestamp;
use serde_json::json;

use super::*;

const FILE: &str = r#"
- issuer: https://ci.example
  audience: tidelock
  rules:
  - serviceAccount: shop/deployer
    claims: {sub: ["repo:acme/orders:*", "repo:acme/stock:ref:refs/heads/main"], protected: ["true"]}
  - serviceAccount: shop/other
    claims: {groups: [ops], level: ["7"]}
"#;

fn claims(value: Value) -> Claims {
    let Value::Object(claims) = value else { panic!("no object") };
    claims
}

fn account(given: Value, name: &str) -> Option<String> {
    let issuers = parse(FILE).unwrap();
    issuers[0].account(|account| account.name == name, &claims(given)).map(ToString::to_string)
}

#[test]
fn a_pattern_is_exact_but_for_its_stars() {
    for (pattern, text, expected) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("a", "A", false),
        ("a*", "a", true),
        ("a*", "ba", false),
        ("*a", "ba", true),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-c", false),
        ("ab*ba", "aba", false),
        ("a*a", "a", false),
        ("*", "", true),
        ("a?c", "abc", false),
        ("repo:acme/*", "repo:acme-evil/x", false),
        ("*bc", "abcbc", true),
        ("a**b", "ab", true),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }
}

#[test]
fn all_claims_of_a_rule_must_match_and_of_each_one_text() {
    let good = json!({"sub": "repo:acme/orders:ref:refs/heads/x", "protected": true});
    assert_eq!(account(good.clone(), "deployer").as_deref(), Some("shop/deployer"));
    assert_eq!(account(good, "other"), None, "another one's role");
    let sub = "repo:acme/stock:ref:refs/heads/main";
    assert!(account(json!({"sub": sub, "protected": "true"}), "deployer").is_some());
    for wrong in [
        json!({"sub": sub}),
        json!({"sub": sub, "protected": false}),
        json!({"sub": "repo:acme/stock:ref:refs/heads/mainline", "protected": true}),
        json!({"sub": {"a": sub}, "protected": true}),
        json!({"sub": null, "protected": true}),
        json!({}),
    ] {
        assert_eq!(account(wrong.clone(), "deployer"), None, "{wrong}");
    }
    assert!(account(json!({"groups": ["dev", "ops"], "level": 7}), "other").is_some());
    assert!(account(json!({"groups": [], "level": 7}), "other").is_none());
    assert!(account(json!({"groups": [["ops"]], "level": 7}), "other").is_none());
}

#[test]
fn issuer_audience_and_times_are_compared() {
    let issuer = &parse(FILE).unwrap()[0];
    let now = Timestamp::from_second(1_000_000).unwrap();
    let said = |change: Value| {
        let mut given = claims(json!({"iss": "https://ci.example", "aud": "tidelock", "exp": 1_000_100}));
        given.extend(claims(change));
        check(&given, issuer, now)
    };
    assert_eq!(said(json!({})), Ok(()));
    assert_eq!(said(json!({"aud": ["x", "tidelock"]})), Ok(()));
    assert_eq!(said(json!({"exp": 999_941, "nbf": 1_000_060, "iat": 1_000_060.5})), Ok(()));
    for (change, expected) in [
        (json!({"iss": "https://ci.example/"}), Rejected::Issuer),
        (json!({"aud": "tidelock2"}), Rejected::Audience("tidelock".into())),
        (json!({"aud": []}), Rejected::Audience("tidelock".into())),
        (json!({"exp": 999_940}), Rejected::Expired),
        (json!({"exp": null}), Rejected::Time("exp")),
        (json!({"exp": "1000100"}), Rejected::Time("exp")),
        (json!({"nbf": 1_000_061}), Rejected::NotYet("nbf")),
        (json!({"iat": 1_000_061}), Rejected::NotYet("iat")),
        (json!({"nbf": "now"}), Rejected::Time("nbf")),
    ] {
        assert_eq!(said(change.clone()), Err(expected), "{change}");
    }
    let none = claims(json!({"iss": "https://ci.example", "aud": "tidelock"}));
    assert_eq!(check(&none, issuer, now), Err(Rejected::Time("exp")));
}

#[test]
fn what_is_not_understood_is_refused_by_its_field_with_what_is_right() {
    assert!(parse("").unwrap().is_empty() && parse("[]").unwrap().is_empty());
    let file =
        |more: &str, rules: &str| format!("[{{issuer: 'https://a', audience: b{more}, rules: [{rules}]}}]");
    let good = "{serviceAccount: a/b, claims: {sub: [x]}}";
    assert_eq!(parse(&file("", good)).unwrap().len(), 1);
    let twice = format!("{}{}", FILE, FILE);
    for (text, words) in [
        ("a: b".to_owned(), "oidcIssuers: "),
        ("[{issuer: 'https://a'}]".to_owned(), "oidcIssuers[0]"),
        (file(", audiences: c", good), "audiences"),
        (file(", jwks: {}", good), "oidcIssuers[0].jwks: write a JWK set"),
        (file(", caBundle: x", good), "oidcIssuers[0].caBundle: write certificates"),
        (file(", caBundle: x, caFile: /x", good), "oidcIssuers[0].caFile: there is a caBundle as well"),
        (file(", caFile: x", good), "oidcIssuers[0].caFile: write the whole path"),
        (file(", caFile: [x]", good), "oidcIssuers[0].caFile: invalid type"),
        (file(", caFile: /x, jwks: {keys: [1]}", good), "oidcIssuers[0].caFile: leave it out"),
        (
            file(", caBundle: -----BEGIN CERTIFICATE-----, jwks: {}", good),
            "oidcIssuers[0].caBundle: leave it out",
        ),
        (file("", ""), "oidcIssuers[0].rules: write at least one rule"),
        (
            file("", "{serviceAccount: b, claims: {sub: [x]}}"),
            "oidcIssuers[0].rules[0].serviceAccount: write NAMESPACE/NAME",
        ),
        (
            file("", "{serviceAccount: a/b, claims: {}}"),
            "oidcIssuers[0].rules[0].claims: write at least one claim",
        ),
        (file("", "{serviceAccount: a/b, claims: {sub: ['*']}}"), "not just *"),
        (file("", "{serviceAccount: a/b, claims: {sub: ['x', '**']}}"), "not just *"),
        (
            file("", "{serviceAccount: a/b, claims: {sub: []}}"),
            "oidcIssuers[0].rules[0].claims.sub: write at least",
        ),
        (
            file("", "{serviceAccount: a/b, claims: {sub: ['']}}"),
            "oidcIssuers[0].rules[0].claims.sub: write at least",
        ),
        (file("", "{serviceAccount: a/b, claims: {sub: x}}"), "oidcIssuers[0].rules[0].claims.sub: "),
        (file("", "{serviceAccount: a/b, claim: {sub: [x]}}"), "claim"),
        (twice, "oidcIssuers[1].issuer: it is there already"),
        ("{".to_owned(), "not YAML"),
    ] {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    for url in ["http://a", "a", "https://", "https://u@a", "https://a?b", "https://a#b"] {
        let text = file("", good).replace("https://a", url);
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains("oidcIssuers[0].issuer: write"), "{url}: {error}");
    }
}
