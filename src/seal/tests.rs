//! Sealing and opening as a whole, and the vectors that must open for ever.

use proptest::prelude::*;
use serde_json::Value;

use super::sealed::decrypt;
use super::*;
use crate::access::{self, NamePolicy, Operation, Principal, RbacAnswer};
use crate::secret::{Arn, Name, Plaintext, Randomness, VersionId};

/// Gives the bytes that it was made with, in order.
struct Fixed(Vec<u8>);

impl Randomness for Fixed {
    fn fill(&mut self, bytes: &mut [u8]) {
        let rest = self.0.split_off(bytes.len());
        bytes.copy_from_slice(&self.0);
        self.0 = rest;
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn field<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name].as_str().unwrap()
}

fn bytes(vector: &Value, name: &str) -> Vec<u8> {
    unhex(field(vector, name))
}

const ARN: &str = "arn:aws:secretsmanager:local-1:000000000000:secret:shop/orders-db-AbCdEf";
const OTHER_ARN: &str = "arn:aws:secretsmanager:local-1:000000000000:secret:shop/orders-db-AbCdEg";

fn arn(text: &str) -> Arn {
    Arn::parse(text).unwrap()
}

fn version(first: char) -> VersionId {
    VersionId::parse(&first.to_string().repeat(32)).unwrap()
}

/// A root key, and a value sealed under it for region local-1, `ARN` and version `aaa..`.
fn sealed(value: &[u8]) -> (RootSecret, Sealed) {
    let (arn, version) = (arn(ARN), version('a'));
    let place = Place { region: "local-1", arn: &arn, version: &version };
    let root = RootSecret::generate(&mut SystemRandom);
    let key = DataKey::generate(&mut SystemRandom);
    let wrapped = root.wrap(&KeyId::new("k".into()), &key, &place.of_key(), &mut SystemRandom).unwrap();
    let sealed = seal(place, key, wrapped, &Plaintext::new(value.to_vec()), &mut SystemRandom).unwrap();
    (root, sealed)
}

#[test]
fn the_wrapped_key_of_the_first_format_unwraps_for_ever() {
    let vector: Value = serde_json::from_str(include_str!("vectors/wrapped_key_v1.json")).unwrap();
    let root = RootSecret::from_bytes(&bytes(&vector, "root_key")).unwrap();
    assert_eq!(hex(&root.name()), field(&vector, "key_name"));
    let wrapped =
        WrappedKey { key_id: KeyId::new(field(&vector, "key_id").into()), bytes: bytes(&vector, "wrapped") };
    let aad = bytes(&vector, "aad");
    let opened = root.unwrap(&wrapped, &aad).unwrap();
    assert_eq!(hex(opened.0.as_slice()), field(&vector, "data_key"));
    let again = root.wrap(&wrapped.key_id, &opened, &aad, &mut Fixed(bytes(&vector, "salt"))).unwrap();
    assert_eq!(again, wrapped);
    let derived = &vector["derived"];
    let right = DerivedKey::of(&bytes(derived, "key").try_into().unwrap());
    assert_eq!(root.derive(field(derived, "purpose")).sign(b"any"), right.sign(b"any"));
}

#[test]
fn the_sealed_version_of_the_first_format_opens_for_ever() {
    let vector: Value = serde_json::from_str(include_str!("vectors/sealed_v1.json")).unwrap();
    let root = RootSecret::from_bytes(&bytes(&vector, "root_key")).unwrap();
    let (arn, version) = (arn(field(&vector, "arn")), VersionId::parse(field(&vector, "version")).unwrap());
    let place = Place { region: field(&vector, "region"), arn: &arn, version: &version };
    let stored = bytes(&vector, "stored");
    let sealed = Sealed::decode(&stored).unwrap();
    let key = root.unwrap(sealed.wrapped_key(), &place.of_key()).unwrap();
    assert_eq!(hex(key.0.as_slice()), field(&vector, "data_key"));
    let opened = decrypt(place, &key, &sealed).unwrap();
    assert_eq!(opened.expose(), field(&vector, "value").as_bytes());

    let mut random = Fixed(bytes(&vector, "nonce"));
    let again = seal(place, key, sealed.wrapped_key().clone(), &opened, &mut random).unwrap();
    assert_eq!(again.encode().unwrap(), stored);
}

