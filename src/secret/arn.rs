//! The ARN of a secret, and the three ways a caller may name one: by name, by ARN, by ARN without its suffix.
//! Must not look anything up.

use std::fmt;

use super::{Name, NameError, Randomness};

/// `arn:aws:secretsmanager:<region>:<account>:secret:<name>-<6 random characters>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arn(String);

/// The parts that an ARN is made of.
#[derive(Debug, Clone, Copy)]
pub struct ArnParts<'a> {
    pub region: &'a str,
    pub account: &'a str,
    pub name: &'a Name,
}

const SUFFIX_CHARS: usize = 6;
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

impl Arn {
    /// A new ARN: its suffix is fresh, so that policies for an earlier secret of this name do not match.
    pub fn make(parts: ArnParts<'_>, random: &mut dyn Randomness) -> Self {
        let mut suffix = String::with_capacity(SUFFIX_CHARS);
        while suffix.len() < SUFFIX_CHARS {
            let mut byte = [0];
            random.fill(&mut byte);
            // 248 is the largest multiple of 62 in a byte: what lies above would favour some characters.
            if byte[0] < 248 {
                suffix.push(ALPHABET[usize::from(byte[0] % 62)] as char);
            }
        }
        Self(format!(
            "arn:aws:secretsmanager:{}:{}:secret:{}-{suffix}",
            parts.region, parts.account, parts.name
        ))
    }

    /// An ARN that was made earlier, as the store or a caller gives it back.
    pub fn parse(text: &str) -> Option<Self> {
        let arn = Self(text.to_owned());
        let suffix = arn.0.get(arn.0.len().checked_sub(SUFFIX_CHARS)?..)?;
        let whole = text.starts_with("arn:aws:secretsmanager:")
            && suffix.bytes().all(|b| b.is_ascii_alphanumeric())
            && arn.resource()?.len() > SUFFIX_CHARS + 1
            && arn.0.as_bytes()[arn.0.len() - SUFFIX_CHARS - 1] == b'-';
        let name_is_one =
            Name::parse(arn.resource()?.get(..arn.resource()?.len() - SUFFIX_CHARS - 1)?).is_ok();
        (whole && name_is_one).then_some(arn)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ARN without hyphen and suffix.
    pub fn without_suffix(&self) -> &str {
        &self.0[..self.0.len() - SUFFIX_CHARS - 1]
    }

    /// That of the secret.
    pub fn name(&self) -> &str {
        self.without_suffix().splitn(7, ':').nth(6).unwrap_or_default()
    }

    fn resource(&self) -> Option<&str> {
        self.0.splitn(7, ':').nth(6)
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a caller wrote where the API says SecretId.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretId {
    Name(Name),
    /// Begins with `arn:`; whole or without its suffix, in whatever region and account it claims.
    Arn(String),
}

impl SecretId {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.starts_with("arn:") {
            Ok(Self::Arn(text.to_owned()))
        } else {
            Name::parse(text).map(Self::Name)
        }
    }

    /// As the caller wrote it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Name(name) => name.as_str(),
            Self::Arn(text) => text,
        }
    }

    /// The name that this means, if it can be one. Of an ARN that may or may not be whole, the name of a whole one.
    pub fn name(&self) -> Option<Name> {
        let text = match self {
            Self::Name(name) => return Some(name.clone()),
            Self::Arn(text) => text,
        };
        let whole = Arn::parse(text);
        let without_suffix = whole.as_ref().map_or(text.as_str(), Arn::without_suffix);
        Name::parse(without_suffix.splitn(7, ':').nth(6)?).ok()
    }

    /// Whether this names the secret of that name and ARN. An ARN without suffix is not recognised when the name
    /// itself ends in a hyphen and six characters: nobody could tell it from a whole one.
    pub fn names(&self, name: &Name, arn: &Arn) -> bool {
        match self {
            Self::Name(given) => given == name,
            Self::Arn(given) if given == arn.as_str() => true,
            Self::Arn(given) => given == arn.without_suffix() && Arn::parse(given).is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(u8);
    impl Randomness for Counting {
        fn fill(&mut self, bytes: &mut [u8]) {
            for byte in bytes {
                *byte = self.0;
                self.0 = self.0.wrapping_add(83);
            }
        }
    }

    fn arn(name: &str) -> (Name, Arn) {
        let name = Name::parse(name).unwrap();
        let parts = ArnParts { region: "local-1", account: "000000000000", name: &name };
        let arn = Arn::make(parts, &mut Counting(250));
        (name, arn)
    }

    #[test]
    fn a_made_arn_reads_back() {
        let (_, made) = arn("shop/orders-db");
        assert!(
            made.as_str().starts_with("arn:aws:secretsmanager:local-1:000000000000:secret:shop/orders-db-")
        );
        assert_eq!(Arn::parse(made.as_str()), Some(made.clone()));
        assert_eq!(Arn::parse(made.without_suffix()), None);
        assert_eq!(Arn::parse("arn:aws:secretsmanager:local-1:0:secret:a b-AbCdEf"), None);
        assert_eq!(Arn::parse("arn"), None);
    }

    #[test]
    fn a_secret_is_found_by_name_by_arn_and_by_arn_without_suffix() {
        let (name, made) = arn("Invalid/_+=.@-Name-a1b2");
        for text in [name.as_str(), made.as_str(), made.without_suffix()] {
            assert!(SecretId::parse(text).unwrap().names(&name, &made), "{text}");
        }
        assert!(!SecretId::parse("other").unwrap().names(&name, &made));
        for text in [name.as_str(), made.as_str(), made.without_suffix()] {
            assert_eq!(SecretId::parse(text).unwrap().name(), Some(name.clone()), "{text}");
        }
        assert_eq!(SecretId::parse("arn:aws:s3:::bucket").unwrap().name(), None);
    }

    #[test]
    fn an_arn_without_suffix_is_not_found_when_the_name_ends_like_a_suffix() {
        let (name, made) = arn("Invalid/_+=.@-Name-a1b2c3");
        assert!(!SecretId::parse(made.without_suffix()).unwrap().names(&name, &made));
        let (name, made) = arn("Invalid/_+=.@-Name-a1b2c3-");
        assert!(SecretId::parse(made.without_suffix()).unwrap().names(&name, &made));
    }
}
