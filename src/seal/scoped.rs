//! A secret from which keys of narrower scope are made by a chain of HMACs, as AWS's signatures want it: one for a day,
//! from that one for a region, from that one for a service. Must not know what the steps mean.

use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

use super::mac::hmac_sha256;

/// The secret, and the key that was made from it last: a program asks for the same scope all day, and to make its key
/// takes as long as all the rest of a signature.
pub struct ScopedSecret {
    text: Zeroizing<String>,
    newest: Mutex<Option<(Vec<String>, ScopedKey)>>,
}

/// What a message is signed with.
pub type ScopedKey = Arc<Zeroizing<[u8; 32]>>;

impl ScopedSecret {
    pub fn new(text: Zeroizing<String>) -> Self {
        Self { text, newest: Mutex::new(None) }
    }

    /// The key at the end of these steps, the first of which is signed with the secret behind `prefix`.
    pub fn key(&self, prefix: &str, steps: &[&str]) -> ScopedKey {
        let newest = || self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let scope = || std::iter::once(prefix).chain(steps.iter().copied());
        if let Some((_, key)) = newest().as_ref().filter(|(known, _)| known.iter().eq(scope())) {
            return Arc::clone(key);
        }
        let mut key = Zeroizing::new([prefix.as_bytes(), self.text.as_bytes()].concat());
        let mut made = Zeroizing::new([0; 32]);
        for step in steps {
            *made = hmac_sha256(&key, step.as_bytes());
            key = Zeroizing::new(made.to_vec());
        }
        let made = Arc::new(made);
        *newest() = Some((scope().map(str::to_owned).collect(), Arc::clone(&made)));
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scope_has_a_key_of_its_own_in_whatever_order_they_are_asked_for() {
        let secret = ScopedSecret::new(Zeroizing::new("secret".to_owned()));
        let scopes = [["20261128", "a"], ["20261129", "a"], ["20261128", "b"], ["20261128", "a"]];
        let keys = scopes.map(|steps| secret.key("AWS4", &steps));
        let anew = scopes.map(|steps| ScopedSecret::new(Zeroizing::new("secret".into())).key("AWS4", &steps));
        assert!(keys == anew);
        assert!(keys[0] == keys[3] && keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
    }
}
