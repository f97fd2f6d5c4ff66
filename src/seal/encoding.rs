//! One unambiguous encoding for everything that is authenticated: two different lists of fields never have the same
//! bytes. Must not change: seals, MACs and hashes that exist depend on every byte of it.

/// One field of what is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    Null,
    Integer(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// Each field is a tag byte, its length as 8 bytes (big-endian), and its bytes. The domain is the first field, so that
/// bytes made for one purpose never authenticate for another.
pub(super) fn encode<'a>(domain: &str, fields: impl IntoIterator<Item = Field<'a>>) -> Vec<u8> {
    // Most rows fit: to grow costs more than what is left over.
    let mut out = Vec::with_capacity(512);
    push(&mut out, Field::Text(domain));
    for field in fields {
        push(&mut out, field);
    }
    out
}

fn push(out: &mut Vec<u8>, field: Field<'_>) {
    let mut tagged = |tag: u8, bytes: &[u8]| {
        out.push(tag);
        out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        out.extend_from_slice(bytes);
    };
    match field {
        Field::Null => tagged(0, &[]),
        Field::Integer(number) => tagged(1, &number.to_be_bytes()),
        Field::Text(text) => tagged(2, text.as_bytes()),
        Field::Bytes(bytes) => tagged(3, bytes),
    }
}

/// A list inside other fields: its count goes first, so that no field can move from one list into the next.
pub(super) fn counted<'a>(fields: &'a [Field<'a>]) -> impl Iterator<Item = Field<'a>> {
    let count = i64::try_from(fields.len()).unwrap_or(i64::MAX);
    std::iter::once(Field::Integer(count)).chain(fields.iter().copied())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_that_look_alike_have_different_bytes() {
        let lists: [&[Field<'_>]; 8] = [
            &[],
            &[Field::Null],
            &[Field::Text("")],
            &[Field::Bytes(b"")],
            &[Field::Text("ab"), Field::Text("c")],
            &[Field::Text("a"), Field::Text("bc")],
            &[Field::Bytes(&[0, 0, 0, 0, 0, 0, 0, 7])],
            &[Field::Integer(7)],
        ];
        for (i, one) in lists.iter().enumerate() {
            for other in &lists[i + 1..] {
                assert_ne!(
                    encode("d", one.iter().copied()),
                    encode("d", other.iter().copied()),
                    "{one:?} {other:?}"
                );
            }
        }
        assert_ne!(encode("d", [Field::Text("e")]), encode("de", []));
    }

    proptest! {
        #[test]
        fn two_lists_of_texts_have_the_same_bytes_only_when_they_are_equal(
            one in proptest::collection::vec("[ab]{0,3}", 0..4),
            other in proptest::collection::vec("[ab]{0,3}", 0..4),
        ) {
            let bytes = |texts: &[String]| encode("d", texts.iter().map(|text| Field::Text(text)));
            prop_assert_eq!(bytes(&one) == bytes(&other), one == other);
        }
    }
}
