//! The values that a condition compares with, each read once, in the form that its operator demands.
//! Must not compare what cannot be read: it matches nothing.

use core::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Addresses with a common prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    length: u8,
}

/// Beyond these a network is as good as everybody.
const BROADEST_V4: u8 = 8;
const BROADEST_V6: u8 = 32;

impl Network {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            None => (text, None),
            Some((address, length)) => {
                let plain = (1..=3).contains(&length.len()) && length.bytes().all(|b| b.is_ascii_digit());
                (address, Some(plain.then(|| length.parse().ok()).flatten()?))
            }
        };
        let address: IpAddr = address.parse().ok()?;
        let longest: u8 = if address.is_ipv4() { 32 } else { 128 };
        let length = length.unwrap_or(longest);
        // What is written as IPv4 inside of IPv6 is IPv4, as the addresses that it is compared with are.
        match (address.to_canonical(), length.checked_sub(96)) {
            (canonical @ IpAddr::V4(_), Some(length)) if address.is_ipv6() && length <= 32 => {
                Some(Self { address: canonical, length })
            }
            _ => (length <= longest).then_some(Self { address, length }),
        }
    }

    /// An IPv4 address that came through an IPv6 socket is that IPv4 address.
    pub(super) fn holds(&self, address: &str) -> bool {
        let Ok(address) = address.parse::<IpAddr>() else { return false };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(32 - u32::from(self.length)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(128 - u32::from(self.length)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    pub(super) fn is_broad(&self) -> bool {
        self.length < if self.address.is_ipv4() { BROADEST_V4 } else { BROADEST_V6 }
    }
}

/// Digits with an optional sign and fraction; no exponent, no infinity.
pub(super) fn number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    (plain(whole) && plain(fraction)).then(|| text.parse().ok()).flatten()
}

/// A time in ISO 8601 with its zone, a date (its midnight, UTC), or seconds since 1970.
pub(super) fn date(text: &str) -> Option<Timestamp> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Timestamp::from_second(text.parse().ok()?).ok();
    }
    let midnight = || Some(text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp());
    if text.contains('T') { text.parse().ok() } else { midnight() }
}

pub(super) fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}
