//! Sealing and opening beside the library's AES-256-GCM under one key that is at hand. Must not touch a disk.
//!
//! A seal is more than that: a fresh data key for each version, wrapped by the root key for its place, so that neither
//! key wears out and none is in memory for long. Of a short value that is most of the work, of a long one very little.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use tidelock::access::{Authorized, NamePolicy, Operation, Principal, RbacAnswer, Request, Sides, decide};
use tidelock::policy::Decision;
use tidelock::seal::{DataKey, KeyId, Place, RootSecret, Sealed, SystemRandom, open, seal};
use tidelock::secret::{Arn, Name, Plaintext, Randomness, VersionId};
use tidelock_e2e::bench::{Found, Row, Samples, Target, Unit};

use crate::samples;

/// A login, and the most that AWS allows.
const SIZES: [(usize, &str); 2] = [(256, "256 bytes"), (Plaintext::BYTES_MAX, "64 KiB")];
const ROUNDS: usize = 2000;
const WARM_UP: usize = 100;
/// Done in one go and divided: one alone would be as short as reading the clock.
const TOGETHER: u32 = 16;
/// What a user who encrypts by himself would bind a value to.
const AAD: &[u8] = b"shop/orders-db-0000";

pub fn measure() -> Result<Found> {
    let mut found = Found::default();
    for (bytes, words) in SIZES {
        found.rows.extend(of_size(bytes, words)?);
    }
    Ok(found)
}

fn of_size(bytes: usize, words: &str) -> Result<[Row; 2]> {
    let (ours, plain) = (Ours::new(bytes)?, Plain::new(bytes)?);
    let (one, sealed_plainly) = (ours.seal()?, plain.seal()?);
    let mut all = [(); 4].map(|()| Vec::with_capacity(ROUNDS));
    for round in 0..ROUNDS + WARM_UP {
        // In turns, so that whatever else the machine does befalls all of them alike.
        let took = [
            timed(|| ours.seal().map(drop))?,
            timed(|| plain.seal().map(drop))?,
            timed(|| ours.open(&one).map(drop))?,
            timed(|| plain.open(&sealed_plainly).map(drop))?,
        ];
        if round >= WARM_UP {
            all.iter_mut().zip(took).for_each(|(all, took)| all.push(took));
        }
    }
    let [seals, plain_seals, opens, plain_opens] = all.map(figures);
    let beside = format!("AES-256-GCM of the library, {words}");
    let row = |what: &str, own: Result<_>, reference: Result<_>| {
        let row = Row::new(&format!("{what}, {words}"), Unit::Seconds, own?, Target::WithinTimes(2.0));
        anyhow::Ok(row.beside(&beside, reference?))
    };
    Ok([row("seal", seals, plain_seals)?, row("open", opens, plain_opens)?])
}

fn figures(all: Vec<Duration>) -> Result<tidelock_e2e::bench::Figures> {
    let mut samples = Samples::new()?;
    all.into_iter().try_for_each(|took| samples.add(took))?;
    Ok(samples.figures())
}

fn timed(act: impl Fn() -> Result<()>) -> Result<Duration> {
    let begun = Instant::now();
    for _ in 0..TOGETHER {
        act()?;
    }
    Ok(begun.elapsed() / TOGETHER)
}

struct Ours {
    root: RootSecret,
    id: KeyId,
    arn: Arn,
    version: VersionId,
    value: Plaintext,
    right: Authorized,
}

impl Ours {
    fn new(bytes: usize) -> Result<Self> {
        let root = RootSecret::generate(&mut SystemRandom);
        let (arn, name) = (samples::arn(0)?, samples::name(0)?);
        let (id, version) = (samples::key_id(&root), samples::version_id(0)?);
        let right = right(&arn, &name)?;
        Ok(Self { root, id, arn, version, value: Plaintext::new(vec![7; bytes]), right })
    }

    fn place(&self) -> Place<'_> {
        Place { region: samples::REGION, arn: &self.arn, version: &self.version }
    }

    fn seal(&self) -> Result<Sealed> {
        let (place, mut random) = (self.place(), SystemRandom);
        let key = DataKey::generate(&mut random);
        let wrapped = self.root.wrap(&self.id, &key, &place.of_key(), &mut random)?;
        Ok(black_box(seal(place, key, wrapped, &self.value, &mut random)?))
    }

    fn open(&self, sealed: &Sealed) -> Result<Plaintext> {
        let place = self.place();
        let key = self.root.unwrap(sealed.wrapped_key(), &place.of_key())?;
        Ok(black_box(open(&self.right, place, &key, sealed)?))
    }
}

/// Of whoever runs `tidelock dev`.
fn right(arn: &Arn, name: &Name) -> Result<Authorized> {
    let request = Request {
        principal: &Principal::Local,
        operation: Operation::Reveal,
        name,
        sent_id: arn.as_str(),
        account: samples::ACCOUNT,
        version: None,
        stages: &[],
    };
    let sides = Sides {
        rbac: &RbacAnswer::Allowed,
        grants: &[],
        policy: Decision::Silent,
        rotation: None,
        names: NamePolicy::Free,
    };
    Ok(decide(request, arn, sides)?)
}

struct Plain {
    key: LessSafeKey,
    value: Vec<u8>,
}

impl Plain {
    fn new(bytes: usize) -> Result<Self> {
        let mut key = [0; 32];
        SystemRandom.fill(&mut key);
        let key = UnboundKey::new(&AES_256_GCM, &key).map_err(|_| anyhow!("a key of 32 bytes"))?;
        Ok(Self { key: LessSafeKey::new(key), value: vec![7; bytes] })
    }

    /// Nonce, ciphertext, tag.
    fn seal(&self) -> Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom.fill(&mut nonce);
        let mut body = Vec::with_capacity(NONCE_LEN + self.value.len() + AES_256_GCM.tag_len());
        body.extend_from_slice(&nonce);
        body.extend_from_slice(&self.value);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(AAD), &mut body[NONCE_LEN..])
            .map_err(|_| anyhow!("it does not seal"))?;
        body.extend_from_slice(tag.as_ref());
        Ok(black_box(body))
    }

    fn open(&self, sealed: &[u8]) -> Result<Vec<u8>> {
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).context("a nonce")?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| anyhow!("a nonce"))?;
        let mut body = body.to_vec();
        let opened = self.key.open_in_place(nonce, Aad::from(AAD), &mut body);
        let length = opened.map_err(|_| anyhow!("it does not open"))?.len();
        body.truncate(length);
        Ok(black_box(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_seals_and_opens_what_it_was_given() {
        let (ours, plain) = (Ours::new(100).unwrap(), Plain::new(100).unwrap());
        assert_eq!(ours.open(&ours.seal().unwrap()).unwrap().expose(), [7; 100]);
        assert_eq!(plain.open(&plain.seal().unwrap()).unwrap(), [7; 100]);
    }
}
