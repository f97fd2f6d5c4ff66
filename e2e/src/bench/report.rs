//! What one run found: rows beside their references and targets, as a table for people and as JSON for programs.
//! Must not measure anything, and must not fail because a target is missed: that is for the reader.

use comfy_table::{Table, presets};
use serde::{Deserialize, Serialize};

use super::figures::{Figures, Unit, three_digits};
use super::machine::Machine;

/// One thing that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub what: String,
    pub unit: Unit,
    pub figures: Figures,
    pub beside: Option<Beside>,
    pub target: Target,
}

/// What a user would pick instead, measured in the same run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    pub what: String,
    pub figures: Figures,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    None,
    /// Of the 99th percentile, in the row's unit.
    P99Below(f64),
    /// Of the median, in the row's unit.
    Below(f64),
    /// The median is at most so much above the reference's.
    AtMostMore(f64),
    /// The median is at most so many times the reference's.
    WithinTimes(f64),
}

/// Whether a target is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    None,
    Met,
    Missed,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub rows: Vec<Shown>,
    pub notes: Vec<String>,
}

/// A row with what follows from it.
#[derive(Debug, Serialize)]
pub struct Shown {
    #[serde(flatten)]
    pub row: Row,
    pub ratio: Option<f64>,
    pub verdict: Verdict,
}

impl Row {
    pub fn new(what: &str, unit: Unit, figures: Figures, target: Target) -> Self {
        Self { what: what.to_owned(), unit, figures, beside: None, target }
    }

    #[must_use]
    pub fn beside(mut self, what: &str, figures: Figures) -> Self {
        self.beside = Some(Beside { what: what.to_owned(), figures });
        self
    }

    /// The median in medians of the reference.
    pub fn ratio(&self) -> Option<f64> {
        let reference = self.beside.as_ref()?.figures.median;
        (reference > 0.0).then(|| self.figures.median / reference)
    }

    pub fn verdict(&self) -> Verdict {
        let reference = self.beside.as_ref().map(|beside| beside.figures.median);
        let met = match self.target {
            Target::None => None,
            Target::P99Below(limit) => self.figures.p99.map(|p99| p99 < limit),
            Target::Below(limit) => Some(self.figures.median < limit),
            Target::AtMostMore(limit) => reference.map(|reference| self.figures.median - reference <= limit),
            Target::WithinTimes(limit) => self.ratio().map(|ratio| ratio <= limit),
        };
        match met {
            None => Verdict::None,
            Some(true) => Verdict::Met,
            Some(false) => Verdict::Missed,
        }
    }

    fn shown_target(&self) -> String {
        let target = match self.target {
            Target::None => return String::new(),
            Target::P99Below(limit) => format!("p99 < {}", self.unit.show(limit)),
            Target::Below(limit) => format!("< {}", self.unit.show(limit)),
            Target::AtMostMore(limit) => format!("at most {} more", self.unit.show(limit)),
            Target::WithinTimes(limit) => format!("within {limit} times"),
        };
        let verdict = match self.verdict() {
            Verdict::None => "not measured",
            Verdict::Met => "met",
            Verdict::Missed => "MISSED",
        };
        format!("{target}: {verdict}")
    }

    fn cells(&self) -> [String; 8] {
        let show = |value: Option<f64>| value.map(|value| self.unit.show(value)).unwrap_or_default();
        let beside = self.beside.as_ref();
        let reference = beside.map(|beside| beside.figures);
        [
            self.what.clone(),
            show(Some(self.figures.median)),
            show(self.figures.p99),
            beside.map(|beside| beside.what.clone()).unwrap_or_default(),
            show(reference.map(|figures| figures.median)),
            show(reference.and_then(|figures| figures.p99)),
            self.ratio().map(three_digits).unwrap_or_default(),
            self.shown_target(),
        ]
    }
}

impl Report {
    pub fn new(machine: Machine, rows: Vec<Row>, notes: Vec<String>) -> Self {
        let shown = |row: Row| Shown { ratio: row.ratio(), verdict: row.verdict(), row };
        Self { machine, rows: rows.into_iter().map(shown).collect(), notes }
    }

    /// Markdown: to be read on a terminal and to be put into a document as it is.
    pub fn table(&self) -> String {
        let mut text = self.machine.lines().map(|line| format!("- {line}\n")).collect::<String>();
        text += &format!("\n{}\n", table(self.rows.iter().map(|shown| &shown.row)));
        for note in &self.notes {
            text += &format!("\n- {note}");
        }
        text
    }

    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

/// The rows alone.
pub fn table<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["what", "median", "p99", "beside", "its median", "its p99", "ratio", "target"]);
    rows.for_each(|row| {
        table.add_row(row.cells());
    });
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(median: f64, p99: f64) -> Figures {
        Figures { samples: 100, median, p99: Some(p99), max: Some(p99) }
    }

    #[test]
    fn targets_are_judged_by_what_they_are_about() {
        let check = |target: Target, own: Figures, reference: Option<f64>, wanted: Verdict| {
            let mut row = Row::new("x", Unit::Seconds, own, target);
            if let Some(reference) = reference {
                row = row.beside("y", Figures::once(reference));
            }
            assert_eq!(row.verdict(), wanted, "{row:?}");
        };
        check(Target::P99Below(0.2), figures(0.1, 0.19), Some(60.0), Verdict::Met);
        check(Target::P99Below(0.2), figures(0.1, 0.2), Some(60.0), Verdict::Missed);
        check(Target::P99Below(0.2), Figures::once(0.1), None, Verdict::None);
        check(Target::Below(0.2), Figures::once(0.1), None, Verdict::Met);
        check(Target::AtMostMore(0.05), figures(1.04, 2.0), Some(1.0), Verdict::Met);
        check(Target::AtMostMore(0.05), figures(1.06, 2.0), Some(1.0), Verdict::Missed);
        check(Target::WithinTimes(2.0), figures(2.0, 9.0), Some(1.0), Verdict::Met);
        check(Target::WithinTimes(2.0), figures(2.1, 2.1), Some(1.0), Verdict::Missed);
        check(Target::WithinTimes(2.0), figures(2.1, 2.1), None, Verdict::None);
        check(Target::None, figures(2.1, 2.1), Some(1.0), Verdict::None);
    }

    #[test]
    fn a_table_has_a_line_for_each_row_and_says_what_was_missed() {
        let rows = [
            Row::new("commit to file", Unit::Seconds, figures(0.012, 0.034), Target::P99Below(0.2))
                .beside("Secret volume", figures(70.0, 89.0)),
            Row::new("memory", Unit::Bytes, Figures::once(2_097_152.0), Target::Below(1_048_576.0)),
        ];
        let text = table(rows.iter());
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(lines.len(), 4, "{text}");
        let first = [
            "commit to file",
            "12.0 ms",
            "34.0 ms",
            "Secret volume",
            "70.0 s",
            "89.0 s",
            "0.00",
            "p99 < 200 ms: met",
        ];
        assert_eq!(lines[2], first);
        assert_eq!(lines[3], ["memory", "2.00 MiB", "< 1.00 MiB: MISSED"]);
    }

    #[test]
    fn rows_of_another_process_read_back() {
        let row = Row::new("seal", Unit::Seconds, figures(1e-6, 2e-6), Target::WithinTimes(2.0));
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), row);
    }
}
