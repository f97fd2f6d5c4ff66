//! The authority that signs our serving certificates, with its successor and its predecessor.
//! Must not show a private key except through `files`, which is what is stored.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use zeroize::{Zeroize, Zeroizing};

use super::{Lifetimes, PkiError};

/// The names under which an authority is stored.
pub mod file {
    pub const CERTIFICATE: &str = "ca.crt";
    pub const KEY: &str = "ca.key";
    pub const NEXT_CERTIFICATE: &str = "next.crt";
    pub const NEXT_KEY: &str = "next.key";
    pub const PREVIOUS_CERTIFICATE: &str = "previous.crt";
}

/// An authority as it is stored: PEM by file name.
pub type Files = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// What [`Authority::advance`] did, and so what has to be stored before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    None,
    NextPublished,
    NextSigns,
}

/// The certificate that signs now, the one that will sign next, and the one that signed before.
pub struct Authority {
    current: Signer,
    next: Option<Signer>,
    previous: Option<Known>,
}

impl Authority {
    /// A new authority for an installation; the name is for people who look at certificates.
    pub fn create(installation: &str, lifetimes: Lifetimes, now: Timestamp) -> Result<Authority, PkiError> {
        Ok(Authority { current: Signer::make(installation, lifetimes, now)?, next: None, previous: None })
    }

    pub fn parse(files: &Files) -> Result<Authority, PkiError> {
        let current = Signer::parse(files, file::CERTIFICATE, file::KEY)?
            .ok_or(PkiError::Missing(file::CERTIFICATE))?;
        let next = Signer::parse(files, file::NEXT_CERTIFICATE, file::NEXT_KEY)?;
        let previous = Known::parse(files, file::PREVIOUS_CERTIFICATE)?;
        Ok(Authority { current, next, previous })
    }

    /// Everything, the keys included: for the one place that stores them.
    pub fn files(&self) -> Files {
        let mut files = Files::new();
        let mut put = |name: &str, pem: Zeroizing<String>| {
            files.insert(name.to_owned(), Zeroizing::new(pem.as_bytes().to_vec()));
        };
        put(file::CERTIFICATE, Zeroizing::new(self.current.known.pem.clone()));
        put(file::KEY, self.current.key_pem());
        if let Some(next) = &self.next {
            put(file::NEXT_CERTIFICATE, Zeroizing::new(next.known.pem.clone()));
            put(file::NEXT_KEY, next.key_pem());
        }
        if let Some(previous) = &self.previous {
            put(file::PREVIOUS_CERTIFICATE, Zeroizing::new(previous.pem.clone()));
        }
        files
    }

    /// The certificates to trust, as PEM: the signing one first, then its successor, then its predecessor while that
    /// one is still good.
    pub fn bundle(&self, now: Timestamp) -> String {
        let known =
            [Some(&self.current.known), self.next.as_ref().map(|next| &next.known), self.previous.as_ref()];
        known.into_iter().flatten().filter(|known| known.ends > now).map(|known| known.pem.as_str()).collect()
    }

    /// Does what the time asks for: makes the successor at half of the current one's life, lets it sign at three
    /// quarters. The caller stores the result before it uses it.
    pub fn advance(
        &mut self,
        installation: &str,
        lifetimes: Lifetimes,
        now: Timestamp,
    ) -> Result<Change, PkiError> {
        let is_over = self.current.known.ends <= now;
        let is_due = self.current.known.part(3, 4) <= now;
        let is_usable =
            |next: &mut Signer| next.known.ends > now && (is_over || is_due && next.known.part(1, 4) <= now);
        if let Some(next) = self.next.take_if(is_usable) {
            self.succeed(next);
            return Ok(Change::NextSigns);
        }
        if is_over {
            // Nobody looked for a quarter of a life. Nothing that it signed is trusted any more anyway.
            self.next = None;
            self.succeed(Signer::make(installation, lifetimes, now)?);
            return Ok(Change::NextSigns);
        }
        if self.current.known.part(1, 2) <= now && self.next.is_none() {
            self.next = Some(Signer::make(installation, lifetimes, now)?);
            return Ok(Change::NextPublished);
        }
        Ok(Change::None)
    }

    fn succeed(&mut self, next: Signer) {
        let before = std::mem::replace(&mut self.current, next);
        self.previous = Some(before.known.clone());
    }

    /// When [`Authority::advance`] has something to do next.
    pub fn advance_at(&self) -> Timestamp {
        match &self.next {
            None => self.current.known.part(1, 2),
            Some(next) => self.current.known.part(3, 4).max(next.known.part(1, 4)),
        }
    }

