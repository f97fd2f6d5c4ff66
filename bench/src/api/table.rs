//! What the run found, as one table for people and as JSON for programs. Must not measure anything.

use std::time::Duration;

use comfy_table::{Table, presets};
use serde::Serialize;
use tidelock_e2e::bench::{Figures, Machine, Unit};

use super::load::Measured;

// A target that is missed is for the reader: nothing fails.
const CPU_MAX: Duration = Duration::from_micros(200);
const P99_MAX: Duration = Duration::from_millis(10);
const OF_LIMIT_MIN: f64 = 0.5;

#[derive(Serialize)]
pub struct Report {
    pub machine: Machine,
    pub rows: Vec<Row>,
    pub notes: Vec<String>,
}

#[derive(Serialize)]
pub struct Row {
    pub operation: String,
    pub connections: usize,
    pub ours: Side,
    pub moto: Option<Side>,
    pub limit: Option<Side>,
    pub aims: Vec<Aim>,
}

#[derive(Clone, Copy, Serialize)]
pub struct Side {
    pub per_second: f64,
    pub figures: Figures,
    /// Of the server, for each request, in seconds.
    pub cpu: Option<f64>,
}

/// What a row is to reach.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// The server's processor time for each request.
    Cpu,
    P99,
    /// So much of what the limit does in the same time.
    OfLimit,
}

impl From<&Measured> for Side {
    fn from(measured: &Measured) -> Self {
        let cpu = measured.cpu.map(|cpu| cpu.as_secs_f64());
        Self { per_second: measured.per_second, figures: measured.samples.figures(), cpu }
    }
}

impl Row {
    fn of_limit(&self) -> Option<f64> {
        let limit = self.limit?.per_second;
        (limit > 0.0).then(|| self.ours.per_second / limit)
    }

    fn judged(&self, aim: Aim) -> String {
        let (text, met) = match aim {
            Aim::Cpu => (
                format!("CPU <= {}", Unit::Seconds.show(CPU_MAX.as_secs_f64())),
                self.ours.cpu.map(|cpu| cpu <= CPU_MAX.as_secs_f64()),
            ),
            Aim::P99 => (
                format!("p99 < {}", Unit::Seconds.show(P99_MAX.as_secs_f64())),
                self.ours.figures.p99.map(|p99| p99 < P99_MAX.as_secs_f64()),
            ),
            Aim::OfLimit => {
                (format!(">= {OF_LIMIT_MIN} of the limit"), self.of_limit().map(|part| part >= OF_LIMIT_MIN))
            }
        };
        let verdict = match met {
            None => "not measured",
            Some(true) => "met",
            Some(false) => "MISSED",
        };
        format!("{text}: {verdict}")
    }

    fn cells(&self) -> Vec<String> {
        let time = |value: Option<f64>| value.map(|value| Unit::Seconds.show(value)).unwrap_or_default();
        let rate =
            |side: Option<Side>| side.map(|side| format!("{:.0}", side.per_second)).unwrap_or_default();
        let quantiles = |side: Option<Side>| {
            let figures = side.map(|side| side.figures);
            [time(figures.map(|figures| figures.median)), time(figures.and_then(|figures| figures.p99))]
        };
        let [median, p99] = quantiles(Some(self.ours));
        let [moto_median, moto_p99] = quantiles(self.moto);
        let aims: Vec<String> = self.aims.iter().map(|aim| self.judged(*aim)).collect();
        vec![
            self.operation.clone(),
            self.connections.to_string(),
            rate(Some(self.ours)),
            median,
            p99,
            time(self.ours.cpu),
            rate(self.moto),
            moto_median,
            moto_p99,
            rate(self.limit),
            self.of_limit().map(|part| format!("{part:.2}")).unwrap_or_default(),
            aims.join("; "),
        ]
    }
}

impl Report {
    /// Markdown: to be read on a terminal and to be put into a document as it is.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header([
            "operation",
            "connections",
            "per second",
            "median",
            "p99",
            "server CPU",
            "moto, per second",
            "median",
            "p99",
            "limit, per second",
            "of it",
            "targets",
        ]);
        for row in &self.rows {
            table.add_row(row.cells());
        }
        let lines: String = self.machine.lines().map(|line| format!("- {line}\n")).collect();
        let notes: String = self.notes.iter().map(|note| format!("\n- {note}")).collect();
        format!("{lines}\n{table}\n{notes}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(per_second: f64, p99: f64, cpu: Option<f64>) -> Side {
        let figures = Figures { samples: 100, median: p99 / 2.0, p99: Some(p99), max: Some(p99) };
        Side { per_second, figures, cpu }
    }

    #[test]
    fn aims_are_judged_by_what_they_are_about() {
        let mut row = Row {
            operation: "GetSecretValue".into(),
            connections: 50,
            ours: side(5000.0, 0.0099, Some(0.0002)),
            moto: None,
            limit: Some(side(10_000.0, 0.001, None)),
            aims: Vec::new(),
        };
        let verdicts = |row: &Row| [Aim::Cpu, Aim::P99, Aim::OfLimit].map(|aim| row.judged(aim));
        assert_eq!(verdicts(&row), ["CPU <= 200 µs: met", "p99 < 10.0 ms: met", ">= 0.5 of the limit: met"]);
        row.ours = side(4999.0, 0.01, Some(0.000_201));
        assert!(verdicts(&row).iter().all(|verdict| verdict.ends_with("MISSED")), "{:?}", verdicts(&row));
        row.limit = None;
        assert!(row.judged(Aim::OfLimit).ends_with("not measured"));
    }
}
