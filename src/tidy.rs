//! The rules of the house that the compiler does not know: who may import whom, what each file opens with, how long
//! it may grow. Must not judge anything that `rustc` or `clippy` already judges.

mod metrics;

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, and what each may import from this crate. A room that is not listed may not exist.
const ROOMS: &[(&str, &[&str])] = &[
    ("secret", &[]),
    ("access", &["secret", "policy"]),
    ("federation", &["access"]),
    ("rotation", &["secret"]),
    ("policy", &[]),
    ("inject", &[]),
    ("seal", &["secret", "access"]),
    ("signature", &["seal"]),
    ("kms", &["seal", "secret"]),
    ("store", &["seal", "secret", "access"]),
    ("keeper", &["secret", "policy", "access", "rotation", "inject", "seal", "kms", "store", "clock"]),
    ("crd", &["secret", "access", "rotation"]),
    ("wire", &["secret"]),
    ("cluster", &["secret", "access", "seal", "keeper", "crd", "inject", "clock"]),
    ("issuers", &["federation", "clock"]),
    ("pki", &[]),
    ("projection", &[]),
    (
        "api",
        &[
            "secret",
            "policy",
            "access",
            "federation",
            "inject",
            "signature",
            "keeper",
            "cluster",
            "issuers",
            "wire",
            "serve",
            "clock",
            "telemetry",
        ],
    ),
    (
        "controller",
        &["secret", "access", "rotation", "keeper", "cluster", "crd", "pki", "clock", "telemetry"],
    ),
    ("webhook", &["secret", "access", "inject", "keeper", "cluster", "serve", "clock"]),
    ("node", &["projection", "wire", "inject", "serve", "clock"]),
    ("rotator", &["secret", "rotation", "wire", "serve", "clock"]),
    ("cli", &["secret", "wire", "crd", "pki", "clock"]),
    ("serve", &["clock"]),
    ("telemetry", &[]),
    ("clock", &[]),
    ("failpoint", &[]),
    // Wiring: they may name every room.
    ("config", &["*"]),
    ("server", &["*"]),
    ("main", &["*"]),
    ("lib", &["*"]),
    ("tidy", &["*"]),
];

/// What every room may name, the pure ones as well: nothing is left of it in the program as it ships.
const EVERYWHERE: &[&str] = &["failpoint"];

/// Crates that only some rooms may name, so that each concern has one place.
const CRATES: &[(&str, &[&str])] = &[
    ("aws_lc_rs::", &["seal"]),
    ("jsonwebtoken::", &["issuers"]),
    ("rusqlite::", &["store"]),
    ("rcgen::", &["pki"]),
    ("x509_parser::", &["pki"]),
    ("kube::", &["cluster", "crd", "controller", "webhook", "cli", "server", "main"]),
    ("tonic::", &["wire", "api", "node", "serve", "server"]),
    ("warp::", &["api", "webhook", "rotator", "serve", "server"]),
];

/// Rooms that do no I/O: they take time and randomness as arguments.
const PURE: &[&str] = &["secret", "policy", "access", "federation", "rotation", "inject", "signature"];
const IMPURE_WORDS: &[&str] = &["std::fs", "std::net", "std::process", "tokio::", "reqwest::", "std::env"];

const LINES_MAX: usize = 400;

struct Source {
    path: String,
    room: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        ["tests.rs", "contract.rs", "tidy.rs"].iter().any(|end| self.path.ends_with(end))
            || self.path.contains("/tests/")
    }

    /// Lines before the first test module that is written here; one in a file of its own may be named at the top.
    fn code(&self) -> &str {
        const MODULE: &str = "\n#[cfg(test)]\nmod ";
        let is_here =
            |at: &usize| self.text[at + MODULE.len()..].lines().next().is_some_and(|l| l.ends_with('{'));
        let end = self.text.match_indices(MODULE).map(|(at, _)| at).find(is_here);
        &self.text[..end.unwrap_or(self.text.len())]
    }
}

fn violations(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |line: usize, what: String| found.push(format!("{}:{line}: {what}", source.path));
    if !source.text.starts_with("//!") {
        say(1, "a module opens with `//!`: what it is for and what it must not do".into());
    }
    let Some((_, allowed)) = ROOMS.iter().find(|(room, _)| *room == source.room) else {
        say(1, format!("`{}` is not a room of ARCHITECTURE.md", source.room));
        return found;
    };
    if source.is_test() {
        return found;
    }
    let length = source.code().lines().count();
    if length > LINES_MAX {
        say(
            length,
            format!("{length} lines without tests, at most {LINES_MAX}: which idea deserves its own file?"),
        );
    }
    for (index, line) in source.code().lines().enumerate() {
        let line_number = index + 1;
        if line.trim_start().starts_with("//") {
            continue;
        }
        for room in imported_rooms(line) {
            let open = allowed.contains(&"*") || allowed.contains(&room) || EVERYWHERE.contains(&room);
            if room != source.room && !open {
                say(line_number, format!("`{}` may not import `{room}`", source.room));
            }
        }
        for (name, rooms) in CRATES {
            if names_crate(line, name) && !rooms.contains(&source.room.as_str()) {
                say(line_number, format!("only {} may name `{name}`", rooms.join(", ")));
            }
        }
        if PURE.contains(&source.room.as_str()) {
            for word in IMPURE_WORDS.iter().filter(|word| line.contains(**word)) {
                say(line_number, format!("`{}` is pure and may not use `{word}`", source.room));
            }
        }
    }
    found
}

