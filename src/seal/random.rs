//! The machine's randomness, and comparison that takes the same time wherever the difference lies. Both are here because
//! only this room speaks to the cryptographic library.

use crate::secret::Randomness;

/// The one source of randomness of the program.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Randomness for SystemRandom {
    #[expect(
        clippy::expect_used,
        reason = "a machine without randomness must not go on: every key would be known"
    )]
    fn fill(&mut self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).expect("the operating system gives random bytes");
    }
}

/// Whether two secrets are equal, in constant time for secrets of one length.
#[expect(clippy::disallowed_methods, reason = "this is the one comparison that others use")]
pub fn same(one: &[u8], other: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one, other).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        let (mut one, mut other) = ([0; 32], [0; 32]);
        SystemRandom.fill(&mut one);
        SystemRandom.fill(&mut other);
        assert!(one != other && one != [0; 32]);
    }

    #[test]
    fn only_equal_bytes_of_equal_length_are_the_same() {
        assert!(same(b"abc", b"abc") && same(b"", b""));
        assert!(!same(b"abc", b"abd") && !same(b"abc", b"ab") && !same(b"", b"a"));
    }
}
