//! Serving certificates: short-lived, made in memory, shown to clients at once when renewed.
//! Must not be stored anywhere.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::SetOnce;

use super::authority::{SigningKey, later, set_validity};
use super::{Authority, Lifetimes, PkiError};

/// A serving certificate with its key.
#[derive(Debug)]
pub struct Leaf {
    certified: Arc<CertifiedKey>,
    renew_at: Timestamp,
    ends: Timestamp,
}

impl Leaf {
    /// At half of its life: the old one is still good for the other half, for clients that are in the middle.
    pub fn renew_at(&self) -> Timestamp {
        self.renew_at
    }

    pub fn ends(&self) -> Timestamp {
        self.ends
    }

    #[cfg(test)]
    pub(super) fn certified(&self) -> &CertifiedKey {
        &self.certified
    }
}

impl Authority {
    /// Signs a new key for the names (DNS names or IP addresses) under which our server is reached.
    pub fn issue(&self, names: &[String], lifetimes: Lifetimes, now: Timestamp) -> Result<Leaf, PkiError> {
        let key = SigningKey(KeyPair::generate().map_err(PkiError::Make)?);
        // A leaf that outlives its authority would break in the middle of its life.
        let left = Duration::try_from(self.ends().duration_since(now)).unwrap_or_default();
        let life = lifetimes.leaf.min(left);
        let mut params = CertificateParams::new(names).map_err(PkiError::Make)?;
        set_validity(&mut params, now, life);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "tidelock");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, self.issuer()).map_err(PkiError::Make)?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.0.serialize_der()));
        let builder = ServerConfig::builder();
        let provider = builder.crypto_provider();
        let usable = provider.key_provider.load_private_key(private).map_err(PkiError::Provider)?;
        let certified = Arc::new(CertifiedKey::new(vec![certificate.der().clone()], usable));
        Ok(Leaf { certified, renew_at: later(now, life / 2), ends: later(now, life) })
    }
}

/// What the server shows at each handshake; empty until the first leaf is there.
#[derive(Debug, Default)]
pub struct Certificates {
    shown: ArcSwapOption<CertifiedKey>,
    there: SetOnce<()>,
}

impl Certificates {
    pub fn new() -> Arc<Certificates> {
        Arc::default()
    }

    /// Connections that are open keep what they were shown.
    pub fn show(&self, leaf: &Leaf) {
        self.shown.store(Some(Arc::clone(&leaf.certified)));
        // An error says that an earlier leaf was the first.
        let _ = self.there.set(());
    }

    /// Returns when there is a leaf to show. Before that a handshake would fail, and clients do not try that again.
    pub async fn there(&self) {
        self.there.wait().await;
    }

    pub fn is_empty(&self) -> bool {
        self.shown.load().is_none()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.shown.load_full()
    }
}
