//! An issuer's keys: fetched when they are needed, kept, and fetched again when they are old or one is missing. One
//! question at a time. Must not ask more often than it must: whoever makes up a token makes us ask.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{AlgorithmFamily, DecodingKey, Header};
use serde_json::Value;
use tokio::sync::Mutex;

use super::NotProved;
use super::fetch::{Fetcher, Unreached};

/// How long keys are taken as they are.
const FRESH: Duration = Duration::from_mins(10);
/// How often a key that is not known makes us ask at most.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// How soon after a question without an answer the next one is asked.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// How long keys are good while the issuer is away.
const GOOD: Duration = Duration::from_hours(24);

/// What RFC 7518 wants of RSA at least: 2048 bits.
const RSA_BYTES_MIN: usize = 256;

pub(super) struct Keys {
    from: Option<Fetcher>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    keys: Vec<Jwk>,
    fetched: Option<Instant>,
    asked: Option<Instant>,
}

impl Keys {
    /// Of the configuration: they never change.
    pub(super) fn fixed(set: &Value) -> Option<Self> {
        let keys = usable(set);
        let held = Mutex::new(Held { keys, ..Held::default() });
        (!held.try_lock().ok()?.keys.is_empty()).then_some(())?;
        Some(Self { from: None, held })
    }

    pub(super) fn fetched(from: Fetcher) -> Self {
        Self { from: Some(from), held: Mutex::default() }
    }

    /// The key that the header names.
    pub(super) async fn find(&self, header: &Header, now: Instant) -> Result<DecodingKey, NotProved> {
        let mut held = self.held.lock().await;
        let Some(from) = &self.from else { return held.named(header).ok_or(NotProved::UnknownKey) };
        let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let age = since(held.fetched);
        let key = held.named(header);
        let is_fresh = age.is_some_and(|age| age < FRESH);
        if let (true, Some(key)) = (is_fresh, &key) {
            return Ok(key.clone());
        }
        let is_good = age.is_some_and(|age| age < GOOD);
        let pause = if is_fresh || (is_good && key.is_some()) { ASK_AGAIN } else { TRY_AGAIN };
        let may_ask = since(held.asked).is_none_or(|ago| ago >= pause);
        if may_ask {
            held.asked = Some(now);
            if let Ok(keys) = from.fetch().await {
                let keys = usable(&keys);
                *held = Held { keys, fetched: Some(now), asked: Some(now) };
                return held.named(header).ok_or(NotProved::UnknownKey);
            }
        }
        match key {
            Some(key) if is_good => Ok(key),
            // It may be one of those that could not be had.
            _ if may_ask || !is_fresh => Err(Unreached.into()),
            _ => Err(NotProved::UnknownKey),
        }
    }
}

impl Held {
    /// Without a name in the header it is the only key there is.
    fn named(&self, header: &Header) -> Option<DecodingKey> {
        let key = match &header.kid {
            Some(id) => self.keys.iter().find(|key| key.common.key_id.as_ref() == Some(id))?,
            None if self.keys.len() == 1 => self.keys.first()?,
            None => return None,
        };
        let fits = key.common.key_algorithm.is_none_or(|own| own == header.alg.into());
        if fits { DecodingKey::from_jwk(key).ok() } else { None }
    }
}

/// Those that verify signatures. What else is in a set is left aside, as RFC 7517 wants it.
fn usable(set: &Value) -> Vec<Jwk> {
    let all = set.get("keys").and_then(Value::as_array).into_iter().flatten();
    let read = all.filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok());
    read.filter(|key| {
        let signs = key.common.public_key_use.as_ref().is_none_or(|own| *own == PublicKeyUse::Signature);
        let public = matches!(
            key.algorithm,
            AlgorithmParameters::RSA(_)
                | AlgorithmParameters::EllipticCurve(_)
                | AlgorithmParameters::OctetKeyPair(_)
        );
        let long = match &key.algorithm {
            AlgorithmParameters::RSA(rsa) => URL.decode(&rsa.n).is_ok_and(|n| n.len() >= RSA_BYTES_MIN),
            _ => true,
        };
        let opens = DecodingKey::from_jwk(key).is_ok_and(|key| key.family() != AlgorithmFamily::Hmac);
        signs && public && long && opens
    })
    .collect()
}
