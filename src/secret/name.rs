//! A secret's name in the API. Must not know who owns which prefix: that is a matter of access.

use std::borrow::Borrow;
use std::fmt;

/// 1 to 512 characters of `A-Z a-z 0-9 / _ + = . @ -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Why a text is not a name. The message is AWS's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error(
        "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!"
    )]
    Characters,
    #[error("the name has {0} characters: 1 to 512 are allowed")]
    Length(usize),
}

impl Name {
    pub const CHARS_MAX: usize = 512;

    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > Self::CHARS_MAX {
            return Err(NameError::Length(text.chars().count()));
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/_+=.@-".contains(&b);
        if text.bytes().all(allowed) { Ok(Self(text.to_owned())) } else { Err(NameError::Characters) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first segment: in a cluster, the namespace that the name belongs to.
    pub fn namespace(&self) -> Option<&str> {
        self.0.split_once('/').map(|(first, _)| first)
    }

    /// What follows the first segment.
    pub fn rest(&self) -> Option<&str> {
        self.0.split_once('/').map(|(_, rest)| rest)
    }
}

/// As a text of its own it is the same to whoever compares or hashes: a name is looked up by its text.
impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_alphabet_are_taken_and_others_refused_with_the_words_of_aws() {
        assert_eq!(
            Name::parse("shop/orders-db_+=.@").map(|n| n.to_string()),
            Ok("shop/orders-db_+=.@".into())
        );
        assert_eq!(Name::parse("a b"), Err(NameError::Characters));
        assert_eq!(Name::parse("rds!x"), Err(NameError::Characters));
        assert_eq!(Name::parse(""), Err(NameError::Length(0)));
        assert!(Name::parse(&"x".repeat(512)).is_ok());
        assert_eq!(Name::parse(&"x".repeat(513)), Err(NameError::Length(513)));
    }

    #[test]
    fn the_first_segment_is_the_namespace() {
        let name = Name::parse("shop/db/main").unwrap();
        assert_eq!((name.namespace(), name.rest()), (Some("shop"), Some("db/main")));
        assert_eq!(Name::parse("db").unwrap().namespace(), None);
    }
}
