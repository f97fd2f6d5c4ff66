//! A JSON object in which one member is generated, as CloudFormation's GenerateSecretString makes it.
//! Must not leave copies of the generated member behind.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::Plaintext;

/// The object of all texts of the template, and the generated one under `key`; which replaces a text of that name.
pub fn fill(template: &BTreeMap<String, String>, key: &str, generated: &Plaintext) -> Option<Plaintext> {
    let generated = std::str::from_utf8(generated.expose()).ok()?;
    let members = || {
        let texts = template.iter().filter(|(name, _)| *name != key);
        texts.map(|(name, text)| (name.as_str(), text.as_str())).chain([(key, generated)])
    };
    // Room for everything at once, each byte escaped at its longest: growing would leave copies behind.
    let room: usize = members().map(|(name, text)| 6 * (name.len() + text.len()) + 6).sum();
    let mut object = Zeroizing::new(Vec::with_capacity(room + 2));
    object.push(b'{');
    for (index, (name, text)) in members().enumerate() {
        if index > 0 {
            object.push(b',');
        }
        serde_json::to_writer(&mut *object, name).ok()?;
        object.push(b':');
        serde_json::to_writer(&mut *object, text).ok()?;
    }
    object.push(b'}');
    Some(Plaintext::new(std::mem::take(&mut *object)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &[(&str, &str)], key: &str, generated: &str) -> String {
        let template = template.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let object = fill(&template, key, &Plaintext::new(generated.as_bytes().to_vec())).unwrap();
        String::from_utf8(object.expose().to_vec()).unwrap()
    }

    #[test]
    fn the_generated_member_joins_those_of_the_template() {
        assert_eq!(
            filled(&[("username", "orders"), ("host", "pg.shop.svc")], "password", "p"),
            r#"{"host":"pg.shop.svc","username":"orders","password":"p"}"#
        );
        assert_eq!(filled(&[("password", "old")], "password", "new"), r#"{"password":"new"}"#);
    }

    #[test]
    fn every_character_reads_back() {
        let hard = "\"\\\u{1}\n/é\u{10ffff}";
        let object: BTreeMap<String, String> =
            serde_json::from_str(&filled(&[(hard, hard)], "p", hard)).unwrap();
        assert_eq!(object, BTreeMap::from([(hard.to_owned(), hard.to_owned()), ("p".into(), hard.into())]));
    }
}