#[test]
fn the_row_mac_of_the_first_format_is_the_same_for_ever() {
    let vector: Value = serde_json::from_str(include_str!("vectors/row_mac_v1.json")).unwrap();
    let key = DerivedKey::of(&bytes(&vector, "key").try_into().unwrap());
    let columns = [Field::Null, Field::Integer(-7), Field::Text("a text"), Field::Bytes(&[0x00, 0xff])];
    let mac = row_mac(
        &key,
        field(&vector, "table"),
        &[Field::Text(vector["primary_key"][0].as_str().unwrap())],
        &columns,
    );
    assert_eq!(hex(&mac), field(&vector, "mac"));
}

#[test]
fn the_audit_hash_of_the_first_format_is_the_same_for_ever() {
    let vector: Value = serde_json::from_str(include_str!("vectors/audit_hash_v1.json")).unwrap();
    let entry: Vec<Field<'_>> = vector["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().map_or(Field::Null, Field::Text))
        .collect();
    let first = audit_hash(&[0; 32], 1, &entry);
    assert_eq!(hex(&first), field(&vector, "hash_of_row_1"));
    assert_eq!(hex(&audit_hash(&first, 2, &entry)), field(&vector, "hash_of_row_2_with_the_same_entry"));
}

#[test]
fn a_sealed_version_opens_at_its_own_place_and_nowhere_else() {
    let (root, sealed) = sealed(b"value");
    let (mine, other) = (arn(ARN), arn(OTHER_ARN));
    let (a, b) = (version('a'), version('b'));
    let check = |region, arn, version, opens: bool| {
        let place = Place { region, arn, version };
        let key = root.unwrap(sealed.wrapped_key(), &place.of_key());
        assert_eq!(key.is_ok(), opens, "the key at {place:?}");
        // Even somebody who has the data key cannot open the body elsewhere.
        let home = Place { region: "local-1", arn: &mine, version: &a };
        let key = root.unwrap(sealed.wrapped_key(), &home.of_key()).unwrap();
        let opened = decrypt(place, &key, &sealed).map(|value| value.expose().to_vec());
        assert_eq!(
            opened,
            if opens { Ok(b"value".to_vec()) } else { Err(SealError::DoesNotOpen) },
            "{place:?}"
        );
    };
    check("local-1", &mine, &a, true);
    check("local-2", &mine, &a, false);
    check("", &mine, &a, false);
    check("local-1", &other, &a, false);
    check("local-1", &mine, &b, false);
}

#[test]
fn a_data_key_unwraps_under_its_own_root_key_only() {
    let (_, sealed) = sealed(b"value");
    let other = RootSecret::generate(&mut SystemRandom);
    let (arn, version) = (arn(ARN), version('a'));
    let place = Place { region: "local-1", arn: &arn, version: &version };
    assert_eq!(other.unwrap(sealed.wrapped_key(), &place.of_key()).map(|_| ()), Err(SealError::DoesNotOpen));
    let key = DataKey::generate(&mut SystemRandom);
    assert_eq!(decrypt(place, &key, &sealed).map(|_| ()), Err(SealError::DoesNotOpen));
}

#[test]
fn two_seals_of_one_value_share_no_key_and_no_body() {
    let (one, other) = (sealed(b"value").1, sealed(b"value").1);
    assert!(one.key.bytes != other.key.bytes && one.body != other.body);
    assert!(!format!("{one:?}").contains(&hex(&one.body)));
}

fn witness(operation: Operation, name: &str, arn: &Arn) -> access::Authorized {
    let principal = Principal::ServiceAccount {
        account: access::ServiceAccount { namespace: "shop".into(), name: "orders-api".into() },
        uid: "uid".into(),
        groups: [].into(),
        extra: Default::default(),
        pod: None,
        via: Box::default(),
    };
    let name = Name::parse(name).unwrap();
    let request = access::Request {
        principal: &principal,
        operation,
        name: &name,
        account: "000000000000",
        sent_id: name.as_str(),
        version: None,
        stages: &[],
    };
    let sides = access::Sides {
        rbac: &RbacAnswer::Allowed,
        grants: &[],
        policy: crate::policy::Decision::Silent,
        rotation: None,
        names: NamePolicy::Free,
    };
    access::decide(request, arn, sides).unwrap()
}

