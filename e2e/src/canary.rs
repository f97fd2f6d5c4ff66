//! A value in every dress that a leak could wear.
//! Must not know where it is looked for.

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Raw, hex, escaped in JSON, Base64 at each of three offsets.
pub fn dresses(value: &str) -> Vec<String> {
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let json = serde_json::Value::from(value).to_string();
    let json_twice = serde_json::Value::from(json.as_str()).to_string();
    let mut all = vec![
        value.to_owned(),
        hex.to_uppercase(),
        hex,
        json.trim_matches('"').to_owned(),
        json_twice.trim_matches(['"', '\\']).to_owned(),
    ];
    for offset in 0..3 {
        let inner = base64_at(value.as_bytes(), offset);
        all.push(inner.replace('+', "-").replace('/', "_"));
        all.push(inner);
    }
    all
}

/// Those characters of the Base64 of `bytes` behind `offset` other bytes that do not depend on their neighbours.
fn base64_at(bytes: &[u8], offset: usize) -> String {
    let mut padded = vec![0; offset];
    padded.extend(bytes);
    let whole = padded.len() / 3 * 3;
    let text: String = padded[..whole]
        .chunks(3)
        .flat_map(|three| {
            let bits = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
            [18, 12, 6, 0].map(|shift| BASE64[(bits >> shift & 63) as usize] as char)
        })
        .collect();
    // The first characters mix with what stood before.
    text[if offset == 0 { 0 } else { 4 }..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dress_is_recognised() {
        // From a published encoder: `printf` of the value behind zero, one and two other bytes.
        assert_eq!(base64_at(b"correct horse", 0), "Y29ycmVjdCBob3Jz");
        assert_eq!(base64_at(b"correct horse", 1), "cnJlY3QgaG9y");
        assert_eq!(base64_at(b"correct horse", 2), "b3JyZWN0IGhvcnNl");
        assert_eq!(dresses("a\"b")[3], "a\\\"b");
    }
}
