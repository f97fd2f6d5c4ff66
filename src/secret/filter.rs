//! Which secrets a listing shows: AWS's filters. Must not know who may see what.

use std::collections::BTreeMap;

/// What a filter looks at.
#[derive(Debug, Clone, Copy)]
pub struct Described<'a> {
    pub name: &'a str,
    pub description: Option<&'a str>,
    pub tags: &'a BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterKey {
    Description,
    Name,
    TagKey,
    TagValue,
    PrimaryRegion,
    OwningService,
    All,
}

/// One filter: any of its values suffices, and none of those that begin with `!` may match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub key: FilterKey,
    pub values: Vec<String>,
}

impl FilterKey {
    /// The word of AWS's model.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "description" => Self::Description,
            "name" => Self::Name,
            "tag-key" => Self::TagKey,
            "tag-value" => Self::TagValue,
            "primary-region" => Self::PrimaryRegion,
            "owning-service" => Self::OwningService,
            "all" => Self::All,
            _ => return None,
        })
    }
}

impl Filter {
    pub fn matches(&self, secret: Described<'_>) -> bool {
        let (mut positive, mut any, mut forbidden) = (false, false, false);
        for value in &self.values {
            match value.strip_prefix('!') {
                Some(value) => forbidden |= self.key.matches(value, secret),
                None => {
                    positive = true;
                    any |= self.key.matches(value, secret);
                }
            }
        }
        !forbidden && (any || !positive)
    }
}

impl FilterKey {
    fn matches(self, value: &str, secret: Described<'_>) -> bool {
        let Described { name, description, tags } = secret;
        match self {
            Self::Name => name.starts_with(value),
            Self::TagKey => tags.keys().any(|key| key.starts_with(value)),
            Self::TagValue => tags.values().any(|held| held.starts_with(value)),
            // Not a prefix of the whole: each word asked for begins some word of the description (recorded).
            Self::Description => description.is_some_and(|text| words_begin(value, [text].into_iter())),
            Self::All => {
                let tags = tags.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]);
                words_begin(value, [name].into_iter().chain(description).chain(tags))
            }
            // Nothing here is replicated, and no service owns a secret.
            Self::PrimaryRegion | Self::OwningService => false,
        }
    }
}

/// Whether each word that is asked for begins a word of one of the texts, in whatever case.
fn words_begin<'a>(asked: &str, texts: impl Iterator<Item = &'a str> + Clone) -> bool {
    let asked = asked.to_lowercase();
    words(&asked).all(|wanted| {
        texts.clone().any(|text| {
            let text = text.to_lowercase();
            words(&text).any(|word| word.starts_with(wanted))
        })
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(key: FilterKey, values: &[&str], description: &str) -> bool {
        let tags = BTreeMap::from([("team".to_owned(), "Orders".to_owned())]);
        let secret = Described { name: "shop/orders-db", description: Some(description), tags: &tags };
        Filter { key, values: values.iter().map(|value| (*value).to_owned()).collect() }.matches(secret)
    }

    #[test]
    fn a_description_is_found_by_the_beginnings_of_its_words() {
        let check = |asked, text, found| {
            assert_eq!(shown(FilterKey::Description, &[asked], text), found, "{asked} in {text}");
        };
        check("o t", "one and two", true);
        check("a secret", "an secret", true);
        check("a secret", "asecret", false);
        check("ne", "one", false);
        check("ONE", "one", true);
        check("", "one", true);
    }

    #[test]
    fn names_and_tags_are_found_by_their_beginnings_in_their_case() {
        let check = |key, asked, found| assert_eq!(shown(key, &[asked], ""), found, "{key:?} {asked}");
        check(FilterKey::Name, "shop/o", true);
        check(FilterKey::Name, "orders", false);
        check(FilterKey::Name, "Shop", false);
        check(FilterKey::TagKey, "te", true);
        check(FilterKey::TagKey, "Te", false);
        check(FilterKey::TagValue, "Ord", true);
        check(FilterKey::TagValue, "ord", false);
        check(FilterKey::All, "orders", true);
        check(FilterKey::All, "db team", true);
        check(FilterKey::All, "nobody", false);
        check(FilterKey::PrimaryRegion, "eu", false);
        check(FilterKey::OwningService, "rds", false);
    }

    #[test]
    fn an_exclamation_mark_turns_a_value_round() {
        let check =
            |values: &[&str], found| assert_eq!(shown(FilterKey::Name, values, ""), found, "{values:?}");
        check(&["!shop"], false);
        check(&["!other"], true);
        check(&["other", "shop"], true);
        check(&["shop", "!shop/orders"], false);
        check(&["!other", "!shop"], false);
    }
}