#[test]
fn opening_needs_a_right_that_opens_this_very_secret() {
    let (root, sealed) = sealed(b"value");
    let (arn, other, version) = (arn(ARN), arn(OTHER_ARN), version('a'));
    let place = Place { region: "local-1", arn: &arn, version: &version };
    let key = root.unwrap(sealed.wrapped_key(), &place.of_key()).unwrap();
    let check = |operation, arn: &Arn| {
        open(&witness(operation, "shop/orders-db", arn), place, &key, &sealed).map(|v| v.expose().to_vec())
    };
    assert_eq!(check(Operation::Reveal, &arn), Ok(b"value".to_vec()));
    assert_eq!(check(Operation::Describe, &arn), Err(SealError::OtherRight));
    assert_eq!(check(Operation::Reveal, &other), Err(SealError::OtherRight));
}

#[test]
fn what_is_not_a_stored_form_is_refused() {
    let stored = sealed(b"value").1.encode().unwrap();
    assert_eq!(Sealed::decode(&[]), Err(SealError::Malformed));
    let mut newer = stored.clone();
    newer[0] = 2;
    assert_eq!(Sealed::decode(&newer), Err(SealError::Format(2)));
    // 5 bytes of value are the part of the body that may be missing.
    for length in 1..stored.len() - 5 {
        assert_eq!(Sealed::decode(&stored[..length]), Err(SealError::Malformed), "{length} bytes");
    }
}

proptest! {
    #[test]
    fn every_value_comes_back_through_the_stored_form(value in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let (root, sealed) = sealed(&value);
        let (arn, version) = (arn(ARN), version('a'));
        let place = Place { region: "local-1", arn: &arn, version: &version };
        let read = Sealed::decode(&sealed.encode().unwrap()).unwrap();
        prop_assert_eq!(&read, &sealed);
        let key = root.unwrap(read.wrapped_key(), &place.of_key()).unwrap();
        let opened = decrypt(place, &key, &read).unwrap();
        prop_assert_eq!(opened.expose(), &value[..]);
    }

    #[test]
    fn whatever_bytes_stand_in_a_row_they_are_no_stored_form_or_come_back_as_they_were(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        cut in any::<proptest::sample::Index>(),
    ) {
        if let Ok(read) = Sealed::decode(&bytes) {
            prop_assert_eq!(read.encode().unwrap(), bytes);
        }
        let (root, sealed) = sealed(b"value");
        let (arn, version) = (arn(ARN), version('a'));
        let place = Place { region: "local-1", arn: &arn, version: &version };
        let whole = sealed.encode().unwrap();
        let opened = Sealed::decode(&whole[..cut.index(whole.len())])
            .and_then(|read| root.unwrap(read.wrapped_key(), &place.of_key()).map(|key| (key, read)))
            .and_then(|(key, read)| decrypt(place, &key, &read));
        prop_assert!(opened.is_err(), "cut short");
    }

    #[test]
    fn no_flipped_bit_opens(at in any::<proptest::sample::Index>(), bit in 0..8u8) {
        let (root, sealed) = sealed(b"value");
        let (arn, version) = (arn(ARN), version('a'));
        let place = Place { region: "local-1", arn: &arn, version: &version };
        let mut stored = sealed.encode().unwrap();
        // The root key's name stands in clear and decides only which key is asked: it is not flipped here.
        let open_bytes = 3 + sealed.key.key_id.as_str().len();
        let at = open_bytes + at.index(stored.len() - open_bytes);
        stored[at] ^= 1 << bit;
        let opened = Sealed::decode(&stored)
            .and_then(|read| root.unwrap(read.wrapped_key(), &place.of_key()).map(|key| (key, read)))
            .and_then(|(key, read)| decrypt(place, &key, &read));
        prop_assert!(opened.is_err(), "byte {at}");
    }
}
