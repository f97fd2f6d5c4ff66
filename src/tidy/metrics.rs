//! Whether `docs/metrics.md` lists what the program registers: each name with its type and labels, and no other.
//! Must not judge names.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{Source, sources};

/// Type and labels by name. A metric that is written in several places has the same ones in each.
type Listed = BTreeMap<String, (String, Vec<String>)>;

/// What the code hands to the recorder.
fn registered(sources: &[Source]) -> Listed {
    let mut found = Listed::new();
    for source in sources.iter().filter(|source| !source.is_test() && source.room != "tidy") {
        let code = source.code();
        for kind in ["counter", "gauge", "histogram"] {
            for call in code.split(&format!("metrics::{kind}!(")).skip(1) {
                let arguments = inside(call);
                let first = arguments.split(',').next().unwrap_or(arguments).trim();
                let name = match first.strip_prefix('"') {
                    Some(literal) => literal.trim_end_matches('"').to_owned(),
                    None => constant(code, first),
                };
                let mut parts: Vec<&str> = arguments.split("=>").collect();
                // After the last arrow there is a value.
                parts.pop();
                let label = |before: &str| before.rsplit('"').nth(1).unwrap_or_default().to_owned();
                let labels = parts.into_iter().map(label).collect();
                let entry = (kind.to_owned(), labels);
                let before = found.insert(name.clone(), entry.clone());
                assert!(
                    before.is_none_or(|before| before == entry),
                    "{}: {name} has another type or other labels elsewhere",
                    source.path
                );
            }
        }
    }
    found
}

/// Up to the parenthesis that ends the call.
fn inside(call: &str) -> &str {
    let mut open = 0_usize;
    let end = call.find(|c: char| {
        match c {
            '(' => open += 1,
            ')' if open == 0 => return true,
            ')' => open -= 1,
            _ => {}
        }
        false
    });
    &call[..end.unwrap_or(call.len())]
}

fn constant(code: &str, name: &str) -> String {
    let line = code.lines().find(|line| line.contains(&format!("const {name}: &str = \"")));
    let value = line.and_then(|line| line.split('"').nth(1));
    value.unwrap_or_else(|| panic!("{name} is not a constant of the same file")).to_owned()
}

/// What the page lists.
fn documented(page: &str) -> Listed {
    let rows = page.lines().filter(|line| line.starts_with("| `tidelock_"));
    let read = |row: &str| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert!(cells.len() == 6 && !cells[4].is_empty(), "name, type, labels, meaning: {row}");
        let labels = cells[3].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        (
            cells[1].trim_matches('`').to_owned(),
            (cells[2].to_owned(), labels.filter(|label| !label.is_empty()).collect()),
        )
    };
    rows.map(read).collect()
}

#[test]
fn every_metric_has_its_row_and_every_row_its_metric() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code = registered(&sources(root));
    assert!(code.len() > 20, "the metrics were not found: {code:?}");
    let page = documented(&fs::read_to_string(root.join("docs/metrics.md")).unwrap());
    let missing: Vec<_> = code.iter().filter(|(name, entry)| page.get(*name) != Some(entry)).collect();
    assert!(missing.is_empty(), "docs/metrics.md does not list these so: {missing:#?}");
    let gone: Vec<_> = page.keys().filter(|name| !code.contains_key(*name)).collect();
    assert!(gone.is_empty(), "docs/metrics.md lists what the program does not have: {gone:?}");
}

#[test]
fn names_types_and_labels_are_found_in_code() {
    let text = "//! Doc.\nconst OPEN: &str = \"tidelock_open\";\nfn x() {\n    metrics::gauge!(OPEN).set(1.0);\n    \
                metrics::counter!(\"tidelock_a_total\", \"verb\" => x.verb(), \"outcome\" => \"Ok\")\n        .increment(1);\n}\n";
    let source = Source { path: "src/api/x.rs".into(), room: "api".into(), text: text.into() };
    let found = registered(&[source]);
    assert_eq!(found["tidelock_open"], ("gauge".to_owned(), vec![]));
    assert_eq!(
        found["tidelock_a_total"],
        ("counter".to_owned(), vec!["verb".to_owned(), "outcome".to_owned()])
    );
}
