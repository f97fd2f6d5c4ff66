//! How the built-in rotator makes a value: the argument that the controller gives to its Job. No part of it is secret;
//! all of it stands in the ManagedSecret's spec, or in the server's configuration. Must not make values.

use serde::{Deserialize, Serialize};

use crate::secret;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Rules {
    /// A password, alone or as one key of the current value's JSON object, whose other keys stay.
    #[serde(rename_all = "camelCase")]
    Password {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        #[serde(default)]
        password: PasswordRules,
    },
    /// A password where the current value has one: in this key of a JSON object, or as the whole of another text.
    #[serde(rename_all = "camelCase")]
    PasswordOrKey {
        key: String,
        #[serde(default)]
        password: PasswordRules,
    },
    #[serde(rename_all = "camelCase")]
    SymmetricKey { bytes: u16, encoding: KeyEncoding },
}

/// AWS's rules of GetRandomPassword; what is left out has AWS's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PasswordRules {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_characters: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_lowercase: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_uppercase: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_numbers: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_punctuation: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_space: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_each_included_type: Option<bool>,
}

impl Default for Rules {
    /// Of a secret that says nothing of its value's rules.
    fn default() -> Self {
        Self::PasswordOrKey { key: "password".to_owned(), password: PasswordRules::default() }
    }
}

impl From<secret::PasswordRules> for PasswordRules {
    fn from(rules: secret::PasswordRules) -> Self {
        Self {
            length: u32::try_from(rules.length).ok(),
            exclude_characters: Some(rules.exclude_characters).filter(|characters| !characters.is_empty()),
            exclude_lowercase: Some(rules.exclude_lowercase),
            exclude_uppercase: Some(rules.exclude_uppercase),
            exclude_numbers: Some(rules.exclude_numbers),
            exclude_punctuation: Some(rules.exclude_punctuation),
            include_space: Some(rules.include_space),
            require_each_included_type: Some(rules.require_each_included_type),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyEncoding {
    Raw,
    Base64,
    Hex,
}

impl From<secret::symmetric::KeyEncoding> for KeyEncoding {
    fn from(encoding: secret::symmetric::KeyEncoding) -> Self {
        match encoding {
            secret::symmetric::KeyEncoding::Raw => Self::Raw,
            secret::symmetric::KeyEncoding::Base64 => Self::Base64,
            secret::symmetric::KeyEncoding::Hex => Self::Hex,
        }
    }
}

impl From<KeyEncoding> for secret::symmetric::KeyEncoding {
    fn from(encoding: KeyEncoding) -> Self {
        match encoding {
            KeyEncoding::Raw => Self::Raw,
            KeyEncoding::Base64 => Self::Base64,
            KeyEncoding::Hex => Self::Hex,
        }
    }
}

impl std::str::FromStr for Rules {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text).map_err(|error| format!("the rules are not understood: {error}"))
    }
}

impl std::fmt::Display for Rules {
    /// The argument that `from_str` reads.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| std::fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_back_as_they_are_written() {
        for rules in [
            r#"{"password":{"key":"password","password":{"length":40}}}"#,
            r#"{"passwordOrKey":{"key":"password","password":{}}}"#,
            r#"{"symmetricKey":{"bytes":32,"encoding":"Hex"}}"#,
        ] {
            let parsed: Rules = rules.parse().unwrap();
            assert_eq!(parsed.to_string(), rules);
        }
        assert!("{}".parse::<Rules>().unwrap_err().contains("not understood"));
    }
}
