//! From when until when a certificate is good, for whoever looks at ours from outside. Must not verify anything.

use jiff::Timestamp;

/// The life of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub begins: Timestamp,
    pub ends: Timestamp,
}

/// Of a certificate as it is shown in TLS; nothing if it is none.
pub fn validity_of_der(der: &[u8]) -> Option<Validity> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let validity = certificate.validity();
    let time = |seconds| Timestamp::from_second(seconds).ok();
    Some(Validity {
        begins: time(validity.not_before.timestamp())?,
        ends: time(validity.not_after.timestamp())?,
    })
}

/// Of each certificate in a bundle, in its order.
pub fn validity_of_pem(bundle: &str) -> Vec<Validity> {
    let blocks = x509_parser::pem::Pem::iter_from_buffer(bundle.as_bytes()).flatten();
    blocks.filter_map(|block| validity_of_der(&block.contents)).collect()
}
