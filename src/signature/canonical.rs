//! The one spelling of a request that both sides hash. Must not decide what has to be signed.

use http::HeaderValue;

use super::Request;
use super::read::SIGNATURE_PARAMETER;

/// Method, path, query, the listed headers, their names, and the hash of the body.
pub(super) fn request(request: Request<'_>, headers: &[String], payload: &str) -> String {
    let mut out = format!("{}\n{}\n{}\n", request.method, path(request.path), query(request.query));
    for name in headers {
        out.push_str(name);
        out.push(':');
        out.push_str(&value(request, name));
        out.push('\n');
    }
    out.push('\n');
    out.push_str(&headers.join(";"));
    out.push('\n');
    out.push_str(payload);
    out
}

/// A header that was sent several times has its values in their order, with commas between them.
fn value(request: Request<'_>, name: &str) -> String {
    if name == "host" {
        return trimmed(request.host.as_bytes());
    }
    let values = request.headers.get_all(name).iter().map(HeaderValue::as_bytes).map(trimmed);
    values.collect::<Vec<_>>().join(",")
}

/// Without space at the ends, and with one space for several.
fn trimmed(value: &[u8]) -> String {
    // Most values are one word, and a session's token is a long one.
    if !value.iter().any(u8::is_ascii_whitespace) {
        return String::from_utf8_lossy(value).into_owned();
    }
    let words = value.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    words.map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ")
}

/// Without empty and dotted segments, and encoded once more than it was sent.
fn path(sent: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in sent.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    let slash = if sent.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    let encoded: Vec<String> = segments.iter().map(|segment| encoded(segment.as_bytes())).collect();
    format!("/{}{slash}", encoded.join("/"))
}

/// Sorted, each part encoded anew; the signature itself is no part of what is signed.
fn query(sent: &str) -> String {
    let mut pairs: Vec<(String, String)> = pairs(sent)
        .filter(|(name, _)| name != SIGNATURE_PARAMETER.as_bytes())
        .map(|(name, value)| (encoded(&name), encoded(&value)))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// The names and values of a query, decoded. A plus is a plus here: AWS's clients write spaces as `%20`.
pub(super) fn pairs(sent: &str) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_ {
    sent.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

/// The bytes that a percent-encoded text stands for. A percent sign that begins no encoding stands for itself.
pub fn decoded(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                // Two digits of base 16 are a byte.
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// RFC 3986's unreserved characters as they are, everything else as `%XX`.
fn encoded(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.extend(
                [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])),
            );
        }
    }
    out
}
