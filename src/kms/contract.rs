//! What every provider of root keys must do. Must not know any of them.

use super::{KmsError, RootKey};
use crate::seal::{DataKey, Field, KeyId, SystemRandom, row_mac};

/// Runs the whole contract. The two are different keys of one provider.
pub async fn run(root: &dyn RootKey, other: &dyn RootKey) {
    what_is_wrapped_unwraps_with_the_same_aad_only(root).await;
    wrapping_twice_gives_different_bytes(root).await;
    a_changed_wrapped_key_does_not_unwrap(root).await;
    another_key_refuses_and_says_which_one_is_wanted(root, other).await;
    derived_keys_are_stable_and_apart(root, other).await;
}

async fn what_is_wrapped_unwraps_with_the_same_aad_only(root: &dyn RootKey) {
    let key = DataKey::generate(&mut SystemRandom);
    let wrapped = root.wrap(&key, b"here").await.unwrap();
    assert_eq!(wrapped.key_id, *root.key_id());
    let opened = root.unwrap(&wrapped, b"here").await.unwrap();
    assert!(opened.is(&key));
    for aad in [&b"there"[..], b"", b"here "] {
        assert!(matches!(root.unwrap(&wrapped, aad).await, Err(KmsError::DoesNotOpen)), "{aad:?}");
    }
}

async fn wrapping_twice_gives_different_bytes(root: &dyn RootKey) {
    let key = DataKey::generate(&mut SystemRandom);
    let (one, other) = (root.wrap(&key, b"").await.unwrap(), root.wrap(&key, b"").await.unwrap());
    assert_ne!(one.bytes, other.bytes);
}

async fn a_changed_wrapped_key_does_not_unwrap(root: &dyn RootKey) {
    let wrapped = root.wrap(&DataKey::generate(&mut SystemRandom), b"here").await.unwrap();
    for at in 0..wrapped.bytes.len() {
        let mut changed = wrapped.clone();
        changed.bytes[at] ^= 1;
        assert!(root.unwrap(&changed, b"here").await.is_err(), "byte {at}");
    }
    for length in [0, 1, wrapped.bytes.len() - 1] {
        let mut short = wrapped.clone();
        short.bytes.truncate(length);
        assert!(root.unwrap(&short, b"here").await.is_err(), "{length} bytes");
    }
}

async fn another_key_refuses_and_says_which_one_is_wanted(root: &dyn RootKey, other: &dyn RootKey) {
    let mut wrapped = root.wrap(&DataKey::generate(&mut SystemRandom), b"here").await.unwrap();
    match other.unwrap(&wrapped, b"here").await {
        Err(KmsError::OtherKey { wanted, have }) => {
            assert_eq!((&wanted, &have), (root.key_id(), other.key_id()));
        }
        _ => panic!("a key of another name was unwrapped"),
    }
    wrapped.key_id = KeyId::new(other.key_id().as_str().to_owned());
    assert!(matches!(other.unwrap(&wrapped, b"here").await, Err(KmsError::DoesNotOpen)));
}

async fn derived_keys_are_stable_and_apart(root: &dyn RootKey, other: &dyn RootKey) {
    let mut seen = Vec::new();
    for (root, purpose) in [(root, "one"), (root, "other"), (other, "one"), (root, "one")] {
        let key = root.derive(purpose).await.unwrap();
        seen.push(row_mac(&key, "t", &[Field::Integer(1)], &[]));
    }
    assert!(seen[0] == seen[3] && seen[0] != seen[1] && seen[0] != seen[2] && seen[1] != seen[2]);
}
