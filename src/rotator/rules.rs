//! How the built-in rotator makes a value; the Job's argument. No part of it is secret: all of it stands in the
//! ManagedSecret's spec as well.

use serde::{Deserialize, Serialize};

use crate::wire::aws::GetRandomPassword;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Rules {
    /// A password, alone or as one key of the current value's JSON object, whose other keys stay.
    #[serde(rename_all = "camelCase")]
    Password {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        #[serde(default)]
        password: GetRandomPassword,
    },
    #[serde(rename_all = "camelCase")]
    SymmetricKey { bytes: u16, encoding: KeyEncoding },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyEncoding {
    Raw,
    Base64,
    Hex,
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
