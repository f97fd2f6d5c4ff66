//! Tables for people, JSON and YAML for programs. Must not know what it prints.

use std::io::Write;

use clap::ValueEnum;
use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde::Serialize;

use super::CliError;

/// How an answer is written.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Table,
    Json,
    Yaml,
}

/// Writes the rows as a table, or the object for programs.
pub fn write(
    out: &mut (dyn Write + Send),
    format: Format,
    object: &impl Serialize,
    table: impl FnOnce() -> Table,
) -> Result<(), CliError> {
    match format {
        Format::Table => writeln!(out, "{}", trimmed(&table()))?,
        Format::Json => {
            let text = serde_json::to_string_pretty(object).map_err(|e| CliError::Output(e.to_string()))?;
            writeln!(out, "{text}")?;
        }
        Format::Yaml => {
            let text = serde_yaml::to_string(object).map_err(|e| CliError::Output(e.to_string()))?;
            write!(out, "{text}")?;
        }
    }
    Ok(())
}

/// A table as kubectl's: no lines, columns apart by spaces.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table
}

/// Trailing spaces confuse people who copy a line.
fn trimmed(table: &Table) -> String {
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// A length of time as kubectl writes it: the largest unit, or the two largest of a short one.
pub fn age(since: Option<Timestamp>, now: Timestamp) -> String {
    let Some(since) = since else { return "-".to_owned() };
    let seconds = now.duration_since(since).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_written_in_their_largest_unit() {
        let then = Timestamp::from_second(1_000_000).unwrap();
        let check = |seconds: i64, text: &str| {
            let now = Timestamp::from_second(1_000_000 + seconds).unwrap();
            assert_eq!(age(Some(then), now), text);
        };
        check(0, "0s");
        check(119, "119s");
        check(120, "2m");
        check(7_200, "2h");
        check(172_800, "2d");
        check(-5, "0s");
        assert_eq!(age(None, then), "-");
    }

    #[test]
    fn a_table_has_no_lines_and_no_trailing_spaces() {
        let mut rows = table(&["NAME", "READY"]);
        rows.add_row(["orders-db", "True"]);
        let mut out = Vec::new();
        write(&mut out, Format::Table, &(), || rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME        READY\norders-db   True\n");
    }

    #[test]
    fn programs_get_json_and_yaml_in_which_odd_strings_stay_strings() {
        let object = serde_json::json!({"a": "yes", "b": "1_000"});
        let text = |format| {
            let mut out = Vec::new();
            write(&mut out, format, &object, || table(&["A"])).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text(Format::Json)).unwrap(), object);
        assert!(text(Format::Yaml).contains("a: \"yes\"") || text(Format::Yaml).contains("a: 'yes'"));
    }
}
