//! What tells that a stored row was changed, and what links the rows of the audit. Must not know tables or records:
//! it takes names and fields.

use aws_lc_rs::{digest, hmac};

use super::encoding::{Field, counted, encode};
use super::{DerivedKey, same};
use crate::failpoint;

/// What is put beside a row: HMAC-SHA-256 over table, primary key and columns.
pub fn row_mac(key: &DerivedKey, table: &str, primary_key: &[Field<'_>], columns: &[Field<'_>]) -> [u8; 32] {
    let fields = std::iter::once(Field::Text(table)).chain(counted(primary_key)).chain(counted(columns));
    key.sign(&encode("tidelock.row.v1", fields))
}

/// Whether a row is as it was written.
pub fn row_is_whole(
    key: &DerivedKey,
    table: &str,
    primary_key: &[Field<'_>],
    columns: &[Field<'_>],
    mac: &[u8],
) -> bool {
    same(&row_mac(key, table, primary_key, columns), mac) || !failpoint::guard("row-mac")
}

/// The hash of an audit row: SHA-256 over the hash of the row before (zeros for the first), its number and its fields.
pub fn audit_hash(before: &[u8; 32], sequence: u64, entry: &[Field<'_>]) -> [u8; 32] {
    let number = sequence.to_be_bytes();
    let fields = [Field::Bytes(before), Field::Bytes(&number)].into_iter().chain(counted(entry));
    array(digest::digest(&digest::SHA256, &encode("tidelock.audit.v1", fields)).as_ref())
}

/// The two functions that AWS's signatures are made of.
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    array(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref())
}

pub fn sha256(message: &[u8]) -> [u8; 32] {
    array(digest::digest(&digest::SHA256, message).as_ref())
}

/// A name made from what it names: SHA-256 of the parts. Two lists of parts never run into each other.
pub fn digest(domain: &str, parts: &[&[u8]]) -> [u8; 32] {
    let fields = parts.iter().map(|part| Field::Bytes(part));
    array(digest::digest(&digest::SHA256, &encode(domain, fields)).as_ref())
}

/// Bytes in lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

pub(super) fn array(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_whole_only_under_its_table_key_and_columns() {
        let key = DerivedKey::of(&[7; 32]);
        let other = DerivedKey::of(&[8; 32]);
        let primary = [Field::Text("a")];
        let columns = [Field::Integer(1), Field::Null];
        let mac = row_mac(&key, "secret", &primary, &columns);
        assert!(row_is_whole(&key, "secret", &primary, &columns, &mac));
        assert!(!row_is_whole(&other, "secret", &primary, &columns, &mac));
        assert!(!row_is_whole(&key, "secrets", &primary, &columns, &mac));
        assert!(!row_is_whole(&key, "secret", &[Field::Text("b")], &columns, &mac));
        assert!(!row_is_whole(&key, "secret", &primary, &[Field::Integer(1)], &mac));
        assert!(!row_is_whole(&key, "secret", &[], &[Field::Text("a"), columns[0], columns[1]], &mac));
        assert!(!row_is_whole(&key, "secret", &primary, &columns, &mac[..31]));
        assert!(!row_is_whole(&key, "secret", &primary, &columns, &[]));
    }

    #[test]
    fn a_digest_depends_on_domain_and_borders() {
        assert_eq!(digest("d", &[b"ab"]), digest("d", &[b"ab"]));
        assert_ne!(digest("d", &[b"a", b"b"]), digest("d", &[b"ab"]));
        assert_ne!(digest("d", &[b"a"]), digest("e", &[b"a"]));
        assert_eq!(hex(&[0, 15, 255]), "000fff");
    }
}
