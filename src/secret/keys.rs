//! The keys of a value: the members of a JSON object, each to become a file.
//! Must not copy values into memory that is not zeroed: members are cut out of the value itself.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use super::Plaintext;

/// Why a value has no keys that can be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    #[error("the value is not a JSON object, so it has no keys: ask for the whole value")]
    NotAnObject,
    #[error("the value has no key `{0}`")]
    NoSuchKey(String),
}

/// Whether a key can be a file of its own name.
pub fn is_file_name(key: &str) -> bool {
    const BYTES_MAX: usize = 253;
    (1..=BYTES_MAX).contains(&key.len())
        && !key.starts_with("..")
        && key != "."
        && !key.contains(|char: char| char == '/' || char.is_control())
}

/// The members of a JSON object: texts as they are, everything else as its JSON text. Of a name that stands twice the
/// last counts, as in most readers of JSON.
pub fn members(value: &Plaintext) -> Result<BTreeMap<String, Plaintext>, KeysError> {
    let text = std::str::from_utf8(value.expose()).map_err(|_| KeysError::NotAnObject)?;
    // The reader of JSON says whether it is well formed, and keeps nothing; what follows may rely on that.
    serde_json::from_str::<IgnoredAny>(text).map_err(|_| KeysError::NotAnObject)?;
    let mut rest = text.trim_start_matches(WHITE).strip_prefix('{').ok_or(KeysError::NotAnObject)?;
    let mut members = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', ',']);
        if rest.is_empty() || rest.starts_with('}') {
            return Ok(members);
        }
        let (name, after) = rest.split_at(text_length(rest));
        let after = after.trim_start_matches([' ', '\t', '\n', '\r', ':']);
        let (member, after) = after.split_at(value_length(after));
        let name = unescape(name).ok_or(KeysError::NotAnObject)?;
        let name = std::str::from_utf8(&name).map_err(|_| KeysError::NotAnObject)?.to_owned();
        let content = match member.starts_with('"') {
            true => unescape(member).ok_or(KeysError::NotAnObject)?.into_owned(),
            false => member.trim_end_matches(WHITE).as_bytes().to_vec(),
        };
        members.insert(name, Plaintext::new(content));
        rest = after;
    }
}

const WHITE: [char; 4] = [' ', '\t', '\n', '\r'];

/// The length of the text, quotes included, that `json` begins with.
fn text_length(json: &str) -> usize {
    let mut escaped = false;
    let end = json.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(json.len(), |end| end + 2)
}

/// The length of the value that `json` begins with, and of the white space behind it.
fn value_length(json: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while let Some(byte) = json.as_bytes().get(at) {
        match byte {
            b'"' => {
                at += text_length(&json[at..]);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b',' | b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    at
}

/// The bytes of a JSON text without quotes and escapes; `None` for half a surrogate pair.
fn unescape(text: &str) -> Option<Cow<'_, [u8]>> {
    let inner = text.trim_end_matches(WHITE).strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner.as_bytes()));
    }
    // Unescaped is never longer than escaped, so this does not grow and leaves no copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(inner.len()));
    let mut rest = inner;
    while let Some(escape) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..escape]);
        let (plain, length) = match *rest.as_bytes().get(escape + 1)? {
            b'b' => ('\u{8}', 2),
            b'f' => ('\u{c}', 2),
            b'n' => ('\n', 2),
            b'r' => ('\r', 2),
            b't' => ('\t', 2),
            b'u' => unicode(&rest[escape..])?,
            other => (char::from(other), 2),
        };
        let mut utf8 = Zeroizing::new([0; 4]);
        bytes.extend_from_slice(plain.encode_utf8(utf8.as_mut_slice()).as_bytes());
        rest = rest.get(escape + length..)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(Cow::Owned(std::mem::take(&mut *bytes)))
}

/// The character that `\uXXXX`, or two of them, stand for, and how long that is.
fn unicode(escape: &str) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let (mark, digits) = escape.get(at..at + 6)?.split_at(2);
        (mark == "\\u").then(|| u32::from_str_radix(digits, 16).ok())?
    };
    let first = unit(0)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first)?, 6));
    }
    let second = unit(6).filter(|second| (0xdc00..0xe000).contains(second))?;
    Some((char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))?, 12))
}

#[cfg(test)]
mod tests;
