//! The little XML that the query protocol answers with. Must not be given a text without escaping it.

use bytes::Bytes;

/// One element, written from the inside out.
pub(super) struct Element {
    name: String,
    inner: String,
}

impl Element {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), inner: String::new() }
    }

    pub(super) fn text(mut self, name: &str, text: &str) -> Self {
        self.inner.push_str(&format!("<{name}>{}</{name}>", escaped(text)));
        self
    }

    pub(super) fn child(mut self, child: Self) -> Self {
        let Self { name, inner } = child;
        self.inner.push_str(&format!("<{name}>{inner}</{name}>"));
        self
    }

    pub(super) fn document(self, namespace: &str) -> Bytes {
        let Self { name, inner } = self;
        Bytes::from(format!("<{name} xmlns=\"{namespace}\">{inner}</{name}>"))
    }
}

/// Markup is written by reference, and what XML 1.0 has no place for is left out.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push_str(&format!("&#{};", u32::from(c))),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_never_becomes_markup() {
        let inner = Element::new("b").text("c", "<x a=\"1\">&\n\u{0}</c>");
        let written = Element::new("a").child(inner).document("urn:x");
        let right = "<a xmlns=\"urn:x\"><b><c>&lt;x a=&quot;1&quot;&gt;&amp;&#10;&lt;/c&gt;</c></b></a>";
        assert_eq!(written, right);
    }
}
