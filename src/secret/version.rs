//! The id of a version: the client's request token. Must not make ids: whoever needs one derives or draws it.

use std::fmt;

/// 32 to 64 characters, given by the client as ClientRequestToken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VersionIdError {
    #[error("a version id has 32 to 64 characters, this one has {0}")]
    Length(usize),
    #[error("a version id consists of printable ASCII characters without spaces")]
    Characters,
}

impl VersionId {
    pub fn parse(text: &str) -> Result<Self, VersionIdError> {
        let count = text.chars().count();
        if !(32..=64).contains(&count) {
            return Err(VersionIdError::Length(count));
        }
        if text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(VersionIdError::Characters)
        }
    }

    /// The id of the first version of a custom resource's secret. The same at each attempt, so that one which was cut
    /// short is found again and not made twice.
    pub fn first_of_resource(uid: &str) -> Result<Self, VersionIdError> {
        Self::parse(&format!("first-{uid}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<uuid::Uuid> for VersionId {
    fn from(id: uuid::Uuid) -> Self {
        Self(id.hyphenated().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_32_to_64_printable_characters() {
        assert!(VersionId::parse(&"a".repeat(32)).is_ok() && VersionId::parse(&"a".repeat(64)).is_ok());
        assert_eq!(VersionId::parse(&"a".repeat(31)), Err(VersionIdError::Length(31)));
        assert_eq!(VersionId::parse(&"a".repeat(65)), Err(VersionIdError::Length(65)));
        assert_eq!(VersionId::parse(&" ".repeat(40)), Err(VersionIdError::Characters));
    }

    #[test]
    fn the_first_version_of_a_resource_has_the_same_id_each_time() {
        let uid = "6f1c2f6e-8f5e-4b6b-9a53-0c3c1f1f7d10";
        assert_eq!(VersionId::first_of_resource(uid), VersionId::first_of_resource(uid));
        assert_eq!(VersionId::first_of_resource(uid).map(|id| id.to_string()), Ok(format!("first-{uid}")));
    }
}
