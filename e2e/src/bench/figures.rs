//! Samples and what is told of them. Must not measure anything.

use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What is kept of each sample: three digits, from 1 ns up.
const DIGITS: u8 = 3;

/// Durations of one thing that was done again and again.
pub struct Samples(Histogram<u64>);

impl Samples {
    pub fn new() -> Result<Self> {
        Ok(Self(Histogram::new(DIGITS).context("a histogram of three digits")?))
    }

    pub fn add(&mut self, took: Duration) -> Result<()> {
        let nanos = u64::try_from(took.as_nanos()).context("a sample of centuries")?;
        self.0.record(nanos).context("a sample that the histogram does not take")
    }

    pub fn figures(&self) -> Figures {
        let at = |quantile| Duration::from_nanos(self.0.value_at_quantile(quantile)).as_secs_f64();
        let p99 = (self.0.len() > 1).then(|| at(0.99));
        Figures { samples: self.0.len(), median: at(0.5), p99, max: p99.map(|_| at(1.0)) }
    }
}

/// In seconds, or in bytes, as the row says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub samples: u64,
    pub median: f64,
    /// `None` where there is one sample only.
    pub p99: Option<f64>,
    pub max: Option<f64>,
}

impl Figures {
    /// Of something that was done once.
    pub fn once(value: f64) -> Self {
        Self { samples: 1, median: value, p99: None, max: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Seconds,
    Bytes,
}

impl Unit {
    /// As a person reads it, with three digits.
    pub fn show(self, value: f64) -> String {
        let steps: &[(f64, &str)] = match self {
            Unit::Seconds => &[(1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s")],
            Unit::Bytes => &[(1024.0, "KiB"), (1_048_576.0, "MiB")],
        };
        let fits = steps.iter().rev().find(|(size, _)| value.abs() >= *size).unwrap_or(&steps[0]);
        format!("{} {}", three_digits(value / fits.0), fits.1)
    }
}

pub(super) fn three_digits(value: f64) -> String {
    match value.abs() {
        0.0..9.995 => format!("{value:.2}"),
        9.995..99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(all: impl IntoIterator<Item = Duration>) -> Samples {
        let mut samples = Samples::new().unwrap();
        all.into_iter().for_each(|took| samples.add(took).unwrap());
        samples
    }

    #[test]
    fn median_and_p99_are_those_of_the_samples() {
        let samples = of((1..=1000).map(Duration::from_millis)).figures();
        let near = |value: f64, wanted: f64| (value - wanted).abs() < wanted * 0.002;
        assert_eq!(samples.samples, 1000);
        assert!(near(samples.median, 0.5), "{samples:?}");
        assert!(near(samples.p99.unwrap(), 0.99), "{samples:?}");
        assert!(near(samples.max.unwrap(), 1.0), "{samples:?}");
    }

    #[test]
    fn one_sample_has_no_p99() {
        let samples = of([Duration::from_secs(75)]).figures();
        assert_eq!((samples.samples, samples.p99), (1, None));
    }

    #[test]
    fn values_are_shown_in_their_unit_with_three_digits() {
        let check = |unit: Unit, value: f64, text: &str| assert_eq!(unit.show(value), text);
        check(Unit::Seconds, 0.000_000_4, "400 ns");
        check(Unit::Seconds, 0.000_012_34, "12.3 µs");
        check(Unit::Seconds, 0.196, "196 ms");
        check(Unit::Seconds, 89.2, "89.2 s");
        check(Unit::Seconds, -0.003, "-3.00 ms");
        check(Unit::Seconds, 0.0, "0.00 ns");
        check(Unit::Bytes, 20.0 * 1_048_576.0, "20.0 MiB");
        check(Unit::Bytes, 4096.0, "4.00 KiB");
    }
}
