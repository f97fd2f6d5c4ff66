//! Random passwords by the rules of GetRandomPassword. Must not favour any character or place.

use zeroize::Zeroizing;

use super::{Plaintext, Randomness};

const LOWERCASE: &str = "abcdefghijklmnopqrstuvwxyz";
const UPPERCASE: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const NUMBERS: &str = "0123456789";
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
const SPACE: &str = " ";

/// What a password is made of. The default is AWS's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "these are the switches of AWS's operation, by their names"
)]
pub struct PasswordRules {
    pub length: usize,
    pub exclude_characters: String,
    pub exclude_lowercase: bool,
    pub exclude_uppercase: bool,
    pub exclude_numbers: bool,
    pub exclude_punctuation: bool,
    pub include_space: bool,
    pub require_each_included_type: bool,
}

impl Default for PasswordRules {
    fn default() -> Self {
        Self {
            length: 32,
            exclude_characters: String::new(),
            exclude_lowercase: false,
            exclude_uppercase: false,
            exclude_numbers: false,
            exclude_punctuation: false,
            include_space: false,
            require_each_included_type: true,
        }
    }
}

/// Why no password can follow the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    #[error("PasswordLength must be between 1 and {max}, not {0}.", max = PasswordRules::LENGTH_MAX)]
    Length(usize),
    #[error("ExcludeCharacters must have at most {max} characters, not {0}.", max = PasswordRules::EXCLUDED_MAX)]
    Excluded(usize),
    #[error("Password length is too short based on the required types.")]
    TooShort,
    #[error("No characters are left to make the password of: exclude fewer of them.")]
    NothingLeft,
}

impl PasswordRules {
    pub const LENGTH_MAX: usize = 4096;
    pub const EXCLUDED_MAX: usize = 4096;

    /// Draws a password. Steps: 1. one character of each required type, 2. the rest from all of them, 3. shuffle, so
    /// that the required ones sit at no fixed place.
    pub fn draw(&self, random: &mut dyn Randomness) -> Result<Plaintext, PasswordError> {
        let types = self.types()?;
        let all: Vec<u8> = types.concat();
        let mut password = Zeroizing::new(Vec::with_capacity(self.length));
        if self.require_each_included_type {
            for characters in &types {
                password.push(characters[below(characters.len(), random)]);
            }
        }
        while password.len() < self.length {
            password.push(all[below(all.len(), random)]);
        }
        for last in (1..password.len()).rev() {
            password.swap(last, below(last + 1, random));
        }
        Ok(Plaintext::new(std::mem::take(&mut *password)))
    }

    /// The characters of each type that something is left of.
    fn types(&self) -> Result<Vec<Vec<u8>>, PasswordError> {
        if !(1..=Self::LENGTH_MAX).contains(&self.length) {
            return Err(PasswordError::Length(self.length));
        }
        let excluded = self.exclude_characters.chars().count();
        if excluded > Self::EXCLUDED_MAX {
            return Err(PasswordError::Excluded(excluded));
        }
        let types: Vec<Vec<u8>> = [
            (LOWERCASE, !self.exclude_lowercase),
            (UPPERCASE, !self.exclude_uppercase),
            (NUMBERS, !self.exclude_numbers),
            (PUNCTUATION, !self.exclude_punctuation),
            (SPACE, self.include_space),
        ]
        .into_iter()
        .filter(|(_, included)| *included)
        .map(|(characters, _)| {
            characters
                .bytes()
                .filter(|b| !self.exclude_characters.contains(char::from(*b)))
                .collect::<Vec<u8>>()
        })
        .filter(|characters| !characters.is_empty())
        .collect();
        if types.is_empty() {
            return Err(PasswordError::NothingLeft);
        }
        if self.require_each_included_type && self.length < types.len() {
            return Err(PasswordError::TooShort);
        }
        Ok(types)
    }
}