    pub(super) fn ends(&self) -> Timestamp {
        self.current.known.ends
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, SigningKey> {
        &self.current.issuer
    }
}

/// Without keys.
impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("ends", &self.current.known.ends)
            .field("has_next", &self.next.is_some())
            .finish_non_exhaustive()
    }
}

/// A certificate whose private key we hold.
struct Signer {
    known: Known,
    issuer: Issuer<'static, SigningKey>,
}

impl Signer {
    fn make(installation: &str, lifetimes: Lifetimes, now: Timestamp) -> Result<Signer, PkiError> {
        let key = SigningKey(KeyPair::generate().map_err(PkiError::Make)?);
        let mut params = CertificateParams::default();
        set_validity(&mut params, now, lifetimes.authority);
        // The moment is part of the name: two authorities of one installation stand side by side in a bundle.
        let name = format!("Tidelock {installation} {}", now.strftime("%Y-%m-%d %H:%M:%S"));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).map_err(PkiError::Make)?.pem();
        let known = Known::of_pem(pem, file::CERTIFICATE)?;
        Ok(Signer { known, issuer: Issuer::new(params, key) })
    }

    fn parse(
        files: &Files,
        certificate: &'static str,
        key: &'static str,
    ) -> Result<Option<Signer>, PkiError> {
        let Some(known) = Known::parse(files, certificate)? else {
            return Ok(None);
        };
        let pem = files.get(key).ok_or(PkiError::Missing(key))?;
        let pem = std::str::from_utf8(pem).map_err(|_| PkiError::Unreadable(key))?;
        let pair = SigningKey(KeyPair::from_pem(pem).map_err(|_| PkiError::Unreadable(key))?);
        if rcgen::PublicKeyData::subject_public_key_info(&pair.0) != known.public_key {
            return Err(PkiError::Mismatch(certificate, key));
        }
        let issuer =
            Issuer::from_ca_cert_pem(&known.pem, pair).map_err(|_| PkiError::Unreadable(certificate))?;
        Ok(Some(Signer { known, issuer }))
    }

    fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().0.serialize_pem())
    }
}

/// A key pair whose encoded form is wiped when it goes; the form in use is wiped by the library that made it.
pub(super) struct SigningKey(pub(super) KeyPair);

impl Drop for SigningKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl rcgen::PublicKeyData for SigningKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        rcgen::PublicKeyData::algorithm(&self.0)
    }
}

impl rcgen::SigningKey for SigningKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

/// A certificate and what we need to know of it.
#[derive(Clone)]
struct Known {
    pem: String,
    begins: Timestamp,
    ends: Timestamp,
    public_key: Vec<u8>,
}

impl Known {
    fn parse(files: &Files, name: &'static str) -> Result<Option<Known>, PkiError> {
        let Some(pem) = files.get(name) else {
            return Ok(None);
        };
        let pem = String::from_utf8(pem.to_vec()).map_err(|_| PkiError::Unreadable(name))?;
        Known::of_pem(pem, name).map(Some)
    }

    fn of_pem(pem: String, name: &'static str) -> Result<Known, PkiError> {
        let unreadable = || PkiError::Unreadable(name);
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| unreadable())?;
        let certificate = block.parse_x509().map_err(|_| unreadable())?;
        let validity = certificate.validity();
        let time = |seconds| Timestamp::from_second(seconds).map_err(|_| unreadable());
        let begins = time(validity.not_before.timestamp())?;
        let ends = time(validity.not_after.timestamp())?;
        let public_key = certificate.public_key().raw.to_vec();
        Ok(Known { pem, begins, ends, public_key })
    }

    /// The moment when so many parts of the life are over.
    fn part(&self, numerator: u32, denominator: u32) -> Timestamp {
        let life = Duration::try_from(self.ends.duration_since(self.begins)).unwrap_or_default();
        later(self.begins, life * numerator / denominator)
    }
}

pub(super) fn later(from: Timestamp, by: Duration) -> Timestamp {
    from.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// Makes a certificate good from now for `life`, and a little earlier for clients whose clock is behind.
/// Certificates count in seconds; rcgen's type of time is made by the one way it offers without another crate.
pub(super) fn set_validity(params: &mut CertificateParams, now: Timestamp, life: Duration) {
    const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);
    let second = |at: Timestamp| Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + second(now).saturating_sub(CLOCK_SKEW.min(life / 10));
    params.not_after = epoch + second(later(now, life));
}
