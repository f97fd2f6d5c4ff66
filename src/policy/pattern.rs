//! Text with wildcards and variables: `*`, `?`, `${key}`, `${key, 'default'}`, `${*}`, `${?}`, `${$}`.
//! Must not read a wildcard in what a variable stands for.

use super::keys::{Context, Key};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `?`
    One,
    /// `*`
    Any,
    Variable {
        key: Key,
        default: Option<String>,
    },
}

/// What of a text is more than itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Syntax {
    pub(super) wildcards: bool,
    /// Only a policy of version 2012-10-17 has them.
    pub(super) variables: bool,
}

/// A place of a pattern, once its variables have their values.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Char(char),
    One,
    Any,
}

impl Pattern {
    pub(super) fn parse(text: &str, syntax: Syntax) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let (true, Some(inner)) = (syntax.variables, rest.strip_prefix("${")) {
                let end = end_of_variable(inner)
                    .ok_or_else(|| format!("the variable that begins at {rest} has no end"))?;
                pieces.push(variable(&inner[..end])?);
                rest = &inner[end + 1..];
                continue;
            }
            match first {
                '*' if syntax.wildcards => pieces.push(Piece::Any),
                '?' if syntax.wildcards => pieces.push(Piece::One),
                _ => push_text(&mut pieces, first),
            }
            rest = &rest[first.len_utf8()..];
        }
        Ok(Self(pieces))
    }

    pub(super) fn matches(&self, text: &str, context: &Context) -> bool {
        let text: Vec<char> = text.chars().collect();
        self.places(context, |c| [c]).is_some_and(|places| fits(&places, &text))
    }

    /// As `matches`, in whatever case.
    pub(super) fn matches_folded(&self, text: &str, context: &Context) -> bool {
        let text: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
        self.places(context, char::to_lowercase).is_some_and(|places| fits(&places, &text))
    }

    /// Whether it stands for one text, whatever is asked.
    pub(super) fn is_fixed(&self) -> bool {
        self.0.iter().all(|piece| matches!(piece, Piece::Text(_)))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Variable { key, .. } => Some(key),
            _ => None,
        })
    }

    /// The six parts of an ARN; wildcards and variables keep to their own.
    pub(super) fn arn_parts(self) -> Option<[Self; 6]> {
        let mut parts = vec![Self(Vec::new())];
        for piece in self.0 {
            let Piece::Text(mut text) = piece else {
                parts.last_mut()?.0.push(piece);
                continue;
            };
            while let (true, Some((part, rest))) = (parts.len() < 6, text.split_once(':')) {
                parts.last_mut()?.0.push(Piece::Text(part.to_owned()));
                parts.push(Self(Vec::new()));
                text = rest.to_owned();
            }
            parts.last_mut()?.0.push(Piece::Text(text));
        }
        let parts: [Self; 6] = parts.try_into().ok()?;
        let is_arn = parts[0].matches("arn", &Context::default()) && parts[0].is_fixed();
        is_arn.then_some(parts)
    }

    /// `None` when a variable has no value.
    fn places<F: IntoIterator<Item = char>>(
        &self,
        context: &Context,
        fold: impl Fn(char) -> F,
    ) -> Option<Vec<Place>> {
        let mut places = Vec::new();
        for piece in &self.0 {
            let text = match piece {
                Piece::One => {
                    places.push(Place::One);
                    continue;
                }
                Piece::Any => {
                    places.push(Place::Any);
                    continue;
                }
                Piece::Text(text) => text.as_str(),
                Piece::Variable { key, default } => context.value(key).or(default.as_deref())?,
            };
            places.extend(text.chars().flat_map(&fold).map(Place::Char));
        }
        Some(places)
    }
}

fn push_text(pieces: &mut Vec<Piece>, next: char) {
    match pieces.last_mut() {
        Some(Piece::Text(text)) => text.push(next),
        _ => pieces.push(Piece::Text(next.to_string())),
    }
}

/// Where the closing brace is; one in quotes is none.
fn end_of_variable(inner: &str) -> Option<usize> {
    let mut quoted = false;
    for (at, c) in inner.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            '}' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

fn variable(inner: &str) -> Result<Piece, String> {
    if matches!(inner, "*" | "?" | "$") {
        return Ok(Piece::Text(inner.to_owned()));
    }
    let (name, default) = match inner.split_once(',') {
        None => (inner, None),
        Some((name, default)) => {
            let quoted = default.trim().strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
            let plain = quoted.filter(|text| !text.contains('\''));
            let text = plain
                .ok_or_else(|| format!("the default of the variable ${{{inner}}} is not in single quotes"))?;
            (name, Some(text.to_owned()))
        }
    };
    let key = Key::parse(name.trim()).filter(|key| !key.is_list());
    let key = key.ok_or_else(|| format!("nothing fills the variable ${{{inner}}}"))?;
    Ok(Piece::Variable { key, default })
}

/// Whether the places cover the text. Only the last `*` is ever tried again: so it takes no more steps than places
/// times characters.
fn fits(places: &[Place], text: &[char]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut last_any = None;
    while read < text.len() {
        match places.get(at) {
            Some(Place::Any) => {
                last_any = Some((at, read));
                at += 1;
            }
            Some(Place::One) => (at, read) = (at + 1, read + 1),
            Some(Place::Char(c)) if *c == text[read] => (at, read) = (at + 1, read + 1),
            _ => {
                let Some((any, from)) = last_any else { return false };
                last_any = Some((any, from + 1));
                (at, read) = (any + 1, from + 1);
            }
        }
    }
    places[at..].iter().all(|place| *place == Place::Any)
}