/// A number below `bound`, each as likely as any other: what lies above the largest multiple is drawn again.
fn below(bound: usize, random: &mut dyn Randomness) -> usize {
    let bound = u32::try_from(bound).unwrap_or(u32::MAX);
    let fair = u32::MAX - u32::MAX % bound;
    loop {
        let mut bytes = Zeroizing::new([0; 4]);
        random.fill(bytes.as_mut_slice());
        let drawn = u32::from_le_bytes(*bytes);
        if drawn < fair {
            return (drawn % bound) as usize;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A small known generator (SplitMix64): tests must be the same each time.
    pub(crate) struct Seeded(pub(crate) u64);

    impl Randomness for Seeded {
        fn fill(&mut self, bytes: &mut [u8]) {
            for byte in bytes {
                self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = self.0;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                *byte = (z ^ (z >> 31)).to_le_bytes()[0];
            }
        }
    }

    fn draw(rules: &PasswordRules, seed: u64) -> Result<String, PasswordError> {
        let drawn = rules.draw(&mut Seeded(seed))?;
        Ok(String::from_utf8(drawn.expose().to_vec()).unwrap())
    }

    #[test]
    fn punctuation_is_all_32_of_ascii() {
        let ascii: String = (0u8..128).map(char::from).filter(char::is_ascii_punctuation).collect();
        assert_eq!((PUNCTUATION, PUNCTUATION.len()), (ascii.as_str(), 32));
    }

    #[test]
    fn the_default_has_32_characters_of_every_kind_but_space() {
        for seed in 0..200 {
            let password = draw(&PasswordRules::default(), seed).unwrap();
            assert_eq!(password.len(), 32);
            for kind in [LOWERCASE, UPPERCASE, NUMBERS, PUNCTUATION] {
                assert!(password.chars().any(|c| kind.contains(c)), "{password} lacks one of {kind}");
            }
            assert!(!password.contains(' '));
        }
    }

    #[test]
    fn required_characters_sit_at_no_fixed_place() {
        let rules = PasswordRules { length: 8, ..PasswordRules::default() };
        for place in 0..8 {
            let kinds: std::collections::BTreeSet<_> = (0..400)
                .map(|seed| {
                    let c = draw(&rules, seed).unwrap().as_bytes()[place];
                    (c.is_ascii_lowercase(), c.is_ascii_uppercase(), c.is_ascii_digit())
                })
                .collect();
            assert_eq!(kinds.len(), 4, "place {place}");
        }
    }

    #[test]
    fn no_character_is_favoured() {
        let rules = PasswordRules {
            length: 4096,
            exclude_uppercase: true,
            exclude_punctuation: true,
            require_each_included_type: false,
            ..PasswordRules::default()
        };
        let mut counts = [0u32; 128];
        for seed in 0..20 {
            for byte in draw(&rules, seed).unwrap().bytes() {
                counts[usize::from(byte)] += 1;
            }
        }
        let expected = 4096.0 * 20.0 / 36.0;
        let chi: f64 = LOWERCASE
            .bytes()
            .chain(NUMBERS.bytes())
            .map(|b| (f64::from(counts[usize::from(b)]) - expected).powi(2) / expected)
            .sum();
        // 35 degrees of freedom: above 66.6 in one of a thousand fair runs.
        assert!(chi < 66.6, "chi squared is {chi}");
    }

    #[test]
    fn rules_that_nothing_can_follow_are_refused() {
        let of = |change: fn(&mut PasswordRules)| {
            let mut rules = PasswordRules::default();
            change(&mut rules);
            draw(&rules, 1)
        };
        assert_eq!(of(|r| r.length = 0), Err(PasswordError::Length(0)));
        assert_eq!(of(|r| r.length = 4097), Err(PasswordError::Length(4097)));
        assert_eq!(of(|r| r.length = 3), Err(PasswordError::TooShort));
        assert_eq!(of(|r| r.exclude_characters = "x".repeat(4097)), Err(PasswordError::Excluded(4097)));
        let none = of(|r| {
            r.exclude_lowercase = true;
            r.exclude_uppercase = true;
            r.exclude_numbers = true;
            r.exclude_punctuation = true;
        });
        assert_eq!(none, Err(PasswordError::NothingLeft));
        assert_eq!(
            PasswordError::TooShort.to_string(),
            "Password length is too short based on the required types."
        );
    }

    proptest! {
        #[test]
        fn what_is_excluded_never_occurs(
            length in 5usize..200, excluded in "[ -~]{0,40}", space: bool, numbers: bool, required: bool, seed: u64,
        ) {
            let rules = PasswordRules {
                length,
                exclude_characters: excluded.clone(),
                exclude_numbers: numbers,
                include_space: space,
                require_each_included_type: required,
                ..PasswordRules::default()
            };
            let password = draw(&rules, seed).unwrap();
            prop_assert_eq!(password.len(), length);
            prop_assert!(!password.chars().any(|c| excluded.contains(c)));
            prop_assert!(!numbers || !password.chars().any(|c| c.is_ascii_digit()));
            prop_assert!(space || !password.contains(' '));
        }
    }
}