/// The rooms that a line names as `crate::room`, also inside braces of one `use crate::{..}` on one line.
fn imported_rooms(line: &str) -> Vec<&str> {
    let known = |word: &&str| ROOMS.iter().any(|(room, _)| room == word);
    let mut rooms = Vec::new();
    for rest in line.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => {
                let list = list.split('}').next().unwrap_or(list);
                rooms.extend(list.split(',').map(|item| first_word(item.trim())).filter(known));
            }
            None => rooms.extend(Some(first_word(rest)).filter(known)),
        }
    }
    rooms
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(text)
}

/// Whether a line names the crate itself, not a module of another crate or a longer word that ends alike.
fn names_crate(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

fn sources(root: &Path) -> Vec<Source> {
    let src = root.join("src");
    let mut files = Vec::new();
    collect(&src, &mut files);
    let read = |path: PathBuf| {
        let inner = path.strip_prefix(&src).ok()?;
        let first = inner.components().next()?.as_os_str().to_str()?;
        let room = first.strip_suffix(".rs").unwrap_or(first).to_owned();
        Some(Source { path: format!("src/{}", inner.display()), room, text: fs::read_to_string(&path).ok()? })
    };
    files.into_iter().filter_map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn rooms_keep_to_themselves() {
    let all = sources(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(all.len() > 20, "the sources were not found");
    let found: Vec<String> = all.iter().flat_map(violations).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn each_rule_is_seen_to_fail() {
    let check = |room: &str, text: &str| {
        let source = Source { path: format!("src/{room}/x.rs"), room: room.into(), text: text.into() };
        violations(&source).join("\n")
    };
    assert_eq!(check("keeper", "//! Doc.\nuse crate::store::Store;\n"), "");
    assert!(check("node", "//! Doc.\nuse crate::store::Store;\n").contains("`node` may not import `store`"));
    assert!(
        check("cli", "//! Doc.\nuse crate::{crd, keeper::Keeper};\n").contains("may not import `keeper`")
    );
    assert!(check("api", "//! Doc.\nfn x() { crate::webhook::y() }\n").contains("may not import `webhook`"));
    assert!(check("secret", "//! Doc.\nuse tokio::fs;\n").contains("is pure"));
    assert!(check("keeper", "//! Doc.\nuse aws_lc_rs::hmac;\n").contains("only seal may name"));
    assert_eq!(check("main", "//! Doc.\nrustls::crypto::aws_lc_rs::default_provider();\n"), "");
    assert!(check("keeper", "use x;\n").contains("opens with `//!`"));
    let behind = "//! Doc.\n#[cfg(test)]\nmod tests;\nuse crate::store::Store;\n";
    assert!(check("node", behind).contains("may not import"), "tests in a file of their own hide nothing");
    assert!(check("utils", "//! Doc.\n").contains("is not a room"));
    assert!(check("keeper", &format!("//! Doc.\n{}", "\n".repeat(401))).contains("at most 400"));
}

/// The decisions that ARCHITECTURE.md must account for, each with the test that proves it or the issue it waits for.
#[test]
fn every_decision_has_its_row_in_the_architecture() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let extra = ["23a", "23b", "23c", "23d", "23e", "23f"].map(String::from);
    let missing: Vec<String> = (1..=34)
        .map(|n| n.to_string())
        .chain(extra)
        .filter(|id| {
            !text.lines().any(|line| line.starts_with(&format!("| {id} |")) && line.matches('|').count() >= 4)
        })
        .collect();
    assert!(missing.is_empty(), "no row for decisions {missing:?}");
}

/// The words with which a file says why: in what its `fn reason` gives, in refusals, in readiness.
fn reason_words(code: &str) -> Vec<&str> {
    let is_word = |text: &&str| {
        text.len() > 3
            && text.starts_with(char::is_uppercase)
            && text.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    let functions =
        code.split("fn reason(").skip(1).map(|rest| rest.split("\n    }\n").next().unwrap_or(rest));
    let given = functions.flat_map(|body| body.split('"').skip(1).step_by(2));
    let said = ["reason: \"", "not_ready(\"", "refuse(\"", "reason = \""]
        .into_iter()
        .flat_map(|before| code.split(before).skip(1).filter_map(|rest| rest.split('"').next()));
    let refused = code
        .split("refuse(\n")
        .skip(1)
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
    given.chain(said).chain(refused).filter(is_word).collect()
}

#[test]
fn every_reason_has_its_row_in_the_troubleshooting() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/troubleshooting.md")).unwrap();
    let all = sources(root);
    let code = all
        .iter()
        .filter(|source| !source.is_test() && source.room != "tidy")
        .map(|source| source.text.as_str());
    let mut words: Vec<&str> = code.flat_map(reason_words).collect();
    words.extend(crate::crd::reasons::Reason::ALL.iter().map(|reason| reason.word()));
    words.sort_unstable();
    words.dedup();
    assert!(words.len() > 60, "the words were not found: {words:?}");
    let missing: Vec<&str> =
        words.into_iter().filter(|word| !text.contains(&format!("| `{word}` |"))).collect();
    assert!(missing.is_empty(), "docs/troubleshooting.md says nothing of {missing:?}");
}
