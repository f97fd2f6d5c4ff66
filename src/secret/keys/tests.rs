//! Members against the reader of JSON that everybody uses.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn cut(text: &str) -> Result<BTreeMap<String, String>, KeysError> {
    let members = members(&Plaintext::new(text.as_bytes().to_vec()))?;
    let utf8 = |bytes: Plaintext| String::from_utf8(bytes.expose().to_vec()).unwrap();
    Ok(members.into_iter().map(|(key, content)| (key, utf8(content))).collect())
}

#[test]
fn texts_are_files_as_they_are_and_the_rest_as_json() {
    let cut =
        cut(r#" { "user" : "orders", "port":5432, "tls" : true ,"opts": {"a":["}", 1]} , "none":null } "#);
    let expected = [
        ("user", "orders"),
        ("port", "5432"),
        ("tls", "true"),
        ("opts", r#"{"a":["}", 1]}"#),
        ("none", "null"),
    ];
    assert_eq!(cut.unwrap(), expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
}

#[test]
fn escapes_are_read() {
    let cut = cut(r#"{"k\u0065y":"\"\\\/\b\f\n\r\té\ud83d\ude00"}"#).unwrap();
    assert_eq!(cut["key"], "\"\\/\u{8}\u{c}\n\r\té😀");
}

#[test]
fn of_a_key_that_stands_twice_the_last_counts() {
    assert_eq!(cut(r#"{"a":"1","a":"2"}"#).unwrap()["a"], "2");
}

#[test]
fn what_is_no_json_object_has_no_keys() {
    for text in
        ["", "plain", "[1]", "\"text\"", "{", "{\"a\":}", "{\"a\":1}x", r#"{"a":"\ud800"}"#, "{\"a\":\"\n\"}"]
    {
        assert_eq!(cut(text), Err(KeysError::NotAnObject), "{text}");
    }
    assert_eq!(members(&Plaintext::new(vec![b'{', 0xff, b'}'])).err(), Some(KeysError::NotAnObject));
    assert_eq!(cut("{}").unwrap().len(), 0);
}

#[test]
fn a_key_is_a_file_when_it_is_one_plain_name() {
    for good in ["a", "tls.crt", ".hidden", "value", "ü"] {
        assert!(is_file_name(good), "{good}");
    }
    for wrong in ["", ".", "..", "..data", "a/b", "/", "a\0b", "a\nb", "a\u{7f}", &"x".repeat(254)] {
        assert!(!is_file_name(wrong), "{wrong}");
    }
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn members_are_those_that_serde_json_finds(
        object in prop::collection::btree_map(any::<String>(), json(), 0..6), pretty: bool,
    ) {
        let text = match pretty {
            true => serde_json::to_string_pretty(&object).unwrap(),
            false => serde_json::to_string(&object).unwrap(),
        };
        let cut = cut(&text).unwrap();
        prop_assert_eq!(cut.len(), object.len());
        for (key, value) in object {
            match value {
                Value::String(text) => prop_assert_eq!(&cut[&key], &text),
                other => prop_assert_eq!(&serde_json::from_str::<Value>(&cut[&key]).unwrap(), &other),
            }
        }
    }

    #[test]
    fn no_text_makes_it_fall_over(text in "[\\[\\]{}\":,\\\\a-u0-9 ]{0,60}", any in any::<Vec<u8>>()) {
        let is_object = matches!(serde_json::from_str(&text), Ok(Value::Object(_)));
        prop_assert!(cut(&text).is_ok() == is_object);
        let _ = members(&Plaintext::new(any));
    }
}
