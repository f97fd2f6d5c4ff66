//! A tally of a set of rows, which tells whether one was removed or put back from an older copy of itself: such a row
//! carries a MAC that was right once. Must not be stored open, nor made of the MACs as they lie beside the rows: whoever
//! saw many of them could find rows whose changes cancel each other out.

use super::DerivedKey;
use super::encoding::{Field, encode};

/// The sum, over all rows, of a secret number made from each row's MAC. The order of rows does not matter, and one row
/// is changed without reading the others.
#[derive(Clone, PartialEq, Eq)]
pub struct Tally([u64; 4]);

impl Tally {
    pub fn of_no_rows() -> Self {
        Self([0; 4])
    }

    pub fn add(&mut self, key: &DerivedKey, row_mac: &[u8]) {
        let share = share(key, row_mac);
        self.0.iter_mut().zip(share).for_each(|(sum, part)| *sum = sum.wrapping_add(part));
    }

    pub fn remove(&mut self, key: &DerivedKey, row_mac: &[u8]) {
        let share = share(key, row_mac);
        self.0.iter_mut().zip(share).for_each(|(sum, part)| *sum = sum.wrapping_sub(part));
    }

    /// What may be stored: it tells whether a tally is the same, and nothing else.
    pub fn seal(&self, key: &DerivedKey) -> [u8; 32] {
        let sum = self.0.map(u64::to_be_bytes).concat();
        keyed(key, "tidelock.tally.v1", &sum)
    }
}

fn share(key: &DerivedKey, row_mac: &[u8]) -> [u64; 4] {
    let bytes = keyed(key, "tidelock.tally-share.v1", row_mac);
    let mut parts = [0; 4];
    for (part, eight) in parts.iter_mut().zip(bytes.chunks_exact(8)) {
        *part = eight.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    }
    parts
}

fn keyed(key: &DerivedKey, domain: &str, bytes: &[u8]) -> [u8; 32] {
    key.sign(&encode(domain, [Field::Bytes(bytes)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> DerivedKey {
        DerivedKey::of(&[byte; 32])
    }

    fn of(macs: &[[u8; 32]]) -> [u8; 32] {
        let mut tally = Tally::of_no_rows();
        macs.iter().for_each(|mac| tally.add(&key(1), mac));
        tally.seal(&key(1))
    }

    #[test]
    fn it_depends_on_which_rows_there_are_and_not_on_their_order() {
        let [a, b, c] = [[1; 32], [2; 32], [3; 32]];
        assert_eq!(of(&[a, b, c]), of(&[c, a, b]));
        let others: [&[_]; 6] = [&[], &[a], &[a, b], &[a, b, b], &[a, b, c, c], &[a, a, b, c]];
        for other in others {
            assert_ne!(of(&[a, b, c]), of(other), "{} rows", other.len());
        }
        assert_ne!(of(&[a, a]), of(&[]), "two of the same do not cancel out");
    }

    #[test]
    fn a_row_that_is_taken_out_leaves_what_was_before() {
        let mut tally = Tally::of_no_rows();
        tally.add(&key(1), &[1; 32]);
        let before = tally.clone();
        tally.add(&key(1), &[2; 32]);
        assert!(tally != before);
        tally.remove(&key(1), &[2; 32]);
        assert!(tally == before);
    }

    #[test]
    fn another_key_makes_another_seal() {
        assert_ne!(Tally::of_no_rows().seal(&key(1)), Tally::of_no_rows().seal(&key(2)));
    }

    #[test]
    fn its_form_stays_what_stored_files_have() {
        let sealed = of(&[[1; 32], [2; 32]]);
        assert_eq!(
            super::super::hex(&sealed),
            "71095d8c6d4a22f3a3b2d4843e8e1825b58d369f060ef3accedbb72ad82fdd90"
        );
    }
}
